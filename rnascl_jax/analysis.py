"""What a trained pair of student and teacher looks at, and how steadily.

The robustness score of a teacher layer (RNAS-CL, section 5.1), the number of
student layers that each teacher layer teaches (Figs. 7, 8), and the attention
maps of Figs. 2, 5 and 9.

Example:
  >>> from rnascl_jax import analysis
  >>> analysis.tutor_histogram((1, 3, 1), 4).tolist()
  [0, 2, 0, 1]
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import attention, networks
from rnascl_jax.base import Array, Variables


def tutor_histogram(tutors: Sequence[int], teacher_layers: int) -> np.ndarray:
  """How many student layers each teacher layer teaches (Fig. 8).

  Args:
    tutors: for each student layer the index of its teacher layer.
    teacher_layers: T.

  Returns:
    [T], integers that sum to the number of student layers.
  """
  return np.bincount(np.asarray(tutors, np.int64), minlength=teacher_layers)


def robustness_scores(
  net: nn.Module, variables: Variables, images: Array, perturbed: Array
) -> np.ndarray:
  """How far an attack moves each layer, |CO_j - AO_j| / |CO_j| (section 5.1).

  Norms are l2 over a whole activation; the score is the mean over images.

  Args:
    net: the teacher.
    variables: of the teacher.
    images: [B, H, W, C] in [0, 1].
    perturbed: [B, H, W, C], the images after an attack on the teacher.

  Returns:
    [T], non-negative; lower is more robust.
  """
  return np.asarray(_scores(net, variables, images, perturbed))


@functools.partial(jax.jit, static_argnames='net')
def _scores(
  net: nn.Module, variables: Variables, images: Array, perturbed: Array
) -> Array:
  _, clean = networks.apply(net, variables, images)
  _, moved = networks.apply(net, variables, perturbed)
  return jnp.stack(
    [
      jnp.mean(_norms(a - b) / jnp.maximum(_norms(a), 1e-12))
      for a, b in zip(clean, moved, strict=True)
    ]
  )


def _norms(activation: Array) -> Array:
  flat = activation.reshape(activation.shape[0], -1).astype(jnp.float32)
  return jnp.sqrt(jnp.sum(jnp.square(flat), axis=-1))


def maps(
  net: nn.Module, variables: Variables, images: Array, size: tuple[int, int]
) -> np.ndarray:
  """Attention maps of all layers at the common size, l2-normalised.

  Args:
    net: a student or a teacher.
    variables: of the network.
    images: [B, H, W, C] in [0, 1].
    size: (h, w).

  Returns:
    [B, layers, h, w].
  """
  flat = np.asarray(_vectors(net, variables, images, size))
  return flat.reshape(*flat.shape[:2], *size)


@functools.partial(jax.jit, static_argnames=('net', 'size'))
def _vectors(
  net: nn.Module, variables: Variables, images: Array, size: tuple[int, int]
) -> Array:
  _, taps = networks.apply(net, variables, images)
  return attention.attention_vectors(taps, size)
