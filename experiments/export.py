r"""Writes a trained model for PyTorch and for runtimes without JAX.

  rnascl export --workdir=DIR --output=rnas_cl.onnx
  rnascl export --workdir=DIR --model=rnas_cl_eq6 --format=all --output=OUT/eq6

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

Each file is run, where its runtime is installed, and compared with the model:
the largest difference of a logit over 7 random images, the seconds until it is
ready and the milliseconds for one image are in the table that is printed.

Beside the files stand OUTPUT.card.md and OUTPUT.card.json, the model card: what
it is, how it was trained and what it was attacked with, and its limits.
"""

import pathlib
import sys

from absl import flags

import rnascl_jax
from rnascl_jax.interop import export, model_card, runtimes
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


def _paths(model: Pretrained) -> list[pathlib.Path]:
  """The files to write, whose formats are checked."""
  output = paths.local(_OUTPUT.value, '--output')
  if not _FORMAT.value:
    export.check_suffix(output)
    return [output]
  names = list(_FORMAT.value)
  if 'all' in names:
    left_out = {'pt', 'onnx'} if model.architecture is None else {'pt'}
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
    model = rnascl_jax.load(workdir, name)
    written = _paths(model)
    for path in written:
      export.check(model, path)
    run = results.load(workdir)
    card = model_card.make(run, name, model)
    for path in written:
      export.write(model, path)
    output = written[0].with_suffix('')
    files.write_json(output.with_name(f'{output.name}.card.json'), card)
    page = output.with_name(f'{output.name}.card.md')
    files.write_atomically(page, model_card.markdown(run, card).encode())
    measured = runtimes.table(model, written)
  except (ValueError, OSError, ArithmeticError, ImportError) as error:
    sys.exit(f'error: {error}')
  texts = [export.usage(model, path) for path in written]
  return '\n\n'.join([*texts, measured, f'What it is: {page}'])


if __name__ == '__main__':
  launcher.define_workdir()
  flags.mark_flag_as_required('output')
  launcher.command(_export)
