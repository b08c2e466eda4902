"""PyTorch checkpoints of teachers as Flax variables.

Reads the files of RobustBench, MadryLab's robustness, locuslab, TRADES, timm
and torchvision, and any other whose names are theirs: wrappers are taken off,
every array must be used or be known to change nothing, every shape must fit.
The normalisation of the inputs becomes the network's first layer, so that
attacks work on images in [0, 1].

  imported = torch_import.read(
    'model_best.pth', {'name': 'wide_resnet34_10'}, normalization='cifar10'
  )
  logits, taps = imported.net.apply(
    imported.variables, images, train=False
  )

`rnascl import-teacher` does it and saves a teacher.
"""

import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from rnascl_jax.base import Variables
from rnascl_jax.interop import files as torch_files
from rnascl_jax.interop import fitting, scores, state_dicts, wrappers
from rnascl_jax.interop import normalization as normalizations
from rnascl_jax.interop.normalization import NORMALIZATIONS, Normalization
from rnascl_jax.models.fixed import build
from rnascl_jax.runtime import (
  disk,
  files,
  lock,
  paths,
  saved_variables,
  signals,
)

# The convolution over images.
_STEMS = (
  'patch_embed.proj.weight',
  'stem.0.weight',
  'features.0.weight',
  'conv1.weight',
)


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
  prefix: str | None = None,
  kept: float | None = None,
) -> Imported:
  """Reads a teacher.

  Args:
    path: of the file, see `interop.files.read`.
    spec: the network, see `build.network`.
    normalization: of the inputs, or its name in `NORMALIZATIONS`; empty to take
      what the file says.
    fallback: its name where the file does not say; empty for an error.
    num_classes: that it must tell apart; 0 for what the file has.
    image_size: side of its images in pixels; a ViT has as many positions.
    dataset: what it was trained on; empty for what the file says, if anything.
    pickled: how a pickle is read, see `interop.files`.
    entry: of the file that has the state dict; empty to find it.
    prefix: of the network's names in it; None to find it.
    kept: share of a layer's weights that are kept, of a file with scores to
      prune by, see `scores`.

  Returns:
    The teacher.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is no checkpoint, or of another network, or what was
      asked for does not fit it; the message says what differs.
    ImportError: it takes PyTorch to read the file.
  """
  if isinstance(normalization, str):
    asked = normalizations.named(normalization) if normalization else None
  else:
    asked = normalization
  if asked is not None:
    normalizations.check(asked)
  build.network(spec, num_classes=1)  # An unknown one fails before the file.
  held = torch_files.read(path, pickled=pickled, entry=entry)
  held = held._replace(arrays=scores.merged(held.arrays, kept))
  classes, channels = _classes(held, num_classes), _channels(held)
  template = fitting.shapes(spec, classes, image_size, channels)
  unwrapped = _unwrapped(held, spec, template, image_size, prefix)
  _check_numbers(unwrapped.arrays, held.path)
  first_layer, said_by = _normalization(asked, unwrapped, held, fallback)
  normalizations.check(first_layer, channels)
  image_shape = [image_size, image_size, channels]
  net = build.network(spec, num_classes=classes, **first_layer._asdict())
  metadata = {
    'kind': 'teacher',
    'network': dict(spec),
    'layers': list(net.tap_names),
    'dataset': _dataset(held, dataset, image_shape),
    'num_classes': classes,
    'image_shape': image_shape,
    'mean': list(first_layer.mean),
    'std': list(first_layer.std),
    'source': {
      'file': held.path.name,
      'sha256': held.sha256,
      'entry': held.entry,
      'prefix': unwrapped.prefix,
      'normalization': said_by,
      'used': len(unwrapped.arrays),
      'ignored': {why: len(keys) for why, keys in unwrapped.ignored.items()},
      **({} if kept is None else {'kept': kept}),
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
    HeldError: another import is writing it.
    DiskError: it cannot be written.
  """
  check_absent(folder)
  place = paths.local(folder, 'output')
  # What an import that was killed has left there is written anew.
  unfinished = place.with_name(f'.{place.name}.unfinished')
  with signals.stop_on_signal(), lock.hold(unfinished):
    try:
      saved_variables.save(
        unfinished / 'model', imported.variables, imported.metadata
      )
      summary = {'seconds': 0.0, 'source': imported.metadata['source']}
      files.write_json(unfinished / 'stage.json', summary)
      with disk.explained(place):
        os.rename(unfinished, place)
        (place / lock.NAME).unlink()
    finally:
      shutil.rmtree(unfinished, ignore_errors=True)


def check_absent(folder: str | os.PathLike[str]) -> None:
  """Raises FileExistsError where a teacher would be overwritten."""
  if os.path.lexists(paths.local(folder, 'output')):
    raise FileExistsError(
      f'{folder} is there already: choose another --output, or remove it.'
    )


def _unwrapped(
  held: torch_files.Checkpoint,
  spec: Mapping[str, Any],
  template: Variables,
  image_size: int,
  prefix: str | None,
) -> wrappers.Unwrapped:
  """The arrays of a network, if the file is of it.

  Raises:
    ValueError: it is of another one, or has several of other weights.
  """
  expected = state_dicts.shapes(template)
  unwrapped = wrappers.unwrap(held.arrays, expected, prefix)
  differences = fitting.differences(unwrapped, expected)
  if not differences:
    return unwrapped
  whole = len(unwrapped.arrays) == len(expected)
  if whole and unwrapped.others and prefix is None:
    prefixes = [unwrapped.prefix, *unwrapped.others]
    raise ValueError(
      f'{held.path} has several networks of other weights, under '
      f'{", ".join(map(repr, prefixes))}: choose one with --prefix.'
    )
  classes = _classes(held, 0)
  raise ValueError(
    f'{held.path} is not {build.text(spec)} with {classes} classes and images '
    f'of {image_size} pixels: {"; ".join(differences)}.'
    + fitting.hint(held.arrays, classes, image_size)
    + fitting.renamed(unwrapped, held.arrays, expected)
  )


def _classes(held: torch_files.Checkpoint, wanted: int) -> int:
  """The number of classes in a file, if it is the wanted one."""
  known = {
    len(array)
    for name in build.HEADS
    for prefix in state_dicts.matching(held.arrays, f'{name}.weight')
    if (array := held.arrays[f'{prefix}{name}.weight']).ndim == 2
  }
  if not known:  # The differences will say how the last layer is named.
    matrices = [array for array in held.arrays.values() if array.ndim == 2]
    return wanted or (len(matrices[-1]) if matrices else 1)
  if len(known) > 1 or (wanted and wanted not in known):
    raise ValueError(
      f'{held.path} tells {" or ".join(map(str, sorted(known)))} classes apart'
      + (f', not {wanted}' if wanted else '')
      + ': it is a file of another data set, or of another teacher.'
    )
  return known.pop()


def _dataset(
  held: torch_files.Checkpoint, asked: str, image_shape: list[int]
) -> str:
  """What a file was trained on, as the user or the file says.

  Raises:
    ValueError: the file says that it is another data set, or that its images
      have another shape.
  """
  shape = held.metadata.get('image_shape')
  if not isinstance(shape, list) or [*map(type, shape)] != 3 * [int]:
    shape = image_shape
  if shape != image_shape:
    raise ValueError(
      f'{held.path} says that its images are of shape {shape}, not '
      f'{image_shape}: give --image_size={shape[0]}.'
    )
  said = held.metadata.get('dataset')
  if not isinstance(said, str) or not said:
    return asked
  if asked and not build.same_data(asked, said):
    raise ValueError(
      f'{held.path} says that it was trained on {said!r}, not {asked!r}: '
      'give that as --dataset, or leave it out.'
    )
  return said


def _channels(held: torch_files.Checkpoint) -> int:
  """Channels of the images that the first layer of a file takes."""
  stems = [state_dicts.nearest(held.arrays, name) for name in _STEMS]
  return next((s.shape[1] for s in stems if s is not None and s.ndim == 4), 3)


def _normalization(
  asked: Normalization | None,
  unwrapped: wrappers.Unwrapped,
  held: torch_files.Checkpoint,
  fallback: str,
) -> tuple[Normalization, str]:
  """The first layer, and who says so: the user, the file, or the fallback."""
  if asked is not None:
    return asked, 'given'
  keys = unwrapped.ignored.get('normalisation', [])
  parts = {key: held.arrays[key] for key in keys}
  said = normalizations.said(parts, held.metadata)
  if said is not None:
    return said, 'the file'
  if fallback:
    known = f'known of this teacher ({fallback})'
    return normalizations.named(fallback), known
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
    if array.dtype.kind != 'f':
      wrong = f'is of {array.dtype}, not of floating numbers'
    elif not np.isfinite(array).all():
      wrong = 'is not finite everywhere'
    elif name.endswith('running_var') and array.min() < 0:
      wrong = 'is negative somewhere'
    if wrong:
      raise ValueError(
        f'{name} in {path} {wrong}: the file is damaged, or its training broke.'
      )
