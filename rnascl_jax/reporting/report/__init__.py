"""The report of a run: what a person reads when it is done.

Made from the files in the run's directory alone; JAX is not needed.
`terminal_table` is for the console, `table` for a Markdown page, `write` makes
`report.md` with the figures, the numbers and what they say.

Example:
  >>> import tempfile
  >>> from rnascl_jax.reporting import report
  >>> print(report.terminal_table(tempfile.mkdtemp()))
  No model has been evaluated yet.
"""

import os
import pathlib
import textwrap
from collections.abc import Sequence

from rnascl_jax.reporting import figures, results, tables, training_curves
from rnascl_jax.reporting.report import (
  auto_attack,
  comparison,
  corruptions,
  model_table,
  run_facts,
  teacher_layers,
  verdicts,
)
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.runtime import files, lock, paths

Path = str | os.PathLike[str]

# Characters to which the notes below a table for the console may be wrapped.
_NARROWEST = 72
_EMPTY = 'No model has been evaluated yet.'
# What stands below each figure, with the paper's figure it corresponds to.
CAPTIONS = {
  'epsilon_curves': 'Accuracy of every model against the size of the '
  "perturbation (the paper's Figs. 5B and 6).",
  'clean_vs_robust': 'Clean accuracy against accuracy under attack (the '
  "paper's Figs. 1 and 3), with 95 % intervals. The area of a filled marker "
  'grows with the number of parameters; hollow markers are teachers.',
  'auto_attack': 'What broke each image first, as AutoAttack (Croce and Hein, '
  '2020) goes on with what is left: below a bar the accuracy after each '
  'attack, at its end the 95 % interval.',
  'corruption_curves': 'Accuracy under common corruptions by severity; 0 is '
  'without one.',
  'corrupted_images': 'One test image under every corruption, by severity.',
  'attention_maps': 'Attention maps of student layers at regular intervals '
  "beside those of their tutors (the paper's Figs. 2b and 5A); behind a "
  "layer's number its tutor's, in brackets.",
  'chosen_layers': 'Attention maps of the teacher layers that teach the most '
  "student layers, beside those of some of these (the paper's Figs. 9 and 11).",
  'teacher_layers': "Student layers taught by each teacher layer (the paper's "
  'Figs. 7 left and 8) and the robustness score of the layers of each teacher '
  '(Fig. 7 right); lower is more robust.',
  'tutor_map': 'Probability of every teacher layer as tutor of every student '
  'layer at the end of the search, without noise (the connections of the '
  "paper's Fig. 2a).",
  'filters': 'Filters chosen for every block, and how the choice settled (the '
  "mechanism of the paper's Fig. 12).",
  'search': 'The search over its epochs (temperature: section 4.1 of the '
  'paper; expected MACs: the n_f(G) of eq. 2).',
  'training_curves': 'Each term of the loss and the accuracy in every stage. '
  + training_curves.NOTE,
}


def table(workdir: Path) -> str:
  """The results of a run's directory as a Markdown table, its notes below.

  Returns:
    A row per evaluated model in the order of its `order`, a column per attack.

  Raises:
    ValueError: a file of the run is broken.
  """
  return _table(results.load(workdir))


def terminal_table(workdir: Path) -> str:
  """The same table for a console, and those of AutoAttack and corruptions."""
  run = results.load(workdir)
  corrupted = corruptions.plain(run.corruptions)
  if not run.evaluations:
    return corrupted or _EMPTY
  rows = tables.plain(model_table.cells(run))
  width = max(*map(len, rows.splitlines()), _NARROWEST)
  notes = [textwrap.fill(note, width) for note in model_table.notes(run)]
  lines = [rows, '', *notes, *auto_attack.plain(run, width)]
  return '\n'.join([*lines, *(['', corrupted] if corrupted else [])])


def write(workdir: Path) -> pathlib.Path:
  """Draws the figures and writes `report.md`; both appear whole or not at all.

  Returns:
    The path of report.md.

  Raises:
    ValueError: a file of the run is broken.
    HeldError: another process is writing in the directory.
  """
  folder = paths.local(workdir, 'workdir')
  with lock.hold(folder):
    drawn = figures.draw(folder)
    run = results.load(folder)
    sections = [
      f'# RNAS-CL on {run.dataset or "an unnamed data set"}',
      run_facts.section(run),
      f'## Results\n\n{_table(run)}',
      auto_attack.section(run),
      corruptions.section(run.corruptions),
      _comparisons(run),
      _architecture(run),
      teacher_layers.section(run),
      _pictures(drawn, folder),
      run_facts.footer(run),
    ]
    path = folder / 'report.md'
    files.write_atomically(path, '\n\n'.join(filter(None, sections)) + '\n')
  return path


def seeds_table(workdirs: Sequence[Path]) -> str:
  """Mean and standard deviation over at least two runs of different seeds.

  Returns:
    A Markdown table with a row for each model, and a note.

  Raises:
    ValueError: if they were not evaluated alike, or there are too few.
  """
  return model_table.over_seeds([results.load(w) for w in workdirs])


def _table(run: SavedRun) -> str:
  if not run.evaluations:
    return _EMPTY
  rows = tables.markdown(model_table.cells(run))
  return '\n\n'.join([rows, '  \n'.join(model_table.notes(run))])


def _comparisons(run: SavedRun) -> str:
  if not run.evaluations:
    return ''
  parts = ['## What the numbers say']
  rows = comparison.cells(run)
  if len(rows) > 1:
    parts += [tables.markdown(rows, left=3), comparison.NOTE]
  parts.append('\n'.join(f'- {text}' for text in verdicts.verdicts(run)))
  return '\n\n'.join(parts)


def _architecture(run: SavedRun) -> str:
  saved = run.architecture
  if saved is None:
    return ''
  rows = tables.markdown(model_table.architecture(saved), left=5)
  about = model_table.about_architecture(saved)
  return f'## The architecture found\n\n{about}\n\n{rows}'


def _pictures(drawn: Sequence[pathlib.Path], workdir: pathlib.Path) -> str:
  parts = [
    f'![{path.stem}]({path.relative_to(workdir).as_posix()})\n\n'
    f'*{CAPTIONS[path.stem]}*'
    for path in drawn
  ]
  return '\n\n'.join(['## Figures', *parts]) if parts else ''
