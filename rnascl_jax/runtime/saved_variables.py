"""Variables of a network in a folder: of a finished stage, or imported.

They are kept as a checkpoint is, with JSON beside them, and loaded without
knowing the network.

Example:
  >>> import tempfile
  >>> import numpy as np
  >>> from rnascl_jax.runtime import saved_variables
  >>> folder = tempfile.mkdtemp()
  >>> saved_variables.save(folder, {'w': np.ones(2)}, {'features': 2})
  >>> saved_variables.load(folder)
  ({'w': array([1., 1.])}, {'features': 2})
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from rnascl_jax.runtime import checkpoints


class _Exports(checkpoints.Checkpoints):
  """The variables of a network, in a folder with others beside."""

  _prefix = 'variables_'
  _keep = 1

  @property
  def _remedy(self) -> str:
    stage = self._directory.parent / 'stage.json'
    return (
      'Restore it from a copy; or import the teacher again; or, in the workdir '
      f'of a run, delete {stage} and run the same command again, which saves '
      'it anew.'
    )

  def _metric(self, step: int) -> float:
    # An export takes the place of another one, damaged or not.
    del step
    return checkpoints.NO_METRIC


def save(
  directory: str | os.PathLike[str],
  variables: Mapping[str, Any],
  metadata: Mapping[str, Any],
) -> None:
  """Exports a network's variables in place of an earlier export.

  Args:
    directory: created if missing. If the process is killed while saving, it has
      the earlier export.
    variables: nested dicts with strings as keys and NumPy or JAX arrays, none
      empty. A dict without arrays is not kept.
    metadata: JSON, for example what it takes to build the network.

  Raises:
    ValueError: a container is not a dict, or a leaf is not an array of numbers.
  """
  for name, leaf in traverse_util.flatten_dict(variables).items():
    plain = jax.tree_util.all_leaves([leaf]) and np.size(leaf)
    if not plain or not all(isinstance(part, str) for part in name):
      raise ValueError(
        f'the leaf at {name} must be an array that is not empty, in dicts with '
        'strings as keys.'
      )
  with _Exports(directory) as exports:
    last = exports.last_step()
    step = 0 if last is None else last + 1
    exports.save(step, variables, extra=metadata)


def load(
  directory: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Loads what `save` saved, without knowing the network.

  Returns:
    variables: nested dicts of NumPy arrays.
    metadata: the JSON.

  Raises:
    FileNotFoundError: there is no export in the directory.
    DamagedFileError: it is damaged; the message names the file.
  """
  with _Exports(directory, read_only=True) as exports:
    _, variables, metadata = exports.read(exports.last_step())
  return variables, metadata


def load_metadata(directory: str | os.PathLike[str]) -> dict[str, Any]:
  """Loads the JSON that `save` saved, and no array.

  Raises:
    FileNotFoundError: there is no export in the directory.
    DamagedFileError: it is damaged; the message names the file.
  """
  with _Exports(directory, read_only=True) as exports:
    return exports.read_json(exports.last_step(), checkpoints.EXTRA)
