r"""Times every block of a search space on this device, for a search by latency.

  rnascl latency --config=digits --output=TABLE.json
  rnascl latency --config=cifar10 --output=TABLE.json --runtime=onnx
  rnascl latency --config=cifar10 --output=TABLE.json --batches=1,256 \
    --images=32,32,3 --classes=10

Of the config the space is used, and the shape of the images and the number of
classes, unless --images and --classes say them: then no images are read.
--runtime is what runs the networks: jax on its default device, or onnx, ONNX
Runtime on a CPU, as on a phone or a server. A CPU has one thread (--threads).

Each block at each pair of widths is compiled once and timed in a loop inside
one program, so that starting it does not count: --repeats turns of all blocks,
of which the medians are taken, at each of --batches images at once. Random
networks of the space, --networks of them drawn by --seed, are timed in the same
turns: the table that is printed, and kept in the file, says how well the sums
of their blocks agree with their times. Programs that were compiled before come
from a cache: on a machine that does other things, give the command twice.

A search takes the file with --config.search.cost=latency:TABLE.json.
"""

import dataclasses
import sys

from absl import flags

from rnascl_jax.config import resolve
from rnascl_jax.config.settings import Settings
from rnascl_jax.interop import latency, timed_networks
from rnascl_jax.reporting import tables
from rnascl_jax.runtime import paths, provenance
from rnascl_jax.search import latency_tables
from rnascl_jax.search.latency_tables import LatencyTable
from rnascl_jax.stages import launcher

_OUTPUT = flags.DEFINE_string('output', None, 'File to write, ends in .json.')
_RUNTIME = flags.DEFINE_enum(
  'runtime', 'jax', [*latency.RUNTIMES], 'What runs the networks.'
)
_BATCHES = flags.DEFINE_list(
  'batches', ['1', '64'], 'Numbers of images at once.'
)
_REPEATS = flags.DEFINE_integer('repeats', 41, 'Turns whose median is taken.')
_NETWORKS = flags.DEFINE_integer('networks', 20, 'Random networks to compare.')
_THREADS = flags.DEFINE_integer(
  'threads', 1, 'Threads of a CPU; 0 for all that there are.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Decides which networks.')
_IMAGES = flags.DEFINE_list(
  'images', [], "Height, width and channels; without it those of config's data."
)
_CLASSES = flags.DEFINE_integer('classes', 0, 'Classes, beside --images.')


def _latency(settings: Settings) -> str:
  try:
    output = paths.local(_OUTPUT.value, '--output')
    if output.suffix != '.json':
      raise ValueError(f'--output={output} must end in .json.')
    plan = _plan(settings)
    by = latency.runtime(_RUNTIME.value, _THREADS.value)
    table = latency.measure(plan, by)
  except (ValueError, FileNotFoundError) as error:
    sys.exit(f'error: {error}')
  about = provenance.describe(1) | {
    'repeats': plan.repeats,
    'networks': len(table.additivity['networks']),
    'seed': plan.seed,
  }
  table = dataclasses.replace(table, provenance=about)
  latency_tables.write(table, output)
  return f'{_additivity(table)}\n\nSaved: {output}'


def _plan(settings: Settings) -> timed_networks.Plan:
  """What is measured.

  Raises:
    ValueError: a flag is no number, or out of its bounds.
  """
  batches = _numbers('batches', _BATCHES.value)
  if len(set(batches)) < len(batches) or not batches:
    raise ValueError(f'--batches={batches} must be different numbers.')
  for name, value, low in (
    ('repeats', _REPEATS.value, 1),
    ('networks', _NETWORKS.value, 0),
    ('seed', _SEED.value, 0),
    ('threads', _THREADS.value, 0),
  ):
    if value < low:
      raise ValueError(f'--{name}={value} must be at least {low}.')
  shape, classes = _images(settings)
  return timed_networks.Plan(
    *(resolve.space(settings.space), shape, classes, batches),
    repeats=_REPEATS.value,
    networks=_NETWORKS.value,
    seed=_SEED.value,
  )


def _images(settings: Settings) -> tuple[timed_networks.Shape, int]:
  """The shape of an image and the number of classes."""
  if not _IMAGES.value and not _CLASSES.value:
    data = resolve.dataset(settings.data)
    return data.image_shape, data.num_classes
  sides = _numbers('images', _IMAGES.value)
  if len(sides) != 3 or _CLASSES.value < 1:
    raise ValueError(
      f'--images={",".join(_IMAGES.value)} and --classes={_CLASSES.value} '
      'belong together, such as --images=32,32,3 --classes=10.'
    )
  height, width, channels = sides
  return (height, width, channels), _CLASSES.value


def _numbers(flag: str, texts: list[str]) -> tuple[int, ...]:
  for text in texts:
    if not text.isdecimal() or int(text) < 1:
      raise ValueError(
        f'--{flag} has {text!r}: write positive whole numbers and commas.'
      )
  return tuple(map(int, texts))


def _additivity(table: LatencyTable) -> str:
  """How well sums of blocks agree with networks, as text for a console."""
  rows = [
    ['Batch', 'Networks', 'Spearman', 'p', 'Error', 'Largest', 'Sum/time']
  ]
  for found in table.additivity['batches']:
    ranks = [tables.NOTHING] * 2
    if found['spearman'] is not None:
      ranks = [f'{found["spearman"]:.3f}', f'{found["p_value"]:.2g}']
    errors = (found['median_error'], found['largest_error'])
    rows.append(
      [
        f'{found["batch"]}',
        f'{len(table.additivity["networks"])}',
        *ranks,
        *(f'{100 * error:.1f} %' for error in errors),
        f'{found["median_ratio"]:.3f}',
      ]
    )
  return (
    f'{len(table.blocks)} blocks, {table.runtime}, {table.device}. Sums of '
    'blocks beside times of networks:\n\n'
    f'{tables.plain(rows)}\n\nError: median and largest relative error of the '
    'sums; Sum/time: their median, which changes no search.'
  )


if __name__ == '__main__':
  flags.mark_flag_as_required('output')
  launcher.configured(_latency)
