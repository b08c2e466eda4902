"""Commands, in processes that are forked where all is imported already."""

import multiprocessing
import os
import pathlib
import runpy
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
_SERVER = multiprocessing.get_context('forkserver')
# What takes long to import; flags are defined in each process by itself.
_SERVER.set_forkserver_preload(
  ['rnascl_jax.sweeps', 'rnascl_jax.stages', 'rnascl_jax.interop', 'torch']
)


class Command:
  """`python -m experiments.NAME ARGUMENTS`, started in a folder."""

  def __init__(self, name: str, *arguments: str, cwd: pathlib.Path = ROOT):
    self._output = tempfile.NamedTemporaryFile('r', encoding='utf-8')
    self._process = _SERVER.Process(
      target=_main, args=(name, arguments, cwd, self._output.name)
    )
    self._process.start()

  def ended(self) -> tuple[int, str]:
    """Waits, and gives the exit status and all that was printed."""
    self._process.join()
    with self._output:
      return self._process.exitcode, self._output.read()


def run(name: str, *arguments: str) -> tuple[int, str]:
  return Command(name, *arguments).ended()


def _main(name, arguments, cwd, output) -> None:
  with open(output, 'w') as file:
    for stream in (sys.stdout, sys.stderr):
      os.dup2(file.fileno(), stream.fileno())
  os.chdir(cwd)
  sys.argv[1:] = arguments
  runpy.run_module(f'experiments.{name}', run_name='__main__', alter_sys=True)
