"""In what a state dict differs from a network, and which networks it fits."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.interop import state_dicts, wrappers
from rnascl_jax.models.teachers import build

# Keys named in a message.
_MOST_NAMED = 4
# Of residual networks: a key that the smaller ones and other families lack.
_RESIDUAL: Sequence[tuple[str, Mapping[str, Any]]] = (
  ('linear.weight', {'name': 'resnet18'}),
  ('linear.weight', {'name': 'resnet50'}),
  ('linear.weight', {'name': 'preact_resnet18'}),
  (
    'linear.weight',
    {'name': 'preact_resnet18', 'shortcut_activated': True, 'final_norm': True},
  ),
  ('fc.weight', {'name': 'imagenet_resnet18'}),
  ('fc.weight', {'name': 'imagenet_resnet50'}),
  ('fc.weight', {'name': 'imagenet_wide_resnet50_2'}),
)
# Transformers by depth and width.
_TRANSFORMERS = {
  (12, 192): 'deit_tiny',
  (12, 384): 'vit_small',
  (8, 768): 'vit_small_8',
  (12, 768): 'vit_base',
}


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
    The sentence after a space; empty if no network of `TEACHERS` fits.
  """
  candidates = [
    *((spec, image_size) for spec in _residual(arrays)),
    *((spec, image_size) for spec in _wide(arrays)),
    *_transformers(arrays),
  ]
  fits = [
    f'--network={build.text(spec)} with --image_size={size}'
    for spec, size in candidates
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
    {
      key.removeprefix(prefix): arrays[key].shape
      for key in unwrapped.unexpected
    }
  )
  missing = _layers(
    {key: s for key, s in expected.items() if key not in unwrapped.arrays}
  )
  pairs = []
  for name, shapes_of in missing.items():
    same = [other for other, shapes in there.items() if shapes == shapes_of]
    if not same:
      return ''
    pairs.append(f'{same[0]} for {name}')
    del there[same[0]]
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
  found: dict[str, dict[str, tuple[int, ...]]] = {}
  for key, shape in shapes_by_name.items():
    layer, _, name = key.rpartition('.')
    found.setdefault(layer, {})[name] = tuple(shape)
  return found


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


def _residual(arrays: Mapping[str, np.ndarray]) -> list[Mapping[str, Any]]:
  """Residual networks with stages as in the file, to be compared in full."""
  if not state_dicts.matching(arrays, 'layer4.1.conv2.weight'):
    return []
  deep = bool(state_dicts.matching(arrays, 'layer4.2.conv3.weight'))
  return [
    spec
    for head, spec in _RESIDUAL
    if state_dicts.matching(arrays, head) and ('50' in spec['name']) == deep
  ]


def _wide(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
  """The wide residual network whose depth and width a state dict has."""
  first = _only(arrays, 'block1.layer.0.conv1.weight')
  if first is None:
    return []
  depth, width = 6 * _count(arrays, 'block1.layer') + 4, first.shape[0] // 16
  return [{'name': 'wide_resnet', 'depth': depth, 'width': width}][:width]


def _transformers(
  arrays: Mapping[str, np.ndarray],
) -> list[tuple[dict[str, Any], int]]:
  """The transformer of a state dict, and the side of its images."""
  patches = _only(arrays, 'patch_embed.proj.weight')
  positions = _only(arrays, 'pos_embed')
  if patches is None or positions is None or positions.ndim != 3:
    return []
  name = _TRANSFORMERS.get((_count(arrays, 'blocks'), patches.shape[0]))
  if name is None:
    return []
  patch = patches.shape[-1]
  side = patch * math.isqrt(positions.shape[1] - 1)
  return [({'name': name, 'patch_size': patch}, side)]


def _only(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
  """The array of a name behind the shortest prefix, None if there is none."""
  prefixes = state_dicts.matching(arrays, name)
  return arrays[min(prefixes, key=len) + name] if prefixes else None


def _count(arrays: Mapping[str, np.ndarray], name: str) -> int:
  """How many numbered modules there are in one of this name."""
  numbered = re.compile(rf'(?:^|\.){re.escape(name)}\.(\d+)\.')
  matches = [numbered.search(key) for key in arrays]
  return len({match[1] for match in matches if match})


def _some(keys: Sequence[str]) -> str:
  more = ', ...' if len(keys) > _MOST_NAMED else ''
  return ', '.join(keys[:_MOST_NAMED]) + more
