"""Runs exported files in the runtimes that they are for, and compares them."""

import contextlib
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import numpy as np

from rnascl_jax.interop import quantization
from rnascl_jax.interop.attacked_images import AttackedImages
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.reporting import tables
from rnascl_jax.runtime import extras

# Images [B, H, W, C] -> logits [B, K].
Run = Callable[[np.ndarray], np.ndarray]
# Timed runs of one image; their median counts.
_REPEATS = 30
# Of float32 logits, relative to the largest one.
_TOLERANCE = 1e-3


class NoDefinitionError(Exception):
  """A file has the weights of a network whose definition is not here."""


class Measured(NamedTuple):
  """What was measured of a file.

  Attributes:
    path: the file.
    difference: the largest one of logits from the model's.
    load_s: seconds in which the file is read and made ready.
    one_ms: milliseconds for one image, once all is compiled.
    accuracies: shares of attacked images that it classifies correctly, before
      and after the attack; () if there are none.
    missing: why it was not run, '' if it was.
  """

  path: pathlib.Path
  difference: float = 0.0
  load_s: float = 0.0
  one_ms: float = 0.0
  accuracies: tuple[float, ...] = ()
  missing: str = ''


def measure_all(
  model: Pretrained,
  written: Sequence[pathlib.Path],
  attacked: AttackedImages | None = None,
) -> list[Measured]:
  """Measures files, see `measure`; those that cannot be run say why."""
  results = []
  for path in written:
    try:
      results.append(measure(model, path, attacked))
    except (extras.MissingPackageError, NoDefinitionError) as error:
      results.append(Measured(path, missing=str(error)))
  return results


def table(
  results: Sequence[Measured], attacked: AttackedImages | None = None
) -> str:
  """What was measured, as text for a console."""
  heading = ['File', 'KiB', 'Largest difference', 'Load (ms)', 'One image (ms)']
  if attacked:
    heading += ['Clean (%)', f'{attacked.attack_text} (%)']
  rows, missing = [heading], []
  for result in results:
    cells = [tables.NOTHING] * (len(heading) - 2)
    if result.missing:
      missing.append(f'{result.path.name} was not run: {result.missing}')
    else:
      cells = [
        f'{result.difference:.1e}',
        f'{1e3 * result.load_s:.1f}',
        f'{result.one_ms:.3g}',
        *(f'{100 * share:.1f}' for share in result.accuracies),
      ]
    size = result.path.stat().st_size / 1024
    rows.append([result.path.name, f'{size:,.1f}', *cells])
  return '\n'.join([tables.plain(rows), *missing])


def measure(
  model: Pretrained,
  path: pathlib.Path,
  attacked: AttackedImages | None = None,
) -> Measured:
  """Compares a file with the model that it was written of, and times it.

  Args:
    model: the model; it gets 7 random images, then one again and again.
    path: what `export.write` or `quantization.write` wrote of it.
    attacked: images that it classifies, if its accuracy is to be measured.

  Raises:
    MissingPackageError: the file's runtime is not there.
    NoDefinitionError: it is the state dict of a teacher.
    ArithmeticError: the file computes something else than the model.
  """
  if path.suffix not in _LOADERS and model.metadata['kind'] != 'student':
    raise NoDefinitionError('the definition of the teacher is not here.')
  shape = model.metadata['image_shape']
  images = np.random.default_rng(0).random((7, *shape), np.float32)
  with _cpu():
    expected = np.asarray(jax.jit(model.logits_fn)(images))
  load(path)  # The runtime is imported.
  begin = time.perf_counter()
  run = load(path)
  seconds = time.perf_counter() - begin
  difference = np.abs(run(images) - expected).max()
  bound = _TOLERANCE * max(1.0, np.abs(expected).max())
  if not (difference <= bound or quantization.is_int8(path)):
    raise ArithmeticError(
      f'{path} gives logits that differ by {difference:.3g} from those of the '
      'model; do not use it, and report its runtime and version.'
    )
  times = []
  for _ in range(_REPEATS):
    begin = time.perf_counter()
    run(images[:1])
    times.append(time.perf_counter() - begin)
  one_ms = 1e3 * statistics.median(times)
  accuracies = attacked.accuracies(run) if attacked else ()
  return Measured(path, float(difference), seconds, one_ms, accuracies)


def load(path: str | os.PathLike[str]) -> Run:
  """Opens a file by its suffix, in its runtime on the CPU.

  Args:
    path: a file of `export.write`.

  Returns:
    A function of float32 images [B, H, W, C] in [0, 1] to logits [B, K].

  Raises:
    MissingPackageError: the runtime is not there.
    ValueError: it is the state dict of a teacher.
  """
  suffix = pathlib.Path(path).suffix
  return _LOADERS.get(suffix, _torch)(os.fspath(path))


def _cpu() -> AbstractContextManager[Any]:
  """Has JAX compute on the CPU, unless JAX_PLATFORMS leaves it out.

  By default a GPU may round factors to TF32, and a TPU does to bfloat16: logits
  of a right file could differ by more than is allowed.
  """
  try:
    return jax.default_device(jax.devices('cpu')[0])
  except RuntimeError:
    return contextlib.nullcontext()


def _onnx(path: str) -> Run:
  extras.require('onnxruntime', 'running .onnx')
  import onnxruntime

  session = onnxruntime.InferenceSession(
    path, providers=['CPUExecutionProvider']
  )

  def run(images: np.ndarray) -> np.ndarray:
    (logits,) = session.run(None, {'images': images.transpose(0, 3, 1, 2)})
    return logits

  return run


def _stablehlo(path: str) -> Run:
  from jax import export

  content = bytearray(pathlib.Path(path).read_bytes())
  function = jax.jit(export.deserialize(content).call)

  def run(images: np.ndarray) -> np.ndarray:
    with _cpu():
      return np.asarray(function(images))

  return run


def _tflite(path: str) -> Run:
  extras.require('ai_edge_litert', 'running .tflite')
  from ai_edge_litert import interpreter

  run = interpreter.Interpreter(path).get_signature_runner()

  def run_each(images: np.ndarray) -> np.ndarray:
    logits = [run(images=image[None])['logits'] for image in images]
    return np.concatenate(logits)

  return run_each


def _torch(path: str) -> Run:
  extras.require('torch', f'running {path}')
  import torch

  from rnascl_jax.interop import student

  net = student.load(path)

  def run(images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
      return net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

  return run


_LOADERS: Mapping[str, Callable[[str], Run]] = {
  '.onnx': _onnx,
  '.stablehlo': _stablehlo,
  '.tflite': _tflite,
}
