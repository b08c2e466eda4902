"""Writes the report and the figures of an evaluated workdir.

  rnascl report --workdir=DIR

With --seeds, prints mean and standard deviation over runs of other seeds too:

  rnascl report --workdir=DIR0 --seeds=DIR1 --seeds=DIR2
"""

import sys

from absl import flags

from rnascl_jax import stages
from rnascl_jax.reporting import report as reports
from rnascl_jax.stages import launcher

_SEEDS = flags.DEFINE_multi_string(
  'seeds', [], 'Workdir of the same config with another seed; repeat the flag.'
)


def _report() -> str:
  workdir = launcher.FLAGS.workdir
  table = stages.report(workdir)
  if not _SEEDS.value:
    return table
  try:
    seeds = reports.seeds_table([workdir, *_SEEDS.value])
  except ValueError as error:
    sys.exit(f'error: in --seeds: {error}')
  return f'{table}\n\n{seeds}'


if __name__ == '__main__':
  launcher.define_workdir()
  launcher.command(_report)
