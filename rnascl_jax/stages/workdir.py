"""The folder of a run: its config, its provenance, and which stages are done.

A stage that is complete is not run again. A folder belongs to one config: a
different one is refused, with the fields that differ, because results of two
settings would be mixed up. Fields that change no result of an earlier stage may
change: the attacks of the evaluation, the number of devices, where data lie,
and trainings on attacks that have not begun.
"""

import contextlib
import dataclasses
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any

from rnascl_jax.config.settings import (
  AdversarialTraining,
  Data,
  FineTuning,
  NetworkShape,
  Optimization,
  Pruning,
  SearchSettings,
  Settings,
  Space,
)
from rnascl_jax.runtime import (
  commands,
  disk,
  files,
  lock,
  processes,
  provenance,
)

# Fields that do not change what earlier stages computed.
_FREE = (
  *('evaluation', 'devices'),
  *('data.data_dir', 'data.workers', 'data.memory_limit'),
  'search.cost_device',
)
# Sections that have more fields than in earlier versions.
_EXTENDED: dict[str, type] = {
  '.adversarial_training.': AdversarialTraining,
  '.network.': NetworkShape,
  '.optimization.': Optimization,
}

_UNKNOWN = (
  'Restore it from a copy; or, if you are sure that the run is of this config, '
  'delete it.'
)


class MissingStageError(FileNotFoundError):
  """A stage needs another one that is not complete."""


def check_run(folder: pathlib.Path) -> None:
  """Raises MissingStageError unless a folder is the workdir of a run."""
  if not processes.from_main((folder / 'config.json').exists()):
    raise MissingStageError(
      f'{folder} is not the workdir of a run, which '
      f'{commands.usage("pipeline")} begins.'
    )


@contextlib.contextmanager
def open_workdir(folder: pathlib.Path, settings: Settings) -> Iterator[None]:
  """Makes the folder of a run, or checks that it is of the same config.

  Until the end nobody else can write there; of several processes the main one
  has the lock.

  Args:
    folder: an absolute path.
    settings: of the run.

  Raises:
    ValueError: if the folder is of another config; it lists the differences.
      Or if it was made by a version with another format.
      Or if some process does not see what the main process writes.
    DamagedFileError: if config.json or provenance.json is damaged.
    HeldError: if it has a writer already, on the main process.
    OtherProcessError: in this case, on the others.
    DiskError: if it cannot be written to, or is deleted later on.
  """
  processes.together(compare, folder, settings)
  with contextlib.ExitStack() as held:
    processes.on_main(_take, folder, settings, held)
    _check_shared(folder)
    try:
      yield
    except Exception as error:
      # Where the folder was deleted, nothing else needs to be said.
      lock.check(folder)
      disk.explain(error, folder, numbers=disk.OF_WRITING)
      raise


def _take(
  folder: pathlib.Path, settings: Settings, held: contextlib.ExitStack
) -> None:
  """Becomes the only writer of a folder, and tidies it."""
  held.enter_context(lock.hold(folder))
  # Another run may have begun there in the meantime.
  compare(folder, settings)
  lock.remove_temporary(folder)
  files.write_config(folder, dataclasses.asdict(settings))


def compare(folder: pathlib.Path, settings: Settings) -> None:
  """Raises if a folder is of another config, or does not say of which.

  Raises:
    ValueError: see `open_workdir`.
    DamagedFileError: likewise.
  """
  _provenance(folder)
  if not (folder / 'config.json').exists():
    return
  config = dataclasses.asdict(settings)
  now = flat(config)
  # Fields that are newer than the run have their defaults.
  before = flat(
    {'data': dataclasses.asdict(Data()), 'space': dataclasses.asdict(Space())}
  )
  search = SearchSettings()
  costs = ('cost', 'cost_batch', 'cost_device')
  before |= {f'search.{name}': getattr(search, name) for name in costs}
  for name in now:
    for mark, section in _EXTENDED.items():
      place, found, _ = name.partition(mark)
      if found:
        before |= flat(dataclasses.asdict(section()), f'{place}{mark}')
  before |= flat(dataclasses.asdict(Pruning()), 'adversarial.pruning.')
  for name in settings.adversarial.students:
    for field in ('prune', 'sparsity'):
      before[f'adversarial.students.{name}.{field}'] = getattr(
        FineTuning(), field
      )
  before |= flat(files.read_config(folder, remedy=_UNKNOWN))
  differences = [
    f'{name}: {before.get(name)!r} there, {now.get(name)!r} here'
    for name in sorted(before | now)
    if before.get(name) != now.get(name) and not _may_change(folder, name)
  ]
  if differences:
    raise ValueError(
      f'{folder} holds a run of another config ('
      + '; '.join(differences[:8])
      + '). Use another --workdir, or the same config.'
    )


