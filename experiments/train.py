"""Trains the derived architecture from scratch, with the config's controls.

python -m experiments.train --config=configs/digits.py --workdir=/tmp/digits

experiments.adversarial trains the students further, on attacks.
"""

from experiments import launcher
from rnascl_jax import stages

if __name__ == '__main__':
  launcher.launch(stages.train)
