"""The tables and figures of a sweep as one page, and as text for a console."""

import pathlib
import textwrap
from collections.abc import Callable
from typing import NamedTuple

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.paper import comparison, notes
from rnascl_jax.reporting.paper.comparison import FilledTable
from rnascl_jax.reporting.paper.drawing import DrawnFigure

_WIDTH = 80
_COMMANDS = 'Commands, for every seed N (ROOT is the folder of the sweep):'
_TITLE = "# The paper's tables and figures from these runs"


class Page(NamedTuple):
  """Tables and figures that were asked for, also those with nothing that ran.

  Attributes:
    asked: whether the user named tables or figures: each of these that is not
      there is said in a line, otherwise all in one.
  """

  tables: list[FilledTable]
  figures: list[DrawnFigure]
  asked: bool

  @property
  def is_empty(self) -> bool:
    """Whether nothing of it was run."""
    return not self.run and not self._captions

  @property
  def run(self) -> list[FilledTable]:
    """Tables of which something was run."""
    return [filled for filled in self.tables if not filled.is_empty]

  @property
  def _captions(self) -> dict[str, str]:
    """Those of the figures that there are, by their files."""
    drawn = self.figures
    return {f: picture.caption for _, f, picture in drawn if picture}

  def markdown(self) -> str:
    """The page, with a trailing newline."""
    sections = [_TITLE]
    for filled in self.run:
      sections.append(f'## {filled.table.title}')
      sections += _sections(filled, tables.markdown, str, '- ')
      commands = '\n'.join(notes.commands(filled))
      if commands:
        sections.append(f'{_COMMANDS}\n\n```\n{commands}\n```')
    sections += ['## Figures'] * bool(self._captions)
    for file, caption in self._captions.items():
      name = file.removesuffix('.png')
      sections.append(f'![{name}]({file})\n\n{caption}')
    return '\n\n'.join([*sections, *self._absent()]) + '\n'

  def plain(self, folder: pathlib.Path) -> str:
    """The tables for a console, and where the figures are.

    The folder is that of the page; there is no trailing newline.
    """
    sections = []
    for filled in self.run:
      title = filled.table.title
      sections.append(f'{title}\n{"=" * len(title)}')
      sections += _sections(filled, comparison.grouped, _wrapped)
    sections += [
      _wrapped(f'{folder / file}: {caption}')
      for file, caption in self._captions.items()
    ]
    sections += [textwrap.fill(text, _WIDTH) for text in self._absent()]
    return '\n\n'.join([*sections, f'Saved: {folder / "tables.md"}'])

  def _absent(self) -> list[str]:
    """What is not there since none of it was run."""
    empty = [filled.table for filled in self.tables if filled.is_empty]
    figures = [name for name, _, picture in self.figures if picture is None]
    if self.asked:
      lines = [f'{table.title}: no row of it was run.' for table in empty]
      return lines + [
        f'{n[0].upper()}{n[1:]}: no run of it is there.' for n in figures
      ]
    lines = []
    if empty:
      names = '; '.join(table.name for table in empty)
      lines.append(f'No row was run of: {names}.')
    if figures:
      names = ', '.join(figures)
      lines.append(f'Not drawn, as no run of it is there: {names}.')
    return lines


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
