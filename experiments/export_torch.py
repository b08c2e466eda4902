r"""Writes a trained model of a workdir for PyTorch and for tools built on it.

  python -m experiments.export_torch --workdir=DIR --model=rnas_cl \
    --output=rnas_cl.safetensors

The model is a student ('rnas_cl', 'ce', 'rnas_cl_eq6', ...) or a teacher
('teacher', 'vulnerable_teacher'). The output's suffix says in which format:

  .safetensors   tensors, with the architecture and the normalisation as strings
                 of JSON; written without PyTorch
  .pt, .pth      a dict of state_dict and metadata, for torch.load with
                 weights_only=True; needs PyTorch

It prints the lines of Python that load the file. A student becomes a module
that normalises images itself (rnascl_jax/interop/student.py, which may be
copied out). For a teacher it names the published definition that has its names.
"""

import sys

from absl import app, flags

import rnascl_jax
from experiments import launcher
from rnascl_jax.interop import export
from rnascl_jax.runtime import paths

_MODEL = flags.DEFINE_string('model', 'rnas_cl', 'Name of the trained model.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'File to write: .safetensors, .pt or .pth.', required=True
)


def _export() -> str:
  try:
    path = paths.local(_OUTPUT.value, '--output')
    export.check_suffix(path)
    model = rnascl_jax.load(launcher.FLAGS.workdir, _MODEL.value)
    export.write(model, path)
  except (ValueError, OSError, ModuleNotFoundError) as error:
    sys.exit(f'error: {error}')
  return export.usage(model, path)


if __name__ == '__main__':
  launcher.define_workdir()
  app.run(launcher.command(_export))
