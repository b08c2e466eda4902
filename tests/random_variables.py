"""Variables in which no two scales, biases or statistics are equal."""

import jax
import numpy as np


def draw(net, image_shape, seed: int = 0):
  """Random variables of a network, without compiling it.

  Args:
    net: a student or a teacher.
    image_shape: (H, W, C).
    seed: of the draws.

  Returns:
    Nested dicts of float32 arrays.
  """
  images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
  shapes = jax.eval_shape(
    lambda key, x: net.init(key, x, train=False), jax.random.key(0), images
  )
  rng = np.random.default_rng(seed)

  def leaf(path, like):
    if path[-1].key in ('scale', 'var'):
      values = rng.uniform(0.5, 1.5, like.shape)
    elif path[-1].key == 'kernel':
      fan_in = like.size / like.shape[-1]
      values = rng.normal(size=like.shape) * np.sqrt(2 / fan_in)
    else:
      values = 0.3 * rng.normal(size=like.shape)
    return values.astype(np.float32)

  return jax.tree_util.tree_map_with_path(leaf, shapes)
