"""What all commands share: flags, logging, a cache of compiled programs."""

import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from rnascl_jax import driver, workdir
from rnascl_jax.loops import run as runs

FLAGS = flags.FLAGS


def define_workdir() -> None:
  """Defines --workdir."""
  flags.DEFINE_string(
    'workdir', None, 'Folder of the run; an interrupted run goes on there.'
  )
  flags.mark_flag_as_required('workdir')


def launch(stage: Callable[[Any, str], Any]) -> None:
  """Runs a stage on the config and workdir that flags name.

  A config that is not valid and a stage that is missing are the user's to mend
  and shown as a message; whatever else fails has its traceback.

  Args:
    stage: (config, workdir) -> text to print, or anything else.
  """
  define_workdir()
  _define_config()

  def command() -> Any:
    cache_compilations()
    try:
      runs.open_run(FLAGS.config, FLAGS.workdir)
    except (ValueError, FileNotFoundError) as error:
      sys.exit(f'error: {error}')
    return stage(FLAGS.config, FLAGS.workdir)

  run(command)


def _define_config() -> None:
  """Defines --config; a field that there is not is the user's to mend."""
  try:
    config_flags.DEFINE_config_file(
      'config',
      'configs/digits.py',
      'Config file; fields can be changed: --config.seed=1. An argument '
      'follows a colon: --config=configs/cifar10.py:space=s5,smoke.',
    )
  except (AttributeError, KeyError) as error:
    sys.exit(f'error: in --config: {error}')


def run(command: Callable[[], Any]) -> None:
  """Parses flags, runs a command and prints its result if it is text."""

  def main(argv: list[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
    try:
      result = command()
    except (workdir.MissingStageError, driver.NonFiniteLossError) as error:
      sys.exit(f'error: {error}')
    if isinstance(result, str):
      print(result)

  # absl hides what is logged before flags are parsed; people want to see it.
  logging.set_verbosity(logging.INFO)
  # `--help` shows the flags of the main module: these are meant to be seen.
  for name in ('config', 'workdir'):
    if name in FLAGS:
      FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])
  app.run(main)


def cache_compilations() -> None:
  """Keeps compiled programs between runs, unless the user chose a place."""
  if os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(home) / 'rnascl_jax'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
