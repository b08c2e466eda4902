"""Times a step of every training method against the passes that it needs.

  B=tests/benchmarks/adversarial_methods.py
  PYTHONPATH=. python $B  # S3, batch 128: a CPU
  PYTHONPATH=. python $B --network=resnet18 --batch=128 --cac  # a GPU

The ideal time of a step is that of its passes through the network, measured by
themselves: forward; the gradient by images, in evaluation or in training mode;
the gradient by weights in training mode; and the one by both at once that Free
makes. A program's first pass costs more than those after it, as its memory is
fresh: here 32 ms for 76 MB, about as much as the pass itself. So programs of
one pass and of several, each on what the one before left, are timed. Of an
ideal step one pass costs what a program of one does, and each other pass the
difference that it makes. The overhead is what a whole step takes beyond that:
augmentation, projections, losses, the optimiser, metrics.

Programs are run in turn, many times; the fastest of each counts.
"""

import collections
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax import lax

from rnascl_jax import losses
from rnascl_jax.attacks import unrolling
from rnascl_jax.config import resolve, settings
from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.models import fixed, networks, student
from rnascl_jax.runtime import parallel
from rnascl_jax.search import spaces
from rnascl_jax.training import loop, train_state, train_step
from rnascl_jax.training.loader import DeviceData

_SPACE = flags.DEFINE_string('space', 's3', 'Search space, its widest network.')
_NETWORK = flags.DEFINE_string('network', '', 'A teacher network instead.')
_BATCH = flags.DEFINE_integer('batch', 128, 'Images of a step.')
_SIDE = flags.DEFINE_integer('side', 32, 'Pixels of a side of an image.')
_CAC = flags.DEFINE_bool('cac', False, 'Whether methods with CAC run too.')
_DEVICES = flags.DEFINE_integer('devices', 0, 'How many; 0 for all.')
_REPEATS = flags.DEFINE_integer('repeats', 10, 'Timed runs of each.')

# Of a pass: its kind, and how many of them.
_Program = tuple[str, int]
_Passes = collections.Counter
# Passes of the longer programs.
_MANY = 5
_FORWARD, _IN_EVALUATION, _IN_TRAINING, _WEIGHTS, _BOTH = (
  'forward',
  'by images, evaluation mode',
  'by images, training mode',
  'by weights',
  'by weights and images',
)


def _regimes() -> dict[str, tuple[settings.AdversarialTraining, _Passes]]:
  """Methods, and how many passes of each kind a step needs."""
  method, passes = settings.AdversarialTraining, _Passes
  attack, m = 10, 8
  found = {
    'standard': (method(), passes({_WEIGHTS: 1})),
    'pgd-10': (method('pgd'), passes({_IN_TRAINING: attack, _WEIGHTS: 1})),
    'pgd-10, evaluation mode': (
      method('pgd', attack_mode='evaluation'),
      passes({_IN_EVALUATION: attack, _WEIGHTS: 1}),
    ),
    'fast': (method('fast'), passes({_IN_TRAINING: 1, _WEIGHTS: 1})),
    'free-8': (method('free', replays=m), passes({_BOTH: m})),
    # Predictions of the images once, then the attack; weights see both views.
    'trades-10': (
      method('trades'),
      passes({_FORWARD: 1, _IN_EVALUATION: attack, _WEIGHTS: 2}),
    ),
  }
  if not _CAC.value:
    return found
  return found | {
    'pgd-10 + cac': (
      method('pgd', cac_weight=1.0),
      found['pgd-10'][1] + passes({_WEIGHTS: 1}),
    ),
    'fast + cac': (
      method('fast', cac_weight=1.0),
      found['fast'][1] + passes({_WEIGHTS: 1}),
    ),
    'free-8 + cac': (
      method('free', replays=m, cac_weight=1.0),
      found['free-8'][1] + passes({_WEIGHTS: m}),
    ),
    'trades-10 + cac': (
      method('trades', cac_weight=1.0),
      found['trades-10'][1],
    ),
  }


def _network():
  if _NETWORK.value:
    make = fixed.NETWORKS[_NETWORK.value]
    return make(num_classes=10, axis_name=parallel.AXIS)
  space = spaces.widest(spaces.CIFAR_SPACES[_SPACE.value])
  return student.Student(space, 10, axis_name=parallel.AXIS)


def _recipe(net, method: settings.AdversarialTraining) -> train_state.Recipe:
  return train_state.Recipe(
    net=net,
    optimizer=optax.chain(
      optax.add_decayed_weights(5e-4), optax.sgd(1e-3, momentum=0.9)
    ),
    adversarial=resolve.adversarial_method(method),
    distillation=compare.Distillation(),
    augment=functools.partial(batches.augment, padding=4, flip=True),
  )


def _step(
  net, variables, method: settings.AdversarialTraining, devices
) -> Callable[[], Any]:
  """A whole training step."""
  recipe = _recipe(net, method)
  shape = (_SIDE.value, _SIDE.value, 3)
  state = train_state.start_from(recipe, variables, shape, _BATCH.value)
  zero = jnp.float32(0)
  context = train_state.Context(jnp.uint32(0), (), (), zero, zero)
  data = DeviceData(*_images(np.uint8))
  dispatch = loop.make_dispatch(
    train_step.make_train_step(recipe), tuple(devices)
  )
  rows = np.arange(_BATCH.value, dtype=np.int32)[None]
  rows = (parallel.share(rows, devices, axis=1),)
  held = [parallel.replicate(state, devices)]
  context, data = (parallel.replicate(x, devices) for x in (context, data))

  def run():
    held[0], sums = dispatch(held[0], context, data, rows)
    return held[0], sums

  return run


