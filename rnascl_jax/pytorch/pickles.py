"""Reads files of `torch.save` in one of three ways, see `files`."""

import io
import pathlib
import pickle
import re
import types
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

WAYS = ('safe', 'inert', 'unsafe')
# What is taken from installed libraries where all else becomes placeholders:
# functions and classes that put arrays together and do nothing else.
_HARMLESS = {
  ('collections', 'OrderedDict'),
  ('collections', 'defaultdict'),
  ('torch', 'Size'),
  ('torch._utils', '_rebuild_parameter'),
  ('torch._utils', '_rebuild_tensor'),
  ('torch._utils', '_rebuild_tensor_v2'),
}
_TORCH_TYPE = re.compile(
  r'\w*Storage|b?float\d*|double|half|u?int\d+|bool|long'
)
# PyTorch's two messages about an object that is not allowed.
_UNKNOWN = re.compile(
  r'(?:Unsupported global: GLOBAL|unsupported GLOBAL) ([\w.]*\w)(?= was| whose)'
)


class Placeholder(dict):
  """Stands for an object that is not read; takes all that unpickling does."""

  def __new__(cls, *args: Any, **fields: Any) -> 'Placeholder':
    return super().__new__(cls)

  def __init__(self, *args: Any, **fields: Any):
    super().__init__()

  def __call__(self, *args: Any, **fields: Any) -> 'Placeholder':
    return Placeholder()

  def __setstate__(self, state: Any) -> None:
    """The state is not kept."""

  def append(self, item: Any) -> None:
    """A list's items are not kept."""

  def extend(self, items: Any) -> None:
    """A list's items are not kept."""

  def add(self, item: Any) -> None:
    """A set's items are not kept."""

  def __hash__(self) -> int:  # type: ignore[override]
    return id(self)


def _new_class(*args: Any) -> type[Placeholder]:
  """In place of the classes that dill writes out: they are instantiated."""
  return type('PlaceholderClass', (Placeholder,), {})


def _latin1(text: str, codec: str = 'latin1') -> bytes:
  """In place of `codecs.encode`, which pickles of bytes call with 'latin1'."""
  if codec not in ('latin1', 'latin-1'):
    raise ValueError(f'bytes in the codec {codec!r}, not latin1')
  return text.encode('latin1')


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
  ('_codecs', 'encode'): _latin1,
  ('dill._dill', '_create_type'): _new_class,
  ('dill._dill', '_load_type'): _new_class,
}


class _InertUnpickler(pickle.Unpickler):
  """Makes placeholders of whatever is not known to be harmless."""

  def find_class(self, module_name: str, name: str) -> Any:
    if (module_name, name) in _STAND_INS:
      return _guarded(_STAND_INS[module_name, name])
    known = (module_name, name) in _HARMLESS or (
      module_name == 'torch' and _TORCH_TYPE.fullmatch(name)
    )
    if not known:
      return Placeholder
    return _guarded(super().find_class(module_name, name))


def _guarded(found: Any) -> Any:
  """A function that a file can call and not change."""
  if not isinstance(found, types.FunctionType):
    return found
  return lambda *args: found(*args)


def _inert() -> types.ModuleType:
  """A stand-in for the module `pickle`, as `torch.load` wants it."""
  module = types.ModuleType('inert_pickle')

  def load(file: Any, **options: Any) -> Any:
    return _InertUnpickler(file, **options).load()

  module.__dict__.update(
    Unpickler=_InertUnpickler,
    load=load,
    loads=lambda data, **options: load(io.BytesIO(data), **options),
    UnpicklingError=pickle.UnpicklingError,
  )
  return module


