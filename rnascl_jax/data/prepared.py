"""Data sets that TensorFlow Datasets has prepared as ArrayRecord files.

They are read without TensorFlow, at random, from any number of threads, and a
source can be sent to another process.
"""

import hashlib
import os
import pathlib
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import numpy as np
from absl import logging

from rnascl_jax.runtime import extras, files, paths, spelling

_REMEDY = 'Prepare the data set again, or use another copy.'
# Files that are opened at once to count their records.
_THREADS = 16
# Files that a process has open apart from shards: libraries, sockets, metrics.
_OTHER_FILES = 512


class PreparedSplit:
  """A split of a data set that TFDS has prepared; it names what is damaged.

  Attributes:
    dataset_info: of TFDS.
    split: its name, as TFDS knows it.
  """

  def __init__(self, source: Any):
    self._source = source
    self.dataset_info = source.dataset_info
    self.split: str = source.split

  def __len__(self) -> int:
    return len(self._source)

  def __getitems__(self, records: Sequence[int]) -> list[dict[str, Any]]:
    """Reads the features of examples.

    Args:
      records: places in the split.

    Raises:
      DamagedFileError: a record cannot be read; the message has its file.
    """
    try:
      return self._source.__getitems__(records)
    # What a reader raises depends on where it finds the file damaged.
    except Exception as error:
      if len(records) > 1:
        return [self.__getitems__([record])[0] for record in records]
      raise files.DamagedFileError(
        f'{self._named(records[0])} cannot be read: {_one_line(error)}. '
        f'{_REMEDY}'
      ) from error

  def _named(self, record: int) -> str:
    """A record, and the path of the file that has it."""
    shard_paths, counts = zip(*shards(self), strict=True)
    shard = int(np.searchsorted(np.cumsum(counts), record, side='right'))
    return (
      f'{shard_paths[shard]}: record {record} of {self.dataset_info.name} '
      f'{self.split}'
    )

  def labels(
    self, records: Sequence[int], examples: Sequence[dict[str, Any]]
  ) -> list[int]:
    """The labels of examples, checked.

    Args:
      records: places in the split.
      examples: what was read there.

    Returns:
      Integers in [0, K).

    Raises:
      DamagedFileError: a record has no label or one of no class; the message
        has its file.
    """
    classes = len(self.dataset_info.features['label'].names)
    labels = [example['label'] for example in examples]
    for record, label in zip(records, labels, strict=True):
      if label is None or not 0 <= label < classes:
        raise files.DamagedFileError(
          f'{self._named(record)} has the label {label}, which is none of '
          f'{classes} classes. {_REMEDY}'
        )
    return [int(label) for label in labels]


def source(
  name: str,
  split: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  first: str = '',
  **options: Any,
) -> PreparedSplit:
  """A random-access source of a split that TFDS has prepared.

  Args:
    name: the data set, as TFDS knows it.
    split: the split, as TFDS knows it.
    data_dir: where TFDS keeps its data; None for its default.
    first: what has to be done before preparing, for the message.
    **options: passed to `tfds.data_source`.

  Raises:
    FileNotFoundError: the data is not prepared; the message says how to.
    DamagedFileError: a file is missing, damaged or contradicts another.
    MissingPackageError: there is no TensorFlow Datasets or no ArrayRecord.
  """
  tfds_source = _open(name, split, data_dir, first, **options)
  allow_open_files(len(shards(tfds_source)))
  _check_files(tfds_source)
  _check_names(tfds_source)
  return PreparedSplit(tfds_source)


