r"""Runs all rows of a table of the paper, for several seeds; or prints them.

  python -m experiments.sweep --workdir=ROOT --seeds=0,1,2 \
    --config=configs/ablations/terms.py:table=7,data=digits

The config file has a function `sweep(argument)` that returns the rows; for each
seed and row, ROOT/seed<N>/<row>/ is the workdir of a run. Before anything runs,
the config of every row is read and checked. A row that is finished is not run
again, one that was interrupted goes on, and where one fails, all go on that
take nothing from it. Several sweeps may share a ROOT: rows that they have in
common are run once, and where two run at the same time, no row is run by both.

At the end a table of all accuracies, mean and standard deviation over seeds, is
printed and written to ROOT/results_<config>.md. The exit status is 0 if every
row is finished, else 1, and 128 + N after signal N (Ctrl-C: 130): then the
command under way has saved, and the same command goes on.

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

import itertools
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from rnascl_jax import sweeps
from rnascl_jax.config import config_files
from rnascl_jax.reporting import tables
from rnascl_jax.runtime import files, paths
from rnascl_jax.sweeps import results, runner

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines what the command takes."""
  flags.DEFINE_string(
    'config', None, 'File with a function sweep(); its argument after a colon.'
  )
  flags.DEFINE_string('workdir', None, 'ROOT, the folder of all runs.')
  flags.DEFINE_list('seeds', ['0'], 'Seeds of every row: 0,1,2.')
  flags.DEFINE_boolean('print', False, 'Prints commands, runs nothing.')
  flags.DEFINE_list('only', [], 'Rows to run, with those that they take from.')
  flags.DEFINE_multi_string(
    'set', [], '[ROW:]FIELD=VALUE: sets a field; repeat the flag.'
  )
  flags.mark_flags_as_required(['config', 'workdir'])


def load(text: str) -> list[sweeps.Row]:
  """Makes the rows of a config file, in an order in which they can be run.

  Args:
    text: the path of the file; an argument may follow behind a colon.

  Raises:
    ValueError: if there is no such file, if it has no sweep, or if its rows or
      the argument are wrong.
  """
  module, argument = config_files.read(text)
  if not hasattr(module, 'sweep'):
    raise ValueError(
      f'--config={text} has no function sweep(argument), so it is a single '
      'run: use python -m experiments.pipeline, or name a file that has one: '
      f'{", ".join(_sweeps())}.'
    )
  return sweeps.in_order(module.sweep(argument))


def _sweeps() -> list[str]:
  """Lists the config files beside this package that have a sweep."""
  root = pathlib.Path(__file__).parent.parent
  return [
    path.relative_to(root).as_posix()
    for path in sorted(root.glob('configs/**/*.py'))
    if '\ndef sweep(' in path.read_text(encoding='utf-8')
  ]


def script(jobs: Sequence[sweeps.Job]) -> str:
  """Writes all commands, one a line, in the order of the jobs."""
  lines = []
  for seed, of_seed in itertools.groupby(jobs, lambda job: job.seed):
    lines.append(f'# seed {seed}')
    lines += [shlex.join(words) for job in of_seed for words in job.commands]
  return '\n'.join(lines)


def seeds(texts: Sequence[str]) -> list[int]:
  """Reads the numbers of --seeds.

  Raises:
    ValueError: if a text is not a whole number.
  """
  try:
    return [int(text) for text in texts]
  except ValueError:
    raise ValueError(
      f'--seeds={",".join(texts)} must be whole numbers, such as 0,1,2.'
    ) from None


def run(jobs: Sequence[sweeps.Job], root: str, title: str) -> int:
  """Runs jobs and tabulates what they reached.

  Args:
    jobs: the jobs, from `sweeps.plan`.
    root: the folder of the sweep.
    title: the heading above the table, from which its file has its name.

  Returns:
    The exit status.
  """
  try:
    states = sweeps.run(jobs, sys.stdout)
  except sweeps.Stopped as stopped:
    print('Stopped. The same command goes on.')
    return 128 + stopped.signum
  runs, states = results.load(jobs, states)
  cells = results.cells(runs, states)
  note = results.note(list(dict.fromkeys(job.seed for job in jobs)))
  # Sweeps with one root have a file each.
  short = re.sub(r'\W+', '_', pathlib.Path(title).name.replace('.py', ''))
  place = pathlib.Path(root) / f'results_{short}.md'
  command = shlex.join(['python', '-m', 'experiments.sweep', *sys.argv[1:]])
  table = tables.markdown(cells, left=3)
  page = f'# {title}\n\n    {command}\n\n{table}\n\n{note}\n'
  files.write_atomically(place, page)
  print(f'\n{tables.plain(cells)}\n\n{note}\nSaved: {place}')
  return 0 if set(states.values()) == {runner.FINISHED} else 1


def main(argv: Sequence[str]) -> None:
  """Reads flags, checks every row, then runs or prints."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  try:
    # Commands name it, and so that it is the same from any folder.
    root = str(paths.local(FLAGS.workdir, '--workdir'))
    rows = sweeps.change(load(FLAGS.config), FLAGS.set)
    rows = sweeps.select(rows, FLAGS.only)
    jobs = sweeps.plan(rows, seeds(FLAGS.seeds), root)
  except ValueError as error:
    sys.exit(f'error: {error}')
  if FLAGS.print:
    print(script(jobs))
    return
  try:
    sys.exit(run(jobs, root, FLAGS.config))
  except OSError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  define_flags()
  start: Callable[..., None] = app.run
  start(main)
