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


def adaad(
  *,
  epsilon: float,
  step_size: float,
  num_steps: int = 10,
  norm: Norm = norms.LINF,
  alpha: float = 1.0,
  in_training_mode: bool = False,
  distill_on: View = 'adversarial',
  robust_term: RobustTerm | None = None,
) -> AdversarialMethod:
  """Adaptive adversarial distillation; needs a teacher.

  Args:
    epsilon: radius of the ball; Huang et al.: 8 / 255 in L-infinity.
    step_size: of the attack, in the norm; Huang et al.: 2 / 255.
    num_steps: of the attack, at least 1; Huang et al.: 10.
    norm: the ball's.
    alpha: see `losses.adaad`.
    in_training_mode: whether the attack sees, and moves, the student's
      statistics of BatchNorm in training mode.
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
    def both(params, batch_stats, images, *, train):
      logits, batch_stats = network(params, batch_stats, images, train=train)
      logits = jnp.concatenate([logits, teacher.logits_fn(images)], axis=-1)
      return logits, batch_stats  # [B, 2K]

    images_adv, batch_stats = maximization.maximize(
      both,
      _disagreement,
      params,
      batch_stats,
      keys,
      images,
      labels,
      start=Norm.gaussian_start,
      in_training_mode=in_training_mode,
      **ball,
    )
    return Perturbed(images_adv, batch_stats, state)

  def loss(of: Predictions) -> Array:
    return losses.adaad(
      of.student['clean'],
      of.student['adversarial'],
      # Without the former alpha is 1, and it is not used.
      of.teacher.get('clean', of.teacher['adversarial']),
      of.teacher['adversarial'],
      alpha=alpha,
    )

  return AdversarialMethod(
    perturb,
    distill_on=distill_on,
    loss=loss,
    teacher_sees=('adversarial',) if alpha == 1 else ('clean', 'adversarial'),
    robust_term=robust_term,
    passes=('clean', 'adversarial'),
  )


def _disagreement(both: Array, labels: Array) -> Array:
  """KL(t, s) of the logits [B, 2K] of the student and of the teacher."""
  del labels
  return losses.kl_teacher_student(*jnp.split(both, 2, axis=-1))
