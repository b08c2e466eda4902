"""The report of a run as one HTML file, which loads nothing from anywhere.

It has the numbers and sentences of `report.md`, from the same functions, with
curves and pictures that can be pointed at. Without scripts all of its content
is there; scripts sort tables, step through images and show values at once.

Example:
  >>> import pathlib
  >>> from rnascl_jax.reporting import html, results
  >>> page = html.page(results.SavedRun(pathlib.Path('run')))
  >>> 'No model has been evaluated yet.' in page
  True
"""

import json
import os
import pathlib
from typing import Any

from rnascl_jax.reporting import report, results, training_curves
from rnascl_jax.reporting.html import (
  corruptions,
  images,
  networks,
  scores,
  summary,
  template,
  trainings,
)
from rnascl_jax.reporting.html.scores import table
from rnascl_jax.reporting.report import (
  attack_checks,
  auto_attack,
  comparison,
  model_table,
  run_facts,
  teacher_layers,
  verdicts,
)
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.runtime import files, lock, paths

# Sections by their place in the page, in order.
_SECTIONS = {
  'progress': 'Progress',
  'summary': 'Summary',
  'results': 'Results',
  'comparisons': 'Comparisons',
  'checks': 'Attacks believed?',
  'examples': 'Adversarial examples',
  'architecture': 'Architecture',
  'teacher-layers': 'Teacher layers',
  'attention': 'Attention maps',
  'corruptions': 'Corruptions',
  'training': 'Training',
  'provenance': 'Provenance',
}


def write(workdir: str | os.PathLike[str]) -> pathlib.Path:
  """Writes `report.html`, whole or not at all.

  Args:
    workdir: of a run, which may be under way.

  Returns:
    The path of report.html.

  Raises:
    ValueError: a file of the run is broken.
    HeldError: another process is writing in the directory.
  """
  folder = paths.local(workdir, 'workdir')
  path = folder / 'report.html'
  with lock.hold(folder):
    files.write_atomically(path, page(results.load(folder)))
  return path


def page(
  run: SavedRun, *, is_live: bool = False, left: dict[str, str] | None = None
) -> str:
  """Makes the page of a run.

  Args:
    run: what it saved so far.
    is_live: whether the page asks its server for a newer one, and shows how far
      the trainings have come.
    left: how long trainings still take, by the name of `trainings.stages`.
  """
  content: dict[str, Any] = {
    'run': run,
    'stages': trainings.stages(run) if is_live else [],
    'left': left or {},
    'captions': report.CAPTIONS,
    **_reached(run),
    **_compared(run),
    **_networks(run),
    **_trained(run),
  }
  data = run.dataset or 'an unnamed data set'
  seed = '' if run.seed is None else f'Seed {run.seed} · '
  return template.render(
    'report.html',
    f'RNAS-CL on {data}',
    f'{seed}{run.workdir.name}',
    _contents(content),
    is_live=is_live,
    **content,
  )


def _contents(content: dict[str, Any]) -> list[tuple[str, str]]:
  """The sections that a page has."""
  is_there = {
    'progress': content['stages'],
    'results': content['run'].evaluations,
    'comparisons': content['comparisons'],
    'checks': content['findings'] or content['auto_attack'],
    'examples': content['run'].evaluations,
    'architecture': content['architecture'],
    'teacher-layers': content['teacher_layers'],
    'attention': content['attention'],
    'corruptions': content['corruptions'],
    'training': content['curves'] or content['search'],
  }
  return [(k, name) for k, name in _SECTIONS.items() if is_there.get(k, True)]


def _reached(run: SavedRun) -> dict[str, Any]:
  """Sections of accuracies."""
  headline, tiles = summary.tiles(run)
  about, shown = images.examples(run)
  return {
    'headline': headline,
    'tiles': tiles,
    'results': scores.results(run),
    'notes': model_table.notes(run) if run.evaluations else [],
    'epsilon_curves': scores.epsilon_curves(run),
    'clean_vs_robust': scores.clean_vs_robust(run),
    'looks': scores.legend(run, [e.model for e in run.evaluations]),
    'auto_attack': [
      {
        'about': auto_attack.about(run, group),
        'table': table(auto_attack.cells(group), 2, is_sortable=False),
        **scores.auto_attack(group),
      }
      for group in run.auto_attacked()
    ],
    'examples_about': about,
    'examples': shown,
    'corruptions': corruptions.shown(run),
  }


def _compared(run: SavedRun) -> dict[str, Any]:
  """What the numbers say, and whether the attacks can be believed."""
  rows, findings = comparison.cells(run), attack_checks.findings(run)
  return {
    'warnings': sum(text.startswith('**Warning') for text in findings),
    'forest': summary.forest(run),
    'compared': verdicts.compared(run) if run.evaluations else [],
    'robustness': verdicts.robustness(run),
    'scope': verdicts.scope(run) if run.evaluations else '',
    'findings': findings,
    'comparisons': table(rows, 3) if len(rows) > 1 else None,
    'comparison_note': comparison.NOTE,
  }


def _networks(run: SavedRun) -> dict[str, Any]:
  """Sections of what was searched, and where networks look."""
  saved, measured = run.architecture, run.layer_scores
  headings, maps = images.attention(run)
  content: dict[str, Any] = {
    'architecture': None,
    'diagram': networks.diagram(run),
    'filters': networks.filters(run),
    'tutor_map': networks.tutor_map(run),
    'teacher_layers': networks.teacher_layers(run),
    'teacher_findings': teacher_layers.findings(run),
    'attention_headings': headings,
    'attention': maps,
  }
  if saved is not None:
    rows = model_table.architecture(saved)
    content['architecture'] = table(rows, 5, is_sortable=False)
    content['architecture_about'] = model_table.about_architecture(saved)
  if measured is not None:
    content['teacher_layers_about'] = teacher_layers.how(run, measured)
    content['teacher_table'] = table(teacher_layers.cells(run, measured), 2)
  return content


def _trained(run: SavedRun) -> dict[str, Any]:
  """Sections of trainings, and of where all of it comes from."""
  models = dict.fromkeys(s.model for s in run.stages if s.group != 'search')
  return {
    'search': trainings.search(run),
    'curves': trainings.curves(run),
    'training_looks': scores.legend(run, models),
    'training_note': training_curves.NOTE,
    'facts': [f for f in run_facts.facts(run) if f[0] != 'Command'],
    'command': run.provenance.get('command'),
    'sources': run_facts.sources(run),
    'config': json.dumps(files.to_json(run.config), indent=2)
    if run.config
    else '',
  }
