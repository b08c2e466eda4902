"""Classification losses, margins and the objectives of RNAS-CL.

Every function returns one value per example, `[B]`; the caller takes the mean
over the global batch. Nothing here knows of networks, configs or devices.

Implements cross-entropy, the margin of Carlini and Wagner, and the objectives
of eqs. (2) and (4) of Nath et al., RNAS-CL, IJCV 2024, section 3.4.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> logits, labels = jnp.array([[2., 0., 0.]]), jnp.array([0])
  >>> print(losses.cross_entropy(logits, labels).round(4))
  [0.2395]
  >>> print(losses.margin(logits, labels))
  [2.]
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array

# Keeps the ratio of logits finite where they are equal.
_TINY = 1e-12


def cross_entropy(logits: Array, labels: Array) -> Array:
  """Cross-entropy between softmax(logits) and integer labels.

  Args:
    logits: [B, K].
    labels: [B], integers in [0, K). Values outside give NaN.

  Returns:
    [B], non-negative.
  """
  chex.assert_rank([logits, labels], [2, 1])
  chex.assert_equal_shape_prefix([logits, labels], 1)
  log_probs = jax.nn.log_softmax(logits)
  # Indexing takes a negative label for one counted from the end.
  index = jnp.where(labels < 0, logits.shape[-1], labels)
  return -jnp.take_along_axis(
    log_probs, index[:, None], axis=-1, mode='fill', fill_value=jnp.nan
  )[:, 0]


def margin(logits: Array, labels: Array) -> Array:
  """How far the label's logit is above the best other one, z_y - max z_other.

  Positive where the label wins. Its negative is the loss that the L-infinity
  version of Carlini and Wagner's attack climbs.

  Args:
    logits: [B, K], K >= 2.
    labels: [B], integers in [0, K).

  Returns:
    [B].

  Reference:
    Carlini and Wagner, Towards evaluating the robustness of neural networks,
    S&P 2017, section V.
  """
  chex.assert_rank([logits, labels], [2, 1])
  chex.assert_equal_shape_prefix([logits, labels], 1)
  is_label = labels[:, None] == jnp.arange(logits.shape[-1])[None]
  own = _pick(logits, labels)
  best_other = jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=-1)
  return own - best_other


def cw_loss(logits: Array, labels: Array) -> Array:
  """The loss of CW-infinity: minus the margin, of each image by itself.

  The published hinge, relu(sum_b z_y - sum_b z_other), is summed over the batch
  before the relu, so that one image broken by a wide margin zeroes the gradient
  of all others and a result depends on how the images were batched. Here every
  image has its own margin, and no hinge: attacks are stronger, and robust
  accuracies lower, than with the published form.

  Args:
    logits: [B, K], K >= 2.
    labels: [B], integers in [0, K).

  Returns:
    [B], positive where the image is misclassified.
  """
  return -margin(logits, labels)


def dlr(logits: Array, labels: Array) -> Array:
  """The difference-of-logits ratio, -(z_y - max z_other) / (z_(1) - z_(3)).

  It does not change when all logits are scaled or shifted, so that a confident
  network does not shrink its gradient. Where the label is ranked third it is 1,
  without a gradient; such an image is misclassified already.

  Args:
    logits: [B, K], K >= 3; z_(1) >= z_(2) >= ... are those of an image, sorted.
    labels: [B], integers in [0, K).

  Returns:
    [B], in [-1, 1], positive where the image is misclassified.

  Raises:
    ValueError: if there are fewer than 3 classes.

  Reference:
    Croce and Hein, Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks, ICML 2020, eq. (6).
  """
  _check_classes(logits, 3, 'the DLR loss')
  first, _, third = _largest(logits, 3)
  return -margin(logits, labels) / (first - third + _TINY)


def targeted_dlr(logits: Array, labels: Array, targets: Array) -> Array:
  """DLR towards a class, -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2).

  Args:
    logits: [B, K], K >= 4.
    labels: [B], integers in [0, K).
    targets: [B], integers in [0, K), other than the labels.

  Returns:
    [B], positive where the target is above the label.

  Raises:
    ValueError: if there are fewer than 4 classes.

  Reference:
    Croce and Hein, ICML 2020, eq. (7).
  """
  _check_classes(logits, 4, 'the targeted DLR loss')
  chex.assert_rank([logits, labels, targets], [2, 1, 1])
  first, _, third, fourth = _largest(logits, 4)
  own, other = _pick(logits, labels), _pick(logits, targets)
  return -(own - other) / (first - 0.5 * (third + fourth) + _TINY)


def _check_classes(logits: Array, least: int, name: str) -> None:
  """With fewer classes, indices from the end would clamp silently."""
  if logits.shape[-1] < least:
    raise ValueError(
      f'{name} needs {least} classes; there are {logits.shape[-1]}.'
    )


def _largest(logits: Array, count: int) -> list[Array]:
  """The largest logits of each example, in descending order, each [B]."""
  values = jax.lax.top_k(logits, count)[0]
  return [values[:, rank] for rank in range(count)]


def _pick(logits: Array, classes: Array) -> Array:
  """[B], of each example the logit of a class."""
  chosen = classes[:, None] == jnp.arange(logits.shape[-1])[None]
  return jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1)


class Terms(NamedTuple):
  """The three terms that eqs. (2) and (4) add up, per example.

  Attributes:
    cross_entropy: [B], -y log p.
    kl: [B], divergence between student and teacher.
    attention: [B], the attention loss of eq. (1).
  """

  cross_entropy: Array
  kl: Array
  attention: Array


def training_objective(
  terms: Terms, *, kl_weight: float | Array = 1.0, gamma: float | Array = 1.0
) -> Array:
  """Training loss, L = L_CE + KL + gamma_t L_Attn (eq. 4).

  Args:
    terms: the three terms, each [B].
    kl_weight: weight of the divergence; the paper has 1.
    gamma: the normalisation constant gamma_t; the paper has 1.

  Returns:
    [B].
  """
  chex.assert_equal_shape(terms)
  return terms.cross_entropy + kl_weight * terms.kl + gamma * terms.attention


def search_objective(
  terms: Terms,
  cost: Array,
  *,
  kl_weight: float | Array = 1.0,
  gamma: float | Array = 1.0,
  exponent: float = 1.0,
) -> Array:
  """Search loss, L = (L_CE + KL + gamma_s L_Attn) n_f(G) (eq. 2).

  Args:
    terms: the three terms, each [B].
    cost: scalar, n_f(G) / n_ref > 0. Raw FLOPs (about 1e7) as a factor diverge
      under SGD; dividing by a reference only rescales the step.
    kl_weight: weight of the divergence; the paper has 1.
    gamma: the normalisation constant gamma_s; the paper has 1.
    exponent: the cost's power, the knob that trades accuracy for FLOPs; the
      paper has 1.

  Returns:
    [B].
  """
  chex.assert_rank(cost, 0)
  total = training_objective(terms, kl_weight=kl_weight, gamma=gamma)
  return total * cost**exponent


def log_search_objective(
  terms: Terms,
  cost: Array,
  *,
  kl_weight: float | Array = 1.0,
  gamma: float | Array = 1.0,
  alpha: float = 0.2,
  exponent: float = 0.6,
) -> Array:
  """Search loss with FBNet's form of the penalty, L * alpha log(cost)^exponent.

  Args:
    terms: the three terms, each [B].
    cost: scalar, FLOPs in absolute numbers, above 1.
    kl_weight: weight of the divergence.
    gamma: weight of the attention loss.
    alpha: factor, FBNet's 0.2.
    exponent: power of the logarithm, FBNet's 0.6.

  Returns:
    [B].

  Reference:
    Wu et al., FBNet, CVPR 2019, eq. (2).
  """
  chex.assert_rank(cost, 0)
  total = training_objective(terms, kl_weight=kl_weight, gamma=gamma)
  return total * alpha * jnp.log(cost) ** exponent
