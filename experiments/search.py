"""Searches filters and tutors with a trained teacher.

python -m experiments.search --config=configs/digits.py --workdir=/tmp/digits
"""

from experiments import launcher
from rnascl_jax import loops

if __name__ == '__main__':
  launcher.launch(loops.search)
