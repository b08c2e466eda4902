"""FAB, the fast adaptive boundary attack: the nearest adversarial image.

FAB does not climb a loss in a ball. Step after step it replaces the classifier
by a linear one at the iterate x, whose decision boundary is a hyperplane, and
moves to the plane from x (d) and from the image x_0 (d_0), weighting both:

  alpha = min(|d| / (|d| + |d_0|), alpha_max)
  x <- clamp((1 - alpha) (x + eta d) + alpha (x_0 + eta d_0))

eta > 1 oversteps the boundary. An x that fools the classifier is remembered if
it is nearer to x_0 than any before, and x goes back towards x_0, by a factor
beta, to cross the boundary elsewhere. The radius epsilon only scales random
starts, and tells in the end whether what was found is near enough.

Of a `randomized.Randomized` classifier FAB sees a single draw, always the same
one, and the nearest point behind its boundary may be right in another draw.

FAB-T looks at the boundary to one class a trial, in the order of the image's
logits, with one gradient a step. FAB without targets takes the nearest of all
K - 1 planes, with K - 1 gradients a step.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import fab
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> image = jnp.full((4, 4, 1), .53)
  >>> attack = fab.FAB(num_steps=10)
  >>> for epsilon in (.02, .04):
  ...   adversarial = attack(
  ...     logits_fn, jax.random.key(0), image, 0, epsilon=epsilon)
  ...   print(float(abs(adversarial - image).max()) > 0)
  False
  True

References:
  Croce and Hein, Minimally distorted adversarial examples with a fast adaptive
  boundary attack, ICML 2020.
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020, for FAB-T.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnascl_jax.attacks import (
  arguments,
  hyperplane,
  norms,
  prediction,
  stepwise,
)
from rnascl_jax.attacks.hyperplane import Plane
from rnascl_jax.attacks.stepwise import (
  AttackInput,
  Candidate,
  NetworkPasses,
  Stepwise,
)
from rnascl_jax.base import Array, LogitsFn

# As published: a plane of zero gradient is far, but not infinitely far, away.
_TINY = 1e-12
# As published: two moves of no length have equal weights.
_SHORTEST = 1e-8


class FABState(NamedTuple):
  """The carry of the loop.

  Attributes:
    point: [H, W, C] in [0, 1], the iterate.
    target: scalar, the class of the trial; unused without targets.
    nearest: [H, W, C], the nearest iterate that fooled the classifier; the
      image itself until one does.
    distance: scalar, from the image to `nearest`; infinite if none fooled it.
  """

  point: Array
  target: Array
  nearest: Array
  distance: Array


@dataclasses.dataclass(frozen=True)
class FAB(Stepwise):
  """FAB and FAB-T in steps; the default is FAB-T.

  The adversarial image is the nearest of the first trial that has one within
  epsilon, or the image itself. The key is unused unless there are restarts.

  Attributes:
    norm: the norm of distances, one of `norms`.
    num_steps: of a trial.
    restarts: trials of each target: the first starts at the image, others at
      random, epsilon / 2 away from it.
    targets: most classes to look at, the likeliest first; 0 for the nearest of
      all boundaries in each step.
    alpha_max: largest weight of the move from the image, in [0, 1].
    eta: overstepping, at least 1.
    beta: how far an adversarial iterate stays away from the image, in [0, 1].
  """

  norm: norms.Norm = norms.LINF
  num_steps: int = 100
  restarts: int = 1
  targets: int = 9
  alpha_max: float = 0.1
  eta: float = 1.05
  beta: float = 0.9

  def __post_init__(self) -> None:
    """Raises ValueError if a number is out of range or the norm unknown."""
    hyperplane.geometry_of(self.norm)
    arguments.check_counts(num_steps=self.num_steps, restarts=self.restarts)
    if self.targets != 0:  # Which is the nearest class.
      arguments.check_counts(targets=self.targets)
    if not (0 <= self.alpha_max <= 1 <= self.eta and 0 <= self.beta <= 1):
      raise ValueError(
        f'alpha_max={self.alpha_max} and beta={self.beta} must lie in [0, 1], '
        f'and eta={self.eta} must be at least 1.'
      )

  @property
  def segment(self) -> int:
    return min(10, self.num_steps)

  def passes(self, num_classes: int) -> tuple[NetworkPasses, NetworkPasses]:
    planes = 1 if self.targets else num_classes - 1
    return NetworkPasses(1, 0), NetworkPasses(2, planes)

  def num_trials(self, num_classes: int) -> int:
    if num_classes < 2:
      return 0
    targets = min(self.targets, num_classes - 1) if self.targets else 1
    return targets * self.restarts

  def init(
    self, logits_fn: LogitsFn, inputs: AttackInput, trial: Array
  ) -> FABState:
    """An image that is misclassified already has distance 0 to itself."""
    image = inputs.image
    logits = logits_fn(image[None])[0]
    rank = trial // self.restarts if self.targets else jnp.zeros_like(trial)
    point = image
    if self.restarts > 1:
      start = self.norm.random_start(inputs.key, image, inputs.epsilon / 2)
      point = jnp.where(trial % self.restarts > 0, start, image)
    fooled = prediction.fooled(logits, inputs.label)
    return FABState(
      point=point,
      target=stepwise.ranked_target(logits, inputs.label, rank),
      nearest=image,
      distance=jnp.where(fooled, 0.0, jnp.inf).astype(image.dtype),
    )

  def step(
    self,
    logits_fn: LogitsFn,
    inputs: AttackInput,
    state: FABState,
    index: Array,
  ) -> FABState:
    del index  # All steps are alike.
    plane = self._plane(logits_fn, inputs.label, state)
    point = self._cross(plane, inputs.image, state.point)
    fooled = prediction.fooled(logits_fn(point[None])[0], inputs.label)
    distance = self.norm.length(point - inputs.image)
    nearer = fooled & (distance < state.distance)
    back = inputs.image + self.beta * (point - inputs.image)
    return FABState(
      point=jnp.where(fooled, back, point),
      target=state.target,
      nearest=jnp.where(nearer, point, state.nearest),
      distance=jnp.where(nearer, distance, state.distance),
    )

  def candidate(self, inputs: AttackInput, state: FABState) -> Candidate:
    """The nearest adversarial image if in the ball; loss is -distance."""
    fooled = state.distance <= inputs.epsilon
    image = jnp.where(fooled, state.nearest, inputs.image)
    return Candidate(image, -state.distance, fooled)

  def _plane(self, logits_fn: LogitsFn, label: Array, state: FABState) -> Plane:
    """The boundary to the target, or the nearest of all."""
    dual_length = hyperplane.geometry_of(self.norm).dual_length
    logits, pull_back = jax.vjp(
      lambda point: logits_fn(point[None])[0].astype(point.dtype), state.point
    )
    classes = jnp.arange(logits.shape[0])

    def plane_of(target):
      towards = (classes == target).astype(logits.dtype)
      (normal,) = pull_back(towards - (classes == label).astype(logits.dtype))
      normal = jnp.where(jnp.isfinite(normal), normal, 0.0)
      value = logits[target] - logits[label]
      distance = jnp.abs(value) / (dual_length(normal) + _TINY)
      distance = jnp.where(jnp.isnan(distance), jnp.inf, distance)
      return Plane(normal, value, distance)

    if self.targets:
      return plane_of(state.target)
    return hyperplane.nearest(plane_of, classes[:-1] + (classes[:-1] >= label))

  def _cross(self, plane: Plane, image: Array, point: Array) -> Array:
    """The next iterate, beyond the plane as seen from image and point."""
    geometry = hyperplane.geometry_of(self.norm)
    value = plane.value + jnp.sum(plane.normal * (image - point))
    # Both moves in one loop, which takes as long as the longer one.
    moves = jax.vmap(  # [2, H, W, C]
      lambda x, value: hyperplane.move(x, plane.normal, value, geometry)
    )(jnp.stack([point, image]), jnp.stack([plane.value, value]))
    lengths = jnp.maximum(jax.vmap(self.norm.length)(moves), _SHORTEST)
    alpha = jnp.minimum(lengths[0] / jnp.sum(lengths), self.alpha_max)
    from_point = (point + self.eta * moves[0]) * (1 - alpha)
    from_image = (image + self.eta * moves[1]) * alpha
    return jnp.clip(from_point + from_image, 0.0, 1.0)
