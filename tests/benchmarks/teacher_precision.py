"""What a teacher in bfloat16 changes: KL and attention loss, and the time.

On test images of a run, with its trained teacher and student:

  rnascl pipeline --config=digits --workdir=DIR
  PYTHONPATH=. python tests/benchmarks/teacher_precision.py --workdir=DIR

With a larger teacher in its place, of random weights, all of whose layers
teach all layers of the student alike:

  PYTHONPATH=. python tests/benchmarks/teacher_precision.py --workdir=DIR \
    --network=wide_resnet34_10 --images=64

The student stays in float32, as in training; weights are float32 in both, and
maps and logits of the teacher are float32 whatever it computes in. Times are
those of the teacher's pass with the reduction to maps, fastest of several.
"""

import argparse
import pathlib
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import rnascl_jax
from rnascl_jax import losses
from rnascl_jax.data import batches, datasets
from rnascl_jax.distillation import compare
from rnascl_jax.losses import attention
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import build
from rnascl_jax.runtime import files


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, help='of a complete run')
  parser.add_argument('--student', default='rnas_cl')
  parser.add_argument('--network', default='', help='name, then fields')
  parser.add_argument('--images', type=int, default=500)
  parser.add_argument('--repeats', type=int, default=5)
  return parser.parse_args()


def _teacher(
  given: argparse.Namespace, data: datasets.Dataset
) -> tuple[nn.Module, Any]:
  """The network that teaches, and its variables."""
  if not given.network:
    model = rnascl_jax.load(given.workdir, 'teacher')
    return model.net, model.variables
  net = build.network(
    build.from_text(given.network),
    num_classes=data.num_classes,
    mean=data.mean,
    std=data.std,
  )
  images = jnp.zeros((1, *data.image_shape))
  init = jax.jit(lambda key: net.init(key, images, train=False))
  return net, init(jax.random.key(0))


def _seconds(function, *inputs, repeats: int) -> float:
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(function(*inputs))
    times.append(time.perf_counter() - start)
  return min(times)


def main() -> None:
  """Prints both teachers' losses and times, and how they differ."""
  given = _arguments()
  saved = files.read_json(pathlib.Path(given.workdir) / 'config.json')
  data = datasets.load(saved['data']['name'])
  net, variables = _teacher(given, data)
  student = rnascl_jax.load(given.workdir, given.student)
  images = jnp.asarray(batches.to_float(data.test.images[: given.images]))
  labels = data.test.labels[: given.images]
  side = (saved['distillation']['map_size'],) * 2

  apply_student = jax.jit(lambda v, x: networks.apply(student.net, v, x))
  logits, taps = apply_student(student.variables, images)
  maps = attention.attention_vectors(taps, side)
  layers = len(net.tap_names)
  weights = jnp.full((len(taps), layers), 1 / layers)
  if not given.network:
    weights = jax.nn.one_hot(np.asarray(student.architecture.tutors), layers)

  def measured(dtype) -> dict[str, float]:
    how = compare.Distillation(net.clone(dtype=dtype), side)
    teach = jax.jit(lambda v, x: compare.ask_teacher(how, v, x))
    lesson = jax.block_until_ready(teach(variables, images))
    kl = losses.kl_student_teacher(logits, lesson.selected)
    attended = attention.attention_loss(maps, lesson.maps, weights)
    return {
      'KL(student, teacher)': float(kl.mean()),
      'attention loss, eq. (1)': float(attended.mean()),
      'accuracy of the teacher': float(
        (lesson.selected.argmax(-1) == labels).mean()
      ),
      'seconds of a pass': _seconds(
        teach, variables, images, repeats=given.repeats
      ),
    }

  wide, narrow = measured(jnp.float32), measured(jnp.bfloat16)
  print(f'{jax.devices()[0].device_kind}, {len(images)} test images')
  for name, value in wide.items():
    print(
      f'{name:26} float32 {value:.6g}  bfloat16 {narrow[name]:.6g}  '
      f'difference {100 * (narrow[name] / value - 1):+.3f} %'
    )


if __name__ == '__main__':
  main()
