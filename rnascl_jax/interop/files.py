"""Checkpoints of PyTorch and safetensors as NumPy arrays, read safely.

A `.pt` file is a pickle: Python code that makes objects, and may do anything
else. So there are three ways to read one, of which the first is the default:

| pickles  | what is read, and what runs                                      |
| -------- | ---------------------------------------------------------------- |
| `safe`   | tensors and plain containers; a file with more is refused        |
| `inert`  | the same, and every other object becomes a placeholder that does |
|          | nothing                                                          |
| `unsafe` | whatever the file says, as the user who runs the command         |

Neither `safe` nor `inert` runs or imports anything that a file names: both read
it by `archive` and `unpickler`, and need no PyTorch, nor do safetensors.
`inert` reads what older libraries left in their checkpoints beside the weights,
such as the arguments and schedules of MadryLab's `robustness` (which pickles
with dill). `unsafe` is for files that hold a whole `torch.nn.Module` of a class
that is installed.

A file is recognised by its content, whatever its name.
"""

import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from rnascl_jax.interop import downloads, makers, pickles, state_dicts, tensors
from rnascl_jax.runtime import paths

_SAFETENSORS_TYPES = {
  'F64': np.float64,
  'F32': np.float32,
  'F16': np.float16,
  'BF16': ml_dtypes.bfloat16,
  'I64': np.int64,
  'I32': np.int32,
  'I16': np.int16,
  'I8': np.int8,
  'U8': np.uint8,
  'BOOL': np.bool_,
}
# A longer header of a safetensors file is not one.
_MOST_HEADER = 100_000_000


class Checkpoint(NamedTuple):
  """What a file holds.

  Attributes:
    path: of the file.
    sha256: of its bytes, hexadecimal.
    arrays: by their names in the state dict; floating ones as float32.
    metadata: what else a safetensors file says, or the entry 'metadata' of a
      pickle, see `export`; empty if there is none.
    entry: where in the file the state dict was found, '' for the file itself.
  """

  path: pathlib.Path
  sha256: str
  arrays: dict[str, np.ndarray]
  metadata: dict[str, Any]
  entry: str


def read(
  path: str | os.PathLike[str], *, pickled: str = 'safe', entry: str = ''
) -> Checkpoint:
  """Reads the state dict in a file.

  Args:
    path: of the file.
    pickled: how a pickle is read: 'safe', 'inert' or 'unsafe', see the module.
    entry: name of the entry with the state dict; empty to find it.

  Returns:
    The arrays and where they are from.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no checkpoint, is damaged, holds code that `pickled` does
      not allow, or has no state dict, or several.
    ImportError: it takes PyTorch to read it unsafely, or another library, which
      is not installed.
  """
  place = paths.local(path, 'file')
  if not place.is_file():
    what = 'is a folder' if place.is_dir() else 'does not exist'
    raise FileNotFoundError(f'{place} {what}: name a checkpoint file.')
  content = place.read_bytes()
  if _is_safetensors(content):
    name, arrays, metadata = '', *_read_safetensors(place, content)
  else:
    downloads.check(place, content)
    loaded = _plain(pickles.load(place, content, pickled))
    name, state = _find_state_dict(loaded, place, entry)
    try:
      tensors.check_total(state.values(), len(content))
      arrays = {key: tensors.to_numpy(key, x) for key, x in state.items()}
    except ValueError as error:
      raise ValueError(f'{place} can not be read: {error}') from error
    beside = loaded.get('metadata') if isinstance(loaded, Mapping) else None
    metadata = dict(beside) if isinstance(beside, Mapping) else {}
  _check_digest(place, arrays, metadata)
  digest = hashlib.sha256(content).hexdigest()
  return Checkpoint(place, digest, arrays, metadata, name)


def _check_digest(
  path: pathlib.Path, arrays: dict[str, np.ndarray], metadata: dict[str, Any]
) -> None:
  """Takes the digest that `export` saved out of the metadata, and compares."""
  if (expected := metadata.pop('sha256', None)) is None:
    return
  try:
    digest = state_dicts.digest(arrays, metadata)
  except (TypeError, ValueError, RecursionError):  # It is no JSON.
    digest = ''
  if expected != digest:
    raise ValueError(
      f'{path} is damaged: its SHA-256 is not the one that was saved in it. '
      'Restore it from a copy, or export the model again.'
    )


def _is_safetensors(content: bytes) -> bool:
  """Whether a file begins with the length of a JSON header and the header."""
  length = int.from_bytes(content[:8], 'little')
  return length <= _MOST_HEADER and content[8:9] == b'{'


def _read_safetensors(
  path: pathlib.Path, content: bytes
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  try:
    entries = safetensors.deserialize(content)
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'{path} is not a complete safetensors file ({error}): download it again.'
    ) from error
  header = json.loads(content[8 : 8 + int.from_bytes(content[:8], 'little')])
  arrays = {}
  for name, entry in entries:
    kind = _SAFETENSORS_TYPES.get(entry['dtype'])
    if kind is None:
      raise ValueError(
        f'{name} in {path} is of type {entry["dtype"]}; read are '
        f'{", ".join(_SAFETENSORS_TYPES)}.'
      )
    array = np.frombuffer(entry['data'], kind).reshape(entry['shape'])
    arrays[name] = tensors.in_float32(array)
  metadata = header.get('__metadata__', {})
  return arrays, {name: _decoded(text) for name, text in metadata.items()}


