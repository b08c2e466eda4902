"""The command `sweep`: checks every row, then runs or prints them all."""

import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.html import sweep as html_pages
from rnascl_jax.runtime import commands, files, paths
from rnascl_jax.sweeps import jobs as planned
from rnascl_jax.sweeps import results, rows, runner
from rnascl_jax.sweeps.jobs import Job


def main(
  config: str,
  workdir: str,
  *,
  seeds: Sequence[str],
  only: Sequence[str] = (),
  changes: Sequence[str] = (),
  print_only: bool = False,
) -> int:
  """Runs the rows of a config file and tabulates them, or prints commands.

  Args:
    config: the file, as for `config_files.read`.
    workdir: the folder of the sweep.
    seeds: whole numbers, as a user writes them.
    only: names of rows, see `rows.select`.
    changes: fields of rows, see `rows.change`.
    print_only: whether commands are printed, and nothing is run.

  Returns:
    The exit status: 0 if every row is finished or was printed.

  Raises:
    ValueError: if a row, a seed or a field is wrong; nothing was run.
    OSError: if the table cannot be written.
  """
  # Commands name it, and so that it is the same from any folder.
  root = str(paths.local(workdir, '--workdir'))
  of_sweep = rows.select(rows.change(rows.load(config), changes), only)
  jobs = planned.plan(of_sweep, planned.seeds(seeds), root)
  summary = rows.summary(config)
  if print_only:
    print(planned.script(jobs))
    if summary:
      print(f'{commands.usage(summary)} {shlex.join([_workdir(root)])}')
    return 0
  status = run(jobs, root, config)
  if summary and status in (0, 1):
    words = [*commands.PROCESS, summary, _workdir(root)]
    status |= subprocess.run(words).returncode
  return status


def _workdir(root: str) -> str:
  return f'--workdir={root}'


def run(jobs: Sequence[Job], root: str, title: str) -> int:
  """Runs jobs and tabulates what they reached.

  Args:
    jobs: the jobs, from `jobs.plan`.
    root: the folder of the sweep.
    title: the heading above the table, from which its file has its name.

  Returns:
    The exit status.
  """
  try:
    states = runner.run(jobs, sys.stdout)
  except runner.Stopped as stopped:
    print('Stopped. The same command goes on.')
    return 128 + stopped.signum
  runs, states = results.load(jobs, states)
  cells = results.cells(runs, states)
  note = results.note(list(dict.fromkeys(job.seed for job in jobs)))
  # Sweeps with one root have a file each.
  short = re.sub(r'\W+', '_', pathlib.Path(title).name.replace('.py', ''))
  place = pathlib.Path(root) / f'results_{short}.md'
  table = tables.markdown(cells, left=3)
  page = f'# {title}\n\n    {commands.line()}\n\n{table}\n\n{note}\n'
  files.write_atomically(place, page)
  print(f'\n{tables.plain(cells)}\n\n{note}\nSaved: {place}')
  if runs:  # Last: what the table says is said whatever becomes of the page.
    print(f'Saved: {html_pages.write(pathlib.Path(root))}')
  return 0 if set(states.values()) == {runner.FINISHED} else 1