def info(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
  """What TFDS says of a prepared data set; raises as `source` does."""
  return _open(name, 'all', data_dir, '').dataset_info


def _open(
  name: str,
  split: str,
  data_dir: str | os.PathLike[str] | None,
  first: str,
  **options: Any,
) -> Any:
  directory = str(paths.local(data_dir, 'data_dir')) if data_dir else None
  for module in ('tensorflow_datasets', 'array_record'):
    extras.require(module, f'reading {name}, a prepared data set,')
  import tensorflow_datasets as tfds

  folder = directory or tfds.core.constants.DATA_DIR
  verbosity = logging.get_verbosity()
  try:
    # TFDS tells from where it loads, and what its copy of a text says.
    logging.set_verbosity(min(verbosity, logging.WARNING))
    return tfds.data_source(
      name, split=split, data_dir=directory, download=False, **options
    )
  except (
    NotImplementedError,
    tfds.core.DatasetNotFoundError,
    KeyError,  # A builder without splits: nothing was prepared.
  ) as error:
    place = '' if directory is None else f", data_dir='{directory}'"
    raise FileNotFoundError(
      f'{name} is not prepared as ArrayRecord in {folder}.'
      f'{spelling.did_you_mean(name, _names(folder))} {first}Prepare it once '
      'by\n'
      f'  python -c "import tensorflow_datasets as tfds; tfds.builder('
      f"'{name}'{place}, file_format='array_record')"
      '.download_and_prepare()"\n'
      'in an environment that has TensorFlow (only preparing needs it), or '
      'name the place of a prepared copy: data_dir or TFDS_DATA_DIR.'
    ) from error
  # What TFDS raises depends on what is wrong with its description.
  except Exception as error:
    place = os.path.join(folder, name)
    raise files.DamagedFileError(
      f'{place}: dataset_info.json there does not describe a prepared split '
      f'{split!r}: {_one_line(error)}. {_REMEDY}'
    ) from error
  finally:
    logging.set_verbosity(verbosity)


def _names(folder: str) -> list[str]:
  """Names of what is prepared in a folder."""
  return os.listdir(folder) if os.path.isdir(folder) else []


def allow_open_files(count: int) -> None:
  """Raises this process's limit of open files if more may not fit in it.

  ImageNet has 1,088 shards, and Linux allows 1,024 files by default, where a
  process may allow itself more. Workers inherit the limit. Nothing happens
  where it is high enough, cannot be raised, or does not exist (on Windows).

  Args:
    count: how many more files are to be open.
  """
  try:
    import resource
  except ModuleNotFoundError:
    return
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  limit = 2 * count + _OTHER_FILES
  if hard != resource.RLIM_INFINITY:
    limit = min(limit, hard)
  if soft != resource.RLIM_INFINITY and soft < limit:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split()).rstrip('.') or type(error).__name__


def _check_files(source: Any) -> None:
  """Raises unless all files are there, each with as many records as said."""
  listed = shards(source)
  missing = [path for path, _ in listed if not os.path.isfile(path)]
  if missing:
    raise files.DamagedFileError(
      f'{missing[0]}, one of {len(listed)} files of {source.dataset_info.name} '
      f'{source.split}, is missing ({len(missing)} of them are). {_REMEDY}'
    )
  whole = {
    os.fspath(file.filename): file.examples_in_shard
    for file in _instructions(source)
  }
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    counted = pool.map(_records, whole)
    for (path, records), count in zip(whole.items(), counted, strict=True):
      if count != records:
        raise files.DamagedFileError(
          f'{path} has {count} records, where dataset_info.json beside it says '
          f'{records}. {_REMEDY}'
        )


def _records(path: str) -> int:
  """How many records a file has."""
  from array_record.python import array_record_module

  try:
    reader = array_record_module.ArrayRecordReader(path)
    count = reader.num_records()
    reader.close()
  except (RuntimeError, ValueError, OSError) as error:
    raise files.DamagedFileError(
      f'{path} is not a whole ArrayRecord file: {_one_line(error)}. {_REMEDY}'
    ) from error
  return count


def _check_names(source: Any) -> None:
  """Raises if the names of the classes are not those of the labels."""
  feature = source.dataset_info.features['label']
  path = pathlib.Path(source.dataset_info.data_dir, 'label.labels.txt')
  try:
    text = path.read_text('utf-8', errors='replace')
  except FileNotFoundError:
    return  # TFDS numbers the classes then.
  except OSError:
    text = ''
  names = [line.strip() for line in text.splitlines() if line.strip()]
  wrong = [
    f'line {number} is {name!r}, not {known!r}'
    for number, (name, known) in enumerate(
      zip(names, feature.names, strict=False), start=1
    )
    if name != known
  ]
  if len(set(names)) != feature.num_classes:
    wrong = [f'it names {len(set(names))} classes of {feature.num_classes}']
  if wrong:
    raise files.DamagedFileError(
      f'{path} does not name the classes of {source.dataset_info.name}: '
      f'{wrong[0]}. {_REMEDY}'
    )


def shards(source: Any) -> list[tuple[str, int]]:
  """The files of a split, and how many of its records each has."""
  return [(path, stop - start) for path, start, stop in ranges(source)]


def ranges(source: Any) -> list[tuple[str, int, int]]:
  """The files of a split, and its first and last record (exclusive) in each."""
  return [
    (os.fspath(file.filename), file.skip, file.skip + file.take)
    for file in _instructions(source)
  ]


def _instructions(source: Any) -> Sequence[Any]:
  return source.dataset_info.splits[source.split].file_instructions


def fingerprint(source: Any) -> str:
  """16 hexadecimal digits of the names and lengths of a split's files."""
  info = source.dataset_info
  text = f'{info.name} {info.version} {source.split}'
  for path, records in shards(source):
    text += f' {os.path.basename(path)} {records} {os.path.getsize(path)}'
  return hashlib.sha256(text.encode()).hexdigest()[:16]
