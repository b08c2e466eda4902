"""The tables and figures of a sweep as one page, and as text for a console."""

import pathlib
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rnascl_jax.reporting.paper import differences, notes, provenance, rendering
from rnascl_jax.reporting.paper.drawing import Drawn
from rnascl_jax.reporting.paper.rendering import Filled

_WIDTH = 80
_TITLE = "# The paper's tables and figures from these runs"


class Part(NamedTuple):
  """What was asked for of one kind of data.

  Attributes:
    tables: filled.
    drawn: figures, also those of which nothing was run.
  """

  tables: Sequence[Filled]
  drawn: Sequence[Drawn]

  @property
  def is_empty(self) -> bool:
    """Whether nothing of it was run."""
    return all(filled.is_empty for filled in self.tables) and all(
      drawn.picture is None for drawn in self.drawn
    )

  @property
  def captions(self) -> dict[str, str]:
    """Of the figures that there are, by their files."""
    return {
      file: picture.caption
      for _, file, picture in self.drawn
      if picture is not None
    }


def markdown(parts: Sequence[Part], *, asked: bool) -> str:
  """The page.

  Args:
    parts: of each kind of data.
    asked: whether the user named tables or figures: each of these that is not
      there is said in a line, otherwise all in one.

  Returns:
    Markdown with a trailing newline.
  """
  sections = [_TITLE]
  for part in parts:
    for filled in part.tables:
      if not filled.is_empty:
        sections += [f'## {filled.table.title}', *_markdown_table(filled)]
  captions = {f: text for part in parts for f, text in part.captions.items()}
  if captions:
    sections.append('## Figures')
  for file, caption in captions.items():
    name = file.removesuffix('.png')
    sections.append(f'![{name}]({file})\n\n{caption}')
  sections += _absent(parts, asked)
  return '\n\n'.join(sections) + '\n'


def _markdown_table(filled: Filled) -> list[str]:
  found = [filled.table.warning, rendering.markdown(filled)]
  found += [_listed(notes.notes(filled)), differences.section(filled)]
  commands = provenance.commands(filled)
  if commands:
    text = '\n'.join(commands)
    found.append(
      'Commands, for every seed N (ROOT is the folder of the sweep):\n\n'
      f'```\n{text}\n```'
    )
  return [text for text in found if text]


def _listed(lines: Sequence[str]) -> str:
  return '\n'.join(f'- {line}' for line in lines)


def plain(parts: Sequence[Part], folder: pathlib.Path, *, asked: bool) -> str:
  """The tables for a console, and where the figures are.

  Args:
    parts: of each kind of data.
    folder: in which tables.md is.
    asked: as in `markdown`.

  Returns:
    Lines without a trailing newline.
  """
  sections = []
  for part in parts:
    for filled in part.tables:
      if not filled.is_empty:
        sections.append(_plain_table(filled))
  sections += [
    notes.wrapped([f'{folder / file}: {caption}'], _WIDTH)
    for part in parts
    for file, caption in part.captions.items()
  ]
  sections += [textwrap.fill(text, _WIDTH) for text in _absent(parts, asked)]
  return '\n\n'.join([*sections, f'Saved: {folder / "tables.md"}'])


def _plain_table(filled: Filled) -> str:
  title = filled.table.title
  found = [f'{title}\n{"=" * len(title)}']
  if filled.table.warning:
    found.append(notes.wrapped([filled.table.warning], _WIDTH))
  found.append(rendering.plain(filled))
  found.append(notes.wrapped(notes.notes(filled), _WIDTH))
  found.append(differences.plain(filled, _WIDTH))
  return '\n\n'.join(text for text in found if text)


def _absent(parts: Sequence[Part], asked: bool) -> list[str]:
  """What is not there since none of it was run."""
  tables = [
    filled.table for part in parts for filled in part.tables if filled.is_empty
  ]
  figures = [
    drawn.name
    for part in parts
    for drawn in part.drawn
    if drawn.picture is None
  ]
  if asked:
    lines = [f'{table.title}: no row of it was run.' for table in tables]
    return lines + [
      f'{name[0].upper()}{name[1:]}: no run of it is there.' for name in figures
    ]
  found = []
  if tables:
    names = '; '.join(table.name for table in tables)
    found.append(f'No row was run of: {names}.')
  if figures:
    found.append(f'Not drawn, as no run of it is there: {", ".join(figures)}.')
  return found
