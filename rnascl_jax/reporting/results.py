"""What a run saved, read back: the one input of figures, report and paper.

`load(workdir)` reads every file that is there. A missing file is `None` or
empty, so that a run can be looked at while it is under way; a file that is
there but broken raises. No JAX is imported here.

- `evaluation/<model>.json`: how many images the model classifies correctly
  under each attack; `evaluation/<model>.npz` beside it (optional): which ones.
- `evaluation/robustness.json`: for each teacher, a score of every layer under
  an attack on this teacher (RNAS-CL, section 5.1).

Example:
  >>> import tempfile
  >>> from rnascl_jax.reporting import results
  >>> run = results.load(tempfile.mkdtemp())
  >>> run.evaluations, run.architecture
  ((), None)
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.reporting import statistics
from rnascl_jax.runtime import files, paths

Json = dict[str, Any]
Arrays = Mapping[str, np.ndarray]

# The norm of attacks whose record does not name one.
LINF = 'L∞'
# Data sets whose perturbations are stated on the [0, 1] scale; those of 8-bit
# colour images are stated in units of 1/255.
UNIT_SCALE_DATASETS = ('digits', 'mnist', 'fashion_mnist')
LABELS = {
  'teacher': 'Teacher',
  'vulnerable_teacher': 'Teacher trained without attacks',
  'search': 'Search',
  'rnas_cl': 'RNAS-CL',
  'rnas_cl_eq6': 'RNAS-CL + eq. (6)',
  'ce': 'CE',
  'ce_kl': 'CE + KL',
  'control_rnas_cl': 'Control: RNAS-CL',
  'control_ce_kl': 'Control: CE + KL',
}
_HISTORY = ('epochs', 'channel_probabilities', 'tutor_probabilities')
# Folders of teachers.
_TEACHERS = ('teacher', 'vulnerable_teacher')
# Two radii or step sizes in pixels that differ by less are equal.
_EQUAL = 1e-6


class SavedWarning(NamedTuple):
  """A reason to doubt an evaluation.

  Attributes:
    kind: a few words, the same for all of one sort.
    message: what was seen and what it may mean, for people.
  """

  kind: str
  message: str


class SavedMember(NamedTuple):
  """One attack of AutoAttack on one model.

  Attributes:
    name: its key.
    label: what a reader sees, 'APGD-CE'.
    black_box: whether it uses no gradients.
    num_steps: steps of a trial.
    num_trials: trials of an image; 0 where the attack is not defined for so
      few classes.
    attacked: images that were classified correctly until then.
    broken: how many of these it broke.
    rejected: images it claimed that full float32 did not confirm.
    robust: images of all that are left right by it and those before it.
    seconds: wall clock.
    forward: passes through the network, of all images together.
    backward: passes back.
  """

  name: str
  label: str
  black_box: bool
  num_steps: int
  num_trials: int
  attacked: int
  broken: int
  rejected: int
  robust: int
  seconds: float
  forward: int
  backward: int


class SavedAttack(NamedTuple):
  """One attack on one model.

  Attributes:
    attack: its key, 'clean' for no attack.
    label: what a reader sees, 'PGD-20'.
    images: how many images were attacked, at least 1: the first of the split.
    correct: how many of them were classified correctly.
    epsilon: radius in pixels of [0, 1]; 0 for 'clean'.
    norm: the norm that the radius is measured in.
    steps: number of steps, None where it has none.
    step_size: in pixels of [0, 1], None where it has none.
    rejected: images the attack claimed that were not confirmed in float32.
    adversarial: file of the adversarial images, relative to the workdir; None
      where they were not saved.
    num_classes: K, None if unknown.
    members: the attacks of AutoAttack in their order; empty for any other.
    right: which images were classified correctly, [images] bool; None where
      that was not saved, or does not add up to `correct`.
  """

  attack: str
  label: str
  images: int
  correct: int
  epsilon: float = 0.0
  norm: str = LINF
  steps: int | None = None
  step_size: float | None = None
  rejected: int = 0
  adversarial: str | None = None
  num_classes: int | None = None
  members: tuple[SavedMember, ...] = ()
  right: np.ndarray | None = None

  @property
  def accuracy(self) -> float:
    """Share of images classified correctly, in [0, 1]."""
    return self.correct / self.images

  @property
  def interval(self) -> tuple[float, float]:
    """95 % interval of the accuracy, in [0, 1]."""
    return statistics.wilson(self.correct, self.images)

  @property
  def defined(self) -> tuple[SavedMember, ...]:
    """The members that are defined for the number of classes."""
    return tuple(m for m in self.members if m.num_trials)

  def same_ball(self, other: 'SavedAttack') -> bool:
    """Whether both may change an image by equally much."""
    return self.norm == other.norm and math.isclose(
      self.epsilon, other.epsilon, abs_tol=_EQUAL
    )

  def same_attack(self, other: 'SavedAttack') -> bool:
    """Whether both came from one attack with the same settings."""
    step_sizes = self.step_size or 0.0, other.step_size or 0.0
    return (
      self._settings == other._settings
      and self.same_ball(other)
      and math.isclose(*step_sizes, abs_tol=_EQUAL)
    )

  def on_first(self, images: int) -> 'SavedAttack | None':
    """The result on the first images only; None where that was not saved.

    It has no members, as their counts are of all images.
    """
    if self.images == images:
      return self
    if self.right is None or self.images < images:
      return None
    right = self.right[:images]
    return self._replace(
      images=images, correct=int(right.sum()), members=(), right=right
    )

  @property
  def _settings(self) -> tuple:
    members = [(m.name, m.num_steps, m.num_trials) for m in self.members]
    return self.attack, self.steps, members


class Curve(NamedTuple):
  """Accuracy against the size of the perturbation, for one attack.

  Attributes:
    attack: the attack's key.
    label: what a reader sees.
    epsilons: [P], increasing, pixels of [0, 1].
    accuracies: [P], in [0, 1].
    images: of which they are shares; 0 if the file does not say.
  """

  attack: str
  label: str
  epsilons: np.ndarray
  accuracies: np.ndarray
  images: int = 0


@dataclasses.dataclass(frozen=True)
class ModelEvaluation:
  """One row of the results: a model and how it did under every attack.

  Attributes:
    model: the model's key, 'rnas_cl'.
    label: what a reader sees.
    attacks: the result of each attack.
    curves: one per attack that was run at several epsilons.
    warnings: every reason to doubt the model or an attack on it, each once.
    kind: 'student' or 'teacher'.
    dataset: name of the data set.
    parameters: number of trained parameters, None if unknown.
    macs: multiply-accumulates of one image, None if unknown.
    seconds: time of training, None if unknown.
    order: position of the row; of one with a base, among these.
    base: key of the student that it was before its adversarial fine-tuning, ''
      for a model that was trained from scratch.
  """

  model: str
  label: str
  attacks: tuple[SavedAttack, ...]
  curves: tuple[Curve, ...]
  warnings: tuple[SavedWarning, ...]
  kind: str = 'student'
  dataset: str = ''
  parameters: int | None = None
  macs: int | None = None
  seconds: float | None = None
  order: int = 1_000
  base: str = ''

  @property
  def images(self) -> int:
    """The most images that an attack was run on."""
    return max((a.images for a in self.attacks), default=0)

  def under(self, attack: str | None) -> SavedAttack | None:
    """The first result of an attack, None where it was not run."""
    return next((a for a in self.attacks if a.attack == attack), None)


class AutoAttacked(NamedTuple):
  """A model under AutoAttack, and the result of AutoAttack on it."""

  model: ModelEvaluation
  result: SavedAttack


class LayerScores(NamedTuple):
  """How far an attack on a teacher moves its layers.

  Attributes:
    model: key of the teacher.
    layers: names of its T layers, in forward order.
    scores: [T], means over images; lower is more robust.
    errors: [T], their standard errors; NaN where unknown.
  """

  model: str
  layers: tuple[str, ...]
  scores: np.ndarray
  errors: np.ndarray

  @property
  def order(self) -> np.ndarray:
    """Indices [T] of the layers, the most robust one first."""
    return np.argsort(self.scores, kind='stable')


class TeacherScores(NamedTuple):
  """Scores of the layers of all teachers of a run.

  Attributes:
    teachers: one entry each, the robust one first.
    attack: what a reader sees.
    epsilon: its radius, pixels of [0, 1].
    images: over which scores are averaged.
  """

  teachers: tuple[LayerScores, ...]
  attack: str
  epsilon: float
  images: int


class StageMetrics(NamedTuple):
  """The metrics of one stage of training.

  Attributes:
    group: 'teacher', 'search', 'train', 'adversarial': the column it shares.
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
    workdir: its directory.
    evaluations: sorted by their `order`, fine-tuned models behind their base.
    config: config.json.
    provenance: provenance.json.
    stages: teachers, search, students, fine-tuned ones, in this order.
    architecture: architecture.json; without `tutors` where none was searched.
    history: search/history.npz, what the search believed after every epoch.
    attention: evaluation/attention.npz, images and attention maps.
    layer_scores: evaluation/robustness.json, scores of all teachers' layers.
    pretrained: stage.json of the teachers that were trained elsewhere, by name.
  """

  workdir: pathlib.Path
  evaluations: tuple[ModelEvaluation, ...] = ()
  config: Json = dataclasses.field(default_factory=dict)
  provenance: Json = dataclasses.field(default_factory=dict)
  stages: tuple[StageMetrics, ...] = ()
  architecture: Json | None = None
  history: Arrays | None = None
  attention: Arrays | None = None
  layer_scores: TeacherScores | None = None
  pretrained: Mapping[str, Json] = dataclasses.field(default_factory=dict)

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

  def students_of(self, scored: LayerScores) -> np.ndarray | None:
    """`tutor_counts` of a teacher's layers; None if tutors have other names."""
    same = list(scored.layers) == self.teacher_layers
    return self.tutor_counts if same else None

  def tutors_against(
    self, scored: LayerScores
  ) -> statistics.RankCorrelation | None:
    """Rank correlation of layers' scores and of students taught by them.

    Args:
      scored: scores of a teacher.

    Returns:
      None where it is undefined, or the tutors are not layers of such names.
    """
    counts = self.students_of(scored)
    if counts is None:
      return None
    return statistics.rank_correlation(scored.scores, counts)

  def adversarial_method(self, model: str, group: str = 'adversarial') -> str:
    """The method that a stage trained with, '' if the run does not say."""
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
    return _label(model) if evaluation is None else evaluation.label

  def auto_attacked(
    self,
  ) -> list[list[AutoAttacked]]:
    """Models under AutoAttack, those together that faced the same.

    Returns:
      Groups of equal radius, number of images and members, in order of the
      models; empty where no AutoAttack was run.
    """
    groups: dict[tuple, list[AutoAttacked]] = {}
    for evaluation in self.evaluations:
      for result in evaluation.attacks:
        if result.members:
          labels = [member.label for member in result.members]
          radius = round(result.epsilon, 6)
          key = result.attack, result.norm, radius, result.images, *labels
          groups.setdefault(key, []).append(AutoAttacked(evaluation, result))
    return list(groups.values())


