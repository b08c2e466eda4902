"""Training on clean images, and on the worst images that PGD or one step finds.

  min E[ max_{x' in B(x, epsilon)} loss(x') ]

With checkpoints compared by robust accuracy on held-out images (the early
stopping of Rice et al.: `select='best'` in a config), PGD adversarial training
is the strongest of the plain methods. FastAT takes one step of 1.25 epsilon
from a random start: two passes through the network a step. It can overfit
catastrophically: from one epoch to the next the network withstands this one
step and nothing else, and its accuracy under PGD falls to nothing. The field
`max_drop` of `loop.Stage` ends a training there.

References:
  Madry et al., Towards deep learning models resistant to adversarial attacks,
  ICLR 2018, section 2.
  Rice et al., Overfitting in adversarially robust deep learning, ICML 2020.
  Wong et al., Fast is better than free: revisiting adversarial training, ICLR
  2020, algorithm 3.
"""

from collections.abc import Callable
from typing import Any

from rnascl_jax import losses
from rnascl_jax.attacks import norms
from rnascl_jax.attacks.gradient import StartFn
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, LossFn
from rnascl_jax.distillation.compare import TeacherPredictions
from rnascl_jax.training.adversarial import maximization
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Classifier,
  Perturbed,
  RobustTerm,
  View,
)

# (network, labels [B], teacher) -> the network that is attacked, and what the
# attack makes larger: a loss (logits, targets) -> [B], and its targets.
Maximized = Callable[
  [Classifier, Array, TeacherPredictions | None],
  tuple[Classifier, LossFn, Array],
]

# FastAT's step over the radius, published for CIFAR-10 at 8 / 255. Larger radii
# and more classes need a smaller one.
FAST_STEP = 1.25


def standard() -> AdversarialMethod:
  """Training on the images as they are."""

  def perturb(
    network, params, batch_stats, state, keys, images, labels, teacher=None
  ):
    del network, params, keys, labels, teacher
    return Perturbed(images, batch_stats, state)

  return AdversarialMethod(perturb)


def _cross_entropy(
  network: Classifier, labels: Array, teacher: TeacherPredictions | None
) -> tuple[Classifier, LossFn, Array]:
  del teacher
  return network, losses.cross_entropy, labels


def pgd_training(
  *,
  epsilon: float,
  step_size: float,
  num_steps: int,
  norm: Norm = norms.LINF,
  start: StartFn | None = Norm.uniform_start,
  in_training_mode: bool = True,
  distill_on: View = 'adversarial',
  robust_term: RobustTerm | None = None,
  maximized: Maximized = _cross_entropy,
) -> AdversarialMethod:
  """PGD adversarial training: on images that maximise the cross-entropy.

  Args:
    epsilon: radius of the ball; Rice et al.: 8 / 255 in L-infinity, 128 / 255
      in L2.
    step_size: of the attack, in the norm; Rice et al.: 2 / 255, 15 / 255 in L2.
    num_steps: of the attack, at least 1; Rice et al.: 10.
    norm: the ball's. In L1 the attack is SLIDE, see `gradient.ascend`.
    start: of the attack, or None to start at the image.
    in_training_mode: whether the attack sees, and moves, the statistics of
      BatchNorm in training mode, as in the code of Rice et al.
    distill_on: the view on which the student is compared with the teacher:
      'adversarial' as in adversarial distillation (Goldblum et al.,
      Adversarially robust distillation, AAAI 2020), or 'clean'.
    robust_term: compares both views, see `losses.cac`; None for no such term.
    maximized: what the attack makes larger, the cross-entropy unless given.
  """
  ball: dict[str, Any] = {
    'epsilon': epsilon,
    'step_size': step_size,
    'num_steps': num_steps,
    'norm': norm,
  }

  def perturb(
    network, params, batch_stats, state, keys, images, labels, teacher=None
  ):
    network, loss, targets = maximized(network, labels, teacher)
    images_adv, batch_stats = maximization.maximize(
      network,
      loss,
      params,
      batch_stats,
      keys,
      images,
      targets,
      start=start,
      in_training_mode=in_training_mode,
      **ball,
    )
    return Perturbed(images_adv, batch_stats, state)

  return AdversarialMethod(
    perturb,
    distill_on=distill_on,
    robust_term=robust_term,
  )


def fast(
  *, epsilon: float, step_size: float | None = None, **options: Any
) -> AdversarialMethod:
  """FastAT: training on the images of a single step from a random start.

  In L2 and L1 it is the same: a point drawn uniformly from the ball, one step
  of 1.25 epsilon along the direction of the norm, and the projection. It was
  published for L-infinity; Rice et al. have code for it in L2.

  Args:
    epsilon: radius of the ball.
    step_size: in the norm; None for 1.25 epsilon.
    **options: of `pgd_training`, but `num_steps`. With `start=None` and
      step_size >= epsilon it is FGSM training.
  """
  step_size = FAST_STEP * epsilon if step_size is None else step_size
  return pgd_training(
    epsilon=epsilon, step_size=step_size, num_steps=1, **options
  )
