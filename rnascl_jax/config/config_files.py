"""Config files, read as the commands read them.

A file is named by its path, or by the name of one that is shipped: `digits` is
configs/digits.py of a checkout, and `ablations/kd` is configs/ablations/kd.py.
An argument may follow behind a colon: `cifar10:space=s5,smoke`.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.config import config_files
  >>> path = pathlib.Path(tempfile.mkdtemp(), 'ours.py')
  >>> _ = path.write_text('def get_config(argument=None): return argument')
  >>> module, argument = config_files.read(f'{path}:space=s3,smoke')
  >>> module.get_config(argument)
  'space=s3,smoke'
  >>> config_files.shipped('digits').get_config('smoke').data.name
  'digits'
"""

import functools
import importlib.util
import inspect
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from types import ModuleType

import ml_collections
from absl import flags
from ml_collections import config_flags

from rnascl_jax.config import settings
from rnascl_jax.runtime import commands, spelling

_FLAG = re.compile(r'--?config(?:=(.*))?', re.DOTALL)
_FIELD = re.compile(r'--?(?:no)?(\w+)\.([^=]+)(?:=(.*))?', re.DOTALL)


def read(text: str) -> tuple[ModuleType, str | None]:
  """Runs a config file.

  Args:
    text: the path of the file or the name of a shipped one; an argument may
      follow behind a colon.

  Returns:
    The module and the argument.

  Raises:
    ValueError: if there is no such file.
  """
  path, argument = _located(text)
  return _module(path), argument


@functools.cache
def shipped(name: str) -> ModuleType:
  """Runs a config file that is shipped; others make theirs from it.

  Args:
    name: the file without `configs/` and `.py`, such as 'cifar10'.

  Raises:
    ValueError: if there is no such file.
  """
  return read(name)[0]


def names() -> dict[str, pathlib.Path]:
  """Returns the paths of all shipped config files by their names."""
  folder = commands.folder('configs')
  return {
    path.relative_to(folder).with_suffix('').as_posix(): path
    for path in sorted(folder.rglob('*.py'))
    if path.stem != '__init__'
  }


def names_file(words: Sequence[str]) -> bool:
  """Returns whether a command line names a config file."""
  return any(map(_FLAG.fullmatch, words))


def without_file(words: Sequence[str]) -> list[str]:
  """Returns the words of a command line that do not name the config file."""
  kept: list[str] = []
  following = False
  for word in words:
    flag = _FLAG.fullmatch(word)
    if not flag and not following:
      kept.append(word)
    following = flag is not None and flag[1] is None
  return kept


def _located(text: str) -> tuple[str, str | None]:
  """The path of a config file, and the argument."""
  name, colon, argument = text.partition(':')
  path = str(names().get(name, name))
  if not path.endswith('.py') or not os.path.isfile(path):
    raise ValueError(
      f'--config={text} {_wrong(name)} Name a file by its path from the '
      'current folder, or one that is shipped by its name, such as digits.'
    )
  return path, argument if colon else None


def _module(path: str) -> ModuleType:
  spec = importlib.util.spec_from_file_location(f'config {path}', path)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  # A dataclass looks there for the module that defines it.
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


def _wrong(path: str) -> str:
  """Says why a path is not that of a config file."""
  if not path:
    return 'names no file; is it a variable that is not set?'
  if path.startswith('~'):
    return 'begins with ~, which the shell leaves there; write $HOME.'
  if os.path.isdir(path):
    return 'is a folder, not a Python file.'
  if os.path.exists(path):
    return 'is no Python file: its name does not end with .py.'
  beside = map(str, pathlib.Path(path).parent.glob('*.py'))
  short = path.removeprefix('configs/').removesuffix('.py')
  meant = spelling.did_you_mean(path, beside)
  return f'does not exist.{meant or spelling.did_you_mean(short, names())}'


def load(text: str) -> ml_collections.ConfigDict:
  """Makes the config that a file returns.

  Args:
    text: the path and the argument, as for `read`.

  Raises:
    ValueError: if there is no such file, or it makes no config of this
      argument.
  """
  module, argument = read(text)
  make = getattr(module, 'get_config', None)
  if make is None:
    raise ValueError(f'--config={text} has no function get_config.')
  arguments = () if argument is None else (argument,)
  try:
    inspect.signature(make).bind(*arguments)
  except TypeError as error:
    raise ValueError(
      f'--config={text} takes no argument {arguments}.'
    ) from error
  try:
    config = make(*arguments)
  except ValueError as error:
    raise ValueError(f'--config={text}: {error}') from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(
      f'--config={text} makes a {type(config).__name__}; its get_config must '
      'return an ml_collections.ConfigDict.'
    )
  return config


def check(words: Sequence[str], default: str = '') -> ml_collections.ConfigDict:
  """Refuses a command line whose config cannot be made as it says.

  Args:
    words: the words of the command line; `--config=FILE` and
      `--config.FIELD=VALUE` may be among them.
    default: the config file that is read if the words name none.

  Returns:
    The config of the file, without the changes of the command line.

  Raises:
    ValueError: if there is no such file, argument or field, or if a field is a
      section; the message has the most similar name that there is.
  """
  text = default
  for word, following in zip(words, (*words[1:], ''), strict=False):
    flag = _FLAG.fullmatch(word)
    if flag:
      text = following if flag[1] is None else flag[1]
  config = load(text)
  for word in words:
    field = _FIELD.fullmatch(word)
    if field and field[1] != 'config':
      raise ValueError(
        f'{word}: only --config has fields.'
        f'{spelling.did_you_mean(field[1], ("config",))}'
      )
    if field and '[' not in field[2]:  # An index: `config_flags` reads those.
      _check_field(config, field[2], field[3])
  return config


def _check_field(
  config: ml_collections.ConfigDict, path: str, value: str | None
) -> None:
  section, where = config, 'config'
  for name in path.split('.'):
    if not isinstance(section, ml_collections.ConfigDict):
      raise ValueError(f'--config.{path}: {where} is a value without fields.')
    if name not in section:
      raise ValueError(
        f'--config.{path}: {where} has no field {name!r}.'
        f'{spelling.did_you_mean(name, section)} Its fields are '
        f'{", ".join(section)}.'
      )
    section, where = section[name], f'{where}.{name}'
  whole = isinstance(section, ml_collections.ConfigDict)
  if whole and value is not None and '{' not in value:
    raise ValueError(
      f'--config.{path}={value}: {where} is a section; set its fields '
      f'{", ".join(section)}.'
    )


def parse(words: Sequence[str]) -> settings.Settings:
  """Reads the settings that a command will have, as it reads them itself.

  Args:
    words: the words of its command line; flags other than --config are left
      out.

  Raises:
    ValueError: if `check` raises it, or if a value has the wrong type or is out
      of its bounds; the message is one line.
  """
  argv = ['', *(word for word in words if word.startswith('--config.'))]
  values = flags.FlagValues()
  try:
    holder = config_flags.DEFINE_config_dict(
      'config', check(words), flag_values=values, sys_argv=argv
    )
    values(argv)
    return settings.parse(holder.value)
  except (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    flags.Error,
  ) as error:
    raise ValueError(_line(error)) from error


def _line(error: BaseException) -> str:
  """The message of an error, or of the one that it wraps, in one line."""
  while error.args and isinstance(error.args[0], BaseException):
    error = error.args[0]
  text = str(error.args[0]) if error.args else type(error).__name__
  text = ' '.join(text.split())
  return f'there is no field {text}' if isinstance(error, KeyError) else text
