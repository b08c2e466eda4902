"""Runs all stages: teacher, search, train, evaluate, report.

python -m experiments.pipeline --config=configs/digits.py --workdir=/tmp/digits
"""

from experiments import launcher
from rnascl_jax import loops

if __name__ == '__main__':
  launcher.launch(loops.pipeline)
