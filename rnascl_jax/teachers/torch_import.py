"""PyTorch checkpoints of teachers as Flax variables.

Reads the files of RobustBench, MadryLab's robustness, locuslab, TRADES, timm
and torchvision, and any other whose names are theirs: wrappers are taken off,
every array must be used or be known to change nothing, every shape must fit.
The normalisation of the inputs becomes the network's first layer, so that
attacks work on images in [0, 1].

  found = torch_import.read(
    'model_best.pth', {'name': 'wide_resnet34_10'}, normalization='cifar10'
  )
  logits, taps = found.net.apply(found.variables, images, train=False)

`python -m experiments.import_teacher` does it and saves a teacher.
"""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from rnascl_jax import checkpoints, files
from rnascl_jax.base import Variables
from rnascl_jax.pytorch import files as torch_files
from rnascl_jax.pytorch import state_dicts, wrappers
from rnascl_jax.teachers import build, fitting
from rnascl_jax.teachers.published import NORMALIZATIONS, Normalization

# The linear layer over classes, in the published networks.
_HEADS = ('linear.bias', 'fc.bias', 'head.bias')
# The convolution over images.
_STEMS = ('patch_embed.proj.weight', 'conv1.weight')


class Imported(NamedTuple):
  """A teacher from a file.

  Attributes:
    net: the network; its first layer normalises.
    variables: parameters and BatchNorm statistics, float32.
    metadata: what it takes to build it, and where it is from: see `save`.
  """

  net: nn.Module
  variables: Variables
  metadata: dict[str, Any]


def read(
  path: str | os.PathLike[str],
  spec: Mapping[str, Any],
  *,
  normalization: Normalization | str = '',
  fallback: str = '',
  num_classes: int = 0,
  image_size: int = 32,
  dataset: str = '',
  pickled: str = 'safe',
  entry: str = '',
) -> Imported:
  """Reads a teacher.

  Args:
    path: of the file, see `pytorch.files.read`.
    spec: the network, see `build.network`.
    normalization: of the inputs, or its name in `NORMALIZATIONS`; empty to take
      what the file says.
    fallback: its name where the file does not say; empty for an error.
    num_classes: that it must tell apart; 0 for what the file has.
    image_size: side of its images in pixels; a ViT has as many positions.
    dataset: what it was trained on, for messages.
    pickled: how a pickle is read, see `pytorch.files`.
    entry: of the file that has the state dict; empty to find it.

  Returns:
    The teacher.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is no checkpoint, or of another network, or what was
      asked for does not fit it; the message says what differs.
    ImportError: it takes PyTorch to read the file.
  """
  given = _named(normalization) if normalization else None
  build.network(spec, num_classes=1)  # An unknown one fails before the file.
  held = torch_files.read(path, pickled=pickled, entry=entry)
  classes = _classes(held, num_classes)
  channels = _channels(held)
  template = fitting.shapes(spec, classes, image_size, channels)
  expected = state_dicts.shapes(template)
  unwrapped = wrappers.unwrap(held.arrays, expected)
  differences = fitting.differences(unwrapped, expected)
  if differences:
    raise ValueError(
      f'{held.path} is not {spec["name"]} with {classes} classes and images of '
      f'{image_size} pixels: {"; ".join(differences)}.'
      + fitting.hint(held.arrays, classes, image_size)
    )
  _check_numbers(unwrapped.arrays, held.path)
  chosen, said_by = _normalization(given, unwrapped, held, fallback)
  if len(chosen.mean) not in (1, channels):
    raise ValueError(
      f'{held.path} is for images with {channels} channels, but the '
      f'normalisation ({said_by}) has {len(chosen.mean)} means: give '
      '--normalization with one for each channel.'
    )
  net = build.network(spec, num_classes=classes, **chosen._asdict())
  metadata = {
    'kind': 'teacher',
    'network': dict(spec),
    'layers': list(net.tap_names),
    'dataset': dataset,
    'num_classes': classes,
    'image_shape': [image_size, image_size, channels],
    'mean': list(chosen.mean),
    'std': list(chosen.std),
    'source': {
      'file': held.path.name,
      'sha256': held.sha256,
      'entry': held.entry,
      'prefix': unwrapped.prefix,
      'normalization': said_by,
      'used': len(unwrapped.arrays),
      'ignored': {why: len(keys) for why, keys in unwrapped.ignored.items()},
    },
  }
  variables = state_dicts.into_variables(template, unwrapped.arrays)
  return Imported(net, variables, metadata)


