"""Times the compilation of AutoAttack's `standard` for S3, in a checkout.

  PYTHONPATH=CHECKOUT python tests/benchmarks/attack_compilation.py

Prints a JSON object: seconds of the first attack of 16 images less those of a
second one, which has nothing to compile. Nothing is read from a cache.
"""

import json
import os
import time

os.environ['JAX_ENABLE_COMPILATION_CACHE'] = '0'

import jax
import numpy as np
from absl import app

from rnascl_jax import attacks
from rnascl_jax.models import networks, student
from rnascl_jax.search import spaces


def main(argv) -> None:
  """Prints the seconds."""
  del argv
  net = student.Student(spaces.widest(spaces.CIFAR_SPACES['s3']), 10)
  images = np.random.default_rng(0).random((16, 32, 32, 3)).astype(np.float32)
  init = jax.jit(lambda key: net.init(key, images[:1], train=False))
  logits_fn = networks.logits_fn(net, init(jax.random.key(0)))
  labels = np.asarray(logits_fn(images).argmax(-1))
  seconds = []
  for _ in range(2):
    begin = time.perf_counter()
    attacks.auto_attack(
      logits_fn,
      images,
      labels,
      epsilon=0.5 / 255,
      batch_size=16,
      verbose=False,
    )
    seconds.append(time.perf_counter() - begin)
  print(json.dumps({'compile_s': round(seconds[0] - seconds[1], 1)}))


if __name__ == '__main__':
  app.run(main)
