"""What this machine has for a run, and what to do about what it lacks.

Every check gives lines: what was looked at, what is there, and a remedy where
something is to be done. A check that fails is a line too: whatever is missing
or broken, the others are made. Nothing is imported before its check.

Example:
  >>> from rnascl_jax.runtime import doctor
  >>> print(doctor.table([
  ...   doctor.Line('Python', '3.11.7'),
  ...   doctor.Line('digits', 'no scikit-learn', 'pip install scikit-learn'),
  ... ]))
  OK      Python  3.11.7
  to do   digits  no scikit-learn
                  -> pip install scikit-learn
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rnascl_jax.runtime import extras, paths

# Versions of Python that were tried: the first and the last.
PYTHONS = (3, 11), (3, 13)
# Modules that the demo needs, and the packages that have them.
REQUIRED = {
  'absl': 'absl-py',
  'chex': 'chex',
  'flax': 'flax',
  'jax': 'jax',
  'jinja2': 'jinja2',
  'markupsafe': 'markupsafe',
  'matplotlib': 'matplotlib',
  'ml_collections': 'ml-collections',
  'ml_dtypes': 'ml_dtypes',
  'numpy': 'numpy',
  'optax': 'optax',
  'orbax.checkpoint': 'orbax-checkpoint',
  'PIL': 'pillow',
  'safetensors': 'safetensors',
  'scipy': 'scipy',
  'sklearn': 'scikit-learn',
  'tensorboardX': 'tensorboardX',
  'tqdm': 'tqdm',
}
# Accelerators: the file of a machine that has one, and the extra that installs
# the JAX for it.
_ACCELERATORS = (
  ('GPU', '/dev/nvidia0', 'cuda13'),
  ('TPU', '/dev/accel0', 'tpu'),
)
_PLUGINS = ('jax-cuda12-plugin', 'jax-cuda13-plugin', 'libtpu')
# A run of the demo writes 20 MB, one of CIFAR-10 some GB.
_LEAST_FREE = 1e9
# Of a value, in characters; a command is never broken into lines.
_WIDEST = 88
# Of a product of 128 numbers in float32, beside its size.
_TOLERANCE = 1e-4


class Line(NamedTuple):
  """What a check has found.

  Attributes:
    subject: what was looked at.
    value: what is there.
    remedy: what to do; '' where nothing is to be done.
    broken: whether the demo on digits does not run as things are.
    optional: whether nothing has to be done, and the remedy says what could be.
  """

  subject: str
  value: str
  remedy: str = ''
  broken: bool = False
  optional: bool = False


def examine(workdir: str = '', data_dir: str = '') -> list[Line]:
  """Makes all checks; none of them raises.

  Args:
    workdir: the folder of a run, of which the disk is looked at; it need not
      exist. '' for none.
    data_dir: the folder of TensorFlow Datasets; '' for TFDS_DATA_DIR, or else
      ~/tensorflow_datasets.
  """
  # Each with its subject, and whether the demo needs what it looks at.
  checks: tuple[tuple[str, bool, Callable[[], Iterator[Line]]], ...] = (
    ('Python', True, _python),
    ('packages', True, _packages),
    ('devices', True, _devices),
    ('computation', True, _computations),
    ('digits', True, _digits),
    ('prepared data', False, functools.partial(_prepared, data_dir)),
    ('workdir', True, functools.partial(_workdir, workdir)),
    ('compilation cache', False, _compilation_cache),
    ('extras', False, _extras),
  )
  lines: list[Line] = []
  for subject, needed, check in checks:
    try:
      lines += check()
    # Whatever is broken is what is to be told.
    except Exception as error:
      value = f'{type(error).__name__}: {_one_line(error)}'
      lines.append(Line(subject, value, 'mend what the error names', needed))
  return lines


def table(lines: list[Line]) -> str:
  """The lines as aligned text, a remedy below its line."""
  width = max(len(line.subject) for line in lines)
  rows = []
  for subject, value, remedy, broken, optional in lines:
    state = 'BROKEN' if broken else 'to do' if remedy else 'OK'
    if optional:
      state = 'OK'
    text = textwrap.wrap(
      value, _WIDEST, break_on_hyphens=False, break_long_words=False
    )
    text += [f'-> {remedy}'] if remedy else []
    rows.append(f'{state:6}  {subject:{width}}  {text[0]}')
    rows += [f'{"":6}  {"":{width}}  {line}' for line in text[1:]]
  return '\n'.join(rows)


def status(lines: list[Line]) -> int:
  """The exit status: 1 if the demo on digits does not run, else 0."""
  return int(any(line.broken for line in lines))


def _one_line(error: BaseException) -> str:
  return ' '.join(f'{error}'.split())[:300] or type(error).__name__


def _python() -> Iterator[Line]:
  first, last = ('.'.join(map(str, version)) for version in PYTHONS)
  version = sys.version_info[:2]
  remedy = ''
  if not PYTHONS[0] <= version <= PYTHONS[1]:
    remedy = f'use Python {first} to {last}, which were tried'
  yield Line(
    'Python',
    f'{platform.python_version()} on {platform.platform()}',
    remedy,
    version < PYTHONS[0],
  )


def _packages() -> Iterator[Line]:
  """What the demo needs, each really imported."""
  there = [f'rnascl_jax {_version("rnascl_jax") or "(not installed)"}']
  for module, package in REQUIRED.items():
    try:
      importlib.import_module(module)
      there.append(f'{package} {_version(package)}')
    # A library that was built for another one raises whatever it likes.
    except Exception as error:
      yield Line(package, _one_line(error), f'pip install {package}', True)
  yield Line('packages', ', '.join(there))


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return ''


def _devices() -> Iterator[Line]:
  """JAX's versions and its devices, each with its memory."""
  jax = _jax()
  jaxlib = _version('jaxlib')
  versions = [f'{jax.__version__}, jaxlib {jaxlib}']
  remedy = ''
  for plugin in _PLUGINS:
    if version := _version(plugin):
      versions.append(f'{plugin} {version}')
      if plugin.startswith('jax') and version != jaxlib:
        remedy = f'pip install {plugin}=={jaxlib}, the version of jaxlib'
  yield Line('JAX', ', '.join(versions), remedy)
  try:
    devices = jax.local_devices()
  except RuntimeError as error:
    platforms = os.environ.get('JAX_PLATFORMS')
    remedy = 'unset JAX_PLATFORMS' if platforms else 'install JAX again'
    yield Line('devices', _one_line(error), remedy, True)
    return
  backend = devices[0].platform
  version = ' '.join(str(devices[0].client.platform_version).split())
  yield Line('backend', f'{backend}: {version}', _unused(backend))
  for device in devices:
    yield Line(
      f'device {device.id}', f'{device.device_kind}, {_memory(device)}'
    )


