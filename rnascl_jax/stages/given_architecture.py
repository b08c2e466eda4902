"""An architecture that was searched elsewhere: by a run on other images.

The paper searches on ImageNet-100 and trains on ImageNet (section 4.5). The
file is compared with the config before anything is computed, and its contents
copied into the run's own `architecture.json`.
"""

import hashlib
import pathlib
from typing import Any

from rnascl_jax.config import resolve, settings
from rnascl_jax.runtime import files, paths
from rnascl_jax.search import architecture, spaces
from rnascl_jax.search.architecture import Architecture

_REMEDY = 'Restore it from a copy, or name another one.'


def load(
  everything: settings.Settings, teacher_layers: tuple[str, ...]
) -> Architecture:
  """Reads the architecture that a config names.

  Args:
    everything: settings of a run, with `search.architecture`.
    teacher_layers: names of the layers of the run's teacher.

  Returns:
    The architecture.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no architecture, or of another space or teacher, or
      has no tutors for students that attend to some.
  """
  path = _place(everything.search.architecture)
  where = f"config.search.architecture='{path}'"
  if not path.is_file():
    raise FileNotFoundError(
      f'{where} is no file: name the architecture.json of the workdir of a '
      'search.'
    )
  saved = files.read_json(path, remedy=_REMEDY)
  try:
    found = architecture.from_dict(saved)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(f'{where} is not an architecture: {error}') from error
  spec = everything.space
  names = spaces.layer_names(found.space, blocks_only=spec.layers == 'block')
  if found.space != resolve.space(spec) or found.student_layers != names:
    raise ValueError(
      f'{where} was searched in another space than config.space, whose name is '
      f"'{spec.name}' and whose layers are '{spec.layers}': choose the space "
      'it was searched in.'
    )
  if found.teacher_layers != teacher_layers:
    raise ValueError(
      f'{where} names {len(found.teacher_layers)} teacher layers '
      f'{found.teacher_layers[:3]}..., but config.teacher.network has '
      f'{len(teacher_layers)}: {teacher_layers[:3]}.... Its tutors are layers '
      'of the teacher it was searched with: use that one.'
    )
  attending = [name for name, s in everything.students.items() if s.gamma > 0]
  if attending and not saved.get('tutors_searched', True):
    raise ValueError(
      f'{where} was searched without the attention loss and names no tutors, '
      f'but config.students.{attending[0]}.gamma is not 0: set it to 0, or '
      'take an architecture that was searched with config.search.gamma > 0.'
    )
  return found


def _place(path: str) -> pathlib.Path:
  return paths.local(path, 'config.search.architecture')


def about(path: str) -> dict[str, Any]:
  """What a run's own architecture.json says of the file that it took."""
  place = _place(path)
  content = place.read_bytes()
  return {
    'source': {
      'file': str(place.absolute()),
      'sha256': hashlib.sha256(content).hexdigest(),
    },
    'tutors_searched': files.read_json(place).get('tutors_searched', True),
  }
