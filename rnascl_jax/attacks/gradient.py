"""FGSM, MI-FGSM, PGD-k and CW, for one image, any classifier and any norm.

All four climb a loss along its gradient inside the ball of a norm of `norms`:

  x_0     = start(x)
  x_{i+1} = project(x_i + step_size direction(grad loss(z(x_i), y)))

where the direction has length 1: the sign of the gradient in L-infinity, the
gradient over its length in L2, and in L1 the sparse one of SLIDE (`ascend`).
FGSM is one such step of size epsilon from the image itself, MI-FGSM starts
from the image and accumulates gradients, CW is PGD on the margin.
`loss(logits [B, K], target [B, ...]) -> [B]` is what is climbed;
`targeted=True` descends it instead, towards a target class.

An attack sees one image and one target, an integer label or, for losses that
take them, log-probabilities [K]; `lifting.batched` lifts it with one `vmap`.
The logits function takes batches and must be in evaluation mode: batch
statistics couple the images of a batch and cannot be seen from one of them.
Compute the attack outside of the function that you differentiate; its result
is a constant (`lax.stop_gradient`) anyhow.

A gradient that is NaN in a pixel does not move that pixel, so that an image
never becomes NaN. (sign(NaN) is 0 in PyTorch, and NaN in JAX.)

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import gradient
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> image = jnp.full((4, 4, 1), .53)
  >>> adversarial = gradient.pgd(
  ...   logits_fn, jax.random.key(0), image, 0,
  ...   epsilon=8 / 255, step_size=2 / 255, num_steps=20)
  >>> both = jnp.stack([image, adversarial])
  >>> print(logits_fn(both).argmax(axis=-1))
  [0 1]

References:
  Goodfellow et al., Explaining and harnessing adversarial examples, ICLR 2015.
  Dong et al., Boosting adversarial attacks with momentum, CVPR 2018.
  Madry et al., Towards deep learning models resistant to adversarial attacks,
  ICLR 2018.
  Carlini and Wagner, Towards evaluating the robustness of neural networks,
  S&P 2017, section V.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax import losses
from rnascl_jax.attacks import (
  arguments,
  l1,
  norms,
  prediction,
  stepwise,
  unrolling,
)
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.attacks.stepwise import Candidate
from rnascl_jax.base import Array, Key, LogitsFn, LossFn

# A starting point of an attack: (norm, key, image, epsilon) -> image, such as
# the method `norms.Norm.uniform_start`.
StartFn = Callable[[Norm, Key, Array, float | Array], Array]
# The share of values that a step of SLIDE moves, as published.
SHARE = 0.01
# What an attack climbs: image [H, W, C] -> (loss, fooled), both scalars.
Objective = Callable[[Array], tuple[Array, Array]]


class PGDState(NamedTuple):
  """The carry of the loop.

  Attributes:
    image: [H, W, C], the iterate.
    inside: scalar bool, whether the iterate is in the ball; a start need not
      be, and is no result then.
    velocity: [H, W, C], accumulated gradients; None without momentum.
    best: the iterate of the largest loss so far; None where the last is kept.
  """

  image: Array
  inside: Array
  velocity: Array | None
  best: Candidate | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD:
  """Projected gradient descent, PGD-k, on one image.

  Restarts run one after the other: they cost time and no memory. Restart r
  draws from `fold_in(key, r)`, so that the first restarts of a longer attack
  are those of a shorter one, and more of them never do less damage.

  Attributes:
    epsilon: radius in the norm, may be traced; in [0, 1] in L-infinity.
    step_size: length of a step in the norm, may be traced.
    num_steps: k >= 1, static.
    norm: the ball's.
    start: where to begin, or None for the image itself. `Norm.uniform_start`
      draws from the ball and clamps to [0, 1] before the first gradient,
      `presets.unclamped_start` does not clamp.
    loss: ([B, K], [B, ...]) -> [B], what is climbed.
    decay: momentum of MI-FGSM, or None for the plain gradient.
    restarts: random restarts, static. The result is the worst case: of those
      that fool the classifier, or of all if none does, the largest loss.
    keep_best: return the iterate of the largest loss, from the start to the
      last, instead of the last. A start outside of the ball does not count.
    stop_when_fooled: stay at the first iterate that fools the classifier, as
      the evaluations of Rice et al. and Wong et al. do. Needs a label.
    targeted: descend the loss towards the target.
    share: of an image's values, in [0, 1], how many a step in L1 moves, see
      `ascend`. Steps in other norms move all.
    unroll: steps unrolled in the loop, static; True for all, restarts
      included. None decides by back end and network, see `unrolling`.
  """

  epsilon: float | Array
  step_size: float | Array
  num_steps: int
  norm: Norm = norms.LINF
  start: StartFn | None = Norm.uniform_start
  loss: LossFn = losses.cross_entropy
  decay: float | Array | None = None
  restarts: int = 1
  keep_best: bool = False
  stop_when_fooled: bool = False
  targeted: bool = False
  share: float = SHARE
  unroll: int | bool | None = None

  def __call__(
    self, logits_fn: LogitsFn, key: Key, image: Array, target: int | Array
  ) -> Array:
    """Attacks one image.

    Args:
      logits_fn: [1, H, W, C] -> [1, K], in evaluation mode.
      key: typed random key; unused where `start` is None.
      image: [H, W, C] in [0, 1].
      target: the label in [0, K) (the class to reach if `targeted`), or an
        array for losses that take one, such as log-probabilities [K].

    Returns:
      [H, W, C], in [0, 1] and in the ball (float32 in L-infinity: to 3e-8),
      exactly the image where epsilon is 0, never NaN unless the image is. A
      constant.

    Raises:
      ValueError: if num_steps or restarts are below 1, if restarts would repeat
        an attack without randomness, if `stop_when_fooled` lacks a label, for a
        raw key, for what is no norm, or if epsilon or step_size are no lengths
        or epsilon is longer than any perturbation (unless they are traced).
    """
    image, target = jnp.asarray(image), jnp.asarray(target)
    arguments.check_one(logits_fn, image)
    if self.start is not None:
      arguments.check_key(key)
    self._check(image, target)
    objective = _objective(logits_fn, self.loss, target, self.targeted)
    unroll = self.unroll
    if unroll is None:
      gradient_fn = jax.grad(objective, has_aux=True)
      length = self.num_steps * self.restarts
      unroll = unrolling.choose(gradient_fn, image, length=length)

    def attack_once(restart: int | Array) -> Array:
      first = image
      if self.start is not None:
        restart_key = jax.random.fold_in(key, restart)
        first = self.start(self.norm, restart_key, image, self.epsilon)
      return self._loop(objective, image, first, unroll)

    def worse(worst: Candidate, restart: Array) -> tuple[Candidate, None]:
      image_adv = attack_once(restart)
      candidate = Candidate(image_adv, *objective(image_adv))
      return stepwise.worse_of(worst, candidate), None

    if self.restarts == 1:
      return lax.stop_gradient(attack_once(0))
    restarts = jnp.arange(self.restarts)
    worst, _ = lax.scan(
      worse, stepwise.nothing(image), restarts, unroll=unroll is True
    )
    return lax.stop_gradient(worst.image)

  def _check(self, image: Array, target: Array) -> None:
    if not isinstance(self.norm, Norm):
      raise ValueError(
        f'norm={self.norm!r} must be one of norms.LINF, norms.L2 and norms.L1.'
      )
    longest = self.norm.longest(image.size)
    arguments.check_length('epsilon', self.epsilon, longest)
    arguments.check_length('step_size', self.step_size, math.inf)
    arguments.check_length('share', self.share)
    arguments.check_counts(num_steps=self.num_steps, restarts=self.restarts)
    if self.restarts > 1 and self.start is None:
      raise ValueError(
        f'restarts={self.restarts} without a random start repeat one attack; '
        'give start=norms.Norm.uniform_start.'
      )
    if self.stop_when_fooled and target.ndim:
      raise ValueError(
        'stop_when_fooled needs an integer label; the target is an array.'
      )

  def _loop(
    self, objective: Objective, image: Array, first: Array, unroll: int | bool
  ) -> Array:
    """All steps from the iterate `first`, [H, W, C]."""
    move = functools.partial(
      ascend,
      self.norm,
      image,
      epsilon=self.epsilon,
      step_size=jnp.asarray(self.step_size, image.dtype),
      share=self.share,
    )
    gradient_fn = jax.value_and_grad(objective, has_aux=True)
    no_velocity = None if self.decay is None else jnp.zeros_like(image)

    def step(state: PGDState, _: None) -> tuple[PGDState, None]:
      (loss, fooled), gradient = gradient_fn(state.image)
      velocity = _accumulate(state.velocity, gradient, self.decay)
      image_adv = move(state.image, velocity)
      if self.stop_when_fooled:
        image_adv = jnp.where(fooled & state.inside, state.image, image_adv)
      best = None
      if self.keep_best:
        loss = jnp.where(state.inside, loss, -jnp.inf)
        best = _larger(state.best, Candidate(state.image, loss, fooled))
      kept = None if self.decay is None else velocity
      return PGDState(image_adv, jnp.asarray(True), kept, best), None

    best = stepwise.nothing(image) if self.keep_best else None
    inside = _contains(self.norm, image, first, self.epsilon)
    state = PGDState(first, inside, no_velocity, best)
    state, _ = lax.scan(step, state, length=self.num_steps, unroll=unroll)
    if not self.keep_best:
      return state.image
    last = Candidate(state.image, *objective(state.image))
    return _larger(state.best, last).image


def pgd(
  logits_fn: LogitsFn,
  key: Key,
  image: Array,
  target: int | Array,
  **options: Any,
) -> Array:
  """PGD on one image [H, W, C]; the options are the fields of `PGD`.

  Arguments, result and errors are those of a call of a `PGD`.
  """
  return PGD(**options)(logits_fn, key, image, target)


def fgsm(
  logits_fn: LogitsFn,
  key: Key,
  image: Array,
  target: int | Array,
  *,
  epsilon: float | Array,
  **options: Any,
) -> Array:
  """The fast gradient sign method: one step of size epsilon from the image.

  x_adv = project(x + epsilon sign(grad loss(z(x), y)))

  In L2 the sign gives way to the gradient over its length (the fast gradient
  method), in L1 to the direction of `ascend`.

  Arguments and result are those of `pgd`; the key is unused, and of the options
  `loss`, `norm`, `share` and `targeted` have a meaning.

  Reference:
    Goodfellow et al., Explaining and harnessing adversarial examples, ICLR
    2015, section 4.
  """
  return pgd(
    logits_fn,
    key,
    image,
    target,
    epsilon=epsilon,
    step_size=epsilon,
    num_steps=1,
    start=None,
    **options,
  )


def mi_fgsm(
  logits_fn: LogitsFn,
  key: Key,
  image: Array,
  target: int | Array,
  *,
  decay: float | Array = 1.0,
  **options: Any,
) -> Array:
  """The momentum iterative method: PGD from the image itself, with momentum.

  v_{i+1} = decay v_i + g_i / mean|g_i|,   g_i = grad loss(z(x_i), y)
  x_{i+1} = project(x_i + step_size direction(v_{i+1}))

  The published norm of g is L1, a constant times the mean, which changes no
  direction.
  A gradient that is zero everywhere adds nothing; the published division makes
  it NaN. (Foolbox accumulates signs instead: another attack.)

  Arguments and result are those of `pgd`, but for start and restarts; the key
  is unused. Dong et al. have step_size = epsilon / num_steps.

  Reference:
    Dong et al., Boosting adversarial attacks with momentum, CVPR 2018,
    algorithm 1.
  """
  return pgd(logits_fn, key, image, target, start=None, decay=decay, **options)


def cw(
  logits_fn: LogitsFn,
  key: Key,
  image: Array,
  label: int | Array,
  **options: Any,
) -> Array:
  """CW by PGD, on the margin max_{i != y} z_i - z_y of this one image.

  In L-infinity it is what is called CW-infinity. In L2 it is not the attack of
  Carlini and Wagner that minimises the length of a perturbation.

  The form that Huang et al. and RNAS-CL evaluate with climbs
  -relu(sum_b z_y - sum_b max_other z), one hinge for a whole batch. Once the
  margins of broken images outweigh the rest the hinge is flat: a single image
  broken by a wide margin silences the attack on all others, and the accuracy
  depends on the batch size and the order. Here each image climbs its own
  margin and has no hinge, so that robust accuracies are lower than theirs and
  not comparable with them. (Madry et al. have the hinge per image, with an
  offset of 50 that makes it all but inactive: the same attack as this.)

  Arguments and result are those of `pgd`, but for the loss; K is at least 2.

  Reference:
    Carlini and Wagner, Towards evaluating the robustness of neural networks,
    S&P 2017, section V.
  """
  return pgd(logits_fn, key, image, label, loss=losses.cw_loss, **options)


def ascend(
  norm: Norm,
  image: Array,
  point: Array,
  gradient: Array,
  *,
  epsilon: float | Array,
  step_size: float | Array,
  share: float = SHARE,
) -> Array:
  """One step of PGD along a gradient, projected onto the ball.

  Args:
    norm: the ball's.
    image: [H, W, C] in [0, 1], centre of the ball.
    point: [H, W, C], where the step begins.
    gradient: [H, W, C], at this point; a NaN does not move its pixel.
    epsilon: radius.
    step_size: length of the step before it is projected.
    share: of the values, how many a step in L1 moves: those of the largest
      gradients, all by equally much, and at least one. The published one is
      0.01. Values at 0 or 1 that would leave [0, 1] are not among them.

  Returns:
    [H, W, C], in the ball and in [0, 1].

  Reference:
    Tramer and Boneh, Adversarial training and robustness for multiple
    perturbations, NeurIPS 2019, section 3 (SLIDE), and their code
    (ftramer/MultiRobustness, pgd_attack.py).
  """
  if norm == norms.L1:
    leaves = jnp.where(gradient > 0.0, point >= 1.0, point <= 0.0)
    gradient = jnp.where(leaves, 0.0, gradient)
    moved = point + step_size * l1.sparse_direction(gradient, share)
    # The projection returns to the image but for rounding.
    projected = norm.project(image, moved, epsilon)
    return jnp.where(jnp.asarray(epsilon) > 0.0, projected, image)
  if norm == norms.L2:
    # Squares of the gradients of confident networks are zero in float32.
    gradient = jnp.nan_to_num(gradient, posinf=0.0, neginf=0.0)
    largest = jnp.max(jnp.abs(gradient))
    gradient = gradient / jnp.where(largest > 0.0, largest, 1.0)
  moved = point + step_size * norm.direction(gradient)
  return norm.project(image, moved, epsilon)


def _contains(norm, image, point, epsilon):
  """Whether a point is in the ball, but for rounding; a box has none."""
  if norm == norms.LINF:
    return jnp.all(norm.project(image, point, epsilon) == point)
  return prediction.in_ball(
    point[None], image[None], epsilon=epsilon, norm=norm
  )[0]


def _objective(
  logits_fn: LogitsFn, loss: LossFn, target: Array, targeted: bool
) -> Objective:
  """The function of an image that the attack maximises.

  It is the loss, or minus the loss if `targeted`. The image fools the
  classifier if it is not of class `target`, or if it is of it if `targeted`.
  """

  def value(image):
    logits = logits_fn(image[None])
    chex.assert_shape(logits, (1, None))
    losses = loss(logits, target[None])
    chex.assert_shape(losses, (1,))
    climbed = losses[0].astype(image.dtype)
    if target.ndim:
      return -climbed if targeted else climbed, jnp.asarray(False)
    hit = jnp.argmax(logits[0]) == target
    return (-climbed, hit) if targeted else (climbed, ~hit)

  return value


def _larger(one, other):
  """The candidate of the larger loss."""
  return stepwise.select(other.loss > one.loss, other, one)


def _accumulate(velocity, gradient, decay):
  """Adds a gradient of mean absolute value 1, or replaces if no decay."""
  if decay is None:
    return gradient
  # Bounded such that the sum over pixels stays finite.
  largest = jnp.finfo(gradient.dtype).max / gradient.size
  gradient = jnp.clip(jnp.nan_to_num(gradient), -largest, largest)
  scale = jnp.mean(jnp.abs(gradient))
  # No 1e-12 is added: gradients of confident networks are smaller than that.
  unit = jnp.where(scale > 0, gradient / jnp.where(scale > 0, scale, 1.0), 0.0)
  return jnp.asarray(decay, gradient.dtype) * velocity + unit
