"""Peak memory and time of a training step, and what saves memory.

  PYTHONPATH=. python tests/benchmarks/memory.py  # a GPU or a TPU
  PYTHONPATH=. python tests/benchmarks/memory.py --stage=train --method=trades
  PYTHONPATH=. python tests/benchmarks/memory.py --smoke  # a minute or two

Space I is taught by WRN-50-2 at batch 256 and 224x224 pixels, with random
weights and images, on one device: in float32, in bfloat16, and that with a
batch in parts (`accumulate`), with blocks that are recomputed (`remat`), and
with both. Each variant has a process of its own, as a peak never falls.

"Device" is the most memory that was in use at once, of GPUs and TPUs, weights
and the batch included; "XLA" is what the compiler plans for values in between
(`memory_analysis`), on any back end. On a CPU loops over parts are unrolled
(`attacks.unrolling`), and XLA may then keep several parts at once.

Not yet run on a GPU or a TPU.
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnascl_jax.config import checks, resolve, settings
from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.models import student
from rnascl_jax.models.fixed import build
from rnascl_jax.runtime import parallel
from rnascl_jax.search import arch_params, cost_tables, flops, spaces
from rnascl_jax.search.space import SearchSpace
from rnascl_jax.training import search_step, train_state, train_step


class Variant(NamedTuple):
  """What saves memory; `bfloat16` is of student and teacher."""

  bfloat16: bool = False
  accumulate: int = 1
  remat: bool = False


class Size(NamedTuple):
  """What is trained; `side` of images, `map_side` of attention maps."""

  batch: int
  side: int
  map_side: int
  space: SearchSpace
  teacher: dict[str, Any]
  classes: int


_SMALL_TEACHER = {
  'name': 'small_resnet',
  'features': (8, 16),
  'stage_sizes': (1, 1),
  'strides': (2, 2),
}


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--space', default='i', help='of Table 14')
  parser.add_argument('--teacher', default='imagenet_wide_resnet50_2')
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--stage', default='search', choices=['search', 'train'])
  parser.add_argument('--method', default='standard', help='standard, fast, ..')
  parser.add_argument('--accumulate', type=int, default=4, help='parts')
  parser.add_argument('--repeats', type=int, default=5, help='timed steps')
  parser.add_argument('--smoke', action='store_true', help='a toy size')
  parser.add_argument('--variant', type=int, help='one only, for itself')
  return parser.parse_args()


def _size(given: argparse.Namespace) -> Size:
  if not given.smoke:
    space = spaces.IMAGENET_SPACES[given.space]
    spec = {'name': given.teacher}
    return Size(given.batch, 224, 14, space, spec, 100)
  space = spaces.from_stages(
    (1, 1), ((8, 4), (16, 12)), (2, 2), squeeze_excite=0.25, head_features=32
  )
  return Size(40, 32, 4, space, _SMALL_TEACHER, 10)


def _variants(given: argparse.Namespace) -> list[Variant]:
  parts = given.accumulate
  return [
    Variant(),
    Variant(bfloat16=True),
    Variant(bfloat16=True, accumulate=parts),
    Variant(bfloat16=True, remat=True),
    Variant(bfloat16=True, accumulate=parts, remat=True),
  ]


def _recipe(
  size: Size, variant: Variant, method: str, space
) -> train_state.Recipe:
  dtype = jnp.bfloat16 if variant.bfloat16 else None
  teacher = build.network(
    size.teacher,
    num_classes=1000,
    classes=range(size.classes),
    dtype=dtype,
    axis_name=parallel.AXIS,
  )
  net = student.Student(
    space,
    size.classes,
    axis_name=parallel.AXIS,
    dtype=dtype,
    remat=variant.remat,
  )
  return train_state.Recipe(
    net=net,
    optimizer=optax.sgd(0.1, momentum=0.9),
    adversarial=resolve.adversarial_method(
      settings.AdversarialTraining(method)
    ),
    distillation=compare.Distillation(teacher, (size.map_side,) * 2),
    augment=functools.partial(batches.augment, padding=0, flip=True),
    accumulate=variant.accumulate,
  )


def _variables(net, size: Size):
  images = jnp.zeros((1, size.side, size.side, 3))
  return jax.jit(lambda k: net.init(k, images, train=False))(jax.random.key(0))


def _batch(size: Size, count: int, first: int) -> train_state.Batch:
  shape = (count, size.side, size.side, 3)
  images = np.random.default_rng(first).integers(256, size=shape)
  return train_state.Batch(
    images.astype(np.uint8),
    np.arange(count, dtype=np.int32) % size.classes,
    np.arange(first, first + count, dtype=np.int32),
  )


def _context(
  recipe: train_state.Recipe, size: Size, taps: int
) -> train_state.Context:
  teacher = recipe.distillation.teacher
  return train_state.Context(
    seed=jnp.uint32(0),
    teacher=_variables(teacher, size),
    tutors=jnp.full((taps, len(teacher.tap_names)), 1 / len(teacher.tap_names)),
    kl_weight=jnp.float32(1),
    gamma=jnp.float32(1),
  )


def _searching(size: Size, variant: Variant, method: str) -> tuple[Any, ...]:
  """The step, its state and its other arguments."""
  recipe = _recipe(size, variant, method, size.space)
  share = 0.2
  parts = checks.split_batch(size.batch, share, 1, variant.accumulate)
  shape = (size.side, size.side, 3)
  tables = flops.costs(size.space, shape, size.classes)
  search = search_step.Search(
    space=size.space,
    tables=tables,
    optimizer=optax.adam(0.01),
    steps_per_epoch=100,
    reference=cost_tables.uniform(tables),
    accumulate=search_step.arch_parts(variant.accumulate, share),
  )
  taps = len(recipe.net.tap_names)
  context = _context(recipe, size, taps)
  arch = arch_params.init_arch_params(size.space, taps, context.tutors.shape[1])
  context = context.replace(tutors=())  # They are searched.
  weights = train_state.start_from(
    recipe, _variables(recipe.net, size), shape, parts[0]
  )
  state = search_step.init_search_state(weights, arch, search.optimizer)
  own = [_batch(size, parts[0], 0), _batch(size, parts[1], parts[0])]
  return search_step.make_search_step(recipe, search), state, context, *own


def _training(size: Size, variant: Variant, method: str) -> tuple[Any, ...]:
  """The same of a training of the widest network."""
  space = spaces.widest(size.space)
  recipe = _recipe(size, variant, method, space)
  context = _context(recipe, size, len(recipe.net.tap_names))
  state = train_state.start_from(
    recipe, _variables(recipe.net, size), (size.side, size.side, 3), size.batch
  )
  step = train_step.make_train_step(recipe)
  return step, state, context, _batch(size, size.batch, 0)


def _measure(given: argparse.Namespace, variant: Variant) -> dict[str, float]:
  make = _searching if given.stage == 'search' else _training
  step, state, *rest = make(_size(given), variant, given.adversarial_training)
  devices = parallel.devices(1)
  state, *rest = (parallel.replicate(tree, devices) for tree in (state, *rest))
  program = (
    parallel.pmap(step, devices, donate=(0,)).lower(state, *rest).compile()
  )
  planned = program.memory_analysis().temp_size_in_bytes
  seconds = []
  for _ in range(given.repeats + 1):
    start = time.perf_counter()
    state, sums = program(state, *rest)
    jax.block_until_ready((state, sums))
    seconds.append(time.perf_counter() - start)
  used = devices[0].memory_stats() or {}
  return {
    'device': devices[0].device_kind,
    'planned': planned,
    'used': used.get('peak_bytes_in_use', 0),
    'seconds': min(seconds[1:]),
  }


def _row(variant: Variant, found: dict, first: dict) -> str:
  def memory(name: str) -> str:
    if not found[name]:
      return '-'
    share = found[name] / first[name]
    return f'{found[name] / 2**30:.3f} GiB ({share:.2f})'

  cells = (
    'bfloat16' if variant.bfloat16 else 'float32',
    str(variant.accumulate),
    'yes' if variant.remat else 'no',
    memory('used'),
    memory('planned'),
    f'{1e3 * found["seconds"]:.1f} ms '
    f'({found["seconds"] / first["seconds"]:.2f})',
  )
  return f'| {" | ".join(cells)} |'


def main() -> None:
  """Prints a row for each variant, beside ratios to the first that fits."""
  given = _arguments()
  if given.variant is not None:
    print(json.dumps(_measure(given, _variants(given)[given.variant])))
    return
  first: dict[str, float] = {}
  for index, variant in enumerate(_variants(given)):
    command = [sys.executable, *sys.argv, f'--variant={index}']
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
      print(f'| {variant} failed, see above: it may not have fitted |')
      continue
    found = json.loads(done.stdout.splitlines()[-1])
    if not first:
      first = found
      print(f'{given.stage}, {given.adversarial_training}: {found["device"]}')
      print('\n| compute | parts | remat | device | XLA | a step |')
      print('| :-- | --: | :-- | --: | --: | --: |')
    print(_row(variant, found, first), flush=True)


if __name__ == '__main__':
  main()
