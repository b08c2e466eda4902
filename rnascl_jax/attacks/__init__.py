"""White-box attacks on JAX classifiers, one file a family.

An attack is a function for one image,

  attack(logits_fn, key, image, target, *, loss, epsilon, ...) -> image

with `logits_fn` from batches [B, H, W, C] to logits [B, K]. `batched` lifts it
with one `vmap`; `perturb` runs it over arrays in host memory and checks them.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import attacks
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> images = jnp.ones((4, 2, 2, 1)) * jnp.array([.51, .52, .54, .55]).reshape(
  ...   4, 1, 1, 1)
  >>> labels = jnp.zeros(4, int)
  >>> adversarial = attacks.perturb(
  ...   attacks.presets.by_name('pgd20_trades'), logits_fn, jax.random.key(0),
  ...   images, labels)
  >>> print(logits_fn(adversarial).argmax(axis=-1))
  [1 1 0 0]
"""

from rnascl_jax.attacks import gradient, lifting, linf, presets, unrolling
from rnascl_jax.attacks.gradient import cw, fgsm, mi_fgsm, pgd
from rnascl_jax.attacks.lifting import (
  batched,
  check_inputs,
  image_keys,
  perturb,
)
from rnascl_jax.attacks.presets import PRESETS, Preset

__all__ = [
  'PRESETS',
  'Preset',
  'batched',
  'check_inputs',
  'cw',
  'fgsm',
  'gradient',
  'image_keys',
  'lifting',
  'linf',
  'mi_fgsm',
  'perturb',
  'pgd',
  'presets',
  'unrolling',
]
