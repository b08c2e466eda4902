"""What a run saved, read back: the only input of the figures and the report.

`load(workdir)` reads every file that is there. A missing file is `None` or
empty, so that a run can be looked at while it is under way; a file that is
there but broken raises. No JAX is imported here.

Example:
  >>> import tempfile
  >>> from rnascl_jax.reporting.figures import results
  >>> run = results.load(tempfile.mkdtemp())
  >>> run.evaluations, run.architecture
  ((), None)
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting.figures import (
  evaluation,
  layer_scores,
  rank_correlation,
)
from rnascl_jax.reporting.figures.evaluation import Arrays, Evaluation, Json
from rnascl_jax.reporting.figures.layer_scores import LayerScores, Robustness
from rnascl_jax.reporting.figures.rank_correlation import RankCorrelation
from rnascl_jax.runtime import files, paths

_HISTORY = ('epochs', 'channel_probabilities', 'tutor_probabilities')
# Folders of teachers.
_TEACHERS = ('teacher', 'vulnerable_teacher')


class Stage(NamedTuple):
  """The metrics of one stage of training.

  Attributes:
    group: 'teacher', 'search', 'train', 'adversarial': the column it shares.
    model: key of what was trained, which picks its label and its colour.
    records: lines of metrics.jsonl, in order of steps.
    summary: stage.json; empty while the stage is not complete.
    regime: on which images it was trained, '' if unknown.
  """

  group: str
  model: str
  records: tuple[Json, ...]
  summary: Json
  regime: str

  def series(
    self, metric: str, split: str | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values, both [P], of a metric of one split (None: of any).

    A value that is not finite is left out: the line ends where training broke.
    """
    found = [
      (record['epoch'], record[metric])
      for record in self.records
      if record.get(metric) is not None
      and (split is None or record.get('split') == split)
    ]
    pairs = np.asarray(found, float).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    return pairs[:, 0], pairs[:, 1]

  @property
  def selected_epoch(self) -> float | None:
    """The epoch of the checkpoint that is used, None if unknown."""
    step = self.summary.get('selected_step')
    epochs = [r['epoch'] for r in self.records if r.get('step') == step]
    return epochs[0] if epochs else None


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything a run left behind; None or empty where it is not there (yet).

  Attributes:
    workdir: its directory.
    config: config.json.
    provenance: provenance.json.
    stages: teachers, search, students, hardened ones, in this order.
    evaluations: sorted by their `order`, those with a base behind it.
    architecture: architecture.json; without `tutors` where none was searched.
    history: search/history.npz, what the search believed after every epoch.
    attention: evaluation/attention.npz, images and attention maps.
    robustness: evaluation/robustness.json, scores of all teachers' layers.
    given: stage.json of the teachers that were trained elsewhere, by name.
  """

  workdir: pathlib.Path
  config: Json
  provenance: Json
  stages: tuple[Stage, ...]
  evaluations: tuple[Evaluation, ...]
  architecture: Json | None
  history: Arrays | None
  attention: Arrays | None
  robustness: Robustness | None
  given: Mapping[str, Json]

  @property
  def dataset(self) -> str:
    """Name of the data set, '' if the run does not say."""
    saved = self.config.get('data') or {}
    return saved.get('name') or next((e.dataset for e in self.evaluations), '')

  @property
  def images(self) -> int:
    """The most images that a model was attacked on."""
    return max((e.images for e in self.evaluations), default=0)

  @property
  def models(self) -> tuple[str, ...]:
    """Keys of all models, evaluated ones first."""
    names = [e.model for e in self.evaluations]
    names += [s.model for s in self.stages if s.group != 'search']
    return tuple(dict.fromkeys(names))

  @property
  def headline_attack(self) -> str | None:
    """The attack that stands for robustness: PGD-20, else another PGD."""
    keys = {o.attack: None for e in self.evaluations for o in e.outcomes}
    if 'pgd20' in keys:
      return 'pgd20'
    return next((key for key in keys if key.startswith('pgd')), None)

  @property
  def teacher_layers(self) -> list[str]:
    """Names of the T teacher layers, to which tutors are indices."""
    saved = self.architecture or {}
    teacher = saved.get('teacher', {})
    return teacher.get('layers') or saved.get('teacher_layers', [])

  @property
  def tutor_counts(self) -> np.ndarray | None:
    """How many student layers each teacher layer teaches, [T]; None if none."""
    tutors = (self.architecture or {}).get('tutors')
    if not tutors:
      return None
    return np.bincount(
      [t['tutor'] for t in tutors], minlength=len(self.teacher_layers)
    )

  def tutors_against(self, found: LayerScores) -> RankCorrelation | None:
    """Rank correlation of layers' scores and of students taught by them.

    Args:
      found: scores of a teacher.

    Returns:
      None where it is undefined, or the tutors are not layers of such names.
    """
    if self.tutor_counts is None or list(found.layers) != self.teacher_layers:
      return None
    return rank_correlation.compare(found.scores, self.tutor_counts)

  def evaluation(self, model: str) -> Evaluation | None:
    """The evaluation of a model, None where it was not evaluated."""
    return next((e for e in self.evaluations if e.model == model), None)

  def label(self, model: str) -> str:
    """What a reader sees in place of a model's key."""
    found = self.evaluation(model)
    if found is not None:
      return found.label
    return evaluation.label(model)