def save(imported: Imported, folder: str | os.PathLike[str]) -> None:
  """Saves a teacher for `--config.teacher.checkpoint=FOLDER`.

  Args:
    imported: the teacher.
    folder: appears when all of it is written: `model/` with the weights,
      `stage.json` with where they are from.

  Raises:
    FileExistsError: the folder is there already.
  """
  place = pathlib.Path(folder).absolute()
  check_absent(place)
  place.parent.mkdir(parents=True, exist_ok=True)
  unfinished = pathlib.Path(
    tempfile.mkdtemp(prefix=f'.{place.name}.', dir=place.parent)
  )
  try:
    checkpoints.save_variables(
      unfinished / 'model', imported.variables, imported.metadata
    )
    summary = {'seconds': 0.0, 'source': imported.metadata['source']}
    files.write_json(unfinished / 'stage.json', summary)
    os.chmod(unfinished, 0o755)
    os.rename(unfinished, place)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)


def check_absent(folder: str | os.PathLike[str]) -> None:
  """Raises FileExistsError where a teacher would be overwritten."""
  if pathlib.Path(folder).exists():
    raise FileExistsError(
      f'{folder} is there already: choose another --output, or remove it.'
    )


def _classes(held: torch_files.Checkpoint, wanted: int) -> int:
  """The number of classes in a file, if it is the wanted one."""
  found = {
    len(array)
    for name in _HEADS
    for prefix in state_dicts.matching(held.arrays, name)
    if (array := held.arrays[prefix + name]).ndim == 1
  }
  if not found:  # The differences will say what is missing.
    return wanted or 1
  if len(found) > 1 or (wanted and wanted not in found):
    raise ValueError(
      f'{held.path} tells {" or ".join(map(str, sorted(found)))} classes apart'
      + (f', not {wanted}' if wanted else '')
      + ': it is a file of another data set, or of another teacher.'
    )
  return found.pop()


def _channels(held: torch_files.Checkpoint) -> int:
  """Channels of the images that the first layer of a file takes."""
  found = [
    held.arrays[prefix + name].shape[1]
    for name in _STEMS
    for prefix in sorted(state_dicts.matching(held.arrays, name), key=len)
    if held.arrays[prefix + name].ndim == 4
  ]
  return found[0] if found else 3


def _named(normalization: Normalization | str) -> Normalization:
  if isinstance(normalization, str):
    if normalization not in NORMALIZATIONS:
      raise ValueError(
        f'unknown normalisation {normalization!r}; known are '
        f'{", ".join(NORMALIZATIONS)}.'
      )
    normalization = NORMALIZATIONS[normalization]
  _check_normalization(normalization)
  return normalization


def _check_normalization(chosen: Normalization) -> None:
  finite = np.isfinite([*chosen.mean, *chosen.std]).all()
  if len(chosen.mean) != len(chosen.std) or not finite or min(chosen.std) <= 0:
    raise ValueError(
      f'mean={chosen.mean} and std={chosen.std} must be equally many finite '
      'numbers, the deviations positive.'
    )


def _normalization(
  given: Normalization | None,
  unwrapped: wrappers.Unwrapped,
  held: torch_files.Checkpoint,
  fallback: str,
) -> tuple[Normalization, str]:
  """The first layer, and who says so: the user, the file, or the fallback."""
  if given is not None:
    return given, 'given'
  mean, std = unwrapped.mean, unwrapped.std
  if mean is None or std is None:  # One of ours says it beside the weights.
    mean, std = (held.metadata.get(name) for name in ('mean', 'std'))
  if mean and std:
    found = Normalization(tuple(mean), tuple(std))
    _check_normalization(found)
    return found, 'the file'
  if fallback:
    return _named(fallback), f'known of this teacher ({fallback})'
  raise ValueError(
    f'{held.path} does not say how its inputs are normalised, and a wrong '
    'guess costs a few points of accuracy: give --normalization, one of '
    f'{", ".join(NORMALIZATIONS)}, or mean and deviation.'
  )


def _check_numbers(
  arrays: Mapping[str, np.ndarray], path: pathlib.Path
) -> None:
  """Raises for weights that no training leaves."""
  for name, array in arrays.items():
    wrong = ''
    if not np.isfinite(array).all():
      wrong = 'is not finite everywhere'
    elif name.endswith('running_var') and array.min() < 0:
      wrong = 'is negative somewhere'
    if wrong:
      raise ValueError(
        f'{name} in {path} {wrong}: the file is damaged, or its training broke.'
      )
