"""The ONNX file of a student in 8-bit integers, for ONNX Runtime.

Post-training static quantisation: weights have a scale for each output channel,
activations one scale and zero point for each map, of the least and the largest
number that training images give it. Convolutions, sums and products are of
int8; hard-swish, which ONNX Runtime has not in int8, is of float32 between.

Reference:
  Jacob et al., Quantization and training of neural networks for efficient
  integer-arithmetic-only inference, CVPR 2018, sections 2 and 3.
"""

import json
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np

from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.evaluation import classification
from rnascl_jax.runtime import extras, files

# What names of these files end in.
SUFFIX = '.int8.onnx'
# Training images that the ranges of activations are taken of, at most, and how
# many of them at once.
_MOST, _AT_ONCE = 512, 64


def is_int8(path: pathlib.Path) -> bool:
  """Whether a file is one of `write`, by its name."""
  return path.name.endswith(SUFFIX)


def float_file(written: Sequence[pathlib.Path]) -> pathlib.Path:
  """The file among others that can be quantised.

  Args:
    written: the files of an export.

  Raises:
    ValueError: there is no .onnx file among them.
    MissingPackageError: ONNX Runtime is not there.
  """
  for path in written:
    if path.suffix == '.onnx':
      extras.require('onnxruntime', 'quantising to int8')
      return path
  raise ValueError(
    '--int8 quantises the file .onnx of a student, and none is written: add '
    'onnx to --format.'
  )


def calibration_images(images: np.ndarray | StoredImages) -> np.ndarray:
  """Spreads 512 images evenly over a training split, whose order may be any.

  Args:
    images: [N, H, W, C], uint8.

  Returns:
    [n, H, W, C], float32 in [0, 1].
  """
  count = min(len(images), _MOST)
  rows = np.linspace(0, len(images) - 1, count).astype(np.int64)
  return classification.as_floats(images[rows])


def write(source: pathlib.Path, images: np.ndarray) -> pathlib.Path:
  """Quantises a file of `export.write`, and writes the result beside it.

  The metadata is that of the source, and `quantization`, how it was done.

  Args:
    source: a student as .onnx.
    images: [N, H, W, C], float32 in [0, 1], for calibration.

  Returns:
    The new file.
  """
  import onnx
  from onnxruntime import quantization

  model = onnx.load(source)
  texts = {entry.key: entry.value for entry in model.metadata_props}
  texts['quantization'] = json.dumps(
    {
      'weights': 'int8 per output channel',
      'activations': 'int8 per tensor',
      'calibration_images': len(images),
    }
  )
  with tempfile.TemporaryDirectory() as folder:
    prepared, unfinished = (pathlib.Path(folder, x) for x in ('in', 'out'))
    quantization.quant_pre_process(
      model, prepared, skip_optimization=True, skip_symbolic_shape=True
    )
    quantization.quantize_static(
      prepared, unfinished, _Batches(images), per_channel=True
    )
    quantized = onnx.load(unfinished)
  onnx.helper.set_model_props(quantized, texts)
  onnx.checker.check_model(quantized, full_check=True)
  path = source.with_name(source.stem + SUFFIX)
  files.write_atomically(path, quantized.SerializeToString())
  return path


class _Batches:
  """Calibration images in the layout of the file, batch by batch."""

  def __init__(self, images: np.ndarray):
    batches = np.array_split(images, -(-len(images) // _AT_ONCE))
    self._left = iter([batch.transpose(0, 3, 1, 2) for batch in batches])

  def get_next(self) -> dict[str, np.ndarray] | None:
    batch = next(self._left, None)
    return None if batch is None else {'images': batch}
