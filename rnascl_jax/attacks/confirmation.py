"""What counts as broken: decided in full float32, apart from the attacks.

Accelerators multiply float32 in fewer bits unless they are asked not to, and
an attack's own verdict comes from a batch of other images. Both may flip a
classification that is close; here every image is classified once more.
"""

import functools
from typing import Any

import jax
import numpy as np

from rnascl_jax.attacks import arguments, compiled, lanes, randomized
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.attacks.tasks import Task
from rnascl_jax.base import Array, Key, LogitsFn
from rnascl_jax.runtime import parallel

# An image may be farther away than epsilon by rounding only.
TOLERANCE = 1e-6
# Images whose distances are computed at once, so that nothing compiles anew.
_BATCH_SIZE = 64


def logits(
  task: Task, images: np.ndarray, rows: np.ndarray, *, stage: int = 0
) -> np.ndarray:
  """Logits of images in full float32 (float64 if they are).

  Args:
    task: of which the images are.
    images: [n, H, W, C].
    rows: [n], their rows: a random classifier draws by an image's index.
    stage: and by this number.

  Returns:
    [n, K].
  """
  over = task.over
  size = lanes.sizes(task.batch_size, len(over), len(task.images))[-1]
  key = jax.random.fold_in(task.key, stage)
  leaves, structure = jax.tree.flatten((task.logits_fn, key))
  classify = _classifier(structure, over)
  shared = parallel.put(leaves, over)
  found = []
  for begin in range(0, len(images), size):
    part = np.resize(np.arange(begin, min(begin + size, len(images))), size)
    given = images[part], task.indices[rows[part]]
    given = parallel.put(given, over, split=True)
    found.append(parallel.fetch(classify(shared, given), over))
  if not found:
    return np.zeros((0, arguments.count_classes(task.logits_fn, images)))
  return np.concatenate(found)[: len(images)]


@functools.lru_cache(maxsize=16)
def _classifier(structure: Any, over: tuple[jax.Device, ...]) -> Any:
  """Maps a classifier over images, each by itself, and devices.

  Args:
    structure: of the classifier and a key.
    over: the devices.
  """

  def classify(
    shared: tuple[LogitsFn, Key], given: tuple[Array, Array]
  ) -> Array:
    logits_fn, key = shared

    def one(image: Array, index: Array) -> Array:
      drawn = jax.random.fold_in(key, index)
      return randomized.call(logits_fn, drawn, image[None])[0]

    with jax.default_matmul_precision('highest'):
      return jax.vmap(one)(*given)

  return parallel.split(compiled.of_leaves(classify, structure), over)


def fooled(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[N] bool, whether logits [N, K] are wrong, as `stepwise.fools`."""
  return (logits.argmax(-1) != labels) | np.isnan(logits).any(-1)


def confirmed(
  task: Task, images: np.ndarray, rows: np.ndarray, *, stage: int
) -> np.ndarray:
  """Which adversarial images are misclassified, in [0, 1] and in the ball.

  Args:
    task: of which they are.
    images: [n, H, W, C].
    rows: [n], the rows of the images that were attacked.
    stage: as of `logits`.

  Returns:
    [n] bool.
  """
  if not len(images):
    return np.zeros(0, bool)
  found = logits(task, images, rows, stage=stage)
  wrong = fooled(found, task.labels[rows])
  return wrong & in_ball(
    images,
    task.images[rows],
    epsilon=task.epsilon,
    norm=task.norm,
  )


def in_ball(
  images: np.ndarray, originals: np.ndarray, *, epsilon: float, norm: Norm
) -> np.ndarray:
  """Which images are in [0, 1] and no farther than epsilon, to 1e-6.

  Args:
    images: [n, H, W, C].
    originals: [n, H, W, C].
    epsilon: radius.
    norm: of the ball.

  Returns:
    [n] bool.
  """
  deltas = images - originals
  lengths = np.zeros(len(images), images.dtype)
  padded = -(-len(images) // _BATCH_SIZE) * _BATCH_SIZE
  for begin in range(0, padded, _BATCH_SIZE):
    part = deltas[begin : begin + _BATCH_SIZE]
    filled = np.zeros((_BATCH_SIZE, *part.shape[1:]), part.dtype)
    filled[: len(part)] = part
    found = np.asarray(_lengths(norm, filled))
    lengths[begin : begin + len(part)] = found[: len(part)]
  valid = ((images >= 0) & (images <= 1)).all((1, 2, 3))
  return valid & (lengths <= epsilon + TOLERANCE)


@functools.partial(jax.jit, static_argnames='norm')
def _lengths(norm: Norm, deltas: Array) -> Array:
  return jax.vmap(norm.length)(deltas)
