"""AdaAD: the student agrees with the teacher where they differ most.

  alpha KL(t(x'), s(x')) + (1 - alpha) KL(t(x), s(x)),
  x' = argmax_{x' in B(x, epsilon)} KL(t(x'), s(x'))

t and s are the teacher's and the student's predictions; labels have no part.
The attack climbs through both networks, a backward pass of the teacher in each
step. As in the authors' code, it sees both in evaluation mode and starts at
x + 0.001 N(0, 1); then x and x' pass in training mode, even where alpha is 1.

Reference:
  Huang et al., Boosting accuracy and robustness of student models via adaptive
  adversarial distillation, CVPR 2023, and their code.
"""

from typing import Any

import jax.numpy as jnp

from rnascl_jax import losses
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Predictions,
)
from rnascl_jax.training.adversarial.pgd import pgd_training


def adaad(
  *,
  alpha: float = 1.0,
  num_steps: int = 10,
  in_training_mode: bool = False,
  **attack: Any,
) -> AdversarialMethod:
  """Adaptive adversarial distillation; needs a teacher.

  Args:
    alpha: see `losses.adaad`.
    num_steps: of the attack, at least 1; Huang et al.: 10.
    in_training_mode: whether the attack sees, and moves, the student's
      statistics of BatchNorm in training mode.
    **attack: of `pgd_training`, but `start` and `maximized`; Huang et al. have
      epsilon = 8 / 255 and a step of 2 / 255.
  """

  def maximized(network, labels, teacher):
    def both(params, batch_stats, images, *, train):
      logits, batch_stats = network(params, batch_stats, images, train=train)
      logits = jnp.concatenate([logits, teacher.logits_fn(images)], axis=-1)
      return logits, batch_stats  # [B, 2K]

    return both, _disagreement, labels

  def loss(of: Predictions) -> Array:
    return losses.adaad(
      of.student['clean'],
      of.student['adversarial'],
      # Without the former alpha is 1, and it is not used.
      of.teacher.get('clean', of.teacher['adversarial']),
      of.teacher['adversarial'],
      alpha=alpha,
    )

  method = pgd_training(
    num_steps=num_steps,
    start=Norm.gaussian_start,
    in_training_mode=in_training_mode,
    maximized=maximized,
    **attack,
  )
  return method._replace(
    loss=loss,
    teacher_sees=('adversarial',) if alpha == 1 else ('clean', 'adversarial'),
    passes=('clean', 'adversarial'),
  )


def _disagreement(both: Array, labels: Array) -> Array:
  """KL(t, s) of the logits [B, 2K] of the student and of the teacher."""
  del labels
  return losses.kl_teacher_student(*jnp.split(both, 2, axis=-1))
