"""What students and teachers have in common: how they are applied.

A network is a Flax module called as `net(images, train=...)`, with images in
[0, 1]; it returns `(logits, taps)` and names its taps in `net.tap_names`.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax import networks, teachers
  >>> net = teachers.TEACHERS['small_resnet'](num_classes=10)
  >>> images = jnp.zeros((2, 8, 8, 1))
  >>> variables = net.init(jax.random.key(0), images, train=False)
  >>> networks.logits_fn(net, variables)(images).shape
  (2, 10)
"""

from typing import Any, cast

import flax
import flax.linen as nn

from rnascl_jax.base import Array, LogitsFn, Taps, Variables


def apply(
  net: nn.Module, variables: Variables, images: Array, **inputs: Any
) -> tuple[Array, Taps]:
  """Applies a network in evaluation mode.

  Args:
    net: a student or a teacher.
    variables: its parameters and BatchNorm statistics.
    images: [B, H, W, C] in [0, 1].
    **inputs: further inputs, such as the `masks` of a supernet.

  Returns:
    Logits [B, K] and the taps.
  """
  logits, taps = net.apply(variables, images, train=False, **inputs)
  return cast(Array, logits), cast(Taps, taps)


def logits_fn(net: nn.Module, variables: Variables, **inputs: Any) -> LogitsFn:
  """The classifier in evaluation mode, as attacks want it.

  Args:
    net: a student or a teacher.
    variables: its parameters and BatchNorm statistics.
    **inputs: further inputs, such as the `masks` of a supernet.

  Returns:
    A pure function: images [B, H, W, C] in [0, 1] -> logits [B, K].
  """

  def evaluate(images: Array) -> Array:
    return apply(net, variables, images, **inputs)[0]

  return evaluate


def count_parameters(variables: Variables, *, batch_norm: bool = False) -> int:
  """Parameters of a network, in the conventions of `flops.count`.

  Args:
    variables: parameters and BatchNorm statistics.
    batch_norm: whether scales and shifts of BatchNorm and LayerNorm count, as
      they do in published counts; running statistics never do.

  Returns:
    How many numbers.
  """
  flat = flax.traverse_util.flatten_dict(variables['params'])
  norms = {path[:-1] for path in flat if path[-1] == 'scale'}
  return sum(
    leaf.size
    for path, leaf in flat.items()
    if batch_norm or path[:-1] not in norms
  )
