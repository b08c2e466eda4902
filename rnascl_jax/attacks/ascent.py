"""What all APGD attacks have in common: trials, losses, and their gradients.

The attacks differ in how they step: `apgd` in L-infinity and L2, `apgd_l1` in
L1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax import losses
from rnascl_jax.attacks import arguments, prediction, randomized, stepwise
from rnascl_jax.attacks.stepwise import (
  AttackInput,
  Candidate,
  NetworkPasses,
  Stepwise,
)
from rnascl_jax.base import Array, Key, LogitsFn, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientAscent(Stepwise):
  """An attack in steps that climbs a loss, from random starts.

  The adversarial image is the last iterate that fools the classifier, or that
  of the largest loss if none does. States have `fooled`, `adversarial` and
  `best`, which say so.

  Attributes:
    loss: ([B, K], labels [B]) -> [B], which the attack maximises, such as
      `losses.dlr`; with `targets` ([B, K], labels [B], targets [B]) -> [B],
      such as `losses.targeted_dlr`.
    num_steps: N, at least 1.
    restarts: random starts, each with all steps.
    targets: the most classes that are tried as targets, likeliest first; 0
      for an attack without a target.
    least_classes: the fewest classes for which the loss is defined.
    draws: gradients averaged in each step (expectation over transformation);
      more than 1 are of use for a `randomized.Randomized` classifier only.
    start: (key, image, epsilon) -> the first iterate; None for a random one.
  """

  loss: Callable[..., Array] = losses.cross_entropy
  num_steps: int = 100
  restarts: int = 1
  targets: int = 0
  least_classes: int = 2
  draws: int = 1
  start: Callable[[Key, Array, Array], Array] | None = None

  def __post_init__(self) -> None:
    """Raises ValueError if a number is out of range or the norm another's."""
    arguments.check_counts(
      num_steps=self.num_steps, restarts=self.restarts, draws=self.draws
    )
    if self.targets != 0:
      arguments.check_counts(targets=self.targets)

  @property
  def segment(self) -> int:
    return 10

  def passes(self, num_classes: int) -> tuple[NetworkPasses, NetworkPasses]:
    del num_classes
    step = NetworkPasses(self.draws, self.draws)
    return step._replace(forward=self.draws + (self.targets > 0)), step

  def num_trials(self, num_classes: int) -> int:
    if num_classes < self.least_classes:
      return 0
    return self.restarts * (min(self.targets, num_classes - 1) or 1)

  def candidate(self, inputs: AttackInput, state: PyTree) -> Candidate:
    image = jnp.where(state.fooled, state.adversarial, state.best.image)
    return Candidate(image, state.best.loss, state.fooled)

  def _target(
    self, logits_fn: LogitsFn, inputs: AttackInput, trial: Array
  ) -> Array:
    """The class to reach in a trial, -1 without one."""
    if not self.targets:
      return jnp.full((), -1, jnp.int32)
    logits = logits_fn(inputs.image[None])[0]
    rank = trial // self.restarts
    return stepwise.ranked_target(logits, inputs.label, rank)

  def _evaluate(
    self,
    logits_fn: LogitsFn,
    inputs: AttackInput,
    image: Array,
    target: Array,
    index: int | Array,
  ) -> tuple[Candidate, Array]:
    """The image with its loss and verdict, and the gradient [H, W, C] there.

    Of several draws of a random classifier the gradients are averaged.
    """

    def value(image: Array, draw: Array) -> tuple[Array, Array]:
      key = jax.random.fold_in(jax.random.fold_in(inputs.key, index), draw)
      logits = randomized.call(logits_fn, key, image[None])
      classes = (inputs.label[None], target[None])[: 2 if self.targets else 1]
      loss = self.loss(logits, *classes)[0].astype(image.dtype)
      return loss, prediction.fooled(logits[0], inputs.label)

    def add(total: Array, draw: Array) -> tuple[Array, Any]:
      (loss, fooled), gradient = jax.value_and_grad(value, has_aux=True)(
        image, draw
      )
      return total + gradient, (loss, fooled)

    if self.draws == 1:
      gradient, (loss, fooled) = add(jnp.zeros_like(image), jnp.asarray(0))
      return Candidate(image, loss, fooled), gradient
    # As published, the loss and the verdict are those of the last draw.
    total, drawn = lax.scan(add, jnp.zeros_like(image), jnp.arange(self.draws))
    loss, fooled = jax.tree.map(lambda x: x[-1], drawn)
    return Candidate(image, loss, fooled), total / self.draws