def _jax() -> Any:
  return importlib.import_module('jax')


def _unused(backend: str) -> str:
  """What to do where there is an accelerator that JAX does not use."""
  if backend != 'cpu' or os.environ.get('JAX_PLATFORMS') == 'cpu':
    return ''
  for kind, file, extra in _ACCELERATORS:
    if os.path.exists(file):
      return (
        f'{file} is there, and JAX does not see the {kind}: '
        f'{extras.install(extra)}'
      )
  return ''


def _memory(device: Any) -> str:
  """How much memory a device has for JAX."""
  parallel = importlib.import_module('rnascl_jax.runtime.parallel')
  stats = device.memory_stats() or {}
  if limit := stats.get('bytes_limit'):
    free = limit - stats.get('bytes_in_use', 0)
    return f'{_gb(limit)} for JAX, {_gb(free)} of it free'
  if device.platform == 'cpu' and (memory := parallel.free_memory(device)):
    return f'{os.cpu_count()} cores, {_gb(memory)}'
  return 'memory unknown'


def _gb(count: float) -> str:
  return f'{count / 1e9:,.1f} GB'


def _computations() -> Iterator[Line]:
  """A matrix product and a convolution of every device, beside NumPy's."""
  jax, np = _jax(), importlib.import_module('numpy')
  rng = np.random.default_rng(0)
  left, right = (rng.normal(size=(128, 128)).astype('f') for _ in range(2))
  images = rng.normal(size=(2, 8, 8, 3)).astype('f')
  kernel = rng.normal(size=(3, 3, 3, 4)).astype('f')
  windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))
  high = jax.lax.Precision.HIGHEST

  def convolve(images: Any, kernel: Any) -> Any:
    return jax.lax.conv_general_dilated(
      images,
      kernel,
      (1, 1),
      'VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      precision=high,
    )

  computations = (
    (
      'matmul',
      functools.partial(jax.numpy.matmul, precision=high),
      (left, right),
      left.astype(float) @ right,
    ),
    (
      'convolution',
      convolve,
      (images, kernel),
      np.einsum('bhwcij,ijck->bhwk', windows.astype(float), kernel),
    ),
  )
  for name, function, inputs, expected in computations:
    wrong = []
    devices = jax.local_devices()
    for device in devices:
      result = jax.jit(function)(*jax.device_put(inputs, device))
      error = np.abs(np.asarray(result) - expected).max()
      error /= np.abs(expected).max()
      if not error <= _TOLERANCE:
        wrong.append(f'{device} is off by {error:.2g} of the largest number')
    remedy = 'install a driver and a JAX that fit each other' if wrong else ''
    value = f'as NumPy on {len(devices)} {devices[0].platform} device(s)'
    yield Line(name, '; '.join(wrong) or value, remedy, bool(wrong))


def _digits() -> Iterator[Line]:
  try:
    datasets = importlib.import_module('sklearn.datasets')
    value = f'{len(datasets.load_digits().target):,} images'
  # A scikit-learn that was built for other libraries raises whatever it likes.
  except Exception as error:
    yield Line('digits', _one_line(error), 'pip install scikit-learn', True)
    return
  yield Line('digits', value)


