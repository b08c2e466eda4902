"""Tutors that no search has chosen, as controls of those that it chooses.

Each control gives tutor weights g_ij [S, T] of eq. (1), in the place of those
that a search draws or has decided: whether searched tutors matter is what they
show. `uniform`, `by_depth` and `at_random` take the numbers of student and of
teacher layers and a seed, which only the last one uses.

Example:
  >>> from rnascl_jax.search import tutor_controls
  >>> print(tutor_controls.by_depth(2, 3))
  [[1. 0. 0.]
   [0. 0. 1.]]
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array, Key


def one_hot(
  tutors: Sequence[int] | np.ndarray, teacher_layers: int
) -> np.ndarray:
  """Weights of one tutor for each student layer.

  Args:
    tutors: S indices of teacher layers.
    teacher_layers: T.

  Returns:
    [S, T] float32.
  """
  return np.eye(teacher_layers, dtype=np.float32)[np.asarray(tutors)]


def uniform(
  student_layers: int, teacher_layers: int, seed: int = 0
) -> np.ndarray:
  """All teacher layers teach alike: weights [S, T] of 1 / T, float32."""
  del seed
  shape = student_layers, teacher_layers
  return np.full(shape, 1 / teacher_layers, np.float32)


def by_depth(
  student_layers: int, teacher_layers: int, seed: int = 0
) -> np.ndarray:
  """The teacher layer at the same relative depth teaches, [S, T] one-hot.

  The first layer teaches the first and the last one the last; a single student
  layer has the first.
  """
  del seed
  places = np.linspace(0, teacher_layers - 1, student_layers)
  return one_hot(np.rint(places).astype(int), teacher_layers)


def at_random(
  student_layers: int, teacher_layers: int, seed: int = 0
) -> np.ndarray:
  """A tutor for each student layer, all equally likely, [S, T] one-hot."""
  random = np.random.default_rng(seed)
  tutors = random.integers(teacher_layers, size=student_layers)
  return one_hot(tutors, teacher_layers)


def draw(key: Key, weights: Array) -> Array:
  """Draws one tutor for each student layer, with its weight as probability.

  Args:
    key: random key, consumed.
    weights: [S, T], non-negative, summing to 1 over the teacher layers.

  Returns:
    [S, T], one-hot.
  """
  tutors = jax.random.categorical(key, jnp.log(weights), axis=-1)
  return jax.nn.one_hot(tutors, weights.shape[-1], dtype=weights.dtype)
