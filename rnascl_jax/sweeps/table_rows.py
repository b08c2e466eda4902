"""Rows of the shipped sweeps: a name is the same run in every table.

So sweeps of several tables with one ROOT share teachers and students. A row of
`student` takes from that of `teacher`, and one of `in_its_architecture` from
both, so a sweep that has one of them has the others too.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rnascl_jax.config import arguments
from rnascl_jax.sweeps.rows import Row

# The teacher of all tables that do not compare teachers.
ROBUST = {'cifar10': 'wrn34', 'digits': 'small'}
# Terms of Tables 1, 5 and 7, which have further training on attacks.
_TABLE_7 = ('rnas_cl', 'ce', 'ce_kl', 'ce_icc')
_FINE_TUNED = {
  'cifar10': _TABLE_7,
  'digits': _TABLE_7,
  'imagenet100': ('rnas_cl',),
}
# What every sweep takes, beside `data`.
_NAMES = ('table', 'space', 'teacher', 'smoke')
# In rows of students: another row attacks their teacher.
_STUDENTS_ONLY = {'evaluation.teachers': False}


# A table's spaces, its teachers (none: the robust one of the data), and its
# further contents, such as terms.
Table = tuple[Sequence[str], Sequence[str], Any]


class Setting(NamedTuple):
  """A search space with a teacher on a data set.

  Attributes:
    space: the name of the search space; '' on digits.
    teacher: the short name of the teacher.
    data: 'cifar10', 'digits' or 'imagenet100'.
    smoke: 'yes' for runs of seconds, else ''.
  """

  space: str
  teacher: str
  data: str = 'cifar10'
  smoke: str = ''

  @property
  def name(self) -> str:
    """How the names of its rows begin."""
    return f'{self.space or self.data}_{self.teacher}'

  @property
  def takes(self) -> dict[str, str]:
    """The teacher as `Row.takes`; that of ImageNet-100 is imported instead."""
    if self.data == 'imagenet100':
      return {}
    return {'teacher.checkpoint': f'teacher_{self.teacher}/teacher'}

  def config(self, file: str, **values: str) -> str:
    """Names a shipped config, with the argument for this setting."""
    # The default of the files that know `data=`.
    data = '' if self.data == 'cifar10' else self.data
    named = values | {
      'data': data,
      'space': self.space,
      'teacher': self.teacher,
      'smoke': self.smoke,
    }
    return f'{file}:{arguments.forward(named, *named)}'


def teacher(of: Setting) -> Row:
  """Makes the row in which a teacher is trained and attacked."""
  return Row(
    f'teacher_{of.teacher}',
    of._replace(space='').config('ablations/teacher'),
    commands=('teacher', 'evaluate'),
  )


def students(of: Setting, terms: Sequence[str]) -> list[Row]:
  """Makes the teacher of a setting and a student for each objective."""
  taught = [student(of, name) for name in terms]
  return taught if of.data == 'imagenet100' else [teacher(of), *taught]


def student(
  of: Setting, terms: str = 'rnas_cl', *, fine_tuned: bool = True
) -> Row:
  """Makes the row of a search and a training with the same terms.

  Args:
    of: the setting of the student.
    terms: the key of the objective in configs/ablations/terms.py. 'ce' has no
      teacher, and is one row for all teachers.
    fine_tuned: whether it is trained further on attacks if a table has that.
  """
  values = {'terms': terms}
  if not fine_tuned or terms not in _FINE_TUNED[of.data]:
    values['adversarial'] = 'no'
  if terms == 'ce':
    config = of._replace(teacher='').config('ablations/terms', **values)
    return Row(f'{of.space or of.data}_ce', config)
  return Row(
    of.name if terms == 'rnas_cl' else f'{of.name}_{terms}',
    of.config('ablations/terms', **values),
    changes=_STUDENTS_ONLY,
    takes=of.takes,
  )


def searched_anew(of: Setting, name: str, fields: Mapping[str, Any]) -> Row:
  """Makes the row of RNAS-CL with other terms, in its search too.

  Args:
    of: the setting of the student.
    name: what the row's name has behind that of the setting.
    fields: fields of both `search` and `students.rnas_cl`.
  """
  row = student(of, fine_tuned=False)
  changes = {
    f'{stage}.{field}': value
    for stage in ('search', 'students.rnas_cl')
    for field, value in fields.items()
  }
  return dataclasses.replace(
    row, name=f'{of.name}_{name}', changes={**row.changes, **changes}
  )


def in_its_architecture(of: Setting, study: str) -> Row:
  """Makes the row of a study in the architecture that `student` found.

  Args:
    of: the setting of that student.
    study: the name of a file of configs/ablations.
  """
  # It has one teacher on digits, and no argument for it.
  fixed = study == 'objective' and of.data == 'digits'
  argument = of._replace(teacher='') if fixed else of
  return Row(
    f'{of.name}_{study}',
    argument.config(f'ablations/{study}'),
    changes=_STUDENTS_ONLY,
    takes={
      **of.takes,
      'search.architecture': f'{of.name}/architecture.json',
    },
  )


def study(
  argument: str | None,
  name: str,
  spaces: Sequence[str] = ('s3', 's5', 's7'),
  *,
  anew: Callable[[Setting], Mapping[str, Mapping[str, Any]]] = lambda of: {},
) -> list[Row]:
  """Makes teachers, RNAS-CL, and students in the architectures that it found.

  Args:
    argument: the argument of a sweep.
    name: the name of a file of configs/ablations.
    spaces: the spaces of CIFAR-10 where the argument has no `space=`.
    anew: a function of a setting; it gives the rows with a search of their own,
      see `searched_anew`: their fields by name.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = parse(argument, *ROBUST)
  arguments.refuse(values, f'configs/ablations/{name}.py', 'table')
  return together(
    row
    for of in combine(values, spaces)
    for row in (
      teacher(of),
      student(of),
      in_its_architecture(of, name),
      *(searched_anew(of, *item) for item in anew(of).items()),
    )
  )