def _decoded(text: str) -> Any:
  """The value of a JSON text; the text itself if it is none."""
  try:
    return json.loads(text)
  except ValueError:
    return text


def _find_state_dict(
  loaded: Any, path: pathlib.Path, entry: str
) -> tuple[str, dict[str, Any]]:
  """Finds the state dict in what was loaded.

  Args:
    loaded: the object that a file holds.
    path: of the file, for messages.
    entry: name of the entry that has it; empty to look.

  Returns:
    The entry's name, '' for the object itself, and the tensors by name.

  Raises:
    ValueError: there is none, or several, or it holds what is no tensor.
  """
  items = loaded.items() if isinstance(loaded, Mapping) else ()
  entries = {str(name): _plain(value) for name, value in items}
  if entry and entry not in entries:
    raise ValueError(f'{path} has no entry {entry!r}; it has {_kind(loaded)}.')
  # In a state dict itself no entry is one.
  are_states = _are_state_dicts(entries.values())
  states = list(itertools.compress(entries, are_states))
  if not entry and len(states) > 1:
    raise ValueError(
      f'{path} has several state dicts: {_names(states)}. Choose one with '
      '--entry.'
    )
  name = entry or (states[0] if states else '')
  state = entries[name] if name else loaded
  state_dict = _tensors(state)
  if not state_dict:
    where = f'the entry {entry!r} of ' if entry else ''
    raise ValueError(
      f'{where}{path} holds {_kind(state)} and no state dict (tensors by '
      f'name).{_advice(state, entries)}'
    )
  lost = [
    str(key)
    # A module, which was read unsafely, has given all that it has.
    for key, value in (state.items() if isinstance(state, Mapping) else ())
    # What a module of PyTorch keeps beside its weights may be anything.
    if not (key in state_dict or value is None or _is_extra(key))
  ]
  if lost:
    raise ValueError(
      f'{path} has, among its weights, {", ".join(lost[:4])}, which can not be '
      'read as tensors: save the state dict with tensors alone.'
    )
  for text in (name, *state_dict):
    if not text.isprintable():
      raise ValueError(f'{path} has a name that is not printed: {text!r}.')
  return name, state_dict


def _plain(value: Any) -> Any:
  """A value, or what a placeholder of a class of dicts holds."""
  is_dict = isinstance(value, makers.Placeholder) and value.items
  return value.items if is_dict else value


def _are_state_dicts(values: Collection[Any]) -> list[bool]:
  """Whether each is a state dict; an object is looked at once."""
  objects = {id(value): value for value in values}
  known = {key: bool(_tensors(value)) for key, value in objects.items()}
  return [known[id(value)] for value in values]


def _tensors(value: Any) -> dict[str, Any]:
  """The tensors by name, if that is what it is; else empty."""
  if hasattr(value, 'state_dict'):  # A module, if it was read unsafely.
    value = value.state_dict()
  if not isinstance(value, Mapping):
    return {}
  named = {
    key: item
    for key, item in value.items()
    if isinstance(key, str)
    and (isinstance(item, tensors.Tensor) or hasattr(item, 'numel'))
  }
  # Weights are arrays with axes; a dict of a few numbers is a log.
  return named if any(item.ndim for item in named.values()) else {}


def _is_extra(key: Any) -> bool:
  """Whether a key is of what a PyTorch module keeps beside its weights."""
  return str(key).endswith('_extra_state')


def _kind(value: Any) -> str:
  """What an object is, for messages."""
  if isinstance(value, makers.Placeholder):
    what = 'a whole module' if value.is_module else 'an object'
    return f'{what} of {pickles.listed([value.path])}'
  if isinstance(value, list | tuple) and any(_are_state_dicts(value)):
    return f'a {type(value).__name__} of {len(value)} state dicts'
  if not isinstance(value, Mapping) or not value:
    return f'a {type(value).__name__}'
  return f'entries {_names(list(value))}'


def _names(names: Sequence[Any]) -> str:
  more = f', ... ({len(names)} in all)' if len(names) > 8 else ''
  return ', '.join(map(repr, names[:8])) + more


def _advice(state: Any, entries: Mapping[str, Any]) -> str:
  """What to do about a file without a state dict."""
  if isinstance(state, list | tuple) and any(_are_state_dicts(state)):
    return ' Save one of them: torch.save(them[0], path).'
  for value in (state, *entries.values()):
    if isinstance(value, makers.Placeholder) and value.is_module:
      return (
        f' Of {_kind(value)} no weights are read, as its class may be anything:'
        ' where that is installed, save model.state_dict(), or read the file '
        'with --pickles=unsafe if you trust its author.'
      )
  return ' Save model.state_dict(), or a dict with it under "state_dict".'
