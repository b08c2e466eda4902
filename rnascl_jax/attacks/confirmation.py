"""What counts as broken: decided in full float32, apart from the attacks.

Accelerators multiply float32 in fewer bits unless they are asked not to, and
an attack's own verdict comes from a batch of other images. Both may flip a
classification that is close; here every image is classified once more.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from rnascl_jax import parallel
from rnascl_jax.attacks import lanes, lifting, randomized
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LogitsFn

# A found image may be farther away than epsilon by rounding only.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """A classifier, images, and how they are attacked.

  Attributes:
    logits_fn: [B, H, W, C] -> [B, K], a pytree.
    key: typed random key.
    images: [N, H, W, C] in [0, 1].
    labels: [N], int32.
    indices: [N], int32, in the data set.
    epsilon: radius.
    norm: its norm.
    batch_size: images at once over all devices.
    over: the devices.
    stop_early: whether an attack on an image ends when it is broken.
    description: in front of the name of what is under way.
    verbose: whether progress is shown.
  """

  logits_fn: LogitsFn
  key: Key
  images: np.ndarray
  labels: np.ndarray
  indices: np.ndarray
  epsilon: float
  norm: Norm
  batch_size: int
  over: tuple[jax.Device, ...]
  stop_early: bool
  description: str
  verbose: bool


def logits(
  evaluation: Evaluation, images: np.ndarray, rows: np.ndarray
) -> np.ndarray:
  """Logits of images in full float32 (float64 if they are).

  Args:
    evaluation: of which the images are.
    images: [n, H, W, C].
    rows: [n], their rows: a random classifier draws by an image's index.

  Returns:
    [n, K].
  """
  over = evaluation.over
  size = lanes.sizes(evaluation.batch_size, len(over))[-1]
  classify = _classifier(over)
  shared = parallel.put((evaluation.logits_fn, evaluation.key), over)
  found = []
  for begin in range(0, len(images), size):
    part = np.resize(np.arange(begin, min(begin + size, len(images))), size)
    given = images[part], evaluation.indices[rows[part]]
    given = parallel.put(given, over, split=True)
    found.append(np.asarray(classify(shared, given)))
  if not found:
    return np.zeros((0, lifting.count_classes(evaluation.logits_fn, images)))
  return np.concatenate(found)[: len(images)]


@functools.lru_cache(maxsize=8)
def _classifier(over: tuple[jax.Device, ...]) -> Any:
  """Maps a classifier over images, each by itself, and devices."""

  def classify(
    shared: tuple[LogitsFn, Key], given: tuple[Array, Array]
  ) -> Array:
    logits_fn, key = shared

    def one(image: Array, index: Array) -> Array:
      drawn = jax.random.fold_in(key, index)
      return randomized.call(logits_fn, drawn, image[None])[0]

    with jax.default_matmul_precision('highest'):
      return jax.vmap(one)(*given)

  return parallel.split(classify, over)


def fooled(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[N] bool, whether logits [N, K] are wrong, as `stepwise.fools`."""
  return (logits.argmax(-1) != labels) | np.isnan(logits).any(-1)


def confirmed(
  evaluation: Evaluation, images: np.ndarray, rows: np.ndarray
) -> np.ndarray:
  """Which adversarial images are misclassified, in [0, 1] and in the ball.

  Args:
    evaluation: of which they are.
    images: [n, H, W, C].
    rows: [n], the rows of the images that were attacked.

  Returns:
    [n] bool.
  """
  if not len(images):
    return np.zeros(0, bool)
  wrong = fooled(logits(evaluation, images, rows), evaluation.labels[rows])
  delta = images - evaluation.images[rows]
  lengths = np.asarray(jax.vmap(evaluation.norm.length)(delta))
  near = lengths <= evaluation.epsilon + _TOLERANCE
  return wrong & near & ((images >= 0) & (images <= 1)).all((1, 2, 3))
