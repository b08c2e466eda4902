"""The argument of a config file: `--config=x:space=s3,smoke`."""

from collections.abc import Collection

from rnascl_jax.runtime import spelling

_GIVEN = 'yes'


def parse(argument: str | None, defaults: dict[str, str]) -> dict[str, str]:
  """Splits 'space=s3,smoke' into names and values.

  Args:
    argument: words separated by commas; one without '=' has the value 'yes'.
    defaults: every name the config knows, with its default.

  Returns:
    The defaults, with the argument's values in their place.

  Raises:
    ValueError: if the config does not know a name.
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
  """Returns the value of an argument if it is a known one.

  Args:
    values: the values from `parse`.
    name: the name of the argument.
    known: its possible values.

  Raises:
    ValueError: if the value is another one; the message lists the known ones.
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
    values: the values from `parse`; an argument that was not given is empty.
    beside: the other argument, such as 'data=digits'.
    *names: the names of the arguments.

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
  """Writes the argument of another config from the names that have a value."""
  return ','.join(
    name if values[name] == _GIVEN else f'{name}={values[name]}'
    for name in names
    if values[name]
  )
