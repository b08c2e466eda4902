"""A student as an ONNX model: one graph from pixels to logits.

Normalisation is inside, BatchNorm is folded into the convolution before it, and
a depthwise convolution is one grouped `Conv`. The batch is symbolic.

Reference:
  Open Neural Network Exchange, operator set 17; https://onnx.ai/onnx/operators.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

# `HardSwish` is there since 14; ONNX Runtime reads 17 since its version 1.12.
OPSET = 17
IR_VERSION = 8
# Of `models.batch_norm.BatchNorm` and of `torch.nn.BatchNorm2d`.
_EPSILON = 1e-5

Arrays = Mapping[str, np.ndarray]


def serialize(arrays: Arrays, metadata: Mapping[str, Any]) -> bytes:
  """Makes the file of a student.

  Its input is `images`, float32 [batch, C, H, W] in [0, 1], its output
  `logits`, [batch, K].

  Args:
    arrays: the student's state dict, see `state_dicts.from_variables`.
    metadata: of a student, JSON; the file has it as texts of JSON.

  Returns:
    A serialised `onnx.ModelProto` that `onnx.checker` has accepted.
  """
  import onnx

  graph = Graph(arrays)
  graph.student(metadata)
  height, width, channels = metadata['image_shape']
  shapes = {
    'images': ('batch', channels, height, width),
    'logits': ('batch', metadata['num_classes']),
  }
  ends = [
    onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    for name, shape in shapes.items()
  ]
  model = onnx.helper.make_model(
    onnx.helper.make_graph(
      graph.nodes,
      'student',
      ends[:1],
      ends[1:],
      [onnx.numpy_helper.from_array(w, n) for n, w in graph.weights.items()],
    ),
    producer_name='rnascl_jax',
    opset_imports=[onnx.helper.make_opsetid('', OPSET)],
    ir_version=IR_VERSION,
  )
  texts = {name: json.dumps(value) for name, value in metadata.items()}
  onnx.helper.set_model_props(model, texts)
  onnx.checker.check_model(model, full_check=True)
  return model.SerializeToString()


class Graph:
  """Operators and their weights, in the order in which they are added.

  A value has the name of the operator that gives it.
  """

  def __init__(self, arrays: Arrays):
    self.nodes: list[Any] = []
    self.weights: dict[str, np.ndarray] = {}
    self._arrays = arrays

  def student(self, metadata: Mapping[str, Any]) -> None:
    """Adds all operators from `images` to `logits`."""
    architecture = metadata['architecture']
    x = self.stem(metadata)
    for index in range(len(architecture['blocks'])):
      x = self.block(index, x, architecture)
    self.head(x, architecture)

  def stem(self, metadata: Mapping[str, Any]) -> str:
    """Adds the operators from `images` to the first block."""
    x = 'images'
    for kind, name in (('Sub', 'mean'), ('Div', 'std')):
      column = np.reshape(metadata[name], (1, -1, 1, 1))
      x = self._add(kind, f'{kind.lower()}_{name}', x, **{name: column})
    stride = metadata['architecture']['stem_stride']
    return self._swish(self._convolution('stem', x, stride=stride))

  def head(self, x: str, architecture: Mapping[str, Any]) -> None:
    """Adds the operators from the last block to `logits`."""
    if architecture.get('head_features', 0):
      x = self._swish(self._convolution('head.expand', x))
      x = self._swish(self._linear('head.features', self._mean(x)))
    else:
      x = self._mean(x)
    self._linear('classifier', x, 'logits')

  def block(self, index: int, x: str, architecture: Mapping[str, Any]) -> str:
    """Adds an inverted residual."""
    name, blocks = f'block{index}', architecture['blocks']
    width = blocks[index - 1]['features'] if index else architecture['stem']
    block, inside = blocks[index], x
    if f'{name}.expand.weight' in self._arrays:
      inside = self._swish(self._convolution(f'{name}.expand', x))
    inside = self._swish(
      self._convolution(f'{name}.depthwise', inside, stride=block['stride'])
    )
    if block.get('squeezed', 0):
      inside = self._gated(f'{name}.gate', inside)
    projected = self._convolution(f'{name}.project', inside)
    shortcut = self._shortcut(
      name, x, block['features'] - width, block, architecture
    )
    if not shortcut:
      return projected
    return self._add('Add', f'{name}.sum', projected, shortcut)

  def _shortcut(self, name, x, missing, block, architecture) -> str:
    """What is added to the projection, '' if nothing is."""
    if not block['residual']:
      return ''
    if missing == 0:
      return x
    kind = architecture['shortcut']
    if kind == 'project':
      return self._convolution(f'{name}.shortcut', x)
    if kind == 'drop':
      return ''
    if missing < 0:
      ends = {'from': [0], 'to': [block['features']], 'axes': [1]}
      return self._add('Slice', f'{name}.fit', x, **ends)
    pads = [0, 0, 0, 0, 0, missing, 0, 0]
    return self._add('Pad', f'{name}.fit', x, pads=pads)

  def _gated(self, name: str, x: str) -> str:
    """Squeeze-excite; its layers are 1x1 convolutions of the means."""
    means = self._add('GlobalAveragePool', f'{name}.mean', x)
    gates = means
    for layer, kind in (('squeeze', 'HardSwish'), ('excite', 'HardSigmoid')):
      kernel, bias = self._of(f'{name}.{layer}', 'weight', 'bias')
      gates = self._add(
        'Conv',
        f'{name}.{layer}',
        gates,
        weight=kernel[:, :, None, None],
        bias=bias,
      )
      options = {'attributes': {'alpha': 1 / 6}} if layer == 'excite' else {}
      gates = self._add(kind, f'{gates}.activation', gates, **options)
    return self._add('Mul', name, x, gates)

  def _convolution(self, name: str, x: str, stride: int = 1) -> str:
    """A convolution with the BatchNorm behind it."""
    kernel, *_ = self._of(name, 'weight')
    statistics = ('weight', 'bias', 'running_mean', 'running_var')
    scale, bias, mean, variance = self._of(f'{name}_norm', *statistics)
    factor = scale / np.sqrt(variance + _EPSILON)
    size = kernel.shape[-1]
    attributes = {
      'kernel_shape': [size] * 2,
      'strides': [stride] * 2,
      'pads': [size // 2] * 4,
      'group': len(kernel) if name.endswith('.depthwise') else 1,
    }
    return self._add(
      'Conv',
      name,
      x,
      attributes=attributes,
      weight=kernel * factor[:, None, None, None],
      bias=bias - mean * factor,
    )

  def _linear(self, name: str, x: str, output: str = '') -> str:
    weight, bias = self._of(name, 'weight', 'bias')
    layer = {'weight': weight, 'bias': bias, 'attributes': {'transB': 1}}
    return self._add('Gemm', output or name, x, **layer)

  def _swish(self, x: str) -> str:
    return self._add('HardSwish', f'{x}.activation', x)

  def _mean(self, x: str) -> str:
    """[B, C, H, W] -> [B, C]."""
    mean = self._add('GlobalAveragePool', 'mean', x)
    return self._add('Flatten', 'mean.flat', mean)

  def _of(self, name: str, *parts: str) -> list[np.ndarray]:
    """Arrays of a layer, in float64."""
    keys = [f'{name}.{part}' for part in parts]
    return [self._arrays[key].astype(np.float64) for key in keys]

  def _add(
    self, kind: str, name: str, *inputs: str, attributes=None, **weights: Any
  ) -> str:
    """Adds an operator; `weights` are its further inputs.

    Numbers are stored as float32, lists as int64.
    """
    import onnx

    names = list(inputs)
    for part, value in weights.items():
      number = np.int64 if isinstance(value, list) else np.float32
      names.append(f'{name}.{part}')
      self.weights[names[-1]] = np.asarray(value, number)
    self.nodes.append(
      onnx.helper.make_node(kind, names, [name], name, **(attributes or {}))
    )
    return name
