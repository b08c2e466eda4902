r"""Sweeps: the runs of a table, which share files and are repeated over seeds.

A config file describes one with a function `sweep(argument)` that returns rows.
`experiments.sweep` runs or prints their commands:

  python -m experiments.sweep --workdir=ROOT --seeds=0,1,2 \
    --config=configs/ablations/terms.py:table=7,data=digits

Neither this package nor that command starts a device: a GPU is left to the
commands.

Example:
  >>> from rnascl_jax import sweeps
  >>> taken = {'teacher.checkpoint': 'teacher/teacher'}
  >>> rows = [
  ...   sweeps.Row('b', 'configs/digits.py', takes=taken),
  ...   sweeps.Row('c', 'configs/digits.py'),
  ...   sweeps.Row('teacher', 'configs/digits.py', commands=('teacher',)),
  ... ]
  >>> rows = sweeps.in_order(rows)
  >>> [row.name for row in sweeps.select(rows, ['b'])]
  ['teacher', 'b']
"""

from rnascl_jax.sweeps import jobs
from rnascl_jax.sweeps.jobs import Job
from rnascl_jax.sweeps.rows import Row, change, commands, in_order, select
from rnascl_jax.sweeps.runner import States, Stopped, run
from rnascl_jax.sweeps.validation import check

__all__ = [
  'Job',
  'Row',
  'States',
  'Stopped',
  'change',
  'check',
  'commands',
  'in_order',
  'jobs',
  'run',
  'select',
]
