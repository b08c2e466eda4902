"""Optimisers and schedules that Optax lacks, or has in another form.

Everything here equals its counterpart in `torch.optim`: SGD and Adam add the
weight decay to the gradient (L2 regularisation), AdamW takes it off the weights
(Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019).

Example:
  >>> from rnascl_jax.training import optimizers
  >>> rate = optimizers.one_cycle(1.0, 100)
  >>> [round(float(rate(step)), 3) for step in (0, 29, 99)]
  [0.04, 1.0, 0.0]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rnascl_jax.base import Array, PyTree

Mask = Callable[[PyTree], PyTree]


def sgd(
  rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 0.0,
  mask: Mask | None = None,
  momentum: float | None = None,
) -> optax.GradientTransformation:
  """SGD with L2 regularisation, `torch.optim.SGD`."""
  return _with_l2(optax.sgd(rate, momentum=momentum), weight_decay, mask)


def adam(
  rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 0.0,
  mask: Mask | None = None,
  betas: tuple[float, ...] = (0.9, 0.999),
) -> optax.GradientTransformation:
  """Adam with L2 regularisation, `torch.optim.Adam`."""
  return _with_l2(optax.adam(rate, *betas), weight_decay, mask)


def adamw(
  rate: optax.ScalarOrSchedule,
  *,
  weight_decay: float = 0.0,
  mask: Mask | None = None,
  betas: tuple[float, ...] = (0.9, 0.999),
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay, `torch.optim.AdamW`."""
  return optax.adamw(rate, *betas, weight_decay=weight_decay, mask=mask)


def _with_l2(
  optimizer: optax.GradientTransformation,
  weight_decay: float,
  mask: Mask | None,
) -> optax.GradientTransformation:
  decay = optax.add_decayed_weights(weight_decay, mask)
  return optax.chain(decay, optimizer)


def kernels(params: PyTree) -> PyTree:
  """Marks what has two axes or more: no biases, no scales of norms."""
  return jax.tree.map(lambda x: jnp.ndim(x) > 1, params)


def one_cycle(
  rate: float,
  steps: int,
  *,
  rising: float = 0.3,
  start: float = 1 / 25,
  end: float = 1e-4,
) -> optax.Schedule:
  """Half a cosine up and half a cosine down, `torch.optim.OneCycleLR`.

  Args:
    rate: the highest, at step `rising * steps - 1`.
    steps: of the training.
    rising: share of the training in which the rate rises.
    start: the first rate, as a share of `rate`.
    end: the last rate, as a share of the first one.

  Reference:
    Smith and Topin, Super-convergence, 2019.
  """
  first = rate * start
  peak = max(rising * steps - 1, 0.0)
  falling = max(steps - 1 - peak, 1e-6)

  def at(step: int | Array) -> Array:
    up = _half_cosine(first, rate, step / max(peak, 1e-6))
    down = _half_cosine(rate, first * end, (step - peak) / falling)
    return jnp.where(step < peak, up, down)

  return at


def _half_cosine(first: float, last: float, share: float | Array) -> Array:
  share = jnp.clip(share, 0, 1)
  return last + (first - last) * (1 + jnp.cos(jnp.pi * share)) / 2
