"""Attacks all trained models of a workdir.

python -m experiments.evaluate --config=configs/digits.py --workdir=/tmp/digits
"""

from experiments import launcher
from rnascl_jax import loops

if __name__ == '__main__':
  launcher.launch(loops.evaluate)
