"""Losses of robust distillation, which put a teacher in the place of labels.

Below, s and t are the student's and the teacher's predictions, x an image, x'
its adversarial view and y its label; a subscript T divides logits by it.

  ARD    alpha T^2 KL(t_T(x), s_T(x')) + (1 - alpha) CE(s(x), y)
  RSLAD  alpha KL(t(x), s(x')) + (1 - alpha) KL(t(x), s(x))
  IAD    ARD + alpha (1 - t_y(x')^beta) KL(s(x), s(x'))
  AdaAD  alpha KL(t(x'), s(x')) + (1 - alpha) KL(t(x), s(x))

Divergences are sums over the K classes, as the papers write them. The authors'
code of ARD, of RSLAD and, on CIFAR-10, of AdaAD takes PyTorch's default, a mean
over the classes too; under SGD that is this loss with the learning rate over K
and the weight decay times K.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> clean, adv, teacher = jnp.array([[[2., 0.]], [[1., 0.]], [[3., 0.]]])
  >>> print(losses.rslad(clean, adv, teacher).round(4))
  [0.1467]
  >>> print(losses.ard(clean, adv, teacher, jnp.array([0])).round(4))
  [0.4992]

References:
  Goldblum et al., Adversarially robust distillation, AAAI 2020.
  Zi et al., Revisiting adversarial robustness distillation: robust soft labels
  make student better, ICCV 2021.
  Zhu et al., Reliable adversarial distillation with unreliable teachers, ICLR
  2022.
  Huang et al., Boosting accuracy and robustness of student models via adaptive
  adversarial distillation, CVPR 2023.
"""

import chex
import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.losses import kl
from rnascl_jax.losses.classification import cross_entropy


def ard(
  logits: Array,
  adv_logits: Array,
  teacher_logits: Array,
  labels: Array,
  *,
  alpha: float = 1.0,
  temperature: float = 30.0,
) -> Array:
  """ARD: the teacher's answer to an image, at each point of the ball around it.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    teacher_logits: [B, K], the teacher's of the images, constants.
    labels: [B], integers in [0, K).
    alpha: share of the divergence in [0, 1]; the authors' code has 1.
    temperature: T > 0; the authors' code has 30.

  Returns:
    [B], non-negative up to rounding.

  Reference:
    Goldblum et al., AAAI 2020, and their code.
  """
  chex.assert_equal_shape([logits, adv_logits, teacher_logits])
  loss = alpha * kl.kl_teacher_student(
    adv_logits, teacher_logits, temperature=temperature
  )
  if alpha == 1.0:
    return loss
  return loss + (1.0 - alpha) * cross_entropy(logits, labels)


def rslad(
  logits: Array,
  adv_logits: Array,
  teacher_logits: Array,
  *,
  alpha: float = 5 / 6,
) -> Array:
  """RSLAD: the teacher's answer to an image, for the image and its view.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    teacher_logits: [B, K], the teacher's of the images, constants.
    alpha: share of the views in [0, 1]; 5 / 6 in the paper.

  Returns:
    [B], non-negative up to rounding.

  Reference:
    Zi et al., ICCV 2021, and their code.
  """
  return adaad(logits, adv_logits, teacher_logits, teacher_logits, alpha=alpha)


def adaad(
  logits: Array,
  adv_logits: Array,
  teacher_logits: Array,
  teacher_adv_logits: Array,
  *,
  alpha: float = 1.0,
) -> Array:
  """AdaAD: the teacher's answer to the very image that the student sees.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    teacher_logits: [B, K], the teacher's of the images, constants; not used
      where alpha is 1.
    teacher_adv_logits: [B, K], the teacher's of the views, constants.
    alpha: share of the views in [0, 1]; the authors' code has 1.

  Returns:
    [B], non-negative up to rounding.

  Reference:
    Huang et al., CVPR 2023, and their code.
  """
  chex.assert_equal_shape([logits, adv_logits, teacher_adv_logits])
  loss = alpha * kl.kl_teacher_student(adv_logits, teacher_adv_logits)
  if alpha == 1.0:
    return loss
  return loss + (1.0 - alpha) * kl.kl_teacher_student(logits, teacher_logits)


def iad(
  logits: Array,
  adv_logits: Array,
  teacher_logits: Array,
  teacher_adv_logits: Array,
  labels: Array,
  *,
  alpha: float = 1.0,
  temperature: float = 1.0,
  beta: float = 0.1,
  introspects: bool | Array = True,
) -> Array:
  """IAD-I: ARD, and the student's own answer where the teacher is wrong.

  The weight of that answer is 1 - t_y(x')^beta: 0 where the teacher is certain
  of the label of the adversarial view. The gradient flows through both of the
  student's predictions, as in the authors' code.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    teacher_logits: [B, K], the teacher's of the images, constants.
    teacher_adv_logits: [B, K], the teacher's of the views, constants.
    labels: [B], integers in [0, K).
    alpha: as of `ard`; the authors' code has 1.
    temperature: T > 0 of the teacher's term; the authors' code has 1.
    beta: exponent of the trust in the teacher, positive; 0.1 in the paper.
    introspects: scalar, whether the student's own answer counts already; not
      in the first 60 of 200 epochs of the paper.

  Returns:
    [B], non-negative up to rounding.

  Reference:
    Zhu et al., ICLR 2022, and their code of IAD-I.
  """
  loss = ard(
    logits,
    adv_logits,
    teacher_logits,
    labels,
    alpha=alpha,
    temperature=temperature,
  )
  trust = jnp.exp(-beta * cross_entropy(teacher_adv_logits, labels))
  doubt = jnp.where(introspects, 1.0 - trust, 0.0)
  own = kl.kl_divergence(logits, adv_logits)
  return loss + alpha * doubt * own
