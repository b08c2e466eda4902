"""Errors of a reference model, over which corruption errors are divided.

The corruption error of a model is the sum of its errors over severities,
divided by that of the reference; its mean over corruptions is the mCE.

Reference:
  Hendrycks and Dietterich, Benchmarking neural network robustness to common
  corruptions and perturbations, ICLR 2019, section 3.
"""

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rnascl_jax.data.corruptions import names
from rnascl_jax.runtime import files, paths, spelling

ALEXNET = 'alexnet'
_FILE = pathlib.Path(__file__).with_name('alexnet_imagenet_c.json')
_FORMS = (
  'a JSON file such as {"fog": 0.8, "snow": [0.5, 0.6, 0.7, 0.8, 0.9]}, or a '
  'CSV file with lines such as fog,0.8: one error, the mean over the five '
  'severities, or five errors, in [0, 1]'
)


def load(
  place: str,
  corruptions: Sequence[str],
  severities: Sequence[int],
  *,
  is_imagenet_c: bool,
) -> dict[str, Any]:
  """Loads and checks the errors of a reference model.

  Args:
    place: 'alexnet' for the published errors on ImageNet-C, else the path of a
      JSON or CSV file of errors.
    corruptions: those that are evaluated, which it must have.
    severities: those that are evaluated.
    is_imagenet_c: whether they are ImageNet-C's, with all its classes.

  Returns:
    `name`, `source`, and `errors`: by corruption the mean over the five
    severities, or a list of five.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such file, or lacks a corruption; or means over five
      severities do not fit the severities that are evaluated.
  """
  if place == ALEXNET:
    if not is_imagenet_c:
      raise ValueError(
        f'baseline={place!r} is for ImageNet-C with its 1000 classes: these '
        f'errors are published. Name {_FORMS}.'
      )
    baseline = files.read_json(_FILE)
  else:
    path = paths.local(place, 'baseline')
    baseline = {
      'name': path.stem,
      'source': str(path),
      'errors': _checked(_read(path), path),
    }
  errors = baseline['errors']
  for name in corruptions:
    if name not in errors:
      raise ValueError(
        f'baseline={place!r} has no error under {name}: it has '
        f'{", ".join(errors)}. Add it, or leave {name} out.'
      )
    is_mean = isinstance(errors[name], float)
    if is_mean and tuple(severities) != names.SEVERITIES:
      raise ValueError(
        f'baseline={place!r} has means over five severities, and the '
        f'severities are {", ".join(map(str, severities))}: evaluate all five, '
        'or give five errors for each corruption.'
      )
  return baseline


def _read(path: pathlib.Path) -> Mapping[str, Any]:
  """What a file says, by corruption."""
  if not path.is_file():
    raise FileNotFoundError(
      f'baseline: there is no file {path}; name {_FORMS}.'
    )
  if path.suffix.lower() != '.csv':
    return files.read_json(path, remedy=f'It must be {_FORMS}.')
  rows = csv.reader(path.read_text('utf-8').splitlines())
  cells = [[cell.strip() for cell in row] for row in rows if any(row)]
  return {
    row[0]: row[1:] if len(row) > 2 else row[-1]
    for row in cells
    # The heading.
    if row[0] in names.NAMES or row is not cells[0]
  }


def _checked(
  content: Mapping[str, Any], path: pathlib.Path
) -> dict[str, float | list[float]]:
  errors: dict[str, float | list[float]] = {}
  for name, value in content.items():
    if name not in names.NAMES:
      hint = spelling.did_you_mean(name, names.NAMES)
      raise ValueError(f'{path}: there is no corruption {name!r}.{hint}')
    listed = value if isinstance(value, list) else [value]
    try:
      numbers = [float(number) for number in listed]
    except (TypeError, ValueError):
      numbers = []
    if len(numbers) not in (1, 5) or not all(0 < n <= 1 for n in numbers):
      raise ValueError(
        f'{path}: {name} has {value!r}, and must have errors in (0, 1], one or '
        'five: divide per cent by 100.'
      )
    errors[name] = numbers if len(numbers) == 5 else numbers[0]
  return errors