def epsilon_unit(dataset: str) -> tuple[float, str]:
  """Scale for an axis of epsilons and the name of its unit."""
  if dataset.split('/')[0] in UNIT_SCALE_DATASETS:
    return 1.0, 'pixel values in [0, 1]'
  return 255.0, 'units of 1/255'


def epsilon_text(epsilon: float, dataset: str) -> str:
  """'8/255' on 8-bit images where that is a round number, '0.1' elsewhere."""
  scaled = epsilon * epsilon_unit(dataset)[0]
  if scaled != epsilon and math.isclose(scaled, round(scaled), abs_tol=1e-3):
    return f'{round(scaled)}/255'
  return f'{epsilon:.4g}'


def which_images(result: SavedAttack, images: int) -> str:
  """'the first 64 of 517 test images', or 'all 517 test images'."""
  if result.images < images:
    return f'the first {result.images:,} of {images:,} test images'
  return f'all {images:,} test images'


def load(workdir: str | os.PathLike[str]) -> SavedRun:
  """Reads a run.

  Args:
    workdir: the directory the run was given.

  Returns:
    The run; parts that are missing are None or empty.

  Raises:
    DamagedFileError: a file is there but is not what it should be; the message
      names the file.
    ValueError: the run was made by a version with another format.
  """
  root = paths.local(workdir, 'workdir')
  config = root / 'config.json'
  stages = {name: read_json(root / name / 'stage.json') for name in _TEACHERS}
  return SavedRun(
    workdir=root,
    evaluations=read_evaluations(root),
    config=files.read_config(root) if config.exists() else {},
    provenance=read_json(root / 'provenance.json') or {},
    stages=_stages(root),
    architecture=_architecture(root),
    history=_read_arrays(root / 'search' / 'history.npz', *_HISTORY),
    attention=_read_arrays(
      root / 'evaluation' / 'attention.npz', 'images', 'teacher_maps'
    ),
    layer_scores=read_layer_scores(root / 'evaluation' / 'robustness.json'),
    pretrained={
      name: saved
      for name, saved in stages.items()
      if saved and 'checkpoint' in saved
    },
  )


