r"""Runs all rows of a table of the paper, for several seeds; or prints them.

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/terms:table=7,data=digits

The config file has a function `sweep(argument)` that returns the rows; for each
seed and row, ROOT/seed<N>/<row>/ is the workdir of a run. Before anything runs,
the config of every row is read and checked. A row that is finished is not run
again, one that was interrupted goes on, and where one fails, all go on that
take nothing from it. Several sweeps may share a ROOT: rows that they have in
common are run once, and where two run at the same time, no row is run by both.

At the end a table of all accuracies, mean and standard deviation over seeds, is
printed and written to ROOT/results_<config>.md; a config file with a SUMMARY,
such as pareto, ends with that command of ROOT besides. The exit status is 0 if
every row is finished, else 1, and 128 + N after signal N (Ctrl-C: 130): then
the command under way has saved, and the same command goes on.

A finished row is run again if its config has changed, and refused if what it
took from another row was made again: move its folder away. A ROOT that is moved
keeps what is finished; a row that was interrupted goes on only in its place.

With --print, one shell command a line and nothing is run: rows that others take
from come first, so all can be run in this order, or by a scheduler that knows
it. Afterwards the same command without --print finds every stage complete, and
makes the table. --only=ROW,ROW leaves out all rows but these and those that
they take from. --set=FIELD=VALUE sets a field of all rows, and
--set=ROW:FIELD=VALUE of one:

  --set=evaluation.max_images=1000
  --set=teacher_wrn34:teacher.checkpoint=teachers/wrn34
"""

import sys

from absl import flags

from rnascl_jax.stages import launcher
from rnascl_jax.sweeps import command

FLAGS = flags.FLAGS


def _sweep() -> None:
  try:
    status = command.main(
      FLAGS.config,
      FLAGS.workdir,
      seeds=FLAGS.seeds,
      only=FLAGS.only,
      changes=FLAGS.set,
      print_only=FLAGS.print,
    )
  except (OSError, ValueError) as error:
    sys.exit(f'error: {error}')
  sys.exit(status)


if __name__ == '__main__':
  flags.DEFINE_string(
    'config',
    None,
    'File with a function sweep(), or the name of one that is shipped; its '
    'argument after a colon.',
  )
  flags.DEFINE_string('workdir', None, 'ROOT, the folder of all runs.')
  flags.DEFINE_list('seeds', ['0'], 'Seeds of every row: 0,1,2.')
  flags.DEFINE_boolean('print', False, 'Prints commands, runs nothing.')
  flags.DEFINE_list('only', [], 'Rows to run, with those that they take from.')
  flags.DEFINE_multi_string(
    'set', [], '[ROW:]FIELD=VALUE: sets a field; repeat the flag.'
  )
  flags.mark_flags_as_required(['config', 'workdir'])
  launcher.command(_sweep)
