"""Runs all stages: teacher, search, train, adversarial, evaluate, report.

rnascl pipeline --config=digits --workdir=/tmp/digits

Each stage is a command of its own with its own --help; one that is complete in
the workdir is not run again. The adversarial stage, 20 more epochs on attacks,
is left out by a config whose config.adversarial.students is empty.
"""

from rnascl_jax import stages
from rnascl_jax.stages import launcher

if __name__ == '__main__':
  launcher.stage(stages.run_all)
