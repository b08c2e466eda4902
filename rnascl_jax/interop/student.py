"""A student as a PyTorch module. This file may be copied out: it needs no JAX.

The network is built from what is in architecture.json, its weights come from a
file that `rnascl export` wrote:

  net = student.load('rnas_cl.safetensors')
  logits = net(images)  # [B, C, H, W] in [0, 1] -> [B, K]

It computes what the student in Flax computes in evaluation mode. In training
mode only BatchNorm's running variances differ: PyTorch adds up unbiased ones.

Example:
  >>> import torch
  >>> from rnascl_jax.interop import student
  >>> architecture = {
  ...   'stem': 4, 'stem_stride': 1, 'expansion': 2, 'kernel_size': 3,
  ...   'shortcut': 'pad',
  ...   'blocks': [{'features': 6, 'stride': 2, 'residual': False}]}
  >>> net = student.Student(architecture, num_classes=10).eval()
  >>> logits, taps = net(torch.zeros(2, 3, 8, 8), taps=True)
  >>> logits.shape, [tuple(tap.shape) for tap in taps[-2:]]
  (torch.Size([2, 10]), [(2, 8, 4, 4), (2, 6, 4, 4)])
  >>> net.tap_names
  ('stem', 'block0/expand', 'block0/depthwise', 'block0/project')

Reference:
  Nath et al., RNAS-CL, IJCV 2024, section 3.3; the blocks are those of Wan et
  al., FBNetV2, CVPR 2020.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Of architecture.json: the second has kernel sizes of blocks.
FORMATS = (1, 2)


class _Convolutions(nn.Module):
  """Convolutions that are added by their names, each with a BatchNorm."""

  def _add(
    self, name: str, width: int, features: int, size: int = 1, **options: Any
  ) -> None:
    """Adds one from `width` to `features` channels with a kernel of `size`."""
    options |= {'kernel_size': size, 'padding': size // 2}
    self.add_module(name, nn.Conv2d(width, features, bias=False, **options))
    self.add_module(f'{name}_norm', nn.BatchNorm2d(features))

  def _run(self, name: str, x: Tensor) -> Tensor:
    norm = self.get_submodule(f'{name}_norm')
    return norm(self.get_submodule(name)(x))


class Student(_Convolutions):
  """A chain of inverted residuals between a stem and a classifier.

  Attributes:
    tap_names: names of the taps, in forward order.
  """

  mean: Tensor
  std: Tensor

  def __init__(
    self,
    architecture: Mapping[str, Any],
    *,
    num_classes: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    blocks_only: bool = False,
  ):
    """Builds the network with random weights.

    Args:
      architecture: the content of architecture.json.
      num_classes: K.
      mean: C numbers, subtracted from images in [0, 1].
      std: C positive numbers.
      blocks_only: taps are the blocks' outputs instead of every convolution's.

    Raises:
      ValueError: the format of the architecture is another one.
    """
    super().__init__()
    version = architecture.get('format', FORMATS[0])
    if version not in FORMATS:
      raise ValueError(
        f'architecture format={version!r} is none of the supported {FORMATS}; '
        'take the version of this file that belongs to it.'
      )
    # The normalisation is no part of the state dict: it is not trained.
    for name, numbers in (('mean', mean), ('std', std)):
      values = torch.tensor(numbers).reshape(1, -1, 1, 1)
      self.register_buffer(name, values, persistent=False)
    width, stride = architecture['stem'], architecture['stem_stride']
    self._add('stem', len(mean), width, 3, stride=stride)
    self._reduction, self._blocks_only = stride, blocks_only
    self._blocks: list[str] = []
    for block in architecture['blocks']:
      self._blocks.append(f'block{len(self._blocks)}')
      module = InvertedResidual(width, block, architecture)
      self.add_module(self._blocks[-1], module)
      width = block['features']
      self._reduction *= block['stride']
    self.head: nn.Module | None = None
    # Architectures of earlier versions had neither head nor squeeze-excite.
    if head_features := architecture.get('head_features', 0):
      self.head = PooledHead(width, head_features, architecture['expansion'])
      width = head_features
    self.classifier = nn.Linear(width, num_classes)

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Names of the taps, in forward order."""
    if self._blocks_only:
      return tuple(self._blocks)
    names = ['stem']
    for block in self._blocks:
      expands = self.get_submodule(block).expands
      parts = ('expand', 'depthwise', 'project')[not expands :]
      names += [f'{block}/{part}' for part in parts]
    return tuple(names)

  def forward(self, images: Tensor, *, taps: bool = False) -> Any:
    """Classifies images.

    Args:
      images: [B, C, H, W] in [0, 1].
      taps: whether to return them.

    Returns:
      Logits [B, K], or a pair of them and the taps, a tuple of activations
      [B, C, H, W] after BatchNorm and activation (if any follows).

    Raises:
      ValueError: the images do not fit the normalisation or the strides.
    """
    self._check(images)
    x = (images - self.mean) / self.std
    x = nn.functional.hardswish(self._run('stem', x))
    outputs, tapped = [], [x]
    for block in self._blocks:
      x, inner = self.get_submodule(block)(x)
      outputs.append(x)
      tapped.extend(inner)
    features = x.mean((2, 3)) if self.head is None else self.head(x)
    logits = self.classifier(features)
    if not taps:
      return logits
    return logits, tuple(outputs if self._blocks_only else tapped)

  def _check(self, images: Tensor) -> None:
    channels, least = self.mean.shape[1], self._reduction
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != channels:
      raise ValueError(
        f'images of shape {shape} must be [B, {channels}, H, W]: channels '
        'stand before height and width in PyTorch.'
      )
    if not images.is_floating_point():
      raise ValueError(
        f'images of type {images.dtype} must be floating point in [0, 1]: '
        'divide 8-bit images by 255.'
      )
    if any(side % least or side < least for side in shape[2:]):
      raise ValueError(
        f'images of {shape[2]}x{shape[3]} pixels do not fit strides that '
        f'multiply to {least}: each side must be a multiple of {least}.'
      )


