"""What an adversarial training method is: two pure functions and static facts.

* `init(shape) -> state`: the method's own state at step 0 for batches of images
  of a shape [B, H, W, C]: arrays with the leading axis B, an entry for each
  position in the batch; `()` for a method without memory. It is divided among
  devices as the batch is.
* `perturb(network, params, batch_stats, state, keys, images, labels, teacher)
  -> (images_adv, batch_stats, state)`: the adversarial views of the images,
  which are constants, and what finding them has changed.

There `network(params, batch_stats, images, train=...) -> (logits [B, K],
batch_stats)` applies the network, `keys [B]` are random keys of the images,
images are [B, H, W, C] in [0, 1], and `teacher` is what a teacher predicts
(`compare.TeacherPredictions`), or None without one. The loss of all methods is
`loss.loss_fn`; the facts say which view of an image serves which of its terms,
and what a method has in the place of the cross-entropy.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

from rnascl_jax.base import Array, Key, PyTree
from rnascl_jax.distillation.compare import TeacherPredictions

View = Literal['clean', 'adversarial']
# (logits of images, of their adversarial views, both [B, K]) -> [B].
RobustTerm = Callable[[Array, Array], Array]


class Classifier(Protocol):
  """A classifier as a function of its parameters and statistics."""

  def __call__(
    self, params: PyTree, batch_stats: PyTree, images: Array, *, train: bool
  ) -> tuple[Array, PyTree]: ...


class Predictions(NamedTuple):
  """What a method's own loss may know of B images.

  Attributes:
    student: logits [B, K] of each view.
    teacher: the teacher's, constants, of the views in `teacher_sees`.
    labels: [B] int32, or [B, K] of mixed images.
    step: int32 scalar, steps done.
  """

  student: Mapping[View, Array]
  teacher: Mapping[View, Array]
  labels: Array
  step: Array | int


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


class Perturb(Protocol):
  """How a method finds adversarial views, see the module's docstring."""

  def __call__(
    self,
    network: Classifier,
    params: PyTree,
    batch_stats: PyTree,
    state: PyTree,
    keys: Key,
    images: Array,
    labels: Array,
    teacher: TeacherPredictions | None = None,
  ) -> Perturbed: ...


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
      which itself sees x.
    loss: predictions -> [B], in the place of the cross-entropy; None for that.
    teacher_sees: the views of which `loss` or `perturb` needs the teacher's
      predictions.
    robust_term: compares the predictions on x and x'; None for no such term.
    passes: views in the order in which they go through the network in training
      mode, which is that of BatchNorm's updates; () for x', and before it for x
      if a term needs it.
    perturb_weights: (params, gradient of the mean loss by them, step) -> params
      at which the gradient of the update is taken; None for the params.
    replays: updates of the weights on each batch, with an attack for each.
    init: see the module's docstring.
    next_state: (state, images, gradient of the mean loss by x' [B, H, W, C]) ->
      state; for methods that reuse the gradient of the update.
  """

  perturb: Perturb
  labels_on: View = 'adversarial'
  distill_on: View = 'adversarial'
  loss: Callable[[Predictions], Array] | None = None
  teacher_sees: tuple[View, ...] = ()
  robust_term: RobustTerm | None = None
  passes: tuple[View, ...] = ()
  perturb_weights: Callable[[PyTree, PyTree, Array], PyTree] | None = None
  replays: int = 1
  init: Callable[[tuple[int, ...]], PyTree] = _no_state
  next_state: Callable[[PyTree, Array, Array], PyTree] = _keep

  @property
  def all_passes(self) -> tuple[View, ...]:
    """The views in the order of their passes in the loss."""
    if self.passes:
      return self.passes
    views = (self.labels_on, self.distill_on)
    if 'clean' in views or self.robust_term is not None:
      return ('clean', 'adversarial')
    return ('adversarial',)