def load(workdir: str | os.PathLike[str]) -> Run:
  """Reads a run.

  Args:
    workdir: the directory the run was given.

  Returns:
    The run; parts that are missing are None or empty.

  Raises:
    DamagedFileError: a file is there but is not what it should be; the message
      names the file.
  """
  root = paths.local(workdir, 'workdir')
  evaluations = [
    found
    for path in sorted((root / 'evaluation').glob('*.json'))
    if (found := evaluation.read(path)) is not None
  ]
  config = evaluation.read_json(root / 'config.json') or {}
  return Run(
    workdir=root,
    config=config,
    provenance=evaluation.read_json(root / 'provenance.json') or {},
    stages=_stages(root, config),
    evaluations=_in_order(evaluations),
    architecture=_architecture(root),
    history=evaluation.read_arrays(root / 'search' / 'history.npz', *_HISTORY),
    attention=evaluation.read_arrays(
      root / 'evaluation' / 'attention.npz', 'images', 'teacher_maps'
    ),
    robustness=layer_scores.read(root / 'evaluation' / 'robustness.json'),
    given=_given(root),
  )


def _architecture(root: pathlib.Path) -> Json | None:
  """Reads architecture.json, without tutors that only stand there."""
  path = root / 'architecture.json'
  saved = evaluation.read_json(path, 'blocks', 'tutors')
  if saved is None or saved.get('tutors_searched', True):
    return saved
  return {**saved, 'tutors': []}


def _in_order(found: list[Evaluation]) -> tuple[Evaluation, ...]:
  orders = {e.model: e.order for e in found}

  def place(e: Evaluation) -> tuple:
    first = orders.get(e.base, e.order) if e.base else e.order
    return first, e.base or e.model, bool(e.base), e.order, e.model

  return tuple(sorted(found, key=place))


def _given(root: pathlib.Path) -> dict[str, Json]:
  """Finds stage.json of teachers that the run took from a checkpoint."""
  found = {
    name: evaluation.read_json(root / name / 'stage.json') or {}
    for name in _TEACHERS
  }
  return {name: saved for name, saved in found.items() if 'checkpoint' in saved}


def _stages(root: pathlib.Path, config: Json) -> tuple[Stage, ...]:
  """Finds metrics.jsonl of teachers, of the search, and of every student."""
  found = []
  for model in _TEACHERS:
    found.append(('teacher', model, root / model))
  found.append(('search', 'search', root / 'search'))
  for group in ('train', 'adversarial'):
    logs = (root / group).glob('*/metrics.jsonl')
    folders = sorted((p.parent for p in logs), key=lambda f: _place(f.name))
    found += [(group, folder.name, folder) for folder in folders]
  stages = [
    Stage(
      group,
      model,
      _records(folder / 'metrics.jsonl'),
      evaluation.read_json(folder / 'stage.json') or {},
      _regime(config, group, model),
    )
    for group, model, folder in found
  ]
  return tuple(stage for stage in stages if stage.records)


def _regime(config: Json, group: str, model: str) -> str:
  """The regime of a stage by its name, '' if the run does not say."""
  section = config.get(model if group == 'teacher' else group) or {}
  if group == 'adversarial':
    section = section.get('students', {}).get(model, {})
  return section.get('regime', {}).get('name', '')


def _place(model: str) -> tuple[int, str]:
  """Sort key: the models of the paper in its order, then all others."""
  known = list(evaluation.LABELS)
  return known.index(model) if model in known else len(known), model


def _records(path: pathlib.Path) -> tuple[Json, ...]:
  """Lines of a log, but for one that was cut off with its writer."""
  if not path.exists():
    return ()
  return tuple(r for r in files.read_json_lines(path) if 'epoch' in r)