def read_evaluations(root: pathlib.Path) -> tuple[ModelEvaluation, ...]:
  """Reads evaluation/<model>.json of every model and the .npz beside it.

  Args:
    root: the run's directory.

  Returns:
    Evaluations by their `order`, fine-tuned models behind their base.

  Raises:
    DamagedFileError: a file is not what was saved, or a count is impossible.
  """
  evaluations = []
  for path in sorted((root / 'evaluation').glob('*.json')):
    if path.name != 'robustness.json':  # It describes no model.
      saved = files.read_json(path, 'model')
      arrays = _read_arrays(path.with_suffix('.npz')) or {}
      with files.naming(path):
        evaluations.append(_evaluation(saved, arrays))
  orders = {e.model: e.order for e in evaluations}

  def place(e: ModelEvaluation) -> tuple:
    first = orders.get(e.base, e.order) if e.base else e.order
    return first, e.base or e.model, bool(e.base), e.order, e.model

  return tuple(sorted(evaluations, key=place))


def read_json(path: pathlib.Path, *keys: str) -> Json | None:
  """The object in a file, see `files.read_json`; None where there is none."""
  return files.read_json(path, *keys) if path.exists() else None


def _read_arrays(path: pathlib.Path, *names: str) -> Arrays | None:
  """The arrays of a file, see `files.read_npz`; None where there is none."""
  return files.read_npz(path, *names) if path.exists() else None


