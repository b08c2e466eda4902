"""What a trained pair of student and teacher looks at, and how steadily.

The robustness score of a network's layers (RNAS-CL, section 5.1), the number of
student layers that each teacher layer teaches (Figs. 7, 8), and the attention
maps of Figs. 2, 5, 9 and 11.

Example:
  >>> from rnascl_jax.evaluation import analysis
  >>> analysis.tutor_histogram((1, 3, 1), 4).tolist()
  [0, 2, 0, 1]
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import attacks
from rnascl_jax.base import Array, Variables
from rnascl_jax.evaluation import classification
from rnascl_jax.losses import attention
from rnascl_jax.models import networks
from rnascl_jax.runtime import parallel


def tutor_histogram(tutors: Sequence[int], teacher_layers: int) -> np.ndarray:
  """How many student layers each teacher layer teaches (Fig. 8).

  Args:
    tutors: for each student layer the index of its teacher layer.
    teacher_layers: T.

  Returns:
    [T], integers that sum to the number of student layers.
  """
  return np.bincount(np.asarray(tutors, np.int64), minlength=teacher_layers)


class Scores(NamedTuple):
  """Robustness scores of a network's layers: lower is more robust.

  Attributes:
    scores: [T], non-negative, means over images.
    errors: [T], their standard errors, s / sqrt(images) with the sample
      deviation s; NaN for a single image.
  """

  scores: np.ndarray
  errors: np.ndarray


def robustness_scores(
  net: nn.Module,
  variables: Variables,
  images: np.ndarray,
  labels: np.ndarray,
  attack: Callable[..., Array],
  devices: Sequence[jax.Device],
  *,
  epsilon: float,
  seed: int,
  batch_size: int,
) -> Scores:
  """How far an attack on a network moves each of its layers (section 5.1).

  Images are attacked, and their activations compared, batch by batch in one
  program, which is compiled once; of a batch only [B, T] numbers are kept. The
  random draws of an image come from its index, so neither the batch size nor
  the number of devices changes them.

  Args:
    net: any network with taps.
    variables: of the network.
    images: [N, H, W, C], uint8, or float32 in [0, 1]; N >= 1.
    labels: [N], integers in [0, K).
    attack: for one image, taking `epsilon`, as a preset does.
    devices: devices.
    epsilon: radius in [0, 1].
    seed: of the attack's random draws.
    batch_size: images at once, rounded up to a multiple of the devices.

  Returns:
    Means over images, and their standard errors.

  Raises:
    ValueError: if there is no image, or not one label for each.

  Reference:
    Nath et al., RNAS-CL, IJCV 2024, section 5.1 and Fig. 7.
  """
  count = len(images)
  if not count or len(labels) != count:
    raise ValueError(
      f'{count} images and {len(labels)} labels: at least one image, and one '
      'label for each, are needed.'
    )
  function = _program(net, attack, tuple(devices))
  constants = parallel.replicate(
    (variables, np.uint32(seed), np.float32(epsilon)), devices
  )
  found = []
  for rows, mask in classification.rounds(count, batch_size, len(devices)):
    own = parallel.share(rows, devices)
    given = classification.floats(images, rows, devices), labels[own], own
    changes = parallel.fetch(function(*constants, *given), devices)
    found.append(changes.reshape(-1, changes.shape[-1])[mask])
  return _summary(np.concatenate(found).astype(np.float64))


def _summary(changes: np.ndarray) -> Scores:
  """Of [N, T], float64."""
  count = len(changes)
  errors = np.full(changes.shape[1], np.nan)
  if count > 1:
    errors = changes.std(0, ddof=1) / np.sqrt(count)
  return Scores(changes.mean(0), errors)


@functools.lru_cache(maxsize=4)
def _program(
  net: nn.Module, attack: Callable[..., Array], devices: tuple[jax.Device, ...]
) -> Callable:
  """Maps over devices: attacks images, and compares their activations."""

  def compare(
    variables: Variables,
    seed: Array,
    epsilon: Array,
    images: Array,
    labels: Array,
    indices: Array,
  ) -> Array:
    keys = attacks.image_keys(jax.random.key(seed), indices)
    logits_fn = networks.logits_fn(net, variables)
    perturbed = attacks.batched(attack)(
      logits_fn, keys, images, labels, epsilon=epsilon
    )
    return layer_changes(net, variables, images, perturbed)

  return parallel.pmap(compare, devices)


def layer_changes(
  net: nn.Module, variables: Variables, images: Array, perturbed: Array
) -> Array:
  """How far each image moves each layer, |CO_j - AO_j| / |CO_j|.

  Norms are l2 over a whole activation, in full float32. A layer that is 0
  without an attack and stays 0 does not move; one that leaves 0 moves by more
  than 1e6 times what it was, and shows in its standard error.

  Args:
    net: any network with taps.
    variables: of the network.
    images: [B, H, W, C] in [0, 1].
    perturbed: [B, H, W, C], the images after an attack on the network.

  Returns:
    [B, T], non-negative; its mean over images is the score of section 5.1.
  """
  chex.assert_equal_shape([images, perturbed])
  with jax.default_matmul_precision('highest'):
    _, clean = networks.apply(net, variables, images)
    _, moved = networks.apply(net, variables, perturbed)
  changes = [
    _norms(a - b) / jnp.maximum(_norms(a), 1e-12)
    for a, b in zip(clean, moved, strict=True)
  ]
  return jnp.stack(changes, axis=-1)


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
