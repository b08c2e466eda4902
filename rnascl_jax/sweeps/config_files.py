"""Config files, read as the commands read them.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.sweeps import config_files
  >>> path = pathlib.Path(tempfile.mkdtemp(), 'ours.py')
  >>> _ = path.write_text('def get_config(argument=None): return argument')
  >>> module, argument = config_files.read(f'{path}:space=s3,smoke')
  >>> module.get_config(argument)
  'space=s3,smoke'
"""

import importlib.util
import pathlib
from types import ModuleType


def read(text: str) -> tuple[ModuleType, str | None]:
  """Runs a config file.

  Args:
    text: its path, with an argument behind a colon or without one.

  Returns:
    The module and the argument.

  Raises:
    ValueError: if there is no such file.
  """
  path, colon, argument = text.partition(':')
  if not path.endswith('.py') or not pathlib.Path(path).is_file():
    raise ValueError(
      f'--config={path} is no Python file: name one by its path from the '
      'current folder, such as configs/ablations/terms.py.'
    )
  spec = importlib.util.spec_from_file_location('config_of_a_row', path)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module, argument if colon else None