def _label(model: str) -> str:
  """A label for a model's key, for models that bring none of their own."""
  return LABELS.get(model, model.replace('_', ' '))


def _evaluation(saved: Json, arrays: Arrays) -> ModelEvaluation:
  fields = [field.name for field in dataclasses.fields(ModelEvaluation)]
  attacks, curves = saved.get('attacks', ()), saved.get('curves', ())
  warnings = [w for record in (saved, *attacks) for w in _warnings(record)]
  return ModelEvaluation(
    **_present(saved, fields)
    | {
      'label': saved.get('label') or _label(saved['model']),
      'attacks': tuple(_attack(a, arrays) for a in attacks),
      'curves': tuple(_curve(c) for c in curves if c['points']),
      'warnings': tuple(dict.fromkeys(warnings)),
    }
  )


def _present(saved: Json, names: Sequence[str]) -> Json:
  """The entries of these names that are there and not null."""
  return {name: saved[name] for name in names if saved.get(name) is not None}


def _attack(saved: Json, arrays: Arrays) -> SavedAttack:
  """One record of `attacks`; a ValueError if a count is impossible."""
  images, correct = saved['images'], saved.get('correct')
  if correct is None:
    correct = round(saved['accuracy'] * images)
  if not 0 <= correct <= images or images < 1:
    raise ValueError(
      f'correct={correct} of images={images} for attack '
      f'{saved["attack"]!r}; must be a count of at least one image'
    )
  right = arrays.get(f'correct/{saved["attack"]}', np.empty(0)).astype(bool)
  is_known = right.shape == (images,) and right.sum() == correct
  return SavedAttack(
    **_present(saved, SavedAttack._fields)
    | {
      'label': saved.get('label') or saved['attack'],
      'correct': correct,
      'members': tuple(_member(m, images) for m in saved.get('members') or ()),
      'right': right if is_known else None,
    }
  )


