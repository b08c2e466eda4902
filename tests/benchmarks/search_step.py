"""Times a search step, the teacher alone, and what masks cost.

  python tests/benchmarks/search_step.py  # S3 with a small teacher: a CPU
  python tests/benchmarks/search_step.py --teacher=wide_resnet34_10 \
    --batch=256 --peak_tflops=989  # the paper's teacher: a GPU in bfloat16

Images a second of the search step (weights and architecture, teacher included)
and of the teacher's forward pass alone; the share of the card's peak that the
teacher's multiply-adds reach, if the peak is given; and the time of a training
step of the supernet over that of the plain widest network, without teacher.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.models import fixed, networks, student
from rnascl_jax.runtime import host_memory, parallel
from rnascl_jax.search import arch_params, cost_tables, flops, spaces
from rnascl_jax.training import adversarial, loop, search_step, train_state
from rnascl_jax.training.loader import DeviceData

_SPACE = flags.DEFINE_string('space', 's3', 'Search space of Table 13.')
_TEACHER = flags.DEFINE_string('teacher', 'small_resnet', 'Teacher network.')
_BATCH = flags.DEFINE_integer('batch', 128, 'Images of a step.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Timed runs; the fastest counts.')
_DISPATCH = flags.DEFINE_integer('dispatch', 0, 'Steps a dispatch; 0 picks.')
_PEAK = flags.DEFINE_float('peak_tflops', 0.0, "The card's peak, in TFLOP/s.")

_SHAPE = (32, 32, 3)


def _seconds(function, *arguments) -> float:
  """The fastest of several runs, compilation apart."""
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(_REPEATS.value):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - start)
  return min(times)


def _teacher():
  narrow = jax.default_backend() != 'cpu'
  return fixed.NETWORKS[_TEACHER.value](
    num_classes=10, dtype=jnp.bfloat16 if narrow else None
  )


def _search_step(devices) -> float:
  """Seconds of one search step."""
  space = spaces.CIFAR_SPACES[_SPACE.value]
  net, teacher = student.Student(space, 10, axis_name=parallel.AXIS), _teacher()
  recipe = train_state.Recipe(
    net=net,
    optimizer=optax.sgd(0.1, momentum=0.9),
    adversarial=adversarial.standard(),
    distillation=compare.Distillation(teacher),
    augment=functools.partial(batches.augment, padding=4, flip=True),
  )
  tables = flops.costs(space, _SHAPE, 10)
  search = search_step.Search(
    space=space,
    tables=tables,
    optimizer=optax.adam(0.01),
    steps_per_epoch=390,
    reference=cost_tables.uniform(tables),
  )
  part = round(_BATCH.value * 0.8 / len(devices)) * len(devices)
  weights = train_state.init_state(recipe, jax.random.key(0), _SHAPE, part)
  arch = arch_params.init_arch_params(
    space, len(net.tap_names), len(teacher.tap_names)
  )
  state = search_step.init_search_state(weights, arch, search.optimizer)
  context = train_state.Context(
    seed=jnp.uint32(0),
    teacher=_variables(teacher),
    tutors=(),
    kl_weight=jnp.float32(1),
    gamma=jnp.float32(1),
  )
  dispatch = loop.make_dispatch(
    search_step.make_search_step(recipe, search), tuple(devices)
  )
  data = DeviceData(
    np.zeros((1024, *_SHAPE), np.uint8), np.zeros(1024, np.int32)
  )
  many = _DISPATCH.value or (1 if jax.default_backend() == 'cpu' else 10)
  rows = tuple(
    parallel.share(np.zeros((many, size), np.int32), devices, axis=1)
    for size in (part, _BATCH.value - part)
  )
  context, data = (parallel.replicate(t, devices) for t in (context, data))
  state = parallel.replicate(state, devices)
  times = []
  for _ in range(_REPEATS.value + 1):
    start = time.perf_counter()
    state, sums = dispatch(state, context, data, rows)
    jax.block_until_ready((state, sums))
    times.append(time.perf_counter() - start)
  return min(times[1:]) / many


def _variables(net):
  images = jnp.zeros((1, *_SHAPE))
  return jax.jit(lambda k: net.init(k, images, train=False))(jax.random.key(0))


def _teacher_seconds() -> tuple[float, int]:
  """Seconds of the teacher's forward pass on a batch, and MACs an image."""
  teacher = _teacher()
  variables = _variables(teacher)
  images = jnp.zeros((_BATCH.value, *_SHAPE))
  forward = jax.jit(lambda v, x: networks.apply(teacher, v, x)[0])
  macs = flops.trace_macs(forward, variables, images[:1])
  return _seconds(forward, variables, images), macs


def _mask_cost() -> float:
  """A step's time with masks over that without."""
  space = spaces.CIFAR_SPACES[_SPACE.value]
  wide = student.Student(spaces.widest(space), 10)
  net = student.Student(space, 10)
  variables = _variables(net)
  images = jnp.zeros((_BATCH.value, *_SHAPE))
  uniform = [jnp.full(len(b.choices), 1 / len(b.choices)) for b in space.blocks]
  masks = arch_params.masks(space, uniform)

  def gradient(module, with_masks):
    def loss(params, masks):
      (logits, _), _ = module.apply(
        {**variables, 'params': params},
        images,
        masks if with_masks else None,
        train=True,
        mutable=['batch_stats'],
      )
      return jnp.sum(jnp.square(logits))

    return jax.jit(jax.grad(loss))

  masked = _seconds(gradient(net, True), variables['params'], masks)
  plain = _seconds(gradient(wide, False), variables['params'], masks)
  return masked / plain


def main(argv) -> None:
  """Prints the numbers."""
  del argv
  host_memory.keep()
  devices = parallel.devices()
  print(f'{len(devices)} x {devices[0].device_kind}, JAX {jax.__version__}')
  seconds, macs = _teacher_seconds()
  rate = _BATCH.value / seconds
  print(
    f'teacher {_TEACHER.value}: {rate:.0f} images/s, {macs / 1e6:.1f} MMACs'
  )
  if _PEAK.value:
    share = 2 * macs * rate / (_PEAK.value * 1e12)
    print(f'teacher: {100 * share:.1f} % of {_PEAK.value:.0f} TFLOP/s')
  step = _search_step(devices)
  print(f'search step {_SPACE.value}: {_BATCH.value / step:.0f} images/s')
  print(f'teacher / search step: {100 * seconds / step:.0f} % of the time')
  print(f'supernet / plain network: {_mask_cost():.2f} times the time')


if __name__ == '__main__':
  app.run(main)
