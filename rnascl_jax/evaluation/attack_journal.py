"""A folder in which an attack keeps what it has finished.

A run that was killed and goes on reads its journal and does not attack again
what is in it. What is finished goes into parts, small files that are there
whole or not at all:

  identity.json     of which evaluation the journal is
  logits.npz        of the images without an attack
  part-000000.npz   what was finished, in this order
  part-000001.npz   ...

Parts are written when something is finished and the last one is older than
`SECONDS_BETWEEN_PARTS`, so a kill costs no more than these seconds of finished
work; an exception or a signal that ends the `with` statement costs none. What
was under way is not kept: a batch, or a trial of AutoAttack (for Square up to
5,000 queries of each image at work), is begun again.

The journal of another evaluation is refused, with what differs: what an attack
says of itself, of its images and of the classifier (see `identity`), and the
logits of the images without an attack.

Example:
  >>> import tempfile
  >>> import numpy as np
  >>> from rnascl_jax.attacks.attack_log import Finished
  >>> from rnascl_jax.evaluation.attack_journal import AttackJournal
  >>> folder, logits = tempfile.mkdtemp(), np.eye(3)
  >>> finished = Finished(
  ...   rows=np.array([2]), trials=np.array([0]), steps=np.array([7]),
  ...   fooled=np.array([False]), images=np.zeros((0, 8, 8, 1)))
  >>> with AttackJournal(folder) as journal:
  ...   journal.start({'epsilon': .1}, logits)
  ...   journal.append('square', finished, 1.5)
  []
  >>> entries = AttackJournal(folder).start({'epsilon': .1}, logits)
  >>> for member, finished, seconds in entries:
  ...   print(member, finished.rows, finished.steps, seconds)
  square [2] [7] 1.5
"""

import contextlib
import math
import os
import pathlib
import reprlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging

from rnascl_jax.attacks.attack_log import Finished
from rnascl_jax.runtime import files, fingerprints, lock, paths, processes
from rnascl_jax.runtime.signals import Interrupted, Stop

SECONDS_BETWEEN_PARTS = 5.0
# Of what attacks say of themselves, see `fingerprints`.
_FORMAT = 2
# Logits of the same network, on other devices or in other batches, differ by
# rounding: by less than this share of the largest one in float32.
_ROUNDING = 1e-3

# Member of an ensemble, what it finished, and how many seconds it took.
Entry = tuple[str, Finished, float]


