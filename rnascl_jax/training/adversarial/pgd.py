"""PGD adversarial training, PGD-AT: on the worst images that PGD finds.

  min E[ max_{x' in B(x, epsilon)} objective(x') ]

With checkpoints compared by robust accuracy on held-out images (the early
stopping of Rice et al.: `select='best'` in a config) it is the strongest of the
plain regimes.

References:
  Madry et al., Towards deep learning models resistant to adversarial attacks,
  ICLR 2018, section 2.
  Rice et al., Overfitting in adversarially robust deep learning, ICML 2020.
"""

import functools

import jax
from jax import lax

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import linf
from rnascl_jax.attacks.gradient import StartFn
from rnascl_jax.base import Array, Key, PyTree
from rnascl_jax.training.adversarial import perturbation, views
from rnascl_jax.training.adversarial.regime import (
  Network,
  Objective,
  Regime,
  Robustness,
  no_state,
)


def pgd_training(
  *,
  epsilon: float,
  step_size: float,
  num_steps: int,
  start: StartFn | None = linf.uniform_start,
  in_training_mode: bool = True,
  lessons_on_adversarial: bool = True,
  robustness: Robustness | None = None,
) -> Regime:
  """Training on adversarial images that climb the cross-entropy.

  Args:
    epsilon: radius of the L-infinity ball, in [0, 1]; Rice et al.: 8 / 255.
    step_size: of the attack, in [0, 1]; Rice et al.: 2 / 255.
    num_steps: of the attack, at least 1; Rice et al.: 10.
    start: of the attack, or None for the images themselves.
    in_training_mode: whether the attack sees, and moves, the statistics of
      BatchNorm in training mode, as in the code of Rice et al.
    lessons_on_adversarial: whether a teacher's lesson is compared with what the
      student makes of x', as in adversarial distillation (Goldblum et al.,
      Adversarially robust distillation, AAAI 2020), or of x.
    robustness: compares both views, see `losses.cac`; None for no such term.

  Returns:
    The regime.
  """
  which = views.Views(True, lessons_on_adversarial, robustness)

  def value_and_grad(
    network: Network,
    objective: Objective,
    params: PyTree,
    batch_stats: PyTree,
    state: PyTree,
    keys: Key,
    images: Array,
    labels: Array,
  ):
    climb = functools.partial(
      _in_training_mode if in_training_mode else _in_evaluation_mode,
      network,
      params,
      batch_stats,
      start,
      epsilon=epsilon,
      step_size=step_size,
      num_steps=num_steps,
    )
    worst, new_stats = climb(keys, images, labels)

    def mean_loss(params):
      mean, (stats, found) = views.loss(
        which, network, objective, params, new_stats, images, worst, labels
      )
      return mean, (stats, state, found)

    return jax.value_and_grad(mean_loss, has_aux=True)(params)

  return Regime(no_state, value_and_grad)


def _in_training_mode(
  network, params, batch_stats, start, keys, images, labels, **ball
):
  first = images
  if start is not None:
    first = jax.vmap(start, (0, 0, None))(keys, images, ball['epsilon'])
  return perturbation.ascend(
    network,
    lambda logits: losses.cross_entropy(logits, labels),
    params,
    batch_stats,
    images,
    first,
    **ball,
  )


def _in_evaluation_mode(
  network, params, batch_stats, start, keys, images, labels, **ball
):
  def logits_fn(images: Array) -> Array:
    return network(params, batch_stats, images, train=False)[0][0]

  attack = attacks.batched(attacks.pgd)
  worst = attack(logits_fn, keys, images, labels, start=start, **ball)
  # The adversarial image is data, found by the attack (Danskin).
  return lax.stop_gradient(worst), batch_stats
