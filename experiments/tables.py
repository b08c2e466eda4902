"""The paper's tables and figures from the runs of a sweep, beside its numbers.

  rnascl tables --workdir=ROOT
  rnascl tables --workdir=ROOT --table=7 --figure=3
  rnascl tables --workdir=ROOT --data=digits --output=FOLDER

ROOT is the folder of `rnascl sweep`: ROOT/seed<N>/<row>/ are runs. Prints
the tables and writes FOLDER/tables.md (ROOT/tables if not said otherwise) with
the figures beside it. What was not run is shown as not run.
"""

import sys

from absl import app, flags

from rnascl_jax import sweeps
from rnascl_jax.reporting import paper
from rnascl_jax.runtime import lock

_WORKDIR = flags.DEFINE_string('workdir', None, 'ROOT, the folder of a sweep.')
_OUTPUT = flags.DEFINE_string('output', '', 'Folder to write to: ROOT/tables.')
_DATA = flags.DEFINE_enum(
  'data',
  '',
  ['', *paper.TABLES],
  'cifar10: all tables of the paper, those of ImageNet too; digits: the rows '
  'of digits beside the numbers of CIFAR-10. Without it: what is there.',
)
_SEEDS = flags.DEFINE_list('seeds', [], 'Seeds that count, 0,1,2; or all.')
_TABLES = flags.DEFINE_multi_string(
  'table',
  [],
  'Number of a table, fig3 (its numbers), widths (section 5.3), reduction, '
  'tutors or kl; repeat the flag. Without it, all of which a row is there.',
)
_FIGURES = flags.DEFINE_multi_string(
  'figure',
  [],
  'Number of a figure (2a, 2b, 5a, 5b), table7 or reduction; repeat the flag.',
)


def main(argv: list[str]) -> None:
  """Writes the files and prints the tables."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  try:
    text = paper.write(
      _WORKDIR.value,
      _OUTPUT.value,
      data=_DATA.value,
      seeds=sweeps.seeds(_SEEDS.value),
      tables=_TABLES.value,
      figures=_FIGURES.value,
    )
  except (OSError, ValueError, lock.HeldError) as error:
    sys.exit(f'error: {error}')
  print(text)


if __name__ == '__main__':
  flags.mark_flag_as_required('workdir')
  app.run(main)
