"""Trains the derived architecture from scratch, with the config's controls.

python -m experiments.train --config=configs/digits.py --workdir=/tmp/digits

experiments.adversarial trains the students further, on attacks.
"""

from absl import app

from experiments import launcher
from rnascl_jax.stages import students

if __name__ == '__main__':
  app.run(launcher.stage(students.train))
