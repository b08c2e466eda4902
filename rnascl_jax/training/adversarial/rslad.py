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
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Predictions,
)
from rnascl_jax.training.adversarial.pgd import pgd_training


def rslad(
  *,
  alpha: float = 5 / 6,
  num_steps: int = 10,
  in_training_mode: bool = False,
  **attack: Any,
) -> AdversarialMethod:
  """Robust soft label adversarial distillation; needs a teacher.

  Args:
    alpha: see `losses.rslad`.
    num_steps: of the attack, at least 1; Zi et al.: 10.
    in_training_mode: as of `pgd_training`.
    **attack: of `pgd_training`, but `start` and `maximized`; Zi et al. have
      epsilon = 8 / 255 and a step of 2 / 255.
  """

  def maximized(network, labels, teacher):
    del labels
    return network, losses.kl_teacher_student, teacher.logits

  def loss(of: Predictions) -> Array:
    views = of.student['clean'], of.student['adversarial']
    return losses.rslad(*views, of.teacher['clean'], alpha=alpha)

  method = pgd_training(
    num_steps=num_steps,
    start=Norm.gaussian_start,
    in_training_mode=in_training_mode,
    maximized=maximized,
    **attack,
  )
  return method._replace(
    loss=loss, teacher_sees=('clean',), passes=('adversarial', 'clean')
  )
