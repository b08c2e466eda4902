"""What a run saved, read back: the one input of figures, report and paper.

`load(workdir)` reads every file that is there. A missing file is `None` or
empty, so that a run can be looked at while it is under way; a file that is
there but broken raises. No JAX is imported here.

Example:
  >>> import tempfile
  >>> from rnascl_jax.reporting import results
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

from rnascl_jax.reporting import (
  corruptions,
  evaluations,
  layer_scores,
  statistics,
)
from rnascl_jax.reporting.corruptions import SavedSet
from rnascl_jax.reporting.evaluations import (
  Arrays,
  Json,
  ModelEvaluation,
  SavedAttack,
)
from rnascl_jax.reporting.layer_scores import LayerScores, TeacherScores
from rnascl_jax.runtime import files, paths

_HISTORY = ('epochs', 'channel_probabilities', 'tutor_probabilities')
_EXAMPLES = (
  *('images', 'adversarial', 'labels', 'clean_predictions', 'predictions'),
  *('clean_confidences', 'confidences', 'attack', 'epsilon', 'norm'),
)
# Folders of teachers.
_TEACHERS = ('teacher', 'vulnerable_teacher')


class StageMetrics(NamedTuple):
  """The metrics of one stage of training.

  Attributes:
    group: 'teacher', 'search', 'train', 'pruning' (scores of weights),
      'adversarial': the column it shares.
    model: key of what was trained, which picks its label and its colour.
    records: lines of metrics.jsonl, in order of steps.
    summary: stage.json; empty while the stage is not complete.
  """

  group: str
  model: str
  records: tuple[Json, ...]
  summary: Json

  def series(
    self, metric: str, split: str | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values, both [P], of a metric of one split (None: of any).

    A value that is not finite is left out: the line ends where training broke.
    """
    points = [
      (record['epoch'], record[metric])
      for record in self.records
      if record.get(metric) is not None
      and (split is None or record.get('split') == split)
    ]
    pairs = np.asarray(points, float).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    return pairs[:, 0], pairs[:, 1]

  @property
  def selected_epoch(self) -> float | None:
    """The epoch of the checkpoint that is used, None if unknown."""
    step = self.summary.get('selected_step')
    return next(
      (r['epoch'] for r in self.records if r.get('step') == step), None
    )


@dataclasses.dataclass(frozen=True)
class SavedRun:
  """Everything a run left behind; None or empty where it is not there (yet).

  Attributes:
    stages: teachers, search, students, fine-tuned ones, in this order.
    architecture: architecture.json; without `tutors` where none was searched.
    history: search/history.npz, what the search believed after every epoch.
    attention: evaluation/attention.npz, images and attention maps.
    examples: evaluation/examples/, a few images under one attack, by model.
    layer_scores: evaluation/robustness.json, scores of all teachers' layers.
    pretrained: stage.json of the teachers that were trained elsewhere, by name.
    corruptions: evaluation/corruptions/, results by set of images.
  """

  workdir: pathlib.Path
  evaluations: tuple[ModelEvaluation, ...] = ()
  config: Json = dataclasses.field(default_factory=dict)
  provenance: Json = dataclasses.field(default_factory=dict)
  stages: tuple[StageMetrics, ...] = ()
  architecture: Json | None = None
  history: Arrays | None = None
  attention: Arrays | None = None
  examples: Mapping[str, Arrays] = dataclasses.field(default_factory=dict)
  layer_scores: TeacherScores | None = None
  pretrained: Mapping[str, Json] = dataclasses.field(default_factory=dict)
  corruptions: tuple[SavedSet, ...] = ()

  @property
  def dataset(self) -> str:
    """Name of the data set, '' if the run does not say."""
    saved = self.config.get('data') or {}
    return saved.get('name') or next((e.dataset for e in self.evaluations), '')

  @property
  def seed(self) -> int | None:
    """The seed of the run, None if it does not say."""
    return self.config.get('seed', self.provenance.get('seed'))

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
    keys = {a.attack: None for e in self.evaluations for a in e.attacks}
    if 'pgd20' in keys:
      return 'pgd20'
    return next((key for key in keys if key.startswith('pgd')), None)

  @property
  def clean_and_robust(
    self,
  ) -> list[tuple[ModelEvaluation, SavedAttack, SavedAttack]]:
    """Models with their results without and under the headline attack."""
    return [
      (model, clean, robust)
      for model in self.evaluations
      if (clean := model.under('clean')) is not None
      and (robust := model.under(self.headline_attack)) is not None
    ]

  @property
  def teacher_layers(self) -> list[str]:
    """Names of the T teacher layers, to which tutors are indices."""
    saved = self.architecture or {}
    teacher = saved.get('teacher', {})
    return teacher.get('layers') or saved.get('teacher_layers', [])

  @property
  def tutors(self) -> list[Json]:
    """The tutor of each student layer; empty where none was searched."""
    return (self.architecture or {}).get('tutors') or []

  @property
  def tutor_counts(self) -> np.ndarray | None:
    """How many student layers each teacher layer teaches, [T]; None if none."""
    if not self.tutors:
      return None
    tutors = [tutor['tutor'] for tutor in self.tutors]
    return np.bincount(tutors, minlength=len(self.teacher_layers))

  def students_of(self, scored: LayerScores) -> np.ndarray | None:
    """`tutor_counts` of a teacher's layers; None if tutors have other names."""
    same = list(scored.layers) == self.teacher_layers
    return self.tutor_counts if same else None

  def tutors_against(
    self, scored: LayerScores
  ) -> statistics.RankCorrelation | None:
    """Rank correlation of a teacher's scores and of students taught by layers.

    It is None where it is undefined, or the tutors are layers of other names.
    """
    counts = self.students_of(scored)
    if counts is None:
      return None
    return statistics.rank_correlation(scored.scores, counts)

  def adversarial_method(self, model: str, group: str = 'adversarial') -> str:
    """The method that a stage trained with, '' if the run does not say."""
    if group == 'pruning':
      group = 'adversarial'
    section = self.config.get(model if group == 'teacher' else group) or {}
    if group == 'adversarial':
      section = section.get('students', {}).get(model, {})
    return section.get('adversarial_training', {}).get('name', '')

  def evaluation(self, model: str) -> ModelEvaluation | None:
    """The evaluation of a model, None where it was not evaluated."""
    return next((e for e in self.evaluations if e.model == model), None)

  def label(self, model: str) -> str:
    """What a reader sees in place of a model's key."""
    evaluation = self.evaluation(model)
    return evaluation.label if evaluation else evaluations.label(model)

  def auto_attacked(self) -> list[list[tuple[ModelEvaluation, SavedAttack]]]:
    """Models under AutoAttack with its result, those together that faced one.

    The groups have equal radius, number of images and members, and are in order
    of the models; there is none where no AutoAttack was run.
    """
    groups: dict[tuple, list[tuple[ModelEvaluation, SavedAttack]]] = {}
    for evaluation in self.evaluations:
      for result in evaluation.attacks:
        if result.members:
          labels = [member.label for member in result.members]
          radius = round(result.epsilon, 6)
          key = result.attack, result.norm, radius, result.images, *labels
          groups.setdefault(key, []).append((evaluation, result))
    return list(groups.values())


