"""ARD: adversarial training with a teacher's answers instead of labels.

  alpha T^2 KL(t_T(x), s_T(x')) + (1 - alpha) CE(s(x), y),
  x' = argmax_{x' in B(x, epsilon)} CE(s(x'), y)

t and s are the teacher's and the student's predictions, softened by T. As in
the authors' code, the attack is that of Madry et al. with BatchNorm in training
mode, and x passes through the network after x', even where alpha is 1.

Reference:
  Goldblum et al., Adversarially robust distillation, AAAI 2020, and their code
  (goldblum/AdversariallyRobustDistillation, main.py).
"""

from typing import Any

from rnascl_jax import losses
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Predictions,
)
from rnascl_jax.training.adversarial.pgd import pgd_training


def ard(
  *, alpha: float = 1.0, temperature: float = 30.0, **attack: Any
) -> AdversarialMethod:
  """Adversarially robust distillation; needs a teacher.

  Args:
    alpha: see `losses.ard`, as is `temperature`.
    temperature: of both networks.
    **attack: of `pgd_training`; Goldblum et al. have epsilon = 8 / 255, a step
      of 2 / 255 and 10 of them.
  """

  def loss(of: Predictions) -> Array:
    return losses.ard(
      of.student['clean'],
      of.student['adversarial'],
      of.teacher['clean'],
      of.labels,
      alpha=alpha,
      temperature=temperature,
    )

  return pgd_training(**attack)._replace(
    loss=loss, teacher_sees=('clean',), passes=('adversarial', 'clean')
  )
