"""The commands by their names, and `rnascl`, which runs them.

In a checkout `rnascl NAME` and `python -m experiments.NAME` are the same
command. The folders `configs` and `experiments` lie at the top of a checkout,
and inside this package where it was installed from a wheel.
"""

import ast
import importlib.metadata
import importlib.util
import pathlib
import shlex
import shutil
import sys

from rnascl_jax.runtime import outputs, signals, spelling

_PACKAGE = pathlib.Path(__file__).parents[1]
_PROGRAM = 'rnascl'


def folder(name: str) -> pathlib.Path:
  """Returns where the shipped files of `configs` or `experiments` lie."""
  inside = _PACKAGE / name
  return inside if inside.is_dir() else _PACKAGE.parent / name


_EXPERIMENTS = folder('experiments')
_FROM_WHEEL = _EXPERIMENTS.parent == _PACKAGE
# Words that run `rnascl` with this Python, from any folder. Of an installed
# package, -P keeps what lies in that folder from being imported.
PROCESS = (
  *(sys.executable, *(('-P',) if _FROM_WHEEL else ())),
  *('-m', 'rnascl_jax.runtime.commands'),
)


def usage(name: str) -> str:
  """Returns how a user starts a command, in the way this process was started.

  Args:
    name: the command, such as 'pipeline' or 'import-teacher'.

  Returns:
    'rnascl NAME', or 'python -m experiments.NAME'.
  """
  beside = str(pathlib.Path(sys.executable).parent)
  started = sys.argv[0].startswith(f'{_PROGRAM} ')
  if started or _FROM_WHEEL:
    return f'{_PROGRAM} {name}'
  if not _is_script() and shutil.which(_PROGRAM, path=beside):
    return f'{_PROGRAM} {name}'
  return f'python -m experiments.{name.replace("-", "_")}'


def line() -> str:
  """Returns the command line of this process as a user can type it again."""
  if sys.argv[0].startswith(f'{_PROGRAM} '):
    start = sys.argv[0]
  elif _is_script():
    start = usage(pathlib.Path(sys.argv[0]).stem)
  else:
    return shlex.join(sys.argv)
  return ' '.join([start, *map(shlex.quote, sys.argv[1:])])


def _is_script() -> bool:
  """Whether this process is `python -m experiments.NAME`."""
  return pathlib.Path(sys.argv[0]).absolute().parent == _EXPERIMENTS


def main() -> None:
  """Runs the command that the first word of the command line names."""
  signals.install()
  outputs.degrade()
  scripts = {
    path.stem.replace('_', '-'): path
    for path in sorted(_EXPERIMENTS.glob('*.py'))
    if path.stem != '__init__'
  }
  words = sys.argv[1:]
  name = words[0].replace('_', '-') if words else '--help'
  if name == '--version':
    print(_version())
  elif name in ('--help', '-h', 'help'):
    print(_help(scripts))
  elif name in scripts:
    sys.argv = [f'{_PROGRAM} {name}', *words[1:]]
    _run(scripts[name])
  else:
    sys.exit(
      f'error: there is no command {words[0]!r}.'
      f'{spelling.did_you_mean(name, scripts)}\n\n{_help(scripts)}'
    )


def _version() -> str:
  try:
    return importlib.metadata.version('rnascl_jax')
  except importlib.metadata.PackageNotFoundError:
    return 'a checkout that is not installed'


def _run(path: pathlib.Path) -> None:
  """Runs a script as Python does, but for the name that `sys.argv` has."""
  spec = importlib.util.spec_from_file_location('__main__', path)
  assert spec is not None and spec.loader is not None
  # absl shows the docstring and the flags of the main module.
  sys.modules['__main__'] = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(sys.modules['__main__'])


def _help(scripts: dict[str, pathlib.Path]) -> str:
  """Writes the name and the first sentence of every command."""
  width = max(map(len, scripts))
  lines = []
  for name, path in scripts.items():
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    lines.append(f'  {name:{width}}  {text.splitlines()[0]}')
  return '\n'.join(
    [
      f'Usage: {_PROGRAM} COMMAND [FLAGS]; {_PROGRAM} COMMAND --help explains '
      'one.',
      '',
      *lines,
    ]
  )


if __name__ == '__main__':
  main()
