"""The first test images under one attack, for people to look at.

`evaluation/examples/<model>.npz` has a few images, what the attack made of
them, and how the model classifies both. It is made of results that are there
anyway, whether or not all adversarial images are kept.
"""

import numpy as np
import scipy

from rnascl_jax.evaluation.attack_specs import AttackSpec
from rnascl_jax.evaluation.target import EvaluationTarget
from rnascl_jax.evaluation.under_attack import AttackResult

IMAGES = 8


def collect(
  target: EvaluationTarget, spec: AttackSpec, result: AttackResult
) -> dict[str, np.ndarray]:
  """Collects what the file holds; all processes call it.

  Args:
    target: the model under attack.
    spec: the attack.
    result: what the attack left of the model.

  Returns:
    Of the first n <= 8 test images: `images` [n, H, W, C] uint8; `adversarial`
    [n, H, W, C] float16 in [0, 1], the image itself where the attack broke
    nothing; `labels`, `clean_predictions` and `predictions` [n], classes, -1
    where logits are NaN; `clean_confidences` and `confidences` [n], softmax
    probabilities of the predicted classes; and scalars: `attack`, what a reader
    sees, `epsilon` and `norm`.
  """
  images = np.asarray(target.split.images[:IMAGES])
  count = len(images)
  adversarial = images.astype(np.float32) / 255
  shown = result.rows < count
  adversarial[result.rows[shown]] = result.images[shown]
  clean = scipy.special.softmax(target.clean.logits[:count], axis=-1)
  attacked = scipy.special.softmax(target.network.logits(adversarial), axis=-1)
  return {
    'images': images,
    'adversarial': adversarial.astype(np.float16),
    'labels': target.split.labels[:count],
    'clean_predictions': _classes(clean),
    'clean_confidences': clean.max(-1),
    'predictions': _classes(attacked),
    'confidences': attacked.max(-1),
    'attack': np.asarray(spec.label),
    'epsilon': np.asarray(spec.epsilon),
    'norm': np.asarray(spec.norm.name),
  }


def _classes(probabilities: np.ndarray) -> np.ndarray:
  """[n, K] -> [n], -1 for what is not a number."""
  is_number = np.isfinite(probabilities).all(-1)
  return np.where(is_number, probabilities.argmax(-1), -1)
