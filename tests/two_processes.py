"""What `test_processes` starts: one of two processes on this machine, or `one`.

python -m tests.two_processes PORT PROCESS FOLDER first|second|one
"""

import os
import pathlib
import signal
import sys
import threading

import jax
import numpy as np

from rnascl_jax import stages
from rnascl_jax.config import resolve
from rnascl_jax.runtime import files, lock, parallel, processes, signals
from rnascl_jax.training import loop
from tests import tiny

# Steps of the second process in which it is told to stop and is killed; there
# are four in an epoch, and a checkpoint after each.
STOPPED, KILLED = 6, 9


def config():
  """A teacher; Free carries a perturbation for each image."""
  found = tiny.config()
  found.teacher.adversarial_training.name = 'free'
  found.teacher.adversarial_training.replays = 2
  found.teacher.optimization.checkpoint_every = 1
  # What 40 images leave of the last batch is filled up.
  found.evaluation.batch_size = 24
  found.evaluation.attacks = ('fgsm',)
  found.evaluation.auto_attack_models = ()
  found.evaluation.curve_images = 10
  found.devices = 0
  return found


def _signal_in_step(step: int, number: int) -> None:
  """Sends the second process a signal."""
  collect = _collect

  def collect_and_signal(record, *dispatch):
    before = record.step
    collect(record, *dispatch)
    if before < step <= record.step and not processes.is_main():
      os.kill(os.getpid(), number)

  loop._Record.collect = collect_and_signal


_collect = loop._Record.collect


def _say(folder: pathlib.Path, name: str, error: BaseException) -> None:
  place = folder / f'{name}-{jax.process_index()}.txt'
  place.write_text(f'{type(error).__name__}: {error}')


def _disagree(folder: pathlib.Path) -> None:
  """Starts with another seed in each process, and with a bad one in one."""
  for name, seeds in (('disagree', (0, 1)), ('invalid', (0, -1))):
    other = config()
    other.seed = seeds[jax.process_index()]
    try:
      tiny.opened(other, str(folder / name))
    except (ValueError, processes.OtherProcessError) as error:
      _say(folder, name, error)


def _held(folder: pathlib.Path) -> None:
  """A thread of the first process writes in the workdir."""
  place = folder / 'held'
  if processes.is_main():
    thread = threading.Thread(target=lock.take, args=(place,))
    thread.start()
    thread.join()
  try:
    stages.teacher(config(), str(place))
  except (lock.HeldError, processes.OtherProcessError) as error:
    _say(folder, 'held', error)


def _apart(folder: pathlib.Path) -> None:
  """Each process has a folder of its own, under the same name."""
  own = folder / f'apart-{jax.process_index()}'
  own.mkdir()
  os.chdir(own)
  processes.SECONDS_TO_APPEAR = 0.5
  try:
    tiny.opened(config(), 'run')
  except (ValueError, processes.OtherProcessError) as error:
    _say(folder, 'apart', error)


def _without_data(folder: pathlib.Path) -> None:
  """One process has no data, where all would look at a teacher next."""
  taught = config()
  taught.teacher.checkpoint = str(folder / 'whole' / 'teacher')
  dataset = resolve.dataset

  def missing(spec, _):
    raise FileNotFoundError('no data here')

  if not processes.is_main():
    resolve.dataset = missing
  try:
    tiny.opened(taught, str(folder / 'taught'))
  except (FileNotFoundError, processes.OtherProcessError) as error:
    _say(folder, 'data', error)
  resolve.dataset = dataset
  tiny.opened(taught, str(folder / 'taught'))


def _tell(folder: pathlib.Path) -> None:
  """What each process makes of arrays of its own and of all devices."""
  own, devices = jax.local_devices(), parallel.devices()
  numbers = np.arange(4) + 10 * jax.process_index()
  alone = parallel.fetch(parallel.put(numbers, own, split=True), own)
  every = parallel.fetch(
    parallel.put(np.arange(4), devices, split=True), devices
  )
  files.write_json(
    folder / f'told-{jax.process_index()}.json',
    {
      'alone': alone,
      'every': every,
      'from_main': processes.from_main({'main': processes.is_main()}),
      'texts': processes.texts(f'process {jax.process_index()}'),
    },
  )


def _first(folder: pathlib.Path) -> None:
  _tell(folder)
  _disagree(folder)
  _held(folder)
  stages.teacher(config(), str(folder / 'whole'))
  _without_data(folder)
  stages.evaluate(config(), str(folder / 'whole'))
  _signal_in_step(STOPPED, signal.SIGTERM)
  try:
    stages.teacher(config(), str(folder / 'stopped'))
  except signals.Interrupted as error:
    _say(folder, 'stopped', error)
  _apart(folder)
  _signal_in_step(KILLED, signal.SIGKILL)
  stages.teacher(config(), str(folder / 'killed'))


def _one(folder: pathlib.Path) -> None:
  """What the two do together, and the rest of what they were stopped in."""
  stages.teacher(config(), str(folder / 'one'))
  stages.evaluate(config(), str(folder / 'one'))
  stages.teacher(config(), str(folder / 'stopped'))


def main(port: str, process: str, folder: str, which: str) -> None:
  place = pathlib.Path(folder)
  if which == 'one':
    _one(place)
    return
  processes.connect(f'localhost:{port}', 2, int(process))
  if which == 'first':
    _first(place)
  else:
    stages.teacher(config(), str(place / 'killed'))


if __name__ == '__main__':
  jax.config.update('jax_compilation_cache_dir', os.path.abspath('.jax_cache'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
  main(*sys.argv[1:])