class InvertedResidual(_Convolutions):
  """Expand by 1x1, depthwise k x k, project by 1x1; BatchNorm after each.

  Squeeze-excite, if there is any, stands between the last two.
  """

  def __init__(
    self, width: int, block: Mapping[str, Any], architecture: Mapping[str, Any]
  ):
    """Builds a block of the architecture behind `width` channels."""
    super().__init__()
    features, stride = block['features'], block['stride']
    inside = width * block.get('expansion', architecture['expansion'])
    size = block.get('kernel_size', architecture['kernel_size'])
    self.expands = inside > width
    if self.expands:
      self._add('expand', width, inside)
    self._add('depthwise', inside, inside, size, stride=stride, groups=inside)
    self.gate: nn.Module | None = None
    if squeezed := block.get('squeezed', 0):
      self.gate = SqueezeExcite(inside, squeezed)
    self._add('project', inside, features)
    shortcut = architecture['shortcut'] if width != features else 'pad'
    self._shortcut = shortcut if block['residual'] else 'drop'
    self._missing = features - width
    if self._shortcut == 'project':
      self._add('shortcut', width, features)

  def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output and the taps of the three convolutions, both [B, C, H, W].

    The depthwise convolution's tap is read before squeeze-excite, the
    projection's before the residual.
    """
    swish = nn.functional.hardswish
    expanded = swish(self._run('expand', x)) if self.expands else x
    filtered = swish(self._run('depthwise', expanded))
    gated = filtered if self.gate is None else self.gate(filtered)
    output = projected = self._run('project', gated)
    if self._shortcut == 'project':
      output = projected + self._run('shortcut', x)
    elif self._shortcut == 'pad':
      # Zeros are appended to the channels; a negative number drops the last.
      ends = (0, 0, 0, 0, 0, self._missing)
      output = projected + nn.functional.pad(x, ends)
    taps = (filtered, projected)
    return output, (expanded, *taps) if self.expands else taps


class SqueezeExcite(nn.Module):
  """Every image multiplies its channels by gates in [0, 1]."""

  def __init__(self, width: int, hidden: int):
    super().__init__()
    self.squeeze = nn.Linear(width, hidden)
    self.excite = nn.Linear(hidden, width)

  def forward(self, x: Tensor) -> Tensor:
    hidden = nn.functional.hardswish(self.squeeze(x.mean((2, 3))))
    gates = nn.functional.hardsigmoid(self.excite(hidden))
    return x * gates[:, :, None, None]


class PooledHead(_Convolutions):
  """Expand by 1x1, global average, linear layer: [B, C, H, W] -> [B, F]."""

  def __init__(self, width: int, features: int, expansion: int):
    super().__init__()
    self._add('expand', width, width * expansion)
    self.features = nn.Linear(width * expansion, features)

  def forward(self, x: Tensor) -> Tensor:
    swish = nn.functional.hardswish
    expanded = swish(self._run('expand', x))
    return swish(self.features(expanded.mean((2, 3))))


def from_metadata(metadata: Mapping[str, Any]) -> Student:
  """The network that an exported file describes, with random weights.

  Args:
    metadata: of the file, decoded; see `read`.

  Returns:
    The network, in training mode.

  Raises:
    ValueError: it describes a network that was not searched, as a teacher is.
  """
  if 'architecture' not in metadata:
    raise ValueError(
      f'a model of kind={metadata.get("kind")!r} and '
      f'network={metadata.get("network")} was not searched: build its '
      'published definition and give it the state dict of this file.'
    )
  return Student(
    metadata['architecture'],
    num_classes=metadata['num_classes'],
    mean=metadata['mean'],
    std=metadata['std'],
    blocks_only=metadata.get('layers') == 'block',
  )


def read(
  path: str | os.PathLike[str],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
  """Reads an exported file of a student or a teacher.

  Args:
    path: '.safetensors' (needs the package safetensors), '.pt' or '.pth'.

  Returns:
    The state dict, and what was saved with it: kind, mean and std, number of
    classes, shape of images, architecture or network.

  Raises:
    ValueError: the file is not what was exported; a bit of it is another one.
  """
  if os.fspath(path).endswith('.safetensors'):
    import safetensors

    with safetensors.safe_open(path, 'pt') as file:
      state = {key: file.get_tensor(key) for key in file.keys()}
      texts = file.metadata() or {}
    metadata = {key: json.loads(text) for key, text in texts.items()}
  else:
    saved = torch.load(path, map_location='cpu', weights_only=True)
    state, metadata = saved['state_dict'], dict(saved['metadata'])
  expected = metadata.pop('sha256', None)
  if expected is not None and expected != digest(state, metadata):
    raise ValueError(
      f'{os.fspath(path)} is damaged: its SHA-256 is not the one that was '
      'saved in it. Restore it from a copy, or export the model again.'
    )
  return state, metadata


def digest(state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
  """The SHA-256 of tensors and of what is said of them, hexadecimal.

  Args:
    state: tensors on the CPU by name; floating ones count as float32.
    metadata: JSON.
  """
  result = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
  for name, tensor in sorted(state.items()):
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    result.update(f'{name}{list(array.shape)}'.encode() + array.tobytes())
  return result.hexdigest()


def load(path: str | os.PathLike[str]) -> Student:
  """An exported student, in evaluation mode.

  Args:
    path: '.safetensors' (needs the package safetensors), '.pt' or '.pth'.

  Returns:
    The network: images [B, C, H, W] in [0, 1] -> logits [B, K].

  Raises:
    ValueError: the file holds a teacher.
  """
  state, metadata = read(path)
  net = from_metadata(metadata)
  net.load_state_dict(state, strict=True)
  return net.eval()
