r"""Sweeps: the runs of a table, which share files and are repeated over seeds.

A config file describes one with a function `sweep(argument)` that returns rows.
Each row with each seed is a job, whose folder ROOT/seed<N>/<row>/ is the
workdir of its commands. `rnascl sweep` runs or prints them:

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/terms:table=7,data=digits

Neither this package nor that command starts a device: a GPU is left to the
commands.

Example:
  >>> from rnascl_jax import sweeps
  >>> student = sweeps.Row(
  ...   'student',
  ...   'digits:smoke',
  ...   changes={'search.gamma': 7.0},
  ...   takes={'teacher.checkpoint': 'teacher/teacher'},
  ... )
  >>> other = sweeps.Row('other', 'digits:smoke')
  >>> teacher = sweeps.Row(
  ...   'teacher', 'digits:smoke', commands=('teacher', 'evaluate')
  ... )
  >>> rows = sweeps.in_order([student, other, teacher])
  >>> [row.name for row in sweeps.select(rows, ['student'])]
  ['teacher', 'student']
  >>> (command,) = sweeps.Job(student, seed=0, root='R').commands
  >>> print(*command, sep='\n')
  rnascl
  pipeline
  --config=digits:smoke
  --config.seed=0
  --config.search.gamma=7.0
  --config.teacher.checkpoint=R/seed0/teacher/teacher
  --workdir=R/seed0/student
"""

from rnascl_jax.sweeps.jobs import Job, plan, script, seeds
from rnascl_jax.sweeps.rows import Row, change, in_order, load, select
from rnascl_jax.sweeps.runner import Stopped, run

__all__ = [
  'Job',
  'Row',
  'Stopped',
  'change',
  'in_order',
  'load',
  'plan',
  'run',
  'script',
  'seeds',
  'select',
]
