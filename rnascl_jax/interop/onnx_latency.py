"""Students and their parts as graphs for ONNX Runtime, to be timed.

A graph has copies of the part side by side, each with an input of its own, so
that what a call of the runtime takes is divided by their number.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Variables
from rnascl_jax.evaluation.timing import Timed
from rnascl_jax.interop import onnx_student, state_dicts
from rnascl_jax.models.student import Student, StudentPart
from rnascl_jax.runtime import extras
from rnascl_jax.search import architecture, flops, space_layers
from rnascl_jax.search.architecture import Architecture

# Multiply-accumulates of a graph at least, about a millisecond, and the most
# copies for that.
_LEAST_MACS, _MOST_COPIES = 5e6, 64
_PURPOSE = 'measuring by ONNX Runtime'


def version() -> str:
  """The version of ONNX Runtime.

  Raises:
    MissingPackageError: onnx or onnxruntime is not there.
  """
  extras.require('onnx', _PURPOSE)
  extras.require('onnxruntime', _PURPOSE)
  import onnxruntime

  return onnxruntime.__version__


def prepare(
  net: Student,
  variables: Variables,
  shape: tuple[int, ...],
  *,
  threads: int,
) -> Timed:
  """A student or a part of it, ready to be timed.

  Args:
    net: the student or the part.
    variables: its weights.
    shape: [B, H, W, C] of its input.
    threads: that run it; 0 for all cores. With several, those of other sessions
      disturb it: they wait for work for a while.
  """
  import onnxruntime

  macs = flops.trace_macs(
    lambda x: net.apply(variables, x, train=False)[0],
    jax.ShapeDtypeStruct(shape, jnp.float32),
  )
  copies = max(1, min(_MOST_COPIES, round(_LEAST_MACS / macs)))
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  session = onnxruntime.InferenceSession(
    _model(net, variables, shape, copies),
    options,
    providers=['CPUExecutionProvider'],
  )
  binding = session.io_binding()
  random = np.random.default_rng(0)
  for entry in session.get_inputs():
    binding.bind_cpu_input(entry.name, random.random(entry.shape, np.float32))
  for entry in session.get_outputs():
    binding.bind_output(entry.name)

  def run(count: int) -> None:
    for _ in range(count):
      session.run_with_iobinding(binding)

  return Timed(run, copies)


def _model(
  net: Student, variables: Variables, shape: tuple[int, ...], copies: int
) -> bytes:
  """A serialised model of copies of a student or a part."""
  import onnx

  graph = _graph(net, variables)
  inputs, outputs, nodes = [], [], []
  batch, height, width, channels = shape
  value = onnx.helper.make_tensor_value_info
  for copy in range(copies):
    inputs.append(
      value(
        f'images.{copy}',
        onnx.TensorProto.FLOAT,
        (batch, channels, height, width),
      )
    )
    last = f'{graph.nodes[-1].output[0]}.{copy}'
    outputs.append(value(last, onnx.TensorProto.FLOAT, None))
    nodes += list(_renamed(graph, copy))
  model = onnx.helper.make_model(
    onnx.helper.make_graph(
      nodes,
      'copies',
      inputs,
      outputs,
      [onnx.numpy_helper.from_array(w, n) for n, w in graph.weights.items()],
    ),
    opset_imports=[onnx.helper.make_opsetid('', onnx_student.OPSET)],
    ir_version=onnx_student.IR_VERSION,
  )
  return model.SerializeToString()


def _renamed(graph: onnx_student.Graph, copy: int) -> Iterator[Any]:
  """The operators of a graph with values of their own; weights are shared."""
  import onnx

  for node in graph.nodes:
    renamed = onnx.NodeProto()
    renamed.CopyFrom(node)
    renamed.name = f'{node.name}.{copy}'
    for names in (renamed.input, renamed.output):
      for index, name in enumerate(names):
        if name not in graph.weights:
          names[index] = f'{name}.{copy}'
    yield renamed


def _graph(net: Student, variables: Variables) -> onnx_student.Graph:
  """The operators of a student or a part, from `images` on."""
  space = net.space
  layers = space_layers.layer_names(space)
  features = tuple(block.widest for block in space.blocks)
  arch = Architecture(space, features, (0,) * len(layers), layers, ('none',))
  fields = architecture.to_dict(arch)
  metadata = {'architecture': fields, 'mean': net.mean, 'std': net.std}
  graph = onnx_student.Graph(state_dicts.from_variables(variables))
  if not isinstance(net, StudentPart):
    graph.student(metadata)
  elif net.index < 0:
    graph.stem(metadata)
  elif net.index == len(space.blocks):
    graph.head('images', fields)
  else:
    graph.block(net.index, 'images', fields)
  return graph
