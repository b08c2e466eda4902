"""What students and teachers have in common: how they are applied.

A network is a Flax module called as `net(images, train=...)`, with images in
[0, 1]; it returns `(logits, taps)` and names its taps in `net.tap_names`. Its
method `represent` returns what else distillation compares, see `Outputs`.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax.models import fixed, networks
  >>> net = fixed.NETWORKS['small_resnet'](num_classes=10)
  >>> images = jnp.zeros((2, 8, 8, 1))
  >>> variables = net.init(jax.random.key(0), images, train=False)
  >>> networks.logits_fn(net, variables)(images).shape
  (2, 10)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax
import flax.linen as nn

from rnascl_jax.base import Array, LogitsFn, PyTree, Taps, Variables
from rnascl_jax.models import convolutions


class Outputs(NamedTuple):
  """What a network makes of images.

  Attributes:
    logits: [B, K].
    taps: activations [B, H, W, C] of all layers that teach or are taught, in
      forward order.
    stages: activations [B, H, W, C] at the end of every stage, where the size
      of maps changes next, in forward order and with what blocks add; a
      transformer has one stage.
    features: [B, C], what the last layer classifies.
  """

  logits: Array
  taps: Taps
  stages: Taps
  features: Array


class Network(nn.Module):
  """A network that computes all of its outputs in one method."""

  def represent(self, images: Array, *, train: bool) -> Outputs:
    """Computes everything.

    Args:
      images: [B, H, W, C] in [0, 1].
      train: whether BatchNorm uses and updates batch statistics.
    """
    raise NotImplementedError

  def __call__(self, images: Array, *, train: bool) -> tuple[Array, Taps]:
    outputs = self.represent(images, train=train)
    return outputs.logits, outputs.taps


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


def represent(net: nn.Module, variables: Variables, images: Array) -> Outputs:
  """All outputs of a network in evaluation mode.

  Args:
    net: a student or a teacher.
    variables: its parameters and BatchNorm statistics.
    images: [B, H, W, C] in [0, 1].
  """
  outputs = net.apply(variables, images, train=False, method='represent')
  return cast(Outputs, outputs)


def functional(
  net: nn.Module, *inputs: Any
) -> Callable[..., tuple[Outputs, PyTree]]:
  """Makes the network a function of its parameters and statistics.

  Args:
    net: a student or a teacher.
    *inputs: further inputs, such as the masks of a supernet.

  Returns:
    (params, batch_stats, images, *, train) -> (outputs, batch_stats), where the
    statistics are new ones if `train`.
  """

  def apply_to(params, batch_stats, images, *, train):
    variables = {'params': params, 'batch_stats': batch_stats}
    call = functools.partial(
      net.apply, variables, images, *inputs, train=train, method='represent'
    )
    if not train:
      return call(), batch_stats
    outputs, new = call(mutable=['batch_stats'])
    return outputs, new.get('batch_stats', {})

  return apply_to


def classifier(
  net: nn.Module, *inputs: Any
) -> Callable[..., tuple[Array, PyTree]]:
  """The same as `functional`, with logits [B, K] alone as outputs."""
  network = functional(net, *inputs)

  def apply_to(params, batch_stats, images, *, train):
    outputs, batch_stats = network(params, batch_stats, images, train=train)
    return outputs.logits, batch_stats

  return apply_to


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


def with_native_convolutions(net: nn.Module) -> nn.Module:
  """The network with depthwise convolutions that counts and compilers know.

  Args:
    net: a student or a teacher; one without such convolutions is returned.
  """
  if hasattr(net, 'conv'):
    return net.clone(conv=convolutions.native_depthwise_conv)
  if isinstance(getattr(net, 'net', None), nn.Module):
    return net.clone(net=with_native_convolutions(net.net))
  return net


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