class AttackJournal(contextlib.AbstractContextManager):
  """What one evaluation has finished, for `attacks.auto_attack` and others.

  Within a `with` statement entries are gathered for a few seconds, and no other
  run can write there; outside of one each is written at once. Where a run has
  several processes, all have the same entries and the main one writes them.
  """

  def __init__(
    self,
    folder: files.Path,
    identity: Mapping[str, Any] | None = None,
    *,
    stop: Stop | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Names the folder; nothing is read or written before `start`.

    Args:
      folder: of this evaluation alone; created if missing.
      identity: what the result depends on, as JSON, beyond what the attack
        itself gives to `start`: for example which network this is.
      stop: whether the run is to stop, after an entry.
      clock: seconds; for tests.
    """
    self._folder = paths.local(folder, 'journal')
    self._identity = dict(identity or {})
    self._stop, self._clock, self._written = stop, clock, -math.inf
    self._gathers, self._number = False, -1
    self._waiting: list[Entry] = []
    self._held = contextlib.ExitStack()

  def start(
    self, identity: Mapping[str, Any], logits: np.ndarray
  ) -> list[Entry]:
    """Opens the journal of an evaluation, or begins one.

    Args:
      identity: what the result depends on, as JSON.
      logits: [N, K] of the images without an attack.

    Returns:
      What earlier runs appended, in this order. A part that is broken is not
      among it.

    Raises:
      DamagedFileError: if it does not say of which evaluation it is.
      ValueError: if it is the journal of another evaluation: its identity is
        another one, or its logits differ by more than 0.001 of the largest one.
        The message says in what, and how to start afresh.
    """
    about = files.to_json({'format': _FORMAT, **identity, **self._identity})
    entries: list[Entry] = []

    def begin() -> None:
      entries.extend(self._begin(about, np.asarray(logits)))

    def elsewhere() -> None:
      if not processes.is_main():
        processes.wait_for(self._folder / 'identity.json')
        begin()

    # The others find what the main process begins.
    processes.on_main(begin)
    processes.together(elsewhere)
    if processes.count() > 1:
      digest = fingerprints.digest([finished for _, finished, _ in entries])
      processes.check_agreement('journal', f'entries={digest}')
    return entries

  def _begin(self, about: dict[str, Any], logits: np.ndarray) -> list[Entry]:
    if self._parts() or (self._folder / 'identity.json').exists():
      self._check(about, logits)
    else:
      with files.replacing(self._folder / 'logits.npz') as file:
        np.savez(file, logits=logits)
      files.write_json(self._folder / 'identity.json', about)
    self._number = 1 + max([-1, *map(_number, self._parts())])
    return [entry for part in self._parts() for entry in _read(part)]

  def append(self, member: str, finished: Finished, seconds: float) -> None:
    """Keeps what a member of an ensemble, or an attack, has finished.

    Args:
      member: its name.
      finished: the trials; if there is none, nothing is kept.
      seconds: that they took.

    Raises:
      Interrupted: if the run is to stop; what was appended is written.
    """
    if self._number < 0:
      raise ValueError('start(...) must be called before append(...).')
    if len(finished.rows):
      processes.on_main(self._keep, (member, finished, seconds))
    if self._stop is not None and processes.any_true(
      self._stop.signum is not None
    ):
      self.flush()
      raise stopped(self._stop)

  def _keep(self, entry: Entry) -> None:
    self._waiting.append(entry)
    age = self._clock() - self._written
    if not self._gathers or age >= SECONDS_BETWEEN_PARTS:
      self.flush()

  def flush(self) -> None:
    """Writes what has been gathered."""
    if not self._waiting:
      return
    # Interrupted after it was written, a part is written again with the same
    # number and entries, and perhaps more.
    with files.replacing(self._folder / f'part-{self._number:06}.npz') as file:
      np.savez(file, **_arrays(self._waiting))
    self._number, self._waiting = self._number + 1, []
    self._written = self._clock()

  def __enter__(self) -> 'AttackJournal':
    if processes.is_main():
      self._held.enter_context(lock.hold(self._folder))
    self._gathers = True
    return self

  def __exit__(self, *error: object) -> None:
    with self._held:
      self._gathers = False
      self.flush()

  def _parts(self) -> list[pathlib.Path]:
    return sorted(self._folder.glob('part-*.npz'), key=_number)

  def _check(self, identity: dict[str, Any], logits: np.ndarray) -> None:
    """Raises unless the journal is of this evaluation."""
    remedy = f'Delete the journal {self._folder} to start afresh.'
    for name in ('identity.json', 'logits.npz'):
      if not (self._folder / name).exists():
        raise files.damaged(self._folder / name, 'it is missing', remedy)
    before = files.read_json(self._folder / 'identity.json', remedy=remedy)
    known = files.read_npz(
      self._folder / 'logits.npz', 'logits', remedy=remedy
    )['logits']
    different = [
      *_differences('', before, identity),
      *_distance(known, logits),
    ]
    if different:
      raise ValueError(
        f'{self._folder} is the journal of another evaluation ('
        + '; '.join(different[:8])
        + '). Delete the folder to start afresh, or choose another one.'
      )


def stopped(stop: Stop) -> Interrupted:
  """The exception of a run that was stopped and has saved what it finished."""
  logging.warning(
    'The evaluation was stopped; what it finished is saved and the same '
    'command goes on.'
  )
  # Another process may be the one that was asked.
  return Interrupted(128 + (stop.signum or signal.SIGTERM))


def _number(part: os.PathLike[str]) -> int:
  return int(pathlib.Path(part).stem.removeprefix('part-'))


def _arrays(entries: list[Entry]) -> dict[str, Any]:
  """Entries as named arrays."""
  arrays = {
    'members': np.array([member for member, _, _ in entries]),
    'seconds': np.array([seconds for _, _, seconds in entries]),
  }
  for index, (_, finished, _) in enumerate(entries):
    for field, array in finished._asdict().items():
      arrays[f'{field}/{index}'] = np.asarray(array)
  return arrays


def _read(part: pathlib.Path) -> list[Entry]:
  """The entries of a part; none if it is broken, and a warning."""
  try:
    arrays = files.read_npz(part, remedy='Its attacks are begun again.')
    with files.naming(part, 'Its attacks are begun again.'):
      return [
        (
          str(member),
          Finished(*(arrays[f'{name}/{index}'] for name in Finished._fields)),
          float(arrays['seconds'][index]),
        )
        for index, member in enumerate(arrays['members'])
      ]
  except files.DamagedFileError as error:
    logging.warning('%s', error)
    return []


def _differences(where: str, there: Any, here: Any) -> Iterator[str]:
  """Fields in which two nested values differ, with both values."""
  if isinstance(there, dict) and isinstance(here, dict):
    for name in sorted(there.keys() | here.keys()):
      inner = f'{where}.{name}' if where else name
      yield from _differences(inner, there.get(name), here.get(name))
  elif there != here:
    yield f'{where}: {reprlib.repr(there)} there, {reprlib.repr(here)} here'


def _distance(there: np.ndarray, here: np.ndarray) -> Iterator[str]:
  """Says by how much logits differ, if by more than rounding."""
  if there.shape != here.shape:
    yield f'shape of the logits: {there.shape} there, {here.shape} here'
    return
  allowed = _ROUNDING * np.abs(there[np.isfinite(there)]).max(initial=0)
  apart = ~np.isclose(here, there, rtol=0, atol=allowed, equal_nan=True)
  if apart.any():
    count = int(apart.any(axis=-1).sum())
    yield f'logits of {count} of {len(here)} images without an attack'
