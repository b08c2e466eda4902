"""Writes the report and the figures of an evaluated workdir.

python -m experiments.report --config=configs/digits.py --workdir=/tmp/digits
"""

from experiments import launcher
from rnascl_jax import loops

if __name__ == '__main__':
  launcher.define_flags()
  launcher.launch(loops.report)
