"""Training regimes: on which images, and with which extra terms, to train.

A regime turns an objective of clean training into a loss and its gradient. It
is a pair of pure functions, so that standard training, adversarial training and
whatever carries a state between steps (a perturbation, a memory) serve teacher,
search, training and fine-tuning alike:

* `init(images) -> state`: the state at step 0, from images [1, H, W, C]; it is
  the same on all devices, as weights are;
* `value_and_grad(network, objective, params, batch_stats, state, keys, images,
  labels) -> ((loss, (batch_stats, state, metrics)), grads)`.

There `network(params, batch_stats, images, train=...) -> ((logits, taps),
batch_stats)` applies the network, `objective(logits, taps) -> (loss [B],
metrics)` is what clean training minimises, `keys [B]` are random keys of the
images, and `metrics` holds an array [B] for each name.

Example:
  >>> from rnascl_jax import adversarial
  >>> regime = adversarial.pgd_training(
  ...   epsilon=8 / 255, step_size=2 / 255, num_steps=10)
  >>> regime.init(None)
  ()
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from rnascl_jax import attacks
from rnascl_jax.base import Array, Key, PyTree, Taps

# Metrics of a step: for each name one value per example.
Metrics = dict[str, Array]
# What clean training minimises: (logits [B, K], taps) -> (loss [B], metrics).
Objective = Callable[[Array, Taps], tuple[Array, Metrics]]


class Network(Protocol):
  """A network as a function of its parameters and statistics."""

  def __call__(
    self, params: PyTree, batch_stats: PyTree, images: Array, *, train: bool
  ) -> tuple[tuple[Array, Taps], PyTree]: ...


class Regime(NamedTuple):
  """A way to train, see the module's docstring.

  Attributes:
    init: (images [1, H, W, C] or None) -> state, replicated over devices.
    value_and_grad: see the module's docstring; the loss is the mean over the
      images it was given, the gradient is that of this mean.
  """

  init: Callable[[Array | None], PyTree]
  value_and_grad: Callable[..., tuple[tuple[Array, Any], PyTree]]


def _no_state(images: Array | None) -> PyTree:
  del images
  return ()


def _descend(
  network: Network,
  objective: Objective,
  params: PyTree,
  batch_stats: PyTree,
  state: PyTree,
  images: Array,
) -> tuple[tuple[Array, Any], PyTree]:
  """The objective's mean and gradient on images, statistics updated."""

  def mean_loss(params):
    (logits, taps), new_stats = network(params, batch_stats, images, train=True)
    loss, metrics = objective(logits, taps)
    return jnp.mean(loss), (new_stats, state, metrics)

  return jax.value_and_grad(mean_loss, has_aux=True)(params)


def standard() -> Regime:
  """Training on the images as they are."""

  def value_and_grad(
    network: Network,
    objective: Objective,
    params: PyTree,
    batch_stats: PyTree,
    state: PyTree,
    keys: Key,
    images: Array,
    labels: Array,
  ):
    del keys, labels
    return _descend(network, objective, params, batch_stats, state, images)

  return Regime(_no_state, value_and_grad)


def pgd_training(
  *,
  epsilon: float,
  step_size: float,
  num_steps: int,
  attack: Callable[..., Array] = attacks.pgd,
  **hyper: Any,
) -> Regime:
  """Adversarial training: on the worst images PGD finds (Madry et al.).

  The attack climbs the cross-entropy in evaluation mode, where images of a
  batch do not see each other; only the pass on the adversarial images updates
  BatchNorm. (Published code often attacks in training mode, so that running
  statistics also see the attack's forward passes.) The objective's teacher, if
  it has one, sees the images before the attack.

  Args:
    epsilon: radius of the L-infinity ball, in [0, 1].
    step_size: of the attack, in [0, 1].
    num_steps: of the attack, at least 1.
    attack: for one image, see `rnascl_jax.attacks`.
    **hyper: further arguments of the attack.

  Returns:
    The regime.

  Reference:
    Madry et al., Towards deep learning models resistant to adversarial
    attacks, ICLR 2018, section 2.
  """
  perturb = functools.partial(
    attacks.batched(attack),
    epsilon=epsilon,
    step_size=step_size,
    num_steps=num_steps,
    **hyper,
  )

  def value_and_grad(
    network: Network,
    objective: Objective,
    params: PyTree,
    batch_stats: PyTree,
    state: PyTree,
    keys: Key,
    images: Array,
    labels: Array,
  ):
    def logits_fn(images: Array) -> Array:
      return network(params, batch_stats, images, train=False)[0][0]

    # Constant: the adversarial image is data, found by the attack (Danskin).
    worst = jax.lax.stop_gradient(perturb(logits_fn, keys, images, labels))
    return _descend(network, objective, params, batch_stats, state, worst)

  return Regime(_no_state, value_and_grad)
