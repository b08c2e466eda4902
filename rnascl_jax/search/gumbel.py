"""Gumbel-Softmax: differentiable draws of one choice among several.

Implements g(v) of RNAS-CL, section 3.2, and the temperature schedule of
section 4.1. The paper writes the noise as N(0, 1) and calls it Gumbel noise;
only Gumbel(0, 1) noise makes the arg max a sample of softmax(v), so that is the
default and `jax.random.normal` can be passed instead.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.search import gumbel
  >>> logits = jnp.zeros(3)
  >>> draw = gumbel.gumbel_softmax(jax.random.key(0), logits, temperature=1.0)
  >>> draw.shape, float(draw.sum().round(5))
  ((3,), 1.0)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, Key

# Draws noise: (key, shape, dtype) -> array of that shape.
Noise = Callable[[Key, tuple[int, ...], jnp.dtype], Array]


def temperature(
  epoch: float | Array, *, initial: float = 5.0, decay: float = 0.045
) -> Array:
  """Exponentially annealed temperature, tau = initial * exp(-decay * epoch).

  Args:
    epoch: epochs since the search began; fractions are allowed.
    initial: temperature at epoch 0, positive; the paper has 5.
    decay: rate per epoch, non-negative; the paper has 0.045.

  Returns:
    float32 scalar, positive.

  Reference:
    RNAS-CL, section 4.1; Wan et al., FBNetV2, CVPR 2020, section 4.
  """
  return jnp.float32(initial) * jnp.exp(-jnp.float32(decay) * epoch)


def gumbel_softmax(
  key: Key,
  logits: Array,
  *,
  temperature: float | Array,
  noise: Noise = jax.random.gumbel,
  hard: bool = False,
) -> Array:
  """One draw of softmax((v + noise) / temperature) over the last axis.

  Args:
    key: random key, consumed.
    logits: [..., N], the parameters v.
    temperature: positive scalar tau; the draw tends to one-hot as tau -> 0.
    noise: draws the noise, `jax.random.gumbel` or `jax.random.normal`.
    hard: if True the result is exactly one-hot, with the gradient of the soft
      draw (straight-through).

  Returns:
    [..., N], non-negative, summing to 1 over the last axis.

  Reference:
    Jang et al., Categorical reparameterization with Gumbel-Softmax, ICLR 2017.
  """
  soft = jax.nn.softmax(
    (logits + noise(key, logits.shape, logits.dtype)) / temperature
  )
  if not hard:
    return soft
  one_hot = jax.nn.one_hot(soft.argmax(-1), logits.shape[-1], dtype=soft.dtype)
  # The value is one-hot; the gradient is that of the soft draw.
  return soft + jax.lax.stop_gradient(one_hot - soft)


def entropy(logits: Array) -> Array:
  """Entropy of softmax(logits) over its largest value, log N.

  Args:
    logits: [..., N].

  Returns:
    [...], from 0 (decided) to 1 (uniform); 0 if there is but one choice.
  """
  choices = logits.shape[-1]
  if choices == 1:
    return jnp.zeros(logits.shape[:-1], logits.dtype)
  log_probs = jax.nn.log_softmax(logits)
  nats = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
  return nats / jnp.log(choices)
