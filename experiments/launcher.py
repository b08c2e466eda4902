"""What all commands share: flags, logging, a cache of compiled programs."""

import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

FLAGS = flags.FLAGS


def define_flags(default_config: str = 'configs/digits.py') -> None:
  """Defines --config and --workdir."""
  config_flags.DEFINE_config_file(
    'config',
    default_config,
    'Config file; fields can be changed: --config.seed=1. An argument follows '
    'a colon: --config=configs/cifar10.py:space=s5,smoke.',
  )
  flags.DEFINE_string(
    'workdir', None, 'Folder of the run; an interrupted run goes on there.'
  )
  flags.mark_flag_as_required('workdir')


def launch(command: Callable[[Any, str], Any]) -> None:
  """Runs a command on the flags' config and workdir.

  Args:
    command: (config, workdir) -> text to print, or anything else. A
      `ValueError` or `FileNotFoundError` is shown as a message, without a
      traceback: it is the user's to mend.
  """

  def main(argv: list[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f'Unexpected arguments: {argv[1:]}.')
    cache_compilations()
    try:
      result = command(FLAGS.config, FLAGS.workdir)
    except (ValueError, FileNotFoundError) as error:
      if logging.vlog_is_on(1):
        raise
      sys.exit(f'error: {error}')
    if isinstance(result, str):
      print(result)

  # absl hides what is logged before flags are parsed; people want to see it.
  logging.set_verbosity(logging.INFO)
  app.run(main)


def cache_compilations() -> None:
  """Keeps compiled programs between runs, unless the user chose a place."""
  if os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(home) / 'rnascl_jax'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