def _images(dtype) -> tuple[np.ndarray, np.ndarray]:
  shape = (_BATCH.value, _SIDE.value, _SIDE.value, 3)
  images = np.random.default_rng(0).integers(256, size=shape)
  if dtype != np.uint8:
    images = images / 255
  return images.astype(dtype), np.arange(_BATCH.value, dtype=np.int32) % 10


def _passes(net, variables, devices) -> dict[_Program, Callable[[], Any]]:
  """Programs of one pass and of `_MANY`, for each kind of pass."""
  moves = _moves(networks.functional(net))
  images, labels = (
    jax.device_put(parallel.share(x, devices)) for x in _images(np.float32)
  )
  params, stats = (
    parallel.replicate(variables[name], devices)
    for name in ('params', 'batch_stats')
  )

  def program(move, length: int):
    def run(*arguments):
      *state, labels = arguments

      def one(state, _):
        return move(state, labels), None

      unroll = unrolling.choose(move, state, labels, length=length)
      return lax.scan(one, tuple(state), length=length, unroll=unroll)[0]

    mapped = parallel.pmap(run, devices)
    return functools.partial(mapped, params, images, stats, labels)

  return {
    (kind, length): program(move, length)
    for kind, move in moves.items()
    for length in (1, _MANY)
  }


def _moves(network) -> dict[str, Callable[[Any, Any], Any]]:
  """Passes that change what they were given, so that the next one is another.

  Each is (state, labels) -> state, a state being weights, images, statistics.
  """

  def loss(params, images, stats, labels, *, train: bool):
    (logits, _), new = network(params, stats, images, train=train)
    return jnp.mean(losses.cross_entropy(logits, labels)), new

  def forward(state, labels):
    params, images, stats = state
    value, _ = loss(*state, labels, train=False)
    return params, images + 1e-9 * value, stats

  def descent(*by: int, train: bool):
    gradient = jax.grad(functools.partial(loss, train=train), by, has_aux=True)

    def move(state, labels):
      slopes, stats = gradient(*state, labels)
      moved = list(state[:2])
      for place, slope in zip(by, slopes, strict=True):
        moved[place] = jax.tree.map(
          lambda x, g: x - 1e-6 * g, moved[place], slope
        )
      return *moved, stats

    return move

  return {
    _FORWARD: forward,
    _IN_EVALUATION: descent(1, train=False),
    _IN_TRAINING: descent(1, train=True),
    _WEIGHTS: descent(0, train=True),
    _BOTH: descent(0, 1, train=True),
  }


def _fastest(functions: dict[Any, Callable[[], Any]]) -> dict[Any, float]:
  """Milliseconds of each, run in turn, compilation apart."""
  times: dict[Any, list[float]] = {name: [] for name in functions}
  for _ in range(_REPEATS.value + 1):
    for name, function in functions.items():
      start = time.perf_counter()
      jax.block_until_ready(function())
      times[name].append(1e3 * (time.perf_counter() - start))
  return {name: min(found[1:]) for name, found in times.items()}


def _ideal(times: dict[Any, float], passes: _Passes) -> float:
  """Milliseconds of a program of these passes."""
  first = _WEIGHTS if passes[_WEIGHTS] else _BOTH
  more = passes - _Passes([first])
  return times[first, 1] + sum(n * _further(times, k) for k, n in more.items())


def _further(times: dict[Any, float], kind: str) -> float:
  """Milliseconds of one more pass in a program."""
  return (times[kind, _MANY] - times[kind, 1]) / (_MANY - 1)


def main(argv) -> None:
  """Prints both tables."""
  del argv
  devices = parallel.devices(_DEVICES.value)
  net = _network()
  shape = (1, _SIDE.value, _SIDE.value, 3)
  variables = jax.jit(lambda k: net.init(k, jnp.zeros(shape), train=False))(
    jax.random.key(0)
  )
  methods = _regimes()
  whole = {
    name: _step(net, variables, method, devices)
    for name, (method, _) in methods.items()
  }
  times = _fastest(_passes(net, variables, devices) | whole)
  print(
    f'{_NETWORK.value or _SPACE.value}, batch {_BATCH.value}, '
    f'{len(devices)} x '
    f'{devices[0].device_kind}, JAX {jax.__version__}, '
    f'fastest of {_REPEATS.value}'
  )
  print(f'\n{"pass, ms":27}  by itself  each more')
  for kind in (_FORWARD, _IN_EVALUATION, _IN_TRAINING, _WEIGHTS, _BOTH):
    print(f'{kind:27} {times[kind, 1]:10.1f} {_further(times, kind):10.1f}')
  print(f'\n{"method":23}  steps/s  ms a step    ideal  overhead')
  for name, (_, passes) in methods.items():
    ideal = _ideal(times, passes)
    print(
      f'{name:23} {1e3 / times[name]:8.2f} {times[name]:10.1f} {ideal:8.1f}  '
      f'{100 * (times[name] / ideal - 1):6.1f} %'
    )


if __name__ == '__main__':
  app.run(main)