def _check_shared(folder: pathlib.Path) -> None:
  """Raises unless all processes see what the main process writes."""
  if processes.count() == 1:
    return
  token = folder / f'.seen.{processes.from_main(secrets.token_hex(4))}.tmp'
  processes.on_main(token.touch)
  try:
    processes.together(processes.wait_for, token)
  finally:
    processes.on_main(token.unlink, missing_ok=True)


def _may_change(folder: pathlib.Path, name: str) -> bool:
  """Whether nothing that was computed depends on a field."""
  first, *rest = name.split('.')
  if first != 'adversarial':
    return name.startswith(_FREE)
  stage = folder / first
  if rest[0] == 'students':
    stage /= rest[1]
  if rest[0] == 'pruning':
    return not any(stage.glob('*/pruning'))
  return not stage.exists()


def flat(fields: Any, prefix: str = '') -> dict[str, Any]:
  """Nested fields under dotted names, tuples and lists alike."""
  if isinstance(fields, dict):
    nested = [flat(v, f'{prefix}{k}.') for k, v in fields.items()]
    return {name: value for part in nested for name, value in part.items()}
  if isinstance(fields, tuple | list):
    fields = [flat(v)[''] for v in fields]
  return {prefix[:-1]: fields}


def is_done(stage: pathlib.Path) -> bool:
  """Whether a stage was completed; all processes are told the same."""
  return processes.from_main((stage / 'stage.json').exists())


def finish(stage: pathlib.Path, summary: dict[str, Any]) -> None:
  """Marks a stage as complete and keeps its summary."""
  processes.on_main(files.write_json, stage / 'stage.json', summary)


def summary(stage: pathlib.Path) -> dict[str, Any]:
  """What `finish` kept.

  Raises:
    MissingStageError: if the stage is not complete; it says what to run.
    DamagedFileError: if it is, and the file is damaged.
  """
  if not is_done(stage):
    raise MissingStageError(
      f'{stage} is not complete. Run {commands.usage(_command_of(stage))} '
      f'first, or all stages with {commands.usage("pipeline")}.'
    )
  content: dict[str, Any] = {}

  def read() -> None:
    content.update(files.read_json(stage / 'stage.json', 'seconds'))

  processes.on_main(read)
  return files.from_json(processes.from_main(files.to_json(content)))


def _command_of(stage: pathlib.Path) -> str:
  """The command that completes a stage, by its folder."""
  if stage.name in ('teacher', 'vulnerable_teacher'):
    return 'teacher'
  if stage.name == 'pruning':
    return 'adversarial'
  return 'search' if stage.name == 'search' else stage.parent.name


def record(
  folder: pathlib.Path, seed: int, devices: int, stage: str, seconds: float
) -> None:
  """Adds a stage to provenance.json: what ran where, and how long.

  Every stage keeps a record of its own under `stages`, as stages of one run may
  be computed on different machines; the rest is that of the latest.
  """
  processes.on_main(_record, folder, seed, devices, stage, seconds)


def _record(
  folder: pathlib.Path, seed: int, devices: int, stage: str, seconds: float
) -> None:
  path, before = folder / 'provenance.json', _provenance(folder)
  now = provenance.describe(devices) | {'processes': processes.count()}
  files.write_json(
    path,
    {
      **now,
      'seed': seed,
      'seconds': {**before['seconds'], stage: round(seconds, 2)},
      'stages': {**before['stages'], stage: now},
    },
  )


def _provenance(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
  """What was recorded of each stage; empty if nothing was."""
  path = folder / 'provenance.json'
  saved = files.read_json(path) if path.exists() else {}
  with files.naming(path):
    return {name: {**saved.get(name, {})} for name in ('seconds', 'stages')}
