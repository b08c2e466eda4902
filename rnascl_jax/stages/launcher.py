"""What all commands share: flags, logging, a cache of compiled programs.

On several hosts the same command is started on each, with --multihost where
JAX finds the others by itself (TPU pods, Slurm, Open MPI, Kubernetes), and else
with --coordinator_address, --num_processes and --process_id.
"""

import contextlib
import logging as py_logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from rnascl_jax.config import config_files, settings
from rnascl_jax.runtime import (
  compilation,
  disk,
  extras,
  files,
  host_memory,
  lock,
  paths,
  processes,
)
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import workdir
from rnascl_jax.stages.run import Run
from rnascl_jax.training import loop

FLAGS = flags.FLAGS
_PROCESSES = (
  'multihost',
  'coordinator_address',
  'num_processes',
  'process_id',
)
_OBSERVED = ('sinks', 'profile_steps')
_CONFIG = 'digits'
_HELP = {'--help', '--helpshort', '--helpfull', '--helpxml', '-?'}


def define_workdir() -> None:
  """Defines --workdir."""
  flags.DEFINE_string(
    'workdir', None, 'Folder of the run; an interrupted run goes on there.'
  )
  flags.mark_flag_as_required('workdir')


def stage(function: Callable[[Run], Any], *, trains: bool = True) -> NoReturn:
  """Runs a stage as a command, with the flags of all stages.

  A config that is not valid and a stage that is missing are the user's to mend
  and shown as a message; whatever else fails has its traceback.

  Args:
    function: of the run that flags name; the text that it returns is printed.
    trains: whether it trains, and takes the flags of that.
  """
  define_workdir()
  words = _define_config()
  _define_processes()
  if trains:
    _define_observed()
  _prepare_absl()

  def main(argv: list[str]) -> None:
    with _ends_in_words(argv), _opened_run(begins=trains) as run:
      _show(function(run))

  app.run(main, argv=[sys.argv[0], *words])


def command(function: Callable[[], Any]) -> NoReturn:
  """Runs a command without a run.

  Args:
    function: called when flags are parsed; the text that it returns is printed.
  """
  _prepare_absl()

  def main(argv: list[str]) -> None:
    with _ends_in_words(argv):
      _show(function())

  app.run(main)


def configured(function: Callable[[settings.Settings], Any]) -> NoReturn:
  """Runs a command that has a config and no run.

  Args:
    function: of the settings; the text that it returns is printed.
  """
  words = _define_config()
  _prepare_absl()

  def main(argv: list[str]) -> None:
    with _ends_in_words(argv):
      try:
        parsed = settings.parse(FLAGS.config)
      except ValueError as error:
        sys.exit(f'error: {error}')
      host_memory.keep()
      compilation.prepare()
      _show(function(parsed))

  app.run(main, argv=[sys.argv[0], *words])


@contextlib.contextmanager
def _opened_run(*, begins: bool) -> Iterator[Run]:
  """Opens the run of --config and --workdir, on all processes.

  Where the command begins none, there must be one.
  """
  host_memory.keep()
  compilation.prepare()
  with contextlib.ExitStack() as opened:
    try:
      _connect()
      if not begins:
        workdir.check_run(paths.local(FLAGS.workdir, '--workdir'))
      named: dict[str, Any] = {
        name: FLAGS[name].value for name in _OBSERVED if name in FLAGS
      }
      run = opened.enter_context(
        runs.open_run(FLAGS.config, FLAGS.workdir, **named)
      )
    except (ValueError, FileNotFoundError) as error:
      sys.exit(f'error: {error}')
    yield run


def _define_config() -> list[str]:
  """Defines --config; a file or a field that is not there is said at once.

  Returns:
    The words of the command line but those that name the config file.
  """
  try:
    words = FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=False)
    helps = _HELP.intersection(words)
    config = config_files.check([] if helps else words, _CONFIG)
    if not helps and not config_files.names_file(words):
      logging.info('There is no --config: this is the demo, %s.', _CONFIG)
    words = config_files.without_file(words)
    config_flags.DEFINE_config_dict(
      'config',
      config,
      'Config file, or the name of one that is shipped; fields can be changed: '
      '--config.seed=1. An argument follows a colon: '
      '--config=cifar10:space=s5,smoke.',
      sys_argv=words,
    )
    FLAGS['config'].default_as_str = f"'{_CONFIG}'"
  except (AttributeError, KeyError, ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  return words


def _define_processes() -> None:
  """Defines what joins the processes of several hosts."""
  flags.DEFINE_boolean(
    'multihost',
    False,
    'Joins the processes of all hosts, which JAX finds by itself: on a TPU '
    'pod, under Slurm, Open MPI or Kubernetes. Start the same command on each.',
  )
  flags.DEFINE_string(
    'coordinator_address',
    '',
    'Elsewhere: host:port of the first process, with --num_processes and '
    '--process_id.',
  )
  flags.DEFINE_integer('num_processes', 0, 'How many processes there are.')
  flags.DEFINE_integer(
    'process_id', -1, 'Which of them this is, in [0, num_processes).'
  )


def _define_observed() -> None:
  """Defines what is seen of a run and changes none of its numbers."""
  flags.DEFINE_list(
    'sinks',
    [],
    'Where metrics go besides metrics.jsonl and TensorBoard: wandb, mlflow.',
  )
  flags.DEFINE_string(
    'profile_steps',
    '',
    'a:b traces the training steps from a on and before b, into the folder '
    'profile/ of each stage that has them, for TensorBoard or Perfetto.',
  )


def _connect() -> None:
  """Joins the other processes, if there are any; only the first one logs."""
  address, own = FLAGS.coordinator_address, FLAGS.process_id
  many = FLAGS.num_processes
  if not (FLAGS.multihost or address or many or own >= 0):
    return
  processes.connect(address, many, own)
  # What is not an error is the same on all of them.
  if not processes.is_main():
    logging.set_verbosity(logging.ERROR)
  logging.info('%d processes are connected.', processes.count())


@contextlib.contextmanager
def _ends_in_words(argv: list[str]) -> Iterator[None]:
  """Shows what the user can mend as a message, on all processes."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
  try:
    yield
  except (
    workdir.MissingStageError,
    loop.NonFiniteLossError,
    processes.OtherProcessError,
    files.DamagedFileError,
    lock.HeldError,
    disk.DiskError,
    extras.MissingPackageError,
    paths.PathError,
  ) as error:
    if processes.count() == 1:
      sys.exit(f'error: {error}')
    _leave('error: %s', error)
  except Exception as error:
    if processes.count() == 1:
      raise
    _leave('process %d has failed', jax.process_index(), exc_info=error)


def _show(result: Any) -> None:
  if isinstance(result, str) and result:
    # At once: a signal may come before Python has ended.
    print(result, flush=True)


def _prepare_absl() -> None:
  """Has absl show what is logged, and the flags that `--help` is to show."""
  # absl hides what is logged before flags are parsed; people want to see it.
  logging.set_verbosity(logging.INFO)
  # It tells of each accelerator that a machine does not have.
  py_logging.getLogger('jax._src.xla_bridge').setLevel(py_logging.WARNING)
  # `--help` shows the flags of the main module: these are meant to be seen.
  for name in ('config', 'workdir', *_PROCESSES, *_OBSERVED):
    if name in FLAGS:
      FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])


def _leave(message: str, *parts: Any, **options: Any) -> NoReturn:
  """Ends a process for which others may wait, and which would for them."""
  logging.error(message, *parts, **options)
  logging.flush()
  os._exit(1)
