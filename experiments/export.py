r"""Writes a trained model for PyTorch and for runtimes without JAX.

  rnascl export --workdir=DIR --output=rnas_cl.onnx
  rnascl export --workdir=DIR --model=rnas_cl_eq6 --format=all --output=OUT/eq6
  rnascl export --workdir=DIR --format=onnx --int8 --output=student

The model is a student ('rnas_cl', 'ce', 'rnas_cl_eq6', ...) or a teacher
('teacher', 'vulnerable_teacher'). The output's suffix says in which format it
is written, or --format does, and the file is OUTPUT with that suffix; `all` are
all that the model has, but for pt, which has what safetensors has:

  safetensors    PyTorch's state dict, with the architecture and the
                 normalisation as strings of JSON; written without PyTorch
  pt             the same as a dict for torch.load with weights_only=True
  onnx           a student as a function, for ONNX Runtime and many others
  stablehlo      the function as jax.export has it, for a CPU, a GPU and a TPU
  tflite         the function for LiteRT, formerly TensorFlow Lite

With --int8 the file .onnx is quantised too, to OUTPUT.int8.onnx, with training
images of the run. Then the run's first PGD attacks the model, on its first 1000
test images at most, and the accuracy of every file on the same images, before
and after the attack, is in the table and in the model card.

Each file is run, where its runtime is installed, and compared with the model:
the largest difference of a logit over 7 random images, the seconds until it is
ready and the milliseconds for one image are in the table that is printed.

Beside the files stand OUTPUT.card.md and OUTPUT.card.json, the model card: what
it is, how it was trained and what it was attacked with, and its limits.
"""

import pathlib
import sys
from typing import Any

from absl import flags

import rnascl_jax
from rnascl_jax.interop import (
  attacked_images,
  export,
  model_card,
  quantization,
  runtimes,
  usage,
)
from rnascl_jax.interop.attacked_images import AttackedImages
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.reporting import results
from rnascl_jax.runtime import files, paths, spelling
from rnascl_jax.stages import launcher

_MODEL = flags.DEFINE_string('model', 'rnas_cl', 'Name of the trained model.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'File to write, without suffix if --format is given.'
)
_FORMAT = flags.DEFINE_list(
  'format', [], 'Formats, separated by commas, or all.'
)
_INT8 = flags.DEFINE_boolean(
  'int8', False, 'Quantises the file .onnx to another one, in int8.'
)


def _paths(model: Pretrained) -> list[pathlib.Path]:
  """The files to write, whose formats are checked."""
  output = paths.local(_OUTPUT.value, '--output')
  if not _FORMAT.value:
    export.check_suffix(output)
    return [output]
  names = list(_FORMAT.value)
  if 'all' in names:
    is_student = model.metadata['kind'] == 'student'
    left_out = {'pt'} if is_student else {'pt', 'onnx'}
    left_out -= {*names}
    names = [name for name in export.FORMATS if name not in left_out]
  for name in names:
    if name not in export.FORMATS:
      raise ValueError(
        f'--format={name} is unknown; there are {", ".join(export.FORMATS)}, '
        f'and all.{spelling.did_you_mean(name, export.FORMATS)}'
      )
  return [output.with_name(f'{output.name}.{name}') for name in names]


def _export() -> str:
  workdir, name = launcher.FLAGS.workdir, _MODEL.value
  try:
    model, run = rnascl_jax.load(workdir, name), results.load(workdir)
    if names := model_card.class_names(run, model):
      model = model._replace(metadata={**model.metadata, 'class_names': names})
    written = _paths(model)
    for path in written:
      export.check(model, path)
    card = model_card.make(run, name, model)
    if _INT8.value:
      measured, attacked = _with_int8(model, run, written, card)
    else:
      for path in written:
        export.write(model, path)
      measured, attacked = runtimes.measure_all(model, written), None
    output = written[0].with_suffix('')
    files.write_json(output.with_name(f'{output.name}.card.json'), card)
    page = output.with_name(f'{output.name}.card.md')
    files.write_atomically(page, model_card.markdown(run, card).encode())
  except (ValueError, OSError, ArithmeticError, ImportError) as error:
    sys.exit(f'error: {error}')
  texts = [usage.text(model, result.path) for result in measured]
  table = runtimes.table(measured, attacked)
  return '\n\n'.join([*texts, table, f'What it is: {page}'])


def _with_int8(
  model: Pretrained,
  run: results.SavedRun,
  written: list[pathlib.Path],
  card: dict[str, Any],
) -> tuple[list[runtimes.Measured], AttackedImages]:
  """Writes all files and the quantised one, which the card then has too."""
  source = quantization.float_file(written)
  config, data = attacked_images.saved_data(run)
  attacked = attacked_images.make(config, data, model)
  for path in written:
    export.write(model, path)
  images = quantization.calibration_images(data.train.images)
  pair = source, quantization.write(source, images)
  measured = runtimes.measure_all(model, [*written, pair[1]], attacked)
  both = [result for result in measured if result.path in pair]
  card['int8'] = model_card.int8(both, attacked, len(images))
  return measured, attacked


if __name__ == '__main__':
  launcher.define_workdir()
  flags.mark_flag_as_required('output')
  launcher.command(_export)
