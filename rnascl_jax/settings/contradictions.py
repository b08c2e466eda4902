"""Fields that are fine one by one and contradict each other."""

import difflib

from rnascl_jax.settings.inputs import Data, Space
from rnascl_jax.settings.run import Settings
from rnascl_jax.settings.stages import Search, Student, Teacher

# What images that are resized when they are read have, and others do not.
_RESIZED = ('image_size', 'classes', 'min_crop', 'workers')
# What describes the stages of a custom search space, and the rest of it.
_STAGES = ('depths', 'choices', 'strides')
_CUSTOM = (
  *_STAGES,
  'stem_features',
  'stem_stride',
  'expansion',
  'squeeze_excite',
  'head_features',
)
# Names of other models and files of a run.
_RESERVED = (
  'teacher',
  'vulnerable_teacher',
  'search',
  'robustness',
  'attention',
)


def check(settings: Settings) -> None:
  """Raises where fields are fine one by one but contradict each other."""
  _check_data(settings.data)
  _check_space(settings.space)
  _check_search(settings.search)
  if not settings.evaluation.attacks or not settings.students:
    raise ValueError(
      f'config.evaluation.attacks={settings.evaluation.attacks} and '
      f'config.students={tuple(settings.students)} must not be empty.'
    )
  for name, student in settings.students.items():
    where = f'config.students.{name}'
    _check_name(name, where)
    _check_teacher(student, where, settings.controls)
  for where in ('teacher', 'vulnerable_teacher'):
    _check_classes(getattr(settings, where), where)
  _check_adversarial(settings)


def _check_data(data: Data) -> None:
  if data.name == 'imagenet':
    if data.padding:
      raise ValueError(
        f'config.data.padding={data.padding} has no meaning beside '
        "config.data.name='imagenet', whose images are cropped before they are "
        'resized (config.data.min_crop): set it to 0.'
      )
    return
  for name in _RESIZED:
    value, default = getattr(data, name), getattr(Data(), name)
    if value != default:
      raise ValueError(
        f"config.data.{name}={value} is for config.data.name='imagenet' only: "
        f'leave it at {default} for {data.name!r}.'
      )


def _check_space(space: Space) -> None:
  for name in _CUSTOM:
    value, default = getattr(space, name), getattr(Space(), name)
    if space.name != 'custom' and value != default:
      raise ValueError(
        f'config.space.{name}={value} has no meaning beside '
        f"config.space.name={space.name!r}: set name='custom', or leave it at "
        f'{default}.'
      )
    if space.name == 'custom' and name in _STAGES and not value:
      raise ValueError(
        f"config.space.name='custom' needs config.space.{name}, one entry for "
        'each stage.'
      )


def _check_search(search: Search) -> None:
  if search.method == 'vid' and search.kl_weight:
    raise ValueError(
      "config.search.method='vid' can be negative, and eq. (2) multiplies the "
      'loss by n_f(G): it would search for the most expensive network. Choose '
      'another method, or kl_weight=0; students may have it.'
    )


def _check_name(name: str, where: str) -> None:
  if name in _RESERVED or not name.isidentifier():
    raise ValueError(
      f'{where} cannot be the name of a student: use letters, digits and _, '
      f'and none of {_RESERVED}.'
    )


def _check_teacher(student: Student, where: str, controls: bool) -> None:
  if student.teacher not in ('', 'teacher', 'vulnerable_teacher'):
    raise ValueError(
      f'{where}.teacher={student.teacher!r} must be "teacher", '
      '"vulnerable_teacher" or "" for none.'
    )
  if not student.teacher and (student.kl_weight or student.gamma):
    raise ValueError(
      f'{where} has kl_weight={student.kl_weight} and gamma={student.gamma} '
      'but no teacher: set both to 0 or name a teacher.'
    )
  if student.teacher == 'vulnerable_teacher' and not controls:
    raise ValueError(
      f'{where}.teacher is the control, which is not trained: set '
      'config.controls=True.'
    )


def _check_classes(teacher: Teacher, where: str) -> None:
  if teacher.classes and not teacher.checkpoint:
    raise ValueError(
      f'config.{where}.classes names {len(teacher.classes)} classes of a '
      f'checkpoint, but config.{where}.checkpoint is empty: name one, or leave '
      'classes empty.'
    )


def _check_adversarial(settings: Settings) -> None:
  """Trainings on attacks have names of their own and start from a student."""
  students = settings.students
  for name, hardened in settings.adversarial.students.items():
    where = f'config.adversarial.students.{name}'
    _check_name(name, where)
    if name in students:
      raise ValueError(
        f'{where} has the name of the student config.students.{name}, and both '
        f'are rows of one table: choose another, such as {name}_hardened.'
      )
    if hardened.student not in students:
      close = difflib.get_close_matches(hardened.student, students, 1)
      hint = f' Did you mean {close[0]!r}?' if close else ''
      raise ValueError(
        f'{where}.student={hardened.student!r} is not a student of this '
        f'config.{hint} Choose one of: {", ".join(map(repr, students))}; or '
        'leave the entry out of config.adversarial.students.'
      )
