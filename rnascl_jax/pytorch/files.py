"""Checkpoints of PyTorch and safetensors as NumPy arrays, read safely.

A `.pt` file is a pickle: Python code that makes objects, and may do anything
else. So there are three ways to read one, of which the first is the default:

| pickles  | what is read, and what runs                                      |
| -------- | ---------------------------------------------------------------- |
| `safe`   | tensors and plain containers; a file with more is refused        |
| `inert`  | the same, and every other object becomes a placeholder that does |
|          | nothing: only what makes tensors and containers is called        |
| `unsafe` | whatever the file says, as the user who runs the command         |

`inert` reads what older libraries left in their checkpoints beside the weights,
such as the arguments and schedules of MadryLab's `robustness` (which pickles
with dill). `unsafe` is for files that hold a whole `torch.nn.Module` of a class
that is installed.

Safetensors need no PyTorch; a file is recognised by its content, whatever its
name.
"""

import codecs
import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from rnascl_jax.pytorch import pickles
from rnascl_jax.runtime import paths

_ZIP, _PICKLE = b'PK\x03\x04', b'\x80'
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
    ImportError: it takes PyTorch to read it, which is not installed.
  """
  place = paths.local(path, 'file')
  if not place.is_file():
    what = 'is a folder' if place.is_dir() else 'does not exist'
    raise FileNotFoundError(f'{place} {what}: name a checkpoint file.')
  with open(place, 'rb') as file:
    head = file.read(4096)
    file.seek(0)
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  _check_head(place, head)
  if _is_safetensors(head):
    arrays, metadata = _read_safetensors(place)
    return Checkpoint(place, digest, arrays, metadata, '')
  if not head.startswith((_ZIP, _PICKLE)):
    raise ValueError(
      f'{place} begins with {head[:8]!r}: neither a file of torch.save nor '
      'safetensors. Was it unpacked, or downloaded, incompletely?'
    )
  loaded = pickles.load(place, pickled)
  found, tensors = find_state_dict(loaded, place, entry)
  arrays = {key: pickles.to_numpy(key, x) for key, x in tensors.items()}
  beside = loaded.get('metadata') if isinstance(loaded, Mapping) else None
  metadata = dict(beside) if isinstance(beside, Mapping) else {}
  return Checkpoint(place, digest, arrays, metadata, found)


def _check_head(path: pathlib.Path, head: bytes) -> None:
  """Raises for what downloads leave in place of a checkpoint."""
  text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
  if not head:
    raise ValueError(f'{path} is empty: download it again.')
  if text.startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
    drive = b'google' in text or b'drive' in text
    raise ValueError(
      f'{path} is a web page, not a checkpoint'
      + (' (Google Drive asks before it gives large files)' if drive else '')
      + ': open the link in a browser and save the file itself, or for Google '
      'Drive use "pip install gdown; gdown FILE_ID".'
    )
  if text.startswith(b'version https://git-lfs'):
    raise ValueError(
      f'{path} is a pointer of Git LFS, not the file: run "git lfs pull".'
    )


def _is_safetensors(head: bytes) -> bool:
  """Whether a file begins with the length of a JSON header and the header."""
  if len(head) < 9:
    return False
  (length,) = struct.unpack('<Q', head[:8])
  return length <= _MOST_HEADER and head[8:9] == b'{'


def _read_safetensors(
  path: pathlib.Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  import safetensors

  content = path.read_bytes()
  try:
    entries = safetensors.deserialize(content)
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'{path} is not a complete safetensors file ({error}): download it again.'
    ) from error
  (length,) = struct.unpack('<Q', content[:8])
  header = json.loads(content[8 : 8 + length])
  arrays = {name: _array(name, entry, path) for name, entry in entries}
  metadata = header.get('__metadata__', {})
  return arrays, {name: _decoded(text) for name, text in metadata.items()}


def _decoded(text: str) -> Any:
  """The value of a JSON text; the text itself if it is none."""
  try:
    return json.loads(text)
  except ValueError:
    return text


def _array(
  name: str, entry: Mapping[str, Any], path: pathlib.Path
) -> np.ndarray:
  """An entry of a safetensors file; a floating one in float32."""
  kind = _SAFETENSORS_TYPES.get(entry['dtype'])
  if kind is None:
    raise ValueError(
      f'{name} in {path} is of type {entry["dtype"]}; read are '
      f'{", ".join(_SAFETENSORS_TYPES)}.'
    )
  array = np.frombuffer(entry['data'], kind).reshape(entry['shape'])
  whole = np.issubdtype(array.dtype, np.integer) or array.dtype == bool
  return array if whole else array.astype(np.float32)


def find_state_dict(
  loaded: Any, path: pathlib.Path, entry: str = ''
) -> tuple[str, Mapping[str, Any]]:
  """Finds the state dict in what was loaded.

  Args:
    loaded: the object that a file holds.
    path: of the file, for messages.
    entry: name of the entry that has it; empty to look.

  Returns:
    The entry's name, '' for the object itself, and the state dict.

  Raises:
    ValueError: there is none, or several, or it holds what is no tensor.
  """
  entries = loaded if isinstance(loaded, Mapping) else {}
  if entry and entry not in entries:
    raise ValueError(f'{path} has no entry {entry!r}; it has {_names(loaded)}.')
  # In a state dict itself no entry is one.
  found = [name for name, value in entries.items() if _as_tensors(value)]
  if not entry and len(found) > 1:
    raise ValueError(
      f'{path} has several state dicts: {", ".join(map(repr, found))}. Choose '
      'one with --entry.'
    )
  chosen = entry or (str(found[0]) if found else '')
  state = loaded[chosen] if chosen else loaded
  tensors = _as_tensors(state)
  if not tensors:
    where = f'the entry {entry!r} of ' if entry else ''
    raise ValueError(
      f'{where}{path} holds {_names(state)} and no state dict (tensors by '
      'name). Save model.state_dict(), or a dict with it under "state_dict".'
    )
  _check_all_tensors(state, tensors, path)
  return chosen, tensors


def _as_tensors(value: Any) -> dict[str, Any]:
  """The tensors by name, if that is what it is; else empty."""
  if hasattr(value, 'state_dict'):  # A module, if it was read unsafely.
    value = value.state_dict()
  if not isinstance(value, Mapping):
    return {}
  tensors = {
    key: item
    for key, item in value.items()
    if isinstance(key, str) and hasattr(item, 'numel')
  }
  # Weights are arrays with axes; a dict of a few numbers is a log.
  return tensors if any(item.ndim for item in tensors.values()) else {}


def _check_all_tensors(
  state: Any, tensors: Mapping[str, Any], path: pathlib.Path
) -> None:
  """Raises for parts of a state dict that would be lost."""
  if not isinstance(state, Mapping):  # A module.
    return
  lost = [
    str(key)
    for key, value in state.items()
    if key not in tensors and not (value is None or _is_extra(key))
  ]
  if lost:
    raise ValueError(
      f'{path} has, among its weights, {", ".join(lost[:4])}, which can not be '
      'read as tensors: save the state dict with tensors alone.'
    )


def _is_extra(key: Any) -> bool:
  """Whether a key is of what a PyTorch module keeps beside its weights."""
  return str(key).endswith('_extra_state')


def _names(loaded: Any) -> str:
  """What an object is, for messages."""
  if not isinstance(loaded, Mapping) or not loaded:
    return f'a {type(loaded).__name__}'
  names = [repr(name) for name in loaded]
  more = f', ... ({len(names)} in all)' if len(names) > 8 else ''
  return f'entries {", ".join(names[:8])}{more}'
