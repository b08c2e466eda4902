"""Rows of sweeps: a name is the same run in every table that has it.

So sweeps of several tables with one ROOT share teachers and students. A row of
`student` takes from that of `teacher`, and one of `in_its_architecture` from
both: a sweep that has the one has to have the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

from configs import arguments
from rnascl_jax import sweeps

# The teacher of all tables that do not compare teachers.
ROBUST = {'cifar10': 'wrn34', 'digits': 'small'}
# Terms of Tables 1, 5 and 7, which have further training on attacks.
_TABLE_7 = ('rnas_cl', 'ce', 'ce_kl', 'ce_icc')
_HARDENED = {
  'cifar10': _TABLE_7,
  'digits': _TABLE_7,
  'imagenet100': ('rnas_cl',),
}
# What every sweep takes, beside `data`.
_NAMES = ('table', 'space', 'teacher', 'smoke')
# In rows of students: another row attacks their teacher.
_STUDENTS_ONLY = {'evaluation.teachers': False}


class Setting(NamedTuple):
  """What a student of a table is of.

  Attributes:
    space: of the search; '' on digits.
    teacher: its short name.
    data: 'cifar10', 'digits' or 'imagenet100'.
    smoke: 'yes' for runs of seconds, else ''.
  """

  space: str
  teacher: str
  data: str = 'cifar10'
  smoke: str = ''

  @property
  def name(self) -> str:
    """Beginning of the names of its rows."""
    return f'{self.space or self.data}_{self.teacher}'

  @property
  def takes(self) -> dict[str, str]:
    """The teacher; that of ImageNet-100 is imported, see its config."""
    if self.data == 'imagenet100':
      return {}
    return {'teacher.checkpoint': f'teacher_{self.teacher}/teacher'}

  def config(self, file: str, **values: str) -> str:
    """A config file of `configs` with its argument."""
    # That of most files without `data=`, which the others do not know.
    data = '' if self.data == 'cifar10' else self.data
    named = values | {
      'data': data,
      'space': self.space,
      'teacher': self.teacher,
      'smoke': self.smoke,
    }
    return f'configs/{file}.py:{arguments.forward(named, *named)}'


def teacher(of: Setting) -> sweeps.Row:
  """A teacher, trained and attacked."""
  return sweeps.Row(
    f'teacher_{of.teacher}',
    of._replace(space='').config('ablations/teacher'),
    commands=('teacher', 'evaluate'),
  )


def student(
  of: Setting, terms: str = 'rnas_cl', *, hardened: bool = True
) -> sweeps.Row:
  """A search and a training with the same terms, see configs/ablations/terms.

  Args:
    of: its setting.
    terms: of the objective. 'ce' has no teacher, and is one row for all.
    hardened: whether it has further training on attacks, if a table of it has.
  """
  values = {'terms': terms}
  if not hardened or terms not in _HARDENED[of.data]:
    values['adversarial'] = 'no'
  if terms == 'ce':
    config = of._replace(teacher='').config('ablations/terms', **values)
    return sweeps.Row(f'{of.space or of.data}_ce', config)
  return sweeps.Row(
    of.name if terms == 'rnas_cl' else f'{of.name}_{terms}',
    of.config('ablations/terms', **values),
    changes=_STUDENTS_ONLY,
    takes=of.takes,
  )


def in_its_architecture(of: Setting, study: str) -> sweeps.Row:
  """Students in the architecture of a setting's `student`.

  Args:
    of: the setting.
    study: a file of configs/ablations.
  """
  # It has one teacher on digits, and no argument for it.
  fixed = study == 'objective' and of.data == 'digits'
  argument = of._replace(teacher='') if fixed else of
  return sweeps.Row(
    f'{of.name}_{study}',
    argument.config(f'ablations/{study}'),
    changes=_STUDENTS_ONLY,
    takes={
      **of.takes,
      'search.architecture': f'{of.name}/architecture.json',
    },
  )


def study(
  argument: str | None, name: str, spaces: Sequence[str] = ('s3', 's5', 's7')
) -> list[sweeps.Row]:
  """Teachers, RNAS-CL, and students in the architectures that it found.

  Args:
    argument: of a sweep.
    name: of a file of configs/ablations.
    spaces: of CIFAR-10, without `space=`.

  Returns:
    The rows.

  Raises:
    ValueError: for an argument or a value that there is not.
  """
  chosen = parse(argument)
  arguments.refuse(chosen, f'configs/ablations/{name}.py', 'table')
  robust = ROBUST[arguments.pick(chosen, 'data', ROBUST)]
  return together(
    *(
      row
      for of in combine(chosen, spaces, (robust,))
      for row in (teacher(of), student(of), in_its_architecture(of, name))
    )
  )


def parse(argument: str | None, data: str = 'cifar10') -> dict[str, str]:
  """The argument of a sweep: `table=`, `data=`, `space=`, `teacher=`, `smoke`.

  Args:
    argument: see `arguments.parse`.
    data: without `data=`.

  Returns:
    Names and values; '' where there is none.

  Raises:
    ValueError: for a name that there is not.
  """
  return arguments.parse(argument, {'data': data} | dict.fromkeys(_NAMES, ''))


def combine(
  chosen: dict[str, str], spaces: Sequence[str], teachers: Sequence[str]
) -> list[Setting]:
  """Every space with every teacher, where one was not chosen.

  Args:
    chosen: from `parse`.
    spaces: of a table; digits have one of their own.
    teachers: of a table.
  """
  if chosen['data'] == 'digits':
    arguments.refuse(chosen, 'data=digits', 'space')
    spaces = ('',)
  if chosen['space']:
    spaces = (chosen['space'],)
  if chosen['teacher']:
    teachers = (chosen['teacher'],)
  return [
    Setting(space, teacher, chosen['data'], chosen['smoke'])
    for teacher in teachers
    for space in spaces
  ]


def together(*rows: sweeps.Row) -> list[sweeps.Row]:
  """Rows of one sweep or of several, each once."""
  return list({row.name: row for row in rows}.values())


def tables(
  chosen: dict[str, str], known: dict[str, list[sweeps.Row]]
) -> list[sweeps.Row]:
  """The rows of the table that was asked for, or of all.

  Args:
    chosen: the argument of a sweep; `table=` is '' for all.
    known: rows by table.

  Returns:
    The rows, each once.

  Raises:
    ValueError: for another table.
  """
  if chosen['table']:
    return together(*known[arguments.pick(chosen, 'table', known)])
  return together(*(row for rows in known.values() for row in rows))
