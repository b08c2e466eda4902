"""What an adversarial training method is: two pure functions and static facts.

* `init(shape) -> state`: the method's own state at step 0 for batches of images
  of a shape [B, H, W, C]: arrays with the leading axis B, an entry for each
  position in the batch; `()` for a method without memory. It is divided among
  devices as the batch is.
* `perturb(network, params, batch_stats, state, keys, images, labels) ->
  (images_adv, batch_stats, state)`: the adversarial views of the images, which
  are constants, and what finding them has changed.

There `network(params, batch_stats, images, train=...) -> (logits [B, K],
batch_stats)` applies the network, `keys [B]` are random keys of the images, and
images are [B, H, W, C] in [0, 1]. The loss of all methods is `loss.loss_fn`;
the facts say which view of an image serves which of its terms.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from rnascl_jax.base import Array, Key, PyTree

View = Literal['clean', 'adversarial']
# (logits of images, of their adversarial views, both [B, K]) -> [B].
RobustTerm = Callable[[Array, Array], Array]


class Classifier(Protocol):
  """A classifier as a function of its parameters and statistics."""

  def __call__(
    self, params: PyTree, batch_stats: PyTree, images: Array, *, train: bool
  ) -> tuple[Array, PyTree]: ...


class Perturbed(NamedTuple):
  """What `perturb` returns.

  Attributes:
    images: [B, H, W, C] in [0, 1], in the ball; constants.
    batch_stats: running statistics after the attack's passes.
    state: of the method.
  """

  images: Array
  batch_stats: PyTree
  state: PyTree


Perturb = Callable[
  [Classifier, PyTree, PyTree, PyTree, Key, Array, Array], Perturbed
]


def _no_state(shape: tuple[int, ...]) -> PyTree:
  del shape
  return ()


def _keep(state: PyTree, images: Array, gradient: Array) -> PyTree:
  del images, gradient
  return state


class AdversarialMethod(NamedTuple):
  """A way to train on adversarial images, see the module's docstring.

  Attributes:
    perturb: see the module's docstring.
    labels_on: the view whose cross-entropy is in the loss: the image x
      ('clean') or x' ('adversarial').
    distill_on: the view on which the student is compared with the teacher,
      which itself always sees x.
    robust_term: compares the predictions on x and x'; None for no such term.
    clean_again: whether BatchNorm's running statistics see x once more, after
      x', as in the code of TRADES.
    replays: updates of the weights on each batch, with an attack for each.
    init: see the module's docstring.
    next_state: (state, images, gradient of the mean loss by x' [B, H, W, C]) ->
      state; for methods that reuse the gradient of the update.
  """

  perturb: Perturb
  labels_on: View = 'adversarial'
  distill_on: View = 'adversarial'
  robust_term: RobustTerm | None = None
  clean_again: bool = False
  replays: int = 1
  init: Callable[[tuple[int, ...]], PyTree] = _no_state
  next_state: Callable[[PyTree, Array, Array], PyTree] = _keep

  @property
  def needs_clean(self) -> bool:
    """Whether the images themselves go through the network in the loss."""
    views = (self.labels_on, self.distill_on)
    return 'clean' in views or self.robust_term is not None
