"""Trains the robust teacher, and its control if the config has one.

python -m experiments.teacher --config=configs/digits.py --workdir=/tmp/digits
"""

from experiments import launcher
from rnascl_jax import loops

if __name__ == '__main__':
  launcher.launch(loops.teacher)
