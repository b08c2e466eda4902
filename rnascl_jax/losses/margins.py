"""Margins between logits, which attacks climb: CW-infinity, DLR.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> logits, labels = jnp.array([[2., 0., 0.]]), jnp.array([0])
  >>> print(losses.margin(logits, labels))
  [2.]
"""

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array

# Keeps the ratio of logits finite where they are equal.
_TINY = 1e-12


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
  is_class = classes[:, None] == jnp.arange(logits.shape[-1])[None]
  return jnp.sum(jnp.where(is_class, logits, 0.0), axis=-1)
