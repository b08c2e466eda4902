"""The tables and figures of a sweep as one page, and as text for a console."""

import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.paper import comparison, notes
from rnascl_jax.reporting.paper.comparison import FilledTable
from rnascl_jax.reporting.paper.drawing import DrawnFigure

_WIDTH = 80
_COMMANDS = 'Commands, for every seed N (ROOT is the folder of the sweep):'
_TITLE = "# The paper's tables and figures from these runs"


class Part(NamedTuple):
  """What was asked for of one kind of data.

  Attributes:
    tables: filled, also those of which nothing was run.
    drawn: figures, also those of which nothing was run.
  """

  tables: Sequence[FilledTable]
  drawn: Sequence[DrawnFigure]

  @property
  def is_empty(self) -> bool:
    """Whether nothing of it was run."""
    return all(
      [filled.is_empty for filled in self.tables]
      + [drawn.picture is None for drawn in self.drawn]
    )


def markdown(parts: Sequence[Part], *, asked: bool) -> str:
  """The page.

  Args:
    parts: one for each kind of data.
    asked: whether the user named tables or figures: each of these that is not
      there is said in a line, otherwise all in one.

  Returns:
    Markdown with a trailing newline.
  """
  sections = [_TITLE]
  for filled in _tables(parts):
    sections.append(f'## {filled.table.title}')
    sections += _sections(filled, tables.markdown, str, '- ')
    commands = '\n'.join(notes.commands(filled))
    if commands:
      sections.append(f'{_COMMANDS}\n\n```\n{commands}\n```')
  captions = _captions(parts)
  if captions:
    sections.append('## Figures')
  for file, caption in captions.items():
    name = file.removesuffix('.png')
    sections.append(f'![{name}]({file})\n\n{caption}')
  return '\n\n'.join([*sections, *_absent(parts, asked)]) + '\n'


def plain(parts: Sequence[Part], folder: pathlib.Path, *, asked: bool) -> str:
  """The tables for a console, and where the figures are.

  Args:
    parts: one for each kind of data.
    folder: in which tables.md is.
    asked: as in `markdown`.

  Returns:
    Lines without a trailing newline.
  """
  sections = []
  for filled in _tables(parts):
    title = filled.table.title
    sections.append(f'{title}\n{"=" * len(title)}')
    sections += _sections(filled, comparison.grouped, _wrapped)
  sections += [
    _wrapped(f'{folder / file}: {caption}')
    for file, caption in _captions(parts).items()
  ]
  sections += [textwrap.fill(text, _WIDTH) for text in _absent(parts, asked)]
  return '\n\n'.join([*sections, f'Saved: {folder / "tables.md"}'])


def _sections(
  filled: FilledTable,
  write: Callable[[list[list[str]], int], str],
  wrap: Callable[[str], str],
  bullet: str = '',
) -> list[str]:
  """A table with its warning, notes and differences, as far as it has them.

  Args:
    filled: with at least one row that was run.
    write: makes a table of rows and of the number of label columns.
    wrap: breaks a sentence into lines.
    bullet: what stands before a note.
  """
  labels = len(filled.table.headings)
  lines = [wrap(f'{bullet}{note}') for note in notes.notes(filled)]
  texts = [wrap(filled.table.warning), write(comparison.cells(filled), labels)]
  texts.append('\n'.join(lines))
  differences = comparison.difference_cells(filled)
  if differences:
    texts.append(f'{wrap(comparison.HOW)}\n\n{write(differences, labels)}')
  return [text for text in texts if text]


def _wrapped(text: str) -> str:
  """A sentence for a console, without emphasis."""
  return textwrap.fill(text.replace('**', ''), _WIDTH, break_on_hyphens=False)


def _tables(parts: Sequence[Part], empty: bool = False) -> list[FilledTable]:
  """Tables of which something, or nothing, was run."""
  return [t for part in parts for t in part.tables if t.is_empty == empty]


def _captions(parts: Sequence[Part]) -> dict[str, str]:
  """Those of the figures that there are, by their files."""
  return {
    drawn.file: drawn.picture.caption
    for part in parts
    for drawn in part.drawn
    if drawn.picture is not None
  }


def _absent(parts: Sequence[Part], asked: bool) -> list[str]:
  """What is not there since none of it was run."""
  empty = [filled.table for filled in _tables(parts, empty=True)]
  figures = [d.name for p in parts for d in p.drawn if d.picture is None]
  if asked:
    lines = [f'{table.title}: no row of it was run.' for table in empty]
    return lines + [
      f'{name[0].upper()}{name[1:]}: no run of it is there.' for name in figures
    ]
  lines = []
  if empty:
    names = '; '.join(table.name for table in empty)
    lines.append(f'No row was run of: {names}.')
  if figures:
    lines.append(f'Not drawn, as no run of it is there: {", ".join(figures)}.')
  return lines
