"""In what a state dict differs from a network, and which networks it fits."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.interop import state_dicts, wrappers
from rnascl_jax.models.fixed import build

# Keys named in a message.
_MOST_NAMED = 4
# Residual networks by the name of their last layer.
_RESIDUAL: Mapping[str, Sequence[Mapping[str, Any]]] = {
  'linear.weight': (
    {'name': 'resnet18'},
    {'name': 'resnet34'},
    {'name': 'resnet50'},
    {'name': 'preact_resnet18'},
    {'name': 'preact_resnet18', 'shortcut_activated': True, 'final_norm': True},
  ),
  'fc.weight': (
    {'name': 'imagenet_resnet18'},
    {'name': 'imagenet_resnet50'},
    {'name': 'imagenet_wide_resnet50_2'},
  ),
}
_LATE = 'layer4.1.conv2.weight'
_TRANSFORMERS = ('deit_tiny', 'vit_small', 'vit_small_8', 'vit_base')


def shapes(
  spec: Mapping[str, Any], num_classes: int, image_size: int, channels: int = 3
) -> dict[str, Any]:
  """Shapes of a teacher's variables.

  Args:
    spec: see `build.network`.
    num_classes: that it tells apart.
    image_size: side of the images in pixels.
    channels: of the images.

  Returns:
    `jax.ShapeDtypeStruct` in the place of every variable.
  """
  net = build.network(spec, num_classes=num_classes)
  shape = (1, image_size, image_size, channels)
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), images
  )


def differences(
  unwrapped: wrappers.Unwrapped, expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
  """What is missing, what is too much and what has another shape.

  Args:
    unwrapped: the arrays of a file.
    expected: shapes of the network by name.

  Returns:
    A phrase for each kind of difference; none if the network fits.
  """
  missing = [name for name in expected if name not in unwrapped.arrays]
  reshaped = [
    f'{name} {list(array.shape)} in place of {list(expected[name])}'
    for name, array in unwrapped.arrays.items()
    if array.shape != tuple(expected[name])
  ]
  named = {
    'missing': missing,
    'unexpected': unwrapped.unexpected,
    'of another shape': reshaped,
  }
  return [
    f'{len(keys)} keys {kind} ({_some(keys)})'
    for kind, keys in named.items()
    if keys
  ]


def hint(
  arrays: Mapping[str, np.ndarray], num_classes: int, image_size: int
) -> str:
  """A sentence that names the networks that a state dict fits.

  Args:
    arrays: of a file.
    num_classes: that it tells apart.
    image_size: that was asked for, in pixels.

  Returns:
    The sentence after a space; empty if no network of `NETWORKS` fits.
  """
  fits = [
    f'--network={build.text(spec)} with --image_size={size}'
    for spec, size in _candidates(arrays, image_size)
    if _fits(arrays, spec, num_classes, size)
  ]
  if not fits:
    return ''
  said = f' It fits {" or ".join(fits)}.'
  if 'preact' in said:
    said += (
      ' Nothing in a file tells whether shortcut_activated is True: the code '
      'that it is from does.'
    )
  return said


def renamed(
  unwrapped: wrappers.Unwrapped,
  arrays: Mapping[str, np.ndarray],
  expected: Mapping[str, tuple[int, ...]],
) -> str:
  """A sentence about layers that may differ in nothing but their names.

  Args:
    unwrapped: the arrays of a file.
    arrays: the same by their names in it.
    expected: shapes of the network by name.

  Returns:
    The sentence after a space; empty if other layers are missing, too.
  """
  prefix = unwrapped.prefix
  there = _layers(
    {k.removeprefix(prefix): arrays[k].shape for k in unwrapped.unexpected}
  )
  missing = _layers(
    {key: s for key, s in expected.items() if key not in unwrapped.arrays}
  )
  pairs = []
  for name, layer in missing.items():
    same = next((other for other, it in there.items() if it == layer), None)
    if same is None:
      return ''
    pairs.append(f'{same} for {name}')
    del there[same]
  if not pairs:
    return ''
  return (
    f' Its names may be others for the same layers, by their shapes: '
    f'{_some(pairs)}. If so, save the file with the names of the network.'
  )


def _layers(
  shapes_by_name: Mapping[str, tuple[int, ...]],
) -> dict[str, dict[str, tuple[int, ...]]]:
  """Shapes by the names of layers, and in these by the names of arrays."""
  layers: dict[str, dict[str, tuple[int, ...]]] = {}
  for key, shape in shapes_by_name.items():
    layer, _, name = key.rpartition('.')
    layers.setdefault(layer, {})[name] = tuple(shape)
  return layers


def _candidates(
  arrays: Mapping[str, np.ndarray], image_size: int
) -> Iterator[tuple[Mapping[str, Any], int]]:
  """Networks that a state dict may be of, each with the side of its images."""
  for head, specs in _RESIDUAL.items():
    # To compare all of these takes a while, and other networks lack the names.
    if all(state_dicts.matching(arrays, name) for name in (head, _LATE)):
      yield from ((spec, image_size) for spec in specs)
  first = state_dicts.nearest(arrays, 'block1.layer.0.conv1.weight')
  if first is not None and first.shape[0] >= 16:
    blocks = re.compile(r'(?:^|\.)block1\.layer\.(\d+)\.')
    count = len({match[1] for key in arrays if (match := blocks.search(key))})
    sizes = {'depth': 6 * count + 4, 'width': first.shape[0] // 16}
    yield {'name': 'wide_resnet', **sizes}, image_size
  patches = state_dicts.nearest(arrays, 'patch_embed.proj.weight')
  positions = state_dicts.nearest(arrays, 'pos_embed')
  if patches is not None and positions is not None and patches.size:
    patch = patches.shape[-1]
    side = patch * math.isqrt(positions.shape[1] - 1)
    for name in _TRANSFORMERS:
      yield {'name': name, 'patch_size': patch}, side


def _fits(
  arrays: Mapping[str, np.ndarray],
  spec: Mapping[str, Any],
  num_classes: int,
  image_size: int,
) -> bool:
  try:
    expected = state_dicts.shapes(shapes(spec, num_classes, image_size))
  except ValueError:  # Images that are too small for it.
    return False
  return not differences(wrappers.unwrap(arrays, expected), expected)


def _some(keys: Sequence[str]) -> str:
  more = ', ...' if len(keys) > _MOST_NAMED else ''
  return ', '.join(keys[:_MOST_NAMED]) + more
