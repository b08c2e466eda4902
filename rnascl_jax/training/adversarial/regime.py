"""What a training regime is: a pair of pure functions.

* `init(shape) -> state`: the state at step 0 for batches of images of a shape
  [B, H, W, C], as arrays with the leading axis B, an entry for each position in
  the batch; `()` for regimes without memory. It is split over devices as the
  batch is.
* `value_and_grad(network, objective, params, batch_stats, state, keys, images,
  labels) -> ((loss, (batch_stats, state, metrics)), grads)`: the mean loss over
  the images, its gradient, and what has changed.

There `network(params, batch_stats, images, train=...) -> ((logits, hints),
batch_stats)` applies the network, whose hints are whatever the terms of the
objective want, such as taps; `objective` is what clean training minimises,
`keys [B]` are random keys of the images and `metrics` holds an array [B] for
each name, `loss` and `accuracy` among them; and if the terms have any, `notes`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from rnascl_jax import losses
from rnascl_jax.base import Array, PyTree

# Metrics of a step: for each name one value per example.
Metrics = dict[str, Array]
# (logits of images, of their adversarial views, both [B, K]) -> [B].
Robustness = Callable[[Array, Array], Array]


class Network(Protocol):
  """A network as a function of its parameters and statistics."""

  def __call__(
    self, params: PyTree, batch_stats: PyTree, images: Array, *, train: bool
  ) -> tuple[tuple[Array, PyTree], PyTree]: ...


class Objective(NamedTuple):
  """What clean training minimises, in two parts for regimes to come between.

  Attributes:
    terms: (logits [B, K], hints) -> the terms of eq. (4), each [B].
    total: terms -> loss [B].
  """

  terms: Callable[[Array, Any], losses.Terms]
  total: Callable[[losses.Terms], Array]


class Regime(NamedTuple):
  """A way to train, see the module's docstring.

  Attributes:
    init: shape of a batch [B, H, W, C] -> state.
    value_and_grad: see the module's docstring.
    replays: updates of the weights on each batch; each has its own call.
  """

  init: Callable[[tuple[int, ...]], PyTree]
  value_and_grad: Callable[..., tuple[tuple[Array, Any], PyTree]]
  replays: int = 1


def no_state(shape: tuple[int, ...]) -> PyTree:
  """The state of a regime without memory."""
  del shape
  return ()
