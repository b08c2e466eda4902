"""Says in a table what this machine has for a run, and what to do about it.

  rnascl doctor
  rnascl doctor --workdir=DIR --data_dir=FOLDER

Devices and their memory, versions, a matrix product and a convolution on every
device compared with NumPy, data sets and their images, free disk, the cache of
compiled programs, and optional packages. Each line says OK or what to do. The
exit status is 1 if something is broken that the demo on digits needs, else 0.
"""

# No absl: it may be what is missing.
import argparse
import sys

from rnascl_jax.runtime import doctor

if __name__ == '__main__':
  parser = argparse.ArgumentParser(
    prog=sys.argv[0],
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--workdir', default='', help='Folder of a run, whose disk is looked at.'
  )
  parser.add_argument(
    '--data_dir',
    default='',
    help='Folder of TensorFlow Datasets; else TFDS_DATA_DIR.',
  )
  flags = parser.parse_args()
  lines = doctor.examine(flags.workdir, flags.data_dir)
  print(doctor.table(lines))
  sys.exit(doctor.status(lines))
