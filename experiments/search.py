"""Searches filters and tutors with a trained teacher.

python -m experiments.search --config=configs/digits.py --workdir=/tmp/digits
"""

from experiments import launcher
from rnascl_jax import stages

if __name__ == '__main__':
  launcher.launch(stages.search)