def parse(argument: str | None, *data: str) -> dict[str, str]:
  """Reads `table=`, `data=`, `space=`, `teacher=` and `smoke` of a sweep.

  Args:
    argument: the text that `arguments.parse` reads.
    *data: the data sets that the sweep knows; the first is the default.

  Returns:
    Values by name; '' where there is none.

  Raises:
    ValueError: if a name or the data set is unknown.
  """
  names = {'data': data[0]} | dict.fromkeys(_NAMES, '')
  values = arguments.parse(argument, names)
  arguments.pick(values, 'data', data)
  return values


def combine(
  values: dict[str, str], spaces: Sequence[str], teachers: Sequence[str] = ()
) -> list[Setting]:
  """Makes a setting of every space with every teacher.

  Args:
    values: the values from `parse`; a space or a teacher that was given is the
      only one.
    spaces: the spaces of a table; digits have one of their own.
    teachers: the teachers of a table; without them the robust one of the data.
  """
  if values['data'] == 'digits':
    arguments.refuse(values, 'data=digits', 'space')
    spaces = ('',)
  if values['space']:
    spaces = (values['space'],)
  if values['teacher']:
    teachers = (values['teacher'],)
  return [
    Setting(space, teacher, values['data'], values['smoke'])
    for teacher in teachers or (ROBUST[values['data']],)
    for space in spaces
  ]


def together(rows: Iterable[Row]) -> list[Row]:
  """The rows of one sweep or of several, each once."""
  return list({row.name: row for row in rows}.values())


def tables(
  values: dict[str, str],
  known: Mapping[str, Table],
  make: Callable[[Setting, Any], Iterable[Row]],
) -> list[Row]:
  """Makes the rows of the table that was asked for, or of all.

  Args:
    values: the values from `parse`; `table=` is '' for all.
    known: tables by the values of `table=`.
    make: a function of a setting and the contents of a table; it gives rows.

  Returns:
    The rows, each once.

  Raises:
    ValueError: if the table is unknown.
  """
  names = list(known)
  if values['table']:
    names = [arguments.pick(values, 'table', known)]
  return together(
    row
    for spaces, teachers, contents in (known[name] for name in names)
    for of in combine(values, spaces, teachers)
    for row in make(of, contents)
  )