def load(path: pathlib.Path, pickled: str) -> Any:
  """Loads a file of `torch.save`, tensors on the CPU.

  Args:
    path: of the file.
    pickled: one of `WAYS`.

  Returns:
    The object in it.

  Raises:
    ValueError: the way is unknown, the file is damaged or TorchScript, or it
      holds more than the way allows.
    ImportError: PyTorch is not installed, or in the unsafe way a library that
      the file needs.
  """
  if pickled not in WAYS:
    raise ValueError(f'pickles={pickled!r} must be one of {", ".join(WAYS)}.')
  torch = _torch(path)
  _check_no_torchscript(path)
  options: dict[str, Any] = {'map_location': 'cpu', 'weights_only': False}
  try:
    if pickled == 'safe':
      options['weights_only'] = True
      with torch.serialization.safe_globals(_numbers()):
        return torch.load(path, **options)
    if pickled == 'inert':
      return torch.load(path, pickle_module=_inert(), **options)
    return torch.load(path, pickle_module=_dill_or_pickle(), **options)
  except ImportError:
    raise
  # Damaged bytes make any error at all.
  except Exception as error:
    raise ValueError(_refusal(path, error, pickled)) from error


def to_numpy(name: str, tensor: Any) -> np.ndarray:
  """A tensor as an array; a floating one in float32.

  Args:
    name: of the tensor, for the message.
    tensor: of PyTorch.

  Raises:
    ValueError: it is sparse or quantised.
  """
  tensor = tensor.detach().cpu()
  if str(tensor.layout) != 'torch.strided' or tensor.is_quantized:
    raise ValueError(
      f'{name} is a sparse or quantised tensor: save a dense one of floating '
      'numbers.'
    )
  if tensor.is_floating_point():
    tensor = tensor.float()
  return tensor.numpy()


def _check_no_torchscript(path: pathlib.Path) -> None:
  """Raises for an archive with code; `torch.load` would hand it to JIT."""
  try:
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
  except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
    return  # An older file, or a damaged one, of which loading tells more.
  if any(name.endswith('/constants.pkl') for name in names):
    raise ValueError(
      f'{path} is a TorchScript archive, which is code: save its state_dict() '
      'instead.'
    )


def _torch(path: pathlib.Path) -> Any:
  try:
    import torch
  except ImportError as error:
    raise ImportError(
      f'{path} is a file of torch.save, and PyTorch is not installed: run "pip '
      'install torch", or convert the file to safetensors where it is.'
    ) from error
  return torch


def _numbers() -> list[Any]:
  """NumPy's scalars, in which training scripts save accuracies."""
  scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
  return [
    (scalar, 'numpy.core.multiarray.scalar'),
    (scalar, 'numpy._core.multiarray.scalar'),
    np.dtype,
    *{type(np.dtype(kind)) for kind in 'fdil?'},
  ]


def _dill_or_pickle() -> types.ModuleType:
  try:
    import dill
  except ImportError:
    return pickle
  return dill


def _refusal(path: pathlib.Path, error: Exception, pickled: str) -> str:
  """Why a file was not read, and what there is to do."""
  if pickled == 'unsafe' and isinstance(error, AttributeError):
    return f'{path} needs a class that is not there: {error}.'
  named = sorted(set(_UNKNOWN.findall(str(error))) | _named(path))
  if pickled != 'safe' or not named:
    return (
      f'{path} is damaged, incomplete or not of torch.save '
      f'({_first_line(error)}): download it again.'
    )
  return (
    f'{path} holds more than tensors: its pickle names {", ".join(named)}. '
    'Nothing of it was run. --pickles=inert reads the tensors and makes '
    'placeholders of these, running none of them; --pickles=unsafe runs what '
    'the file says, with your rights: only for a file whose author you trust.'
  )


def _named(path: pathlib.Path) -> set[str]:
  """What a file's pickle would import beyond tensors, as far as is known."""
  import torch

  try:
    with torch.serialization.safe_globals(_numbers()):
      found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
  except Exception:
    # A damaged file, or one of an older PyTorch: the error names the first.
    return set()
  return set(found)


def _first_line(error: Exception) -> str:
  line = (str(error).splitlines() or [''])[0]
  return line.split('. ')[0].rstrip('.') or type(error).__name__