def _member(saved: Json, images: int) -> SavedMember:
  member = SavedMember(**{name: saved[name] for name in SavedMember._fields})
  if not 0 <= member.broken <= member.attacked <= images:
    raise ValueError(
      f'broken={member.broken} of attacked={member.attacked} of '
      f'images={images} for {member.label}; none may exceed the next'
    )
  return member


def _warnings(saved: Json) -> list[SavedWarning]:
  """The `warnings` of a record or of a whole file, if it has any."""
  records: Sequence[Json] = saved.get('warnings') or ()
  return [SavedWarning(r['kind'], r['message']) for r in records]


def _curve(saved: Json) -> Curve:
  points = sorted((p['epsilon'], p['accuracy']) for p in saved['points'])
  values = np.asarray(points, float)  # [P, 2]
  label = saved.get('label') or saved['attack']
  images = int(saved.get('images', 0))
  return Curve(saved['attack'], label, values[:, 0], values[:, 1], images)


def read_layer_scores(path: pathlib.Path) -> TeacherScores | None:
  """Reads evaluation/robustness.json.

  Returns:
    The scores; None where there are none, or only those of a former version,
    which had no errors and one teacher.

  Raises:
    DamagedFileError: the file is not what was saved, or a teacher has not one
      score and one error for each layer.
  """
  saved = read_json(path)
  if saved is None or not saved.get('teachers'):
    return None
  teachers = []
  with files.naming(path):
    for model, of_model in saved['teachers'].items():
      scores = np.asarray(of_model['scores'], float)
      errors = np.asarray(of_model['errors'], float)
      layers = tuple(of_model['layers'])
      if not len(layers) == len(scores) == len(errors):
        raise ValueError(
          f'{model} has {len(layers)} layers, {len(scores)} scores and '
          f'{len(errors)} errors; there must be as many'
        )
      teachers.append(LayerScores(model, layers, scores, errors))
    return TeacherScores(
      tuple(teachers), saved['attack'], saved['epsilon'], saved['images']
    )


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
  known = list(LABELS)  # The models of the paper in its order; others follow.
  for group in ('train', 'adversarial'):
    students = [p.parent for p in (root / group).glob('*/metrics.jsonl')]
    students.sort(
      key=lambda f: (known.index(f.name) if f.name in known else len(known), f)
    )
    folders += [(group, folder) for folder in students]
  stages = [
    StageMetrics(
      group,
      folder.name,
      _records(folder / 'metrics.jsonl'),
      read_json(folder / 'stage.json') or {},
    )
    for group, folder in folders
  ]
  return tuple(stage for stage in stages if stage.records)


def _records(path: pathlib.Path) -> tuple[Json, ...]:
  """Lines of a log, but for one that was cut off with its writer."""
  if not path.exists():
    return ()
  return tuple(r for r in files.read_json_lines(path) if 'epoch' in r)
