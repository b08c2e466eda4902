"""How an attack's loop should be unrolled on this back end.

Prints the time to compile PGD and the time of one run, as a loop, with five
steps unrolled, and fully unrolled, for networks of dense convolutions and for
the student:

  python tests/benchmarks/attack_unroll.py [--networks=conv3,conv10,student]

The rule of `rnascl_jax.attacks.unrolling` rests on this table; its choice is
marked by a star.
"""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from absl import app, flags

from rnascl_jax import attacks
from rnascl_jax.models import student
from rnascl_jax.search import spaces

_NETWORKS = flags.DEFINE_list(
  'networks', ['conv3', 'conv10', 'student'], 'convN has N convolutions.'
)
_STEPS = flags.DEFINE_list('steps', ['7', '20'], 'Steps of PGD.')
_BATCH = flags.DEFINE_integer('batch', 16, 'Images in a batch.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Timed runs; the least counts.')


def _convolutions(images, num_layers):
  """Convolutions of 16 channels with ReLUs: a classifier and its weights."""
  keys = jax.random.split(jax.random.key(0), num_layers + 1)
  widths = [images.shape[-1]] + [16] * num_layers
  kernels = [
    jax.random.normal(key, (3, 3, c, 16)) * (2 / (9 * c)) ** 0.5
    for key, c in zip(keys, widths[:-1], strict=False)
  ]
  head = jax.random.normal(keys[-1], (16, 10))

  def apply(weights, x):
    kernels, head = weights
    for kernel in kernels:
      x = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
      )
      x = jax.nn.relu(x)
    return x.mean(axis=(1, 2)) @ head  # [B, K]

  return apply, (kernels, head)


def _student(images):
  """RNAS-CL-S3, of 1 x 1 and depthwise convolutions: classifier and weights."""
  stages = [(16,), (32,), (64,)]
  space = spaces.from_stages([3, 3, 3], stages, [1, 2, 2], stem_features=16)
  net = student.Student(space, num_classes=10)
  variables = net.init(jax.random.key(0), images, train=False)
  return lambda v, x: net.apply(v, x, train=False)[0], variables


def _measure(apply, weights, images, num_steps, unroll):
  """Seconds to compile PGD, and the least seconds of a run."""

  @jax.jit
  def attack(weights, keys, images, labels):
    return attacks.batched(attacks.pgd)(
      lambda x: apply(weights, x),
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
  arguments = (weights, keys, images, jnp.arange(count) % 10)
  begin = time.perf_counter()
  compiled = attack.lower(*arguments).compile()
  compile_time = time.perf_counter() - begin
  times = []
  for _ in range(_REPEATS.value + 1):
    begin = time.perf_counter()
    compiled(*arguments).block_until_ready()
    times.append(time.perf_counter() - begin)
  return compile_time, min(times)


def _choice(apply, weights, images, num_steps):
  """What `unrolling` chooses for one image."""
  gradient = jax.grad(lambda x: apply(weights, x[None])[0, 0])
  return attacks.unrolling.choose(gradient, images[0], length=num_steps)


def main(argv: Sequence[str]) -> None:
  """Prints the table."""
  del argv
  device = jax.devices()[0].device_kind
  print(f'PGD, {_BATCH.value} images 32 x 32, {device}, JAX {jax.__version__}')
  print('network  steps  unroll  compile s   run ms')
  images = jax.random.uniform(jax.random.key(2), (_BATCH.value, 32, 32, 3))
  for name in _NETWORKS.value:
    if name == 'student':
      apply, weights = _student(images)
    else:
      apply, weights = _convolutions(images, int(name.removeprefix('conv')))
    for num_steps in map(int, _STEPS.value):
      chosen = _choice(apply, weights, images, num_steps)
      for unroll in (1, 5, True):
        times = _measure(apply, weights, images, num_steps, unroll)
        print(
          f'{name:7}  {num_steps:5d}  {"all" if unroll is True else unroll:>6}'
          f'  {times[0]:9.2f}  {1e3 * times[1]:7.1f}'
          f'{"  *" if unroll is chosen else ""}',
          flush=True,
        )


if __name__ == '__main__':
  app.run(main)
