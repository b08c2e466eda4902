"""Attacks on JAX classifiers, one file a family.

An attack is a function for one image,

  attack(logits_fn, key, image, target, *, loss, epsilon, ...) -> image

with `logits_fn` from batches [B, H, W, C] to logits [B, K]. `batched` lifts it
with one `vmap`; `perturb` runs it over arrays in host memory and checks them.
FGSM, MI-FGSM, PGD and CW are in `gradient`; `apgd`, `fab` and `square` are
attacks in steps, of which `auto_attack` makes an ensemble.

Example:
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax import attacks
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> images = np.ones((4, 2, 2, 1), np.float32) * np.array(
  ...   [.51, .52, .54, .55], np.float32).reshape(4, 1, 1, 1)
  >>> labels = np.zeros(4, int)
  >>> adversarial = attacks.perturb(
  ...   attacks.presets.by_name('pgd20_trades'), logits_fn, images, labels)
  >>> print(logits_fn(adversarial).argmax(axis=-1))
  [1 1 0 0]
  >>> result = attacks.auto_attack(
  ...   logits_fn, images, labels, epsilon=8 / 255, verbose=False)
  >>> result.robust_accuracy
  0.5
"""

from rnascl_jax.attacks import (
  apgd,
  arguments,
  checks,
  ensembles,
  fab,
  gradient,
  lifting,
  memory,
  norms,
  presets,
  randomized,
  square,
  stepwise,
  unrolling,
)
from rnascl_jax.attacks.arguments import check_inputs
from rnascl_jax.attacks.autoattack import auto_attack
from rnascl_jax.attacks.gradient import cw, fgsm, mi_fgsm, pgd
from rnascl_jax.attacks.lifting import (
  batched,
  image_keys,
  perturb,
)
from rnascl_jax.attacks.presets import PRESETS, Preset
from rnascl_jax.attacks.randomized import Randomized
from rnascl_jax.attacks.result import AutoAttackResult

__all__ = [
  'AutoAttackResult',
  'PRESETS',
  'Preset',
  'Randomized',
  'apgd',
  'arguments',
  'auto_attack',
  'batched',
  'check_inputs',
  'cw',
  'ensembles',
  'fab',
  'fgsm',
  'gradient',
  'image_keys',
  'lifting',
  'checks',
  'memory',
  'mi_fgsm',
  'norms',
  'perturb',
  'pgd',
  'presets',
  'randomized',
  'square',
  'stepwise',
  'unrolling',
]
