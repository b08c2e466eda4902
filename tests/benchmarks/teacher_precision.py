"""What a teacher in bfloat16 changes: KL and attention loss, and the time.

On test images of a run, with its trained teacher and student:

  python -m experiments.pipeline --config=configs/digits.py --workdir=DIR
  PYTHONPATH=. python tests/benchmarks/teacher_precision.py --workdir=DIR

The student stays in float32, as in training; weights are float32 in both, and
maps and logits of the teacher are float32 whatever it computes in. Times are
those of the teacher's pass with the reduction to maps, fastest of several.
"""

import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

import rnascl_jax
from rnascl_jax import (
  attention,
  batches,
  datasets,
  distillation,
  files,
  networks,
  steps,
)


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, help='of a complete run')
  parser.add_argument('--student', default='rnas_cl')
  parser.add_argument('--images', type=int, default=500)
  parser.add_argument('--repeats', type=int, default=5)
  return parser.parse_args()


def _seconds(function, *inputs, repeats: int) -> float:
  jax.block_until_ready(function(*inputs))
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(function(*inputs))
    times.append(time.perf_counter() - start)
  return min(times)


def main() -> None:
  given = _arguments()
  teacher = rnascl_jax.load(given.workdir, 'teacher')
  student = rnascl_jax.load(given.workdir, given.student)
  saved = files.read_json(pathlib.Path(given.workdir) / 'config.json')
  data = datasets.load(saved['data']['name'])
  images = jnp.asarray(batches.to_float(data.test.images[: given.images]))
  side = (saved['distillation']['map_size'],) * 2

  logits, taps = jax.jit(lambda v, x: networks.apply(student.net, v, x))(
    student.variables, images
  )
  maps = attention.attention_vectors(taps, side)
  weights = jax.nn.one_hot(
    np.asarray(student.architecture.tutors), len(teacher.net.tap_names)
  )
  found = {}
  for dtype in (jnp.float32, jnp.bfloat16):
    how = steps.Distillation(teacher.net.clone(dtype=dtype), side)
    teach = jax.jit(lambda v, x, how=how: steps.teach(how, v, x))
    lesson = teach(teacher.variables, images)
    found[dtype.__name__] = {
      'KL(student, teacher)': float(
        jnp.mean(distillation.kl_student_teacher(logits, lesson.logits))
      ),
      'attention loss, eq. (1)': float(
        jnp.mean(attention.attention_loss(maps, lesson.maps, weights))
      ),
      'accuracy of the teacher': float(
        jnp.mean(lesson.logits.argmax(-1) == data.test.labels[: given.images])
      ),
      'seconds of a pass': _seconds(
        teach, teacher.variables, images, repeats=given.repeats
      ),
    }
  print(f'{jax.devices()[0].device_kind}, {len(images)} test images')
  for name, wide in found['float32'].items():
    narrow = found['bfloat16'][name]
    print(
      f'{name:26} float32 {wide:.6g}  bfloat16 {narrow:.6g}  '
      f'difference {100 * (narrow / wide - 1):+.2f} %'
    )


if __name__ == '__main__':
  main()
