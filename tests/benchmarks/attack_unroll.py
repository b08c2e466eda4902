"""How an attack's loop should be unrolled on this back end.

Prints, for a shallow and a deep convolutional network, the time to compile PGD
and the time of one run, for several numbers of steps and of unrolled steps:

  python tests/benchmarks/attack_unroll.py [--layers=3,20] [--steps=7,10,20,50]

The default of `unroll` in `rnascl_jax.attacks.pgd` rests on this table. The
last column is the number of runs after which full unrolling has paid for its
longer compilation.
"""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from absl import app, flags

from rnascl_jax import attacks

_LAYERS = flags.DEFINE_list('layers', ['3', '20'], 'Convolutions of networks.')
_STEPS = flags.DEFINE_list('steps', ['7', '10', '20', '50'], 'Attack steps.')
_BATCH = flags.DEFINE_integer('batch', 16, 'Images in a batch.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Timed runs; the least counts.')


def _kernels(num_layers):
  """Kernels [3, 3, C, C'] of a network of 16 channels, then a head [C, 10]."""
  keys = jax.random.split(jax.random.key(0), num_layers + 1)
  widths = [3] + [16] * num_layers
  shapes = [(3, 3, a, b) for a, b in zip(widths, widths[1:], strict=False)]
  shapes.append((16, 10))
  return [
    jax.random.normal(key, shape) * (2 / (9 * shape[-2])) ** 0.5
    for key, shape in zip(keys, shapes, strict=True)
  ]


def _logits(kernels, images):
  """Convolutions and ReLUs on 16 x 16 maps, then pooling and a head."""
  x = images  # [B, H, W, C]
  for kernel in kernels[:-1]:
    x = jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    x = jax.nn.relu(x)
  return x.mean(axis=(1, 2)) @ kernels[-1]  # [B, K]


def _measure(kernels, images, num_steps, unroll):
  """Seconds to compile PGD, and the least seconds of a run."""

  @jax.jit
  def attack(kernels, keys, images, labels):
    return attacks.batched(attacks.pgd)(
      lambda x: _logits(kernels, x),
      keys,
      images,
      labels,
      epsilon=8 / 255,
      step_size=2 / 255,
      num_steps=num_steps,
      unroll=unroll,
    )

  count = len(images)
  keys = attacks.image_keys(jax.random.key(1), jnp.arange(count))
  arguments = (kernels, keys, images, jnp.arange(count) % 10)
  begin = time.perf_counter()
  compiled = attack.lower(*arguments).compile()
  compile_time = time.perf_counter() - begin
  times = []
  for _ in range(_REPEATS.value + 1):
    begin = time.perf_counter()
    compiled(*arguments).block_until_ready()
    times.append(time.perf_counter() - begin)
  return compile_time, min(times)


def main(argv: Sequence[str]) -> None:
  """Prints the table."""
  del argv
  device = jax.devices()[0].device_kind
  print(
    f'PGD on {_BATCH.value} images 16 x 16, {device}, JAX {jax.__version__}'
  )
  print('convs  steps  unroll  compile s   run ms  pays after runs')
  images = jax.random.uniform(jax.random.key(2), (_BATCH.value, 16, 16, 3))
  for num_layers in map(int, _LAYERS.value):
    kernels = _kernels(num_layers)
    for num_steps in map(int, _STEPS.value):
      looped = _measure(kernels, images, num_steps, 1)
      _print_row(num_layers, num_steps, '1', *looped)
      partly = _measure(kernels, images, num_steps, 5)
      _print_row(num_layers, num_steps, '5', *partly)
      unrolled = _measure(kernels, images, num_steps, True)
      saved = max(looped[1] - unrolled[1], 1e-9)
      pays = max(unrolled[0] - looped[0], 0.0) / saved
      _print_row(num_layers, num_steps, 'all', *unrolled, f'{pays:15.1f}')


def _print_row(num_layers, num_steps, unroll, compiling, running, pays=''):
  print(
    f'{num_layers:5d}  {num_steps:5d}  {unroll:>6}  {compiling:9.2f}  '
    f'{1e3 * running:7.1f}  {pays}',
    flush=True,
  )


if __name__ == '__main__':
  app.run(main)
