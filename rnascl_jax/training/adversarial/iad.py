"""IAD: robust distillation that trusts a teacher where it is reliable.

  alpha T^2 KL(t_T(x), s_T(x')) + (1 - alpha) CE(s(x), y)
    + alpha (1 - t_y(x')^beta) KL(s(x), s(x')),
  x' = argmax_{x' in B(x, epsilon)} CE(s(x'), y)

This is IAD-I, which is built on ARD and has its attack. The last term, the
student's introspection, begins after a share of the training: after 60 of 200
epochs in the paper. The authors' code then passes x once more in training mode,
which is left out.

Reference:
  Zhu et al., Reliable adversarial distillation with unreliable teachers, ICLR
  2022, and their code (ZFancy/IAD, IAD-I.py).
"""

from typing import Any

from rnascl_jax import losses
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Predictions,
)
from rnascl_jax.training.adversarial.pgd import pgd_training


def iad(
  *,
  alpha: float = 1.0,
  temperature: float = 1.0,
  beta: float = 0.1,
  warmup_steps: int = 0,
  **attack: Any,
) -> AdversarialMethod:
  """Introspective adversarial distillation, IAD-I; needs a teacher.

  Args:
    alpha: see `losses.iad`, as are the next two.
    temperature: of the teacher's term.
    beta: exponent of the trust in the teacher.
    warmup_steps: without the student's introspection.
    **attack: of `pgd_training`; Zhu et al. have epsilon = 8 / 255, a step of
      2 / 255 and 10 of them.
  """

  def loss(of: Predictions) -> Array:
    return losses.iad(
      of.student['clean'],
      of.student['adversarial'],
      of.teacher['clean'],
      of.teacher['adversarial'],
      of.labels,
      alpha=alpha,
      temperature=temperature,
      beta=beta,
      introspects=of.step >= warmup_steps,
    )

  return pgd_training(**attack)._replace(
    loss=loss,
    teacher_sees=('clean', 'adversarial'),
    passes=('adversarial', 'clean'),
  )