def load(workdir: str | os.PathLike[str]) -> SavedRun:
  """Reads a run; parts that are missing are None or empty.

  Raises:
    DamagedFileError: a file is there but is not what it should be; the message
      names the file.
    ValueError: the run was made by a version with another format.
  """
  root = paths.local(workdir, 'workdir')
  stages = {name: read_json(root / name / 'stage.json') for name in _TEACHERS}
  has_config = (root / 'config.json').exists()
  return SavedRun(
    workdir=root,
    evaluations=evaluations.read(root),
    config=files.read_config(root) if has_config else {},
    provenance=read_json(root / 'provenance.json') or {},
    stages=_stages(root),
    architecture=_architecture(root),
    history=_read_arrays(root / 'search' / 'history.npz', *_HISTORY),
    attention=_read_arrays(
      root / 'evaluation' / 'attention.npz', 'images', 'teacher_maps'
    ),
    examples={
      path.stem: files.read_npz(path, *_EXAMPLES)
      for path in sorted((root / 'evaluation' / 'examples').glob('*.npz'))
    },
    layer_scores=layer_scores.read(root / 'evaluation' / 'robustness.json'),
    pretrained={
      name: saved
      for name, saved in stages.items()
      if saved and 'checkpoint' in saved
    },
    corruptions=corruptions.read(root),
  )


def read_json(path: pathlib.Path, *keys: str) -> Json | None:
  """The object in a file, see `files.read_json`; None where there is none."""
  return files.read_json(path, *keys) if path.exists() else None


def _read_arrays(path: pathlib.Path, *names: str) -> Arrays | None:
  """The arrays of a file, see `files.read_npz`; None where there is none."""
  return files.read_npz(path, *names) if path.exists() else None


def epochs(run: SavedRun, section: str) -> int:
  """The epochs of trainings of a section of the config; 0 if it has none.

  Args:
    run: the run.
    section: the name of a stage, or 'pruning' for the training of scores.
  """
  if section == 'pruning':
    found = (run.config.get('adversarial') or {}).get(section)
  else:
    found = run.config.get(section)
  return ((found or {}).get('optimization') or {}).get('epochs') or 0


def is_searched(student: Json) -> bool:
  """Whether a student of a config has the architecture of the search."""
  return not (student.get('network') or {}).get('name')


def _architecture(root: pathlib.Path) -> Json | None:
  """Reads architecture.json, without tutors that only stand there."""
  saved = read_json(root / 'architecture.json', 'blocks', 'tutors')
  if saved is None or saved.get('tutors_searched', True):
    return saved
  return {**saved, 'tutors': []}


def _stages(root: pathlib.Path) -> tuple[StageMetrics, ...]:
  """Finds metrics.jsonl of teachers, of the search, and of every student."""
  folders = [('teacher', root / model) for model in _TEACHERS]
  folders.append(('search', root / 'search'))
  known = list(evaluations.LABELS)  # In the paper's order; others follow.
  for group, pattern in (
    ('train', 'train/*'),
    ('pruning', 'adversarial/*/pruning'),
    ('adversarial', 'adversarial/*'),
  ):
    students = [p.parent for p in root.glob(f'{pattern}/metrics.jsonl')]
    named = {_model(group, folder): folder for folder in students}
    folders += [
      (group, named[name])
      for name in sorted(
        named, key=lambda n: (known.index(n) if n in known else len(known), n)
      )
    ]
  stages = []
  for group, folder in folders:
    log = folder / 'metrics.jsonl'
    records = files.read_json_lines(log) if log.exists() else ()
    of_epochs = tuple(record for record in records if 'epoch' in record)
    summary = read_json(folder / 'stage.json') or {}
    if of_epochs:
      model = _model(group, folder)
      stages.append(StageMetrics(group, model, of_epochs, summary))
  return tuple(stages)


def _model(group: str, folder: pathlib.Path) -> str:
  """The key of the model that a folder is of."""
  return folder.parent.name if group == 'pruning' else folder.name
