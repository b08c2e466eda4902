"""The argument of a config file: `--config=configs/x.py:space=s3,smoke`."""

from collections.abc import Collection

from rnascl_jax.runtime import spelling

_GIVEN = 'yes'


def parse(argument: str | None, defaults: dict[str, str]) -> dict[str, str]:
  """Splits 'space=s3,smoke' into names and values.

  Args:
    argument: comma-separated; a word without '=' has the value 'yes'.
    defaults: every name the config knows, with its default.

  Returns:
    The defaults, with the argument's values in their place.

  Raises:
    ValueError: for a name the config does not know.
  """
  values = dict(defaults)
  for part in (argument or '').split(','):
    name, _, value = part.strip().partition('=')
    if not name:
      continue
    if name not in defaults:
      raise ValueError(
        f'The config argument {name!r} is unknown.'
        f'{spelling.did_you_mean(name, defaults)} It takes '
        f'{", ".join(defaults)}, for example "{next(iter(defaults))}=...".'
      )
    values[name] = value or _GIVEN
  return values


def pick(values: dict[str, str], name: str, known: Collection[str]) -> str:
  """The value of an argument, if it is a known one.

  Args:
    values: from `parse`.
    name: of the argument.
    known: its possible values.

  Raises:
    ValueError: for another value; it lists the known ones.
  """
  if values[name] not in known:
    raise ValueError(
      f'The config argument {name}={values[name]} is unknown.'
      f'{spelling.did_you_mean(values[name], known)} Choose one of '
      f'{", ".join(known)}.'
    )
  return values[name]


def refuse(values: dict[str, str], beside: str, *names: str) -> None:
  """Refuses arguments that have no meaning beside another one.

  Args:
    values: from `parse`; an argument that was not given is empty.
    beside: the other one, such as 'data=digits'.
    *names: of the arguments.

  Raises:
    ValueError: if one of them was given.
  """
  for name in names:
    if values[name]:
      raise ValueError(
        f'The config argument {name}={values[name]} has no meaning beside '
        f'{beside}: leave it out.'
      )


def forward(values: dict[str, str], *names: str) -> str:
  """The argument of another config: those of these names that were given."""
  return ','.join(
    name if values[name] == _GIVEN else f'{name}={values[name]}'
    for name in names
    if values[name]
  )
