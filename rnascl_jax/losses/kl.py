"""Divergences of predictions: distillation by logits (KD).

The divergence of eqs. (2) and (4) of RNAS-CL, in both directions and with a
temperature; everything is computed from logits in log space.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> student, teacher = jnp.array([[1., 0.]]), jnp.array([[0., 0.]])
  >>> print(losses.kl_student_teacher(student, teacher).round(4))
  [0.1109]
"""

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array


def kl_divergence(
  logits_p: Array, logits_q: Array, *, temperature: float = 1.0
) -> Array:
  """KL(p, q) = sum_k p_k log(p_k / q_k) of softened predictions, times T^2.

  The factor T^2 keeps the size of the gradient as the temperature rises
  (Hinton et al., Distilling the knowledge in a neural network, 2015).

  Args:
    logits_p: [B, K], logits of p.
    logits_q: [B, K], logits of q.
    temperature: positive T that divides the logits; the paper has 1.

  Returns:
    [B], non-negative up to rounding.
  """
  chex.assert_rank([logits_p, logits_q], 2)
  chex.assert_equal_shape([logits_p, logits_q])
  log_p = jax.nn.log_softmax(logits_p / temperature)
  log_q = jax.nn.log_softmax(logits_q / temperature)
  return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def kl_student_teacher(
  student: Array, teacher: Array, *, temperature: float = 1.0
) -> Array:
  """KL(student, teacher) as eqs. (2) and (4) print it: p is the student.

  Mode-seeking: no gradient where the student gives no probability.

  Args:
    student: [B, K] logits.
    teacher: [B, K] logits, constant.
    temperature: as in `kl_divergence`.

  Returns:
    [B], non-negative up to rounding.
  """
  return kl_divergence(student, teacher, temperature=temperature)


def kl_teacher_student(
  student: Array, teacher: Array, *, temperature: float = 1.0
) -> Array:
  """KL(teacher, student), the usual distillation of Hinton et al.

  Args:
    student: [B, K] logits.
    teacher: [B, K] logits, constant.
    temperature: as in `kl_divergence`.

  Returns:
    [B], non-negative up to rounding.
  """
  return kl_divergence(teacher, student, temperature=temperature)
