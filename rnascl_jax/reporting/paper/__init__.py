"""The paper's tables and figures from the runs of a sweep, beside its numbers.

`write(root)` reads `root/seed<N>/<row>/`, writes `tables.md` with the figures
beside it, and returns the tables as text for a console. Every number of ours is
a mean over seeds; what was not run is shown as such. JAX is not needed.

Example:
  >>> from rnascl_jax.reporting import paper
  >>> table = paper.TABLES['cifar10']['7']
  >>> table.title
  'Table 7: terms of the objective on CIFAR-10'
  >>> table.lines[0].labels, table.lines[0].printed
  (('Without adversarial training', 'CE'), ('90.98', '19.3'))

Reference:
  Nath et al., RNAS-CL: Robust Neural Architecture Search by Cross-Layer
  Knowledge Distillation, IJCV 2024: all numbers called the paper's.
"""

import os
from collections.abc import Mapping, Sequence

from rnascl_jax.reporting.paper import (
  comparison,
  definition,
  drawing,
  page,
  sweep_runs,
)
from rnascl_jax.runtime import files, lock, paths

Path = str | os.PathLike[str]
TABLES = definition.TABLES


def write(
  root: Path,
  output: Path = '',
  *,
  data: str = '',
  seeds: Sequence[int] = (),
  tables: Sequence[str] = (),
  figures: Sequence[str] = (),
) -> str:
  """Writes tables.md and the figures, each whole or not at all.

  Args:
    root: folder of a sweep.
    output: folder of what is written; '' for `root/tables`.
    data: 'cifar10' for all that the paper has, 'digits', '' for both where rows
      are there.
    seeds: whose runs count; none for all that are there.
    tables: keys of `TABLES`; none of these and of `figures`: all of which a row
      is there.
    figures: keys of `drawing.FIGURES`.

  Returns:
    The tables as text, without a trailing newline.

  Raises:
    ValueError: if a key is unknown, the folder is no sweep, or seeds were
      trained or attacked otherwise.
    HeldError: another process is writing in the output.
    DiskError: the output cannot be written.
  """
  if data and data not in TABLES:
    raise ValueError(
      f'--data={data} is unknown; choose {" or ".join(TABLES)}, or leave it '
      'out for all that is there.'
    )
  kinds = [data] if data else list(TABLES)
  _check(kinds, tables, TABLES)
  _check(kinds, figures, drawing.FIGURES)
  sweep = sweep_runs.load(root, seeds)
  folder = paths.local(output or sweep.root / 'tables', 'output')
  # All is drawn before a file is written: an error leaves nothing behind.
  whole = collect(sweep, data, tables=tables, figures=figures)
  with lock.hold(folder):
    lock.remove_temporary(folder)
    drawing.save(whole.figures, folder)
    files.write_atomically(folder / 'tables.md', whole.markdown())
  return whole.plain(folder)


def collect(
  sweep: sweep_runs.SweepRuns,
  data: str = '',
  *,
  tables: Sequence[str] = (),
  figures: Sequence[str] = (),
  draws: bool = True,
) -> page.Page:
  """Fills tables and draws figures, with nothing written.

  Args:
    sweep: all runs.
    data: as in `write`.
    tables: as in `write`.
    figures: as in `write`.
    draws: whether figures are drawn where none is named.

  Raises:
    ValueError: if seeds were trained or attacked otherwise.
  """
  kinds = [data] if data else list(TABLES)
  asked = bool(tables or figures)
  parts = []
  for kind in kinds:
    of_kind = TABLES[kind].items()
    wanted = [table for key, table in of_kind if key in tables or not asked]
    filled = [comparison.fill(table, sweep) for table in wanted]
    every = None if draws else ()
    drawn = drawing.draw(sweep, kind, figures if asked else every)
    parts.append(page.Page(filled, drawn, asked))
  if not asked and not data:
    # Data without any run are not mentioned, unless there are no others.
    parts = [part for part in parts if not part.is_empty] or parts
  return page.Page(
    [filled for part in parts for filled in part.tables],
    [figure for part in parts for figure in part.figures],
    asked,
  )


def _check(
  kinds: Sequence[str], asked: Sequence[str], known: Mapping[str, Mapping]
) -> None:
  """Raises for a key that none of these kinds of data has."""
  names = list(dict.fromkeys(name for kind in kinds for name in known[kind]))
  for key in asked:
    if key not in names:
      raise ValueError(
        f'{key!r} is no table or figure of {" or ".join(kinds)} that can be '
        f'made; choose one of {", ".join(names)}.'
      )
