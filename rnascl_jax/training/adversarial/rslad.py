"""RSLAD: robust soft labels in the loss and in the attack.

  alpha KL(t(x), s(x')) + (1 - alpha) KL(t(x), s(x)),
  x' = argmax_{x' in B(x, epsilon)} KL(t(x), s(x'))

t and s are the teacher's and the student's predictions; labels have no part. As
in the authors' code, the attack sees the student in evaluation mode and starts
at x + 0.001 N(0, 1); then x' and x pass in training mode.

Reference:
  Zi et al., Revisiting adversarial robustness distillation: robust soft labels
  make student better, ICCV 2021, and their code (zibojia/RSLAD,
  rslad_loss.py).
"""

from typing import Any

from rnascl_jax import losses
from rnascl_jax.attacks import norms
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial import maximization
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Perturbed,
  Predictions,
  RobustTerm,
  View,
)


def rslad(
  *,
  epsilon: float,
  step_size: float,
  num_steps: int = 10,
  norm: Norm = norms.LINF,
  alpha: float = 5 / 6,
  in_training_mode: bool = False,
  distill_on: View = 'adversarial',
  robust_term: RobustTerm | None = None,
) -> AdversarialMethod:
  """Robust soft label adversarial distillation; needs a teacher.

  Args:
    epsilon: radius of the ball; Zi et al.: 8 / 255 in L-infinity.
    step_size: of the attack, in the norm; Zi et al.: 2 / 255.
    num_steps: of the attack, at least 1; Zi et al.: 10.
    norm: the ball's.
    alpha: see `losses.rslad`.
    in_training_mode: as of `pgd_training`, as are the next two.
    distill_on: the view of the terms of eq. (4) beside this loss.
    robust_term: compares both views, see `losses.cac`; None for no such term.
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
    del labels
    images_adv, batch_stats = maximization.maximize(
      network,
      losses.kl_teacher_student,
      params,
      batch_stats,
      keys,
      images,
      teacher.logits,
      start=Norm.gaussian_start,
      in_training_mode=in_training_mode,
      **ball,
    )
    return Perturbed(images_adv, batch_stats, state)

  def loss(of: Predictions) -> Array:
    views = of.student['clean'], of.student['adversarial']
    return losses.rslad(*views, of.teacher['clean'], alpha=alpha)

  return AdversarialMethod(
    perturb,
    distill_on=distill_on,
    loss=loss,
    teacher_sees=('clean',),
    robust_term=robust_term,
    passes=('adversarial', 'clean'),
  )
