"""Says in a table what this machine has for a run, and what to do about it.

  rnascl doctor
  rnascl doctor --workdir=DIR --data_dir=FOLDER

Devices and their memory, versions, a matrix product and a convolution on every
device compared with NumPy, data sets and their images, free disk, the cache of
compiled programs, and optional packages. Each line says OK or what to do. The
exit status is 1 if something is broken that the demo on digits needs, else 0.
"""

import sys

from absl import app, flags

from rnascl_jax.runtime import doctor

_WORKDIR = flags.DEFINE_string(
  'workdir', '', 'Folder of a run, whose disk is looked at.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', '', 'Folder of TensorFlow Datasets; else TFDS_DATA_DIR.'
)


def main(argv: list[str]) -> None:
  """Prints the table and ends with its status."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  lines = doctor.examine(_WORKDIR.value, _DATA_DIR.value)
  print(doctor.table(lines))
  sys.exit(doctor.status(lines))


if __name__ == '__main__':
  app.run(main)