def _prepared(data_dir: str) -> Iterator[Line]:
  """What TensorFlow Datasets has prepared, from the files that describe it."""
  named = data_dir or os.environ.get('TFDS_DATA_DIR', '')
  remedy = 'name the folder with prepared data: --data_dir or TFDS_DATA_DIR'
  try:
    folder = paths.local(named or '~/tensorflow_datasets', 'TFDS_DATA_DIR')
    # NAME/VERSION or NAME/CONFIG/VERSION; `**` would follow no links.
    descriptions = sorted(
      path
      for pattern in ('*/*', '*/*/*')
      for path in folder.glob(f'{pattern}/dataset_info.json')
    )
  except (paths.PathError, OSError) as error:
    yield Line('prepared data', _one_line(error), remedy)
    return
  if not descriptions:
    there = 'has none' if folder.is_dir() else 'does not exist'
    # Most runs need none; a folder that somebody names is to have some.
    yield Line('prepared data', f'{folder} {there}', remedy if named else '')
    return
  yield Line('prepared data', f'{folder}')
  for path in descriptions:
    yield _prepared_set(path)


def _prepared_set(path: pathlib.Path) -> Line:
  """One data set: how many images its splits have, and whether files lack."""
  folder, again = path.parent, 'prepare the data set again'
  try:
    info = json.loads(path.read_text('utf-8'))
    name, file_format = info['name'], info.get('fileFormat', 'tfrecord')
    shards = {
      split['name']: [int(count) for count in split['shardLengths']]
      for split in info['splits']
    }
  except (OSError, ValueError, KeyError, TypeError) as error:
    value = f'{path} cannot be read: {_one_line(error)}'
    return Line(f'  {folder.parent.name}', value, again)
  images = ', '.join(
    f'{sum(counts):,} {split}' for split, counts in shards.items()
  )
  subject = f'  {name} {folder.name}'
  if file_format != 'array_record':
    value = f'{images} images as {file_format}, which is not read'
    return Line(subject, value, f"{again} with file_format='array_record'")
  missing = [
    f'{len(counts) - count} of {len(counts)} files of {split}'
    for split, counts in shards.items()
    if (count := len([*folder.glob(f'*-{split}.array_record*')])) < len(counts)
  ]
  if missing:
    return Line(subject, f'{", ".join(missing)} are missing', again)
  return Line(subject, f'{images} images')


def _workdir(workdir: str) -> Iterator[Line]:
  if workdir:
    try:
      folder = paths.local(workdir, '--workdir')
    except paths.PathError as error:
      yield Line('workdir', _one_line(error), 'name a folder', True)
      return
    yield _disk('workdir', folder, 'name a folder that you may write to', True)


def _disk(
  subject: str, folder: pathlib.Path, remedy: str, needed: bool
) -> Line:
  """Free space of a folder's disk, and whether it can be written to."""
  place = next(p for p in (folder, *folder.parents) if p.exists())
  try:
    with tempfile.TemporaryFile(dir=place):
      pass
  except OSError as error:
    value = f'{folder} cannot be written: {error.strerror}'
    return Line(subject, value, remedy, needed)
  free = shutil.disk_usage(place).free
  value = f'{folder}, {_gb(free)} free'
  if free < _LEAST_FREE:
    return Line(subject, value, f'free some space on the disk of {place}')
  return Line(subject, value)


def _compilation_cache() -> Iterator[Line]:
  """The folder of compiled programs, how much is in it, and its disk."""
  own = os.environ.get('JAX_COMPILATION_CACHE_DIR')
  remedy = 'set XDG_CACHE_HOME to a folder that you may write to, or all '
  remedy += 'programs are compiled anew in every run'
  try:
    folder = paths.local(own) if own else paths.cache()
  except paths.PathError as error:
    yield Line('compilation cache', _one_line(error), '' if own else remedy)
    return
  line = _disk('compilation cache', folder, remedy, False)
  if folder.is_dir():
    files = [file for file in folder.glob('*-cache') if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    count = f'{len(files):,} programs of {size / 1e6:,.0f} MB'
    line = line._replace(value=f'{line.value}, {count}')
  yield line


def _extras() -> Iterator[Line]:
  """Packages that only some commands need, by the extra that has them."""
  for extra in dict.fromkeys(p.extra for p in extras.PACKAGES.values()):
    there, missing = [], []
    for module, package in extras.PACKAGES.items():
      if package.extra == extra and importlib.util.find_spec(module):
        there.append(f'{package.name} {_version(package.name)}'.rstrip())
      elif package.extra == extra:
        missing.append(f'no {package.name}')
    value = ', '.join([*there, *missing])
    remedy = f'for {extras.PURPOSES[extra]}: {extras.install(extra)}'
    yield Line(
      f'extra {extra}', value, remedy if missing else '', optional=bool(missing)
    )
