"""Searches filters and tutors with a trained teacher.

python -m experiments.search --config=configs/digits.py --workdir=/tmp/digits
"""

from absl import app

from experiments import launcher
from rnascl_jax.stages import searches

if __name__ == '__main__':
  app.run(launcher.stage(searches.search))
