"""Small classifiers, the same weights in JAX and in PyTorch, to be attacked.

`plain` is convolutions and BatchNorm in evaluation mode; `cell` is a student
with inverted residuals. Inputs are [B, H, W, C] here and [B, C, H, W] there;
both compute in the type of their input.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.models import networks, student
from rnascl_jax.search import spaces

SIDE = 8


@functools.cache
def plain_weights(num_classes: int = 10):
  rng = np.random.default_rng(num_classes)
  layers = []
  for features, inputs in ((8, 3), (12, 8)):
    kernel = rng.normal(size=(features, inputs, 3, 3)) * (2 / inputs / 9) ** 0.5
    mean, bias = rng.normal(size=(2, features)) * 0.1
    variance, scale = rng.uniform(0.5, 1.5, size=(2, features))
    layers.append((kernel, mean, variance, scale, bias))
  return layers, rng.normal(size=(12, num_classes)) * 3


def plain(images, num_classes: int = 10):
  """[B, H, W, 3] -> [B, K]; JAX's own convolutions, as others write them."""
  layers, head = jax.tree.map(
    lambda x: jnp.asarray(x, images.dtype), plain_weights(num_classes)
  )
  x = images
  for kernel, mean, variance, scale, bias in layers:
    x = jax.lax.conv_general_dilated(
      x, kernel, (2, 2), 'VALID', dimension_numbers=('NHWC', 'OIHW', 'NHWC')
    )
    factor = scale * jax.lax.rsqrt(variance + 1e-5)
    shape = (1, 1, 1, -1)
    x = (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)
    x = jax.nn.relu(x)
  return x.mean(axis=(1, 2)) @ head


def torch_plain(images, num_classes: int = 10):
  """[B, 3, H, W] -> [B, K]."""
  import torch

  layers, head = plain_weights(num_classes)
  x = images
  for layer in layers:
    kernel, *statistics = (torch.tensor(w, dtype=images.dtype) for w in layer)
    x = torch.nn.functional.conv2d(x, kernel, stride=2)
    x = torch.nn.functional.batch_norm(x, *statistics, eps=1e-5)
    x = torch.relu(x)
  return x.mean(dim=(2, 3)) @ torch.tensor(head, dtype=images.dtype)


@functools.cache
def cell_network():
  """Two inverted residuals, one of them with a shortcut, and its weights."""
  space = spaces.from_stages(
    (1, 1), ((6,), (8,)), (1, 2), stem_features=6, stem_stride=1
  )
  net = student.Student(space, 10)
  shapes = jax.eval_shape(
    lambda: net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
  )
  rng = np.random.default_rng(3)

  def draw(path, leaf):
    name = path[-1].key
    if name in ('var', 'scale'):
      return rng.uniform(0.5, 1.5, leaf.shape)
    size = max(np.prod(leaf.shape[:-1]), 1)
    if name in ('mean', 'bias'):
      return rng.normal(size=leaf.shape) * 0.1
    return rng.normal(size=leaf.shape) * (2 / size) ** 0.5

  return net, jax.tree_util.tree_map_with_path(draw, shapes)


def cell(images):
  """[B, H, W, 3] -> [B, 10]."""
  net, variables = cell_network()
  variables = jax.tree.map(lambda x: jnp.asarray(x, images.dtype), variables)
  return networks.logits_fn(net, variables)(images) * 3


def torch_cell(images):
  """[B, 3, H, W] -> [B, 10]."""
  import torch

  net, variables = cell_network()
  weights = jax.tree.map(
    lambda x: torch.tensor(np.asarray(x), dtype=images.dtype), variables
  )
  return torch_student(net.space, weights, images) * 3


def torch_student(space, weights, images):
  """A student without masks, written from the definition of the block.

  Args:
    space: of the student, with shortcuts that are padded.
    weights: its variables as tensors.
    images: [B, 3, H, W].

  Returns:
    Logits [B, K].
  """
  from torch.nn import functional

  params, stats = weights['params'], weights['batch_stats']

  def norm(x, *path):
    p, s = params, stats
    for name in path:
      p, s = p[name], s[name]
    return functional.batch_norm(
      x, s['mean'], s['var'], p['scale'], p['bias'], eps=1e-5
    )

  def pointwise(x, kernel):  # [C, C']
    return functional.conv2d(x, kernel.T[:, :, None, None])

  stem = params['stem']['kernel'].permute(3, 2, 0, 1)
  x = functional.conv2d(images, stem, stride=space.stem_stride, padding=1)
  x = functional.hardswish(norm(x, 'stem_norm'))
  for index, block in enumerate(space.blocks):
    name = f'block{index}'
    p, entering = params[name], x
    x = pointwise(x, p['expand']['kernel'])
    x = functional.hardswish(norm(x, name, 'expand_norm'))
    kernel = p['depthwise']['kernel'].permute(3, 2, 0, 1)
    x = functional.conv2d(
      x, kernel, stride=block.stride, padding=1, groups=kernel.shape[0]
    )
    x = functional.hardswish(norm(x, name, 'depthwise_norm'))
    x = norm(pointwise(x, p['project']['kernel']), name, 'project_norm')
    if block.residual:
      missing = max(x.shape[1] - entering.shape[1], 0)
      padded = functional.pad(entering, (0, 0, 0, 0, 0, missing))
      x = x + padded[:, : x.shape[1]]
  classifier = params['classifier']
  return x.mean(dim=(2, 3)) @ classifier['kernel'] + classifier['bias']


@functools.cache
def data(count: int = 24, num_classes: int = 10, network=plain):
  """Images in float64 and labels, the last two of them wrong.

  The first image is black and the second white.
  """
  rng = np.random.default_rng(1)
  images = rng.uniform(size=(count, SIDE, SIDE, 3))
  images[0], images[1] = 0, 1
  kwargs = {'num_classes': num_classes} if network is plain else {}
  with jax.enable_x64(True):
    logits = jax.jit(functools.partial(network, **kwargs))(images)
    labels = np.asarray(logits.argmax(-1)).astype(np.int32)
  labels[-2:] = (labels[-2:] + 1) % num_classes
  return images, labels


def to_torch(images, dtype=np.float64):
  """[B, H, W, C] -> contiguous [B, C, H, W]."""
  import torch

  moved = np.moveaxis(np.asarray(images, dtype), -1, 1)
  return torch.tensor(np.ascontiguousarray(moved))


def from_torch(images):
  """[B, C, H, W] -> [B, H, W, C]."""
  return np.moveaxis(images.detach().numpy(), 1, -1)
