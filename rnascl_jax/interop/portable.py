"""A model as a program for other runtimes: StableHLO, and LiteRT made of it.

Normalisation is inside of both, and convolutions are those that a compiler for
another device expects.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from rnascl_jax.base import LogitsFn
from rnascl_jax.models import convolutions, networks
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.models.student import Student

# One program for each; a caller's device picks.
_PLATFORMS = ('cpu', 'cuda', 'tpu')
_SIGNATURE = 'serving_default'


def stablehlo(model: Pretrained) -> bytes:
  """Exports a model as a serialised `jax.export.Exported`.

  `jax.export.deserialize(content).call(images)` runs it on a CPU, a CUDA GPU or
  a TPU, without this library: images [B, H, W, C] in [0, 1] -> logits [B, K].

  Args:
    model: a student or a teacher.
  """
  function = _logits_fn(model)
  program = export.export(jax.jit(function), platforms=_PLATFORMS)
  (batch,) = export.symbolic_shape('batch')
  return bytes(program(_images(model, batch)).serialize())


def tflite(model: Pretrained, metadata: Mapping[str, Any]) -> bytes:
  """Exports a model for LiteRT, formerly TensorFlow Lite.

  Its signature `serving_default` takes `images`, one image [1, H, W, C] in
  [0, 1], and gives `logits` [1, K]. With a symbolic batch, LiteRT would compute
  the shape of every map at run time.

  Args:
    model: a student or a teacher.
    metadata: JSON; the file has it as texts of JSON.

  Raises:
    ValueError: LiteRT has no operator for a part of the network.
  """
  from litert_converter import converter_api_ext
  from litert_converter.mlir import ir, passmanager

  program = export.export(jax.jit(_logits_fn(model)), platforms=['cpu'])
  context = ir.Context()
  converter_api_ext.prepare_mlir_context(context)
  with context, ir.Location.unknown():
    module = ir.Module.parse(program(_images(model, 1)).mlir_module())
    operation = module.operation
    converter_api_ext.set_signature(
      operation, _SIGNATURE, ['images'], ['logits']
    )
    converter_api_ext.run_convert_to_tfl_passes(
      module, passmanager.PassManager(), converter_api_ext.ConvertToTFLConfig()
    )
    texts = {
      name: ir.StringAttr.get(json.dumps(value))
      for name, value in metadata.items()
    }
    operation.attributes['tfl.metadata'] = ir.DictAttr.get(texts)
    try:
      return converter_api_ext.export_flatbuffer_to_bytes(operation)
    except ValueError as error:
      raise ValueError(
        'LiteRT has no operator for a part of this network; write it as '
        f'.stablehlo instead. The converter says: {error}'
      ) from error


def _images(model: Pretrained, batch: Any) -> jax.ShapeDtypeStruct:
  shape = (batch, *model.metadata['image_shape'])
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _logits_fn(model: Pretrained) -> LogitsFn:
  """The model's function with depthwise convolutions that compilers know."""
  net = model.net
  if isinstance(net, Student):
    net = net.clone(conv=convolutions.native_depthwise_conv)
  return networks.logits_fn(net, model.variables)
