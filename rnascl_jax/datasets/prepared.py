"""Data sets that TensorFlow Datasets has prepared as ArrayRecord files.

They are read without TensorFlow, at random, from any number of threads, and a
source can be sent to another process.
"""

import hashlib
import os
from typing import Any

from absl import logging

from rnascl_jax.datasets import file_limit
from rnascl_jax.runtime import paths


def source(
  name: str,
  split: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  first: str = '',
  **options: Any,
) -> Any:
  """A random-access source of a data set that TFDS has prepared.

  Args:
    name: of the data set, as TFDS knows it.
    split: as TFDS knows it.
    data_dir: where TFDS keeps its data; None for its default.
    first: what has to be done before preparing, for the message.
    **options: of `tfds.data_source`.

  Returns:
    `source.__getitems__([3, 5])` are dictionaries with the examples' features.

  Raises:
    FileNotFoundError: the data is not prepared; the message says how to.
  """
  import tensorflow_datasets as tfds

  directory = str(paths.local(data_dir, 'data_dir')) if data_dir else None
  verbosity = logging.get_verbosity()
  try:
    # TFDS tells from where it loads, and what its copy of a text says.
    logging.set_verbosity(min(verbosity, logging.WARNING))
    found = tfds.data_source(
      name, split=split, data_dir=directory, download=False, **options
    )
  except (
    NotImplementedError,
    tfds.core.DatasetNotFoundError,
    KeyError,  # A builder without splits: nothing was prepared.
  ) as error:
    place = '' if directory is None else f", data_dir='{directory}'"
    raise FileNotFoundError(
      f'{name} is not prepared as ArrayRecord in '
      f'{directory or tfds.core.constants.DATA_DIR}. {first}Prepare it once by'
      '\n'
      f'  python -c "import tensorflow_datasets as tfds; tfds.builder('
      f"'{name}'{place}, file_format='array_record')"
      '.download_and_prepare()"\n'
      'in an environment that has TensorFlow (only preparing needs it), or '
      'name the place of a prepared copy: data_dir or TFDS_DATA_DIR.'
    ) from error
  finally:
    logging.set_verbosity(verbosity)
  file_limit.allow(len(shards(found)))
  return found


def shards(source: Any) -> list[tuple[str, int]]:
  """The files of a split, and how many records each has."""
  instructions = source.dataset_info.splits[source.split].file_instructions
  return [(os.fspath(file.filename), file.take) for file in instructions]


def fingerprint(source: Any) -> str:
  """Tells a copy of a split from others by its files' names and lengths.

  Returns:
    16 hexadecimal digits; bytes of the files enter as numbers only, so it is
    found without reading them.
  """
  info = source.dataset_info
  found = hashlib.sha256(f'{info.name} {info.version} {source.split}'.encode())
  for path, records in shards(source):
    name, size = os.path.basename(path), os.path.getsize(path)
    found.update(f' {name} {records} {size}'.encode())
  return found.hexdigest()[:16]
