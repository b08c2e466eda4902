"""The inner maximisation: PGD on a whole batch, in either mode of BatchNorm.

In evaluation mode images do not see each other, and the attack on one image is
lifted by `vmap` (`attacks.batched`). Much published training code attacks in
training mode: BatchNorm then takes the statistics of the batch under attack,
which couples its images, and every pass of the attack moves the running
statistics.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax import attacks
from rnascl_jax.attacks import gradient, norms, unrolling
from rnascl_jax.attacks.gradient import StartFn
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LossFn, PyTree
from rnascl_jax.training.adversarial.method import Classifier


def maximize(
  network: Classifier,
  loss: LossFn,
  params: PyTree,
  batch_stats: PyTree,
  keys: Key,
  images: Array,
  targets: Array,
  *,
  start: StartFn | None,
  in_training_mode: bool,
  epsilon: float | Array,
  **ball: Any,
) -> tuple[Array, PyTree]:
  """Looks for the worst images in the balls of a batch.

  Args:
    network: see `method`.
    loss: (logits [B, K], targets [B, ...]) -> [B], what is made larger.
    params: of the network.
    batch_stats: running statistics.
    keys: [B], random keys.
    images: [B, H, W, C] in [0, 1], centres of the balls.
    targets: [B, ...], such as labels.
    start: of the attack, or None to start at the image.
    in_training_mode: whether the attack sees, and moves, the statistics of
      BatchNorm in training mode.
    epsilon: radius.
    **ball: `step_size`, `num_steps` and `norm` of `pgd`.

  Returns:
    The adversarial images [B, H, W, C], constants, and the running statistics
    after the attack's passes.
  """
  if in_training_mode:
    first = images
    if start is not None:
      draw = functools.partial(start, ball['norm'])
      first = jax.vmap(draw, (0, 0, None))(keys, images, epsilon)
    return pgd(
      network,
      lambda logits: loss(logits, targets),
      params,
      batch_stats,
      images,
      first,
      epsilon=epsilon,
      **ball,
    )

  def logits_fn(images: Array) -> Array:
    return network(params, batch_stats, images, train=False)[0]

  images_adv = attacks.batched(attacks.pgd)(
    logits_fn,
    keys,
    images,
    targets,
    loss=loss,
    start=start,
    epsilon=epsilon,
    **ball,
  )
  # The adversarial image is data that the attack found (Danskin).
  return lax.stop_gradient(images_adv), batch_stats


def pgd(
  network: Classifier,
  loss: Callable[[Array], Array],
  params: PyTree,
  batch_stats: PyTree,
  images: Array,
  start: Array,
  *,
  epsilon: float | Array,
  step_size: float | Array,
  num_steps: int,
  norm: Norm = norms.LINF,
) -> tuple[Array, PyTree]:
  """Steps of `gradient.ascend` in the balls of a batch, in training mode.

  Args:
    network: see `method`.
    loss: logits [B, K] -> [B], what the attack makes larger.
    params: of the network.
    batch_stats: running statistics.
    images: [B, H, W, C] in [0, 1], centres of the balls.
    start: [B, H, W, C], where the attack begins.
    epsilon: radius in the norm.
    step_size: in the norm; may exceed epsilon.
    num_steps: at least 1, static.
    norm: of the balls.

  Returns:
    The adversarial images [B, H, W, C], constants, and the running statistics
    after the attack's passes.
  """
  ascend = functools.partial(
    gradient.ascend, norm, epsilon=epsilon, step_size=step_size
  )

  def total(adversarial: Array, batch_stats: PyTree):
    logits, batch_stats = network(params, batch_stats, adversarial, train=True)
    return jnp.sum(loss(logits)), batch_stats

  gradient_fn = jax.grad(total, has_aux=True)

  def step(carry, _):
    adversarial, batch_stats = carry
    slopes, batch_stats = gradient_fn(adversarial, batch_stats)
    return (jax.vmap(ascend)(images, adversarial, slopes), batch_stats), None

  unroll = unrolling.choose(gradient_fn, start, batch_stats, length=num_steps)
  attacked, _ = lax.scan(
    step, (start, batch_stats), length=num_steps, unroll=unroll
  )
  # The adversarial image is data that the attack found (Danskin).
  return lax.stop_gradient(attacked)
