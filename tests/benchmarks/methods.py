"""What each method of distillation costs in a training step, beside KL.

  PYTHONPATH=. python tests/benchmarks/methods.py  # S3, batch 128
  PYTHONPATH=. python tests/benchmarks/methods.py \
    --teacher=wide_resnet34_10 --negatives=16384  # a GPU

A step of training is timed with each of `resolve.METHODS` in the place of KL,
without cross-connections, then with KL and the attention loss, and with KL and
layer-wise KL. All steps take turns, so what else a machine does falls on all of
them; the fastest of each counts, and ratios to the step with KL are printed
with the numbers that each of them adds to the train state.
"""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from rnascl_jax.config import resolve, settings
from rnascl_jax.data import batches
from rnascl_jax.models import fixed, student
from rnascl_jax.runtime import parallel
from rnascl_jax.search import spaces
from rnascl_jax.training import adversarial, loop, train_state, train_step
from rnascl_jax.training.loader import DeviceData

_SPACE = flags.DEFINE_string('space', 's3', 'Search space of Table 13.')
_TEACHER = flags.DEFINE_string('teacher', 'small_resnet', 'Teacher network.')
_BATCH = flags.DEFINE_integer('batch', 128, 'Images of a step.')
_IMAGES = flags.DEFINE_integer('images', 45_000, 'Training images, for CRD.')
_NEGATIVES = flags.DEFINE_integer('negatives', 4096, 'Of each image, for CRD.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Timed rounds; the fastest.')

_SHAPE = (32, 32, 3)
_CLASSES = 10
# Fields of a student; the first is what all others are compared with.
_VARIANTS = {
  'kl': {},
  **{name: {'method': name} for name in resolve.METHODS if name != 'kl'},
  'kl + attention': {'gamma': 1.0},
  'kl + layer-wise KL': {'gamma': 1.0, 'layer_loss': 'layerwise_kl'},
}


def _recipe(fields: dict) -> train_state.Recipe:
  narrow = jax.default_backend() != 'cpu'
  teacher = fixed.NETWORKS[_TEACHER.value](
    num_classes=_CLASSES, dtype=jnp.bfloat16 if narrow else None
  )
  taught = settings.StudentSettings(**{'gamma': 0.0} | fields)
  return train_state.Recipe(
    net=student.Student(
      spaces.widest(spaces.CIFAR_SPACES[_SPACE.value]),
      _CLASSES,
      axis_name=parallel.AXIS,
    ),
    # So slow that no method runs away.
    optimizer=optax.sgd(1e-6, momentum=0.9),
    adversarial=adversarial.standard(),
    distillation=resolve.distill(
      settings.DistillationSettings(crd_negatives=_NEGATIVES.value),
      teacher,
      resolve.distillation_spec(taught, 'students.benchmark'),
    ),
    augment=functools.partial(batches.augment, padding=4, flip=True),
  )


def _step(fields: dict, devices) -> tuple[Callable[[], None], int]:
  """Makes a step, and says how many numbers the method adds to the state."""
  recipe = _recipe(fields)
  teacher = recipe.distillation.teacher
  labels = np.arange(_IMAGES.value, dtype=np.int32) % _CLASSES
  state = train_state.init_state(
    recipe, jax.random.key(0), _SHAPE, _BATCH.value, labels
  )
  images = jnp.zeros((1, *_SHAPE))
  variables = jax.jit(lambda k: teacher.init(k, images, train=False))(
    jax.random.key(1)
  )
  layers = len(recipe.net.tap_names), len(teacher.tap_names)
  context = train_state.Context(
    seed=jnp.uint32(0),
    teacher=variables,
    tutors=jnp.eye(*layers),
    kl_weight=jnp.float32(1),
    gamma=jnp.float32(1),
  )
  random = np.random.default_rng(0)
  pixels = random.integers(0, 256, (_BATCH.value, *_SHAPE)).astype(np.uint8)
  data = DeviceData(pixels, labels[: _BATCH.value])
  added = sum(
    x.size for x in jax.tree.leaves((state.projections, state.memory))
  )
  held = [parallel.replicate(state, devices)]
  context, data = (parallel.replicate(t, devices) for t in (context, data))
  rows = (parallel.share(np.arange(_BATCH.value)[None], devices, axis=1),)
  dispatch = loop.make_dispatch(
    train_step.make_train_step(recipe), tuple(devices)
  )

  def run() -> None:
    held[0], sums = dispatch(held[0], context, data, rows)
    jax.block_until_ready((held[0], sums))

  return run, added


def main(argv) -> None:
  """Prints the numbers."""
  del argv
  devices = parallel.devices()
  print(
    f'{len(devices)} x {devices[0].device_kind}, JAX {jax.__version__}, '
    f'{_SPACE.value}, {_TEACHER.value}, batch {_BATCH.value}'
  )
  made = {name: _step(fields, devices) for name, fields in _VARIANTS.items()}
  fastest = dict.fromkeys(made, float('inf'))
  for timed in [False] + [True] * _REPEATS.value:
    for name, (run, _) in made.items():
      start = time.perf_counter()
      run()
      if timed:
        seconds = time.perf_counter() - start
        fastest[name] = min(fastest[name], seconds)
  for name, (_, added) in made.items():
    ratio = fastest[name] / fastest['kl']
    print(
      f'{name:20} {1000 * fastest[name]:8.1f} ms {ratio:6.2f} x KL '
      f'{added:>12,} numbers in the state'
    )


if __name__ == '__main__':
  app.run(main)
