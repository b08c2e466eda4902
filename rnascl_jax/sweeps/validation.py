"""Whether the commands of a sweep can be given, seen before any of them runs.

The flags of every command are parsed as the command itself will parse them, and
the config that comes of it is read by `settings.parse`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from rnascl_jax.config import settings
from rnascl_jax.sweeps import config_files
from rnascl_jax.sweeps import rows as rows_lib

_ERRORS = (AttributeError, KeyError, TypeError, ValueError, flags.Error)


def check(
  rows: Sequence[rows_lib.Row], seeds: Sequence[int]
) -> dict[tuple[int, str], str]:
  """Reads the config of every row for every seed.

  Args:
    rows: of one sweep.
    seeds: of its runs.

  Returns:
    For each (seed, row) a digest of all settings, which differs where a config
    file has changed.

  Raises:
    ValueError: for seeds that are none or repeat, and for a row whose config
      file cannot be read, or whose fields do not exist or are out of bounds; it
      names the row.
  """
  if not seeds or len(set(seeds)) < len(seeds):
    raise ValueError(
      f'--seeds={",".join(map(str, seeds))} must be one number or several '
      'different ones, such as 0,1,2.'
    )
  found = {}
  for row in rows:
    for seed in seeds:
      try:
        everything = dataclasses.asdict(config(row, seed))
      except _ERRORS as error:
        raise ValueError(
          f'Row {row.name!r} cannot be run: {_text(error)}'
        ) from error
      text = json.dumps(everything, sort_keys=True)
      found[seed, row.name] = hashlib.sha256(text.encode()).hexdigest()
  return found


def config(row: rows_lib.Row, seed: int) -> settings.Settings:
  """The settings that the commands of a row will have.

  Args:
    row: one of a sweep.
    seed: of the run.

  Returns:
    The settings, in which files of other rows have the root 'ROOT'.
  """
  words = rows_lib.commands(row, seed, 'ROOT')[0]
  argv = ['', *(word for word in words if word.startswith('--config.'))]
  given = config_files.load(row.config)
  config_files.check_fields(given, argv)
  values = flags.FlagValues()
  found = config_flags.DEFINE_config_dict(
    'config', given, flag_values=values, sys_argv=argv
  )
  values(argv)
  return settings.parse(found.value)


def _text(error: BaseException) -> str:
  """The message, in one line."""
  while error.args and isinstance(error.args[0], BaseException):
    error = error.args[0]
  text = str(error.args[0]) if error.args else type(error).__name__
  text = ' '.join(text.split())
  return f'there is no field {text}' if isinstance(error, KeyError) else text
