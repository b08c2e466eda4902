"""Training methods against published training steps, written in PyTorch.

Everything is in float64, on a network with BatchNorm that is the same in both
frameworks; images, labels and random starts are given to both. What passes
through the network in training mode is recorded beside its statistics.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import norms
from rnascl_jax.distillation import compare, methods
from rnascl_jax.models import networks
from rnascl_jax.runtime import parallel
from rnascl_jax.training import adversarial, train_state, train_step
from rnascl_jax.training.loss import loss_fn
from tests import small_network

torch = pytest.importorskip('torch')
F = torch.nn.functional

COUNT, SIDE, CHANNELS = 6, 4, 2
EPSILON, STEP, NUM_STEPS = 0.15, 0.08, 3
THRESHOLD = 0.7
# Weights of the terms that stand for a teacher's.
KL_WEIGHT, GAMMA = 0.5, 2.0


class Recorded(small_network.Network):
  """The network, with what passed through it in training mode as statistics."""

  @nn.compact
  def represent(self, images, *, train):
    if train:
      seen = self.variable('batch_stats', 'seen', jnp.zeros, (8, *images.shape))
      count = self.variable('batch_stats', 'count', jnp.zeros, (), jnp.int32)
      seen.value = seen.value.at[count.value].set(lax.stop_gradient(images))
      count.value = count.value + 1
    return super().represent(images, train=train)


NETWORK = networks.classifier(small_network.Network())
# Two terms in the place of a teacher's, by which to tell both views apart.
DISTILLATION = compare.Distillation(
  method=methods.Method(
    select=lambda outputs: outputs.logits,
    init=lambda *_: ((), ()),
    loss=lambda projections, memory, student, teacher, images: (
      jnp.mean(student**2, axis=-1),
      (),
    ),
    remember=lambda memory, update, indices: memory,
  ),
  layer_loss=compare.LayerLoss(
    lambda taps, size: taps[0],
    lambda student, teacher, tutors: jnp.mean(student**2, axis=(1, 2, 3)),
  ),
)
TEACHER = compare.Compared((), ())


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


class Case(NamedTuple):
  """A method and what is expected of it.

  Attributes:
    make: of `adversarial`.
    options: of it.
    passes: in training mode, in order: 'c' the image, 'v' its adversarial view,
      'a' a point of the attack.
    labels: the view whose cross-entropy is in the loss, 'c' or 'v'.
    lessons: the view whose other terms are.
    beta: weight of the divergence between the views.
    cac_weight: weight of their consistency.
  """

  make: Any
  options: dict[str, Any]
  passes: str
  labels: str = 'v'
  lessons: str = 'v'
  beta: float = 0.0
  cac_weight: float = 0.0

  @property
  def norm(self) -> norms.Norm:
    return self.options.get('norm', norms.LINF)

  def method(self, epsilon) -> adversarial.AdversarialMethod:
    if self.make is adversarial.standard:
      return self.make()
    options = dict(self.options)
    default = 6.0 if self.make is adversarial.trades else 0.0
    if (self.beta, self.cac_weight) != (default, 0.0):
      options['robust_term'] = functools.partial(
        losses.robust_term,
        beta=self.beta,
        cac_weight=self.cac_weight,
        threshold=THRESHOLD,
      )
    return self.make(epsilon=epsilon, **options)


_STEPS = {'step_size': STEP, 'num_steps': NUM_STEPS}
_L2 = {'norm': norms.L2}
_ATTACKS_IN_EVALUATION = _STEPS | {'in_training_mode': False}
_CLEAN_LESSONS = {'distill_on': 'clean'}
_PGD, _FAST = adversarial.pgd_training, adversarial.fast
_FREE, _TRADES = adversarial.free, adversarial.trades
CASES = {
  'standard': Case(adversarial.standard, {}, 'c', 'c', 'c'),
  'pgd': Case(_PGD, _STEPS, 'aaav'),
  'pgd, cac': Case(_PGD, _STEPS, 'aaacv', cac_weight=2.0),
  'pgd in evaluation mode': Case(_PGD, _ATTACKS_IN_EVALUATION, 'v'),
  'pgd in evaluation mode, clean lessons': Case(
    _PGD, _ATTACKS_IN_EVALUATION | _CLEAN_LESSONS, 'cv', lessons='c'
  ),
  'fast': Case(_FAST, {}, 'av'),
  'fast, cac, clean lessons': Case(
    _FAST, _CLEAN_LESSONS, 'acv', lessons='c', cac_weight=2.0
  ),
  'fast from the image in evaluation mode': Case(
    _FAST, {'start': None, 'in_training_mode': False}, 'v'
  ),
  'fast from the image': Case(_FAST, {'start': None}, 'av'),
  'free': Case(_FREE, {'step_size': STEP, 'replays': 1}, 'v'),
  'free, cac': Case(_FREE, {}, 'cv', cac_weight=2.0),
  'free, cac, clean lessons': Case(
    _FREE, _CLEAN_LESSONS, 'cv', lessons='c', cac_weight=2.0
  ),
  'trades': Case(_TRADES, _STEPS, 'cvc', 'c', 'c', beta=6.0),
  'trades, cac, adversarial lessons': Case(
    _TRADES,
    _STEPS | {'distill_on': 'adversarial'},
    'cvc',
    'c',
    'v',
    beta=6.0,
    cac_weight=2.0,
  ),
  'trades in training mode': Case(
    _TRADES, _STEPS | {'in_training_mode': True}, 'caaacvc', 'c', 'c', beta=6.0
  ),
  'trades without the divergence': Case(_TRADES, _STEPS, 'cvc', 'c', 'c'),
  'pgd in L2': Case(_PGD, _STEPS | _L2, 'aaav'),
  'free in L2': Case(_FREE, {'step_size': STEP, 'replays': 1} | _L2, 'v'),
  'trades in L2': Case(_TRADES, _STEPS | _L2, 'cvc', 'c', 'c', beta=6.0),
  'fast in L1': Case(_FAST, {'norm': norms.L1}, 'av'),
}
every_case = pytest.mark.parametrize('name', CASES)
every_attack = pytest.mark.parametrize('name', list(CASES)[1:])


class Batch(NamedTuple):
  images: np.ndarray
  labels: np.ndarray
  keys: Any


@functools.cache
def _batch(seed: int = 0) -> Batch:
  """A quarter of the pixels are black or white; the first label is wrong."""
  rng = np.random.default_rng(seed)
  images = rng.uniform(-0.15, 1.15, (COUNT, SIDE, SIDE, CHANNELS)).clip(0, 1)
  labels = _network()(_torch(images))[0].argmax(dim=1).numpy().astype(np.int32)
  labels[0] = (labels[0] + 1) % 3
  keys = attacks.image_keys(jax.random.key(seed), jnp.arange(COUNT))
  return Batch(images, labels, keys)


@functools.cache
def _variables():
  return small_network.variables((SIDE, SIDE, CHANNELS))


@functools.cache
def _delta() -> np.ndarray:
  """An adversarial perturbation that pushes some pixels out of [0, 1]."""
  batch = _batch()
  images = _torch(batch.images).requires_grad_()
  logits, _ = _network()(images)
  F.cross_entropy(logits, torch.tensor(batch.labels).long()).backward()
  rng = np.random.default_rng(5)
  sizes = rng.uniform(EPSILON / 2, EPSILON, batch.images.shape)
  return sizes * _numpy(images.grad.sign())


def _state(name):
  """That of a method's case at the start of a step, inside of its ball."""
  if CASES[name].make is not _FREE:
    return ()
  length = CASES[name].norm.length
  return _delta() * (EPSILON / max(EPSILON, *map(length, _delta())))


def _run(name, variables, state, batch, epsilon, taught):
  """An attack and the loss; `taught` is the weight of a teacher's terms."""
  method = CASES[name].method(epsilon)
  recipe = _recipe(method, None, Recorded())
  log = {
    'seen': jnp.zeros((8, *batch.images.shape)),
    'count': jnp.int32(0),
  }
  params, batch_stats = variables['params'], variables['batch_stats'] | log
  perturbed = method.perturb(
    networks.classifier(recipe.net),
    params,
    batch_stats,
    state,
    batch.keys,
    batch.images,
    batch.labels,
  )
  examples = train_state.Examples(
    batch.keys, batch.images, batch.labels, (), TEACHER
  )
  context = train_state.Context(0, (), (), taught * KL_WEIGHT, taught * GAMMA)
  (mean, aux), ((gradient, _), by_images) = jax.value_and_grad(
    functools.partial(loss_fn, recipe=recipe, context=context),
    (0, 1),
    has_aux=True,
  )((params, ()), perturbed.images, perturbed.batch_stats, examples)
  state = method.next_state(perturbed.state, batch.images, by_images)
  return mean, aux, gradient, state


class Outcome(NamedTuple):
  loss: float
  grads: dict[str, np.ndarray]
  stats: Any
  seen: list[np.ndarray]
  state: Any
  metrics: dict[str, np.ndarray]


@functools.cache
def _compiled(name):
  # Halves the time to compile, which is all that these tests take.
  quick = {'xla_backend_optimization_level': 0}
  return jax.jit(functools.partial(_run, name), compiler_options=quick)


def _outcome(found) -> Outcome:
  mean, aux, gradient, state = jax.device_get(found)
  stats = dict(aux.batch_stats)
  seen, count = stats.pop('seen'), stats.pop('count')
  return Outcome(
    float(mean),
    small_network.parameters(gradient),
    stats,
    list(seen[:count]),
    state,
    aux.metrics,
  )


@functools.cache
def _do(name, epsilon=EPSILON, taught=1.0) -> Outcome:
  state = _state(name)
  found = _compiled(name)(_variables(), state, _batch(), epsilon, taught)
  return _outcome(found)


def _view(name, outcome: Outcome) -> np.ndarray:
  """The adversarial view that a method came to."""
  return outcome.seen[CASES[name].passes.index('v')]


def _assert_close(found, expected, tolerance=1e-10):
  jax.tree.map(
    functools.partial(
      np.testing.assert_allclose, rtol=tolerance, atol=tolerance
    ),
    found,
    expected,
  )


# The loss of two views in PyTorch.


def _torch(images) -> Any:
  moved = np.moveaxis(np.asarray(images), -1, 1)
  return torch.tensor(np.ascontiguousarray(moved))


def _numpy(images) -> np.ndarray:
  return np.moveaxis(images.detach().numpy(), 1, -1)


def _torch_consistency(clean, adv, frozen=None):
  """Eq. (5) with a target and an indicator that are constants."""
  p, q = torch.softmax(clean, 1), torch.softmax(adv, 1)
  mean = (p + q) / 2 if frozen is None else frozen
  mean = mean.detach()
  target = mean**10 / (mean**10).sum(dim=1, keepdim=True)
  pull = sum((target * (target / x).log()).sum(dim=1) for x in (p, q))
  return pull * (mean.max(dim=1).values >= THRESHOLD), mean


def _torch_loss(case, network, images, images_adv, labels, frozen=None):
  """The loss, its terms and the average of predictions, from both views."""
  outputs = {'c': network(images), 'v': network(images_adv)}
  clean, adv = outputs['c'][0], outputs['v'][0]
  logits = outputs[case.labels][0]
  taught, tap = outputs[case.lessons]
  consistency, mean = _torch_consistency(clean, adv, frozen)
  divergence = F.kl_div(
    torch.log_softmax(adv, 1), torch.softmax(clean, 1), reduction='none'
  )
  terms = {
    'cross_entropy': F.cross_entropy(logits, labels, reduction='none'),
    'kl': (taught**2).mean(dim=1),
    'attention': (tap**2).mean(dim=(1, 2, 3)),
    'robust_term': case.beta * divergence.sum(dim=1)
    + case.cac_weight * consistency,
    'accuracy': (logits.argmax(dim=1) == labels).double(),
    'clean_accuracy': (clean.argmax(dim=1) == labels).double(),
    'adversarial_accuracy': (adv.argmax(dim=1) == labels).double(),
  }
  terms['loss'] = (
    terms['cross_entropy']
    + KL_WEIGHT * terms['kl']
    + GAMMA * terms['attention']
    + terms['robust_term']
  )
  return terms, mean


def _torch_grads(network) -> dict[str, np.ndarray]:
  return {n: p.grad.numpy() for n, p in network.named_parameters()}


def _network():
  return small_network.torch_network(_variables())


@every_case
def test_loss_and_gradient_are_those_of_both_views_given_as_data(name):
  """So no gradient flows through the making of the adversarial view."""
  case, found = CASES[name], _do(name)
  network, batch = _network(), _batch()
  clean = _torch(batch.images)
  adv = _torch(_view(name, found)) if 'v' in case.passes else clean

  expected, _ = _torch_loss(
    case, network, clean, adv, torch.tensor(batch.labels).long()
  )
  expected['loss'].mean().backward()

  assert found.metrics.keys() <= expected.keys()
  assert {'loss', 'accuracy', 'cross_entropy', 'kl', 'attention'} <= (
    found.metrics.keys()
  )
  for key, values in found.metrics.items():
    assert values.shape == (COUNT,), key
    np.testing.assert_allclose(values, expected[key].detach(), rtol=1e-10)
  assert found.loss == pytest.approx(found.metrics['loss'].mean(), rel=1e-12)
  _assert_close(found.grads, _torch_grads(network))


@every_case
def test_gradient_agrees_with_differences_of_the_loss_with_frozen_views(name):
  case, found = CASES[name], _do(name)
  batch, network = _batch(), _network()
  clean, labels = _torch(batch.images), torch.tensor(batch.labels).long()
  adv = _torch(_view(name, found)) if 'v' in case.passes else clean
  _, frozen = _torch_loss(case, network, clean, adv, labels)
  rng = np.random.default_rng(0)
  directions = {n: rng.normal(size=g.shape) for n, g in found.grads.items()}

  def loss(size):
    moved = _network()
    with torch.no_grad():
      for key, direction in directions.items():
        moved.get_parameter(key).add_(torch.tensor(size * direction))
      terms, _ = _torch_loss(case, moved, clean, adv, labels, frozen)
    return float(terms['loss'].mean())

  slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
  along = sum((directions[n] * g).sum() for n, g in found.grads.items())
  assert along == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
  'name', [name for name, case in CASES.items() if case.cac_weight]
)
def test_these_tests_have_images_of_all_kinds(name):
  """Confident and not, and broken by the attack and not."""
  case, metrics = CASES[name], _do(name).metrics
  other = {'c': 'adversarial_accuracy', 'v': 'clean_accuracy'}[case.labels]
  assert (metrics['accuracy'] != metrics[other]).any()
  assert metrics['accuracy'].any() or metrics[other].any()
  if not case.beta:
    assert 0 < np.count_nonzero(metrics['robust_term']) < COUNT


# What passes through the network.


@every_case
def test_running_statistics_see_the_passes_that_are_documented(name):
  case, found, batch = CASES[name], _do(name), _batch()
  network = _network()

  for images in found.seen:
    network(_torch(images))

  assert len(found.seen) == len(case.passes)
  for kind, images in zip(case.passes, found.seen, strict=True):
    if kind == 'c':
      np.testing.assert_array_equal(images, batch.images)
    if kind == 'v':
      np.testing.assert_array_equal(images, _view(name, found))
  _assert_close(
    found.stats,
    small_network.torch_statistics(
      network,
      _variables()['batch_stats'],
      len(case.passes),
      COUNT * SIDE * SIDE,
    ),
  )


@every_attack
def test_the_adversarial_view_is_another_image_of_the_ball(name):
  images, view = _batch().images, _view(name, _do(name))
  assert view.min() >= 0 and view.max() <= 1
  lengths = np.array([*map(CASES[name].norm.length, view - images)])
  assert lengths.max() <= EPSILON + 1e-12
  # Many pixels are at the border of the ball, or of the pixels' range.
  assert lengths.min() > EPSILON / 2


@every_case
def test_a_state_keeps_its_form_and_has_an_entry_for_each_image(name):
  state = CASES[name].method(EPSILON).init(_batch().images.shape)
  after = _do(name).state
  assert jax.tree.structure(after) == jax.tree.structure(state)
  for one, two in zip(
    jax.tree.leaves(state), jax.tree.leaves(after), strict=True
  ):
    assert one.shape == two.shape and one.dtype == two.dtype
    assert len(one) == COUNT
    np.testing.assert_array_equal(one, 0)


@pytest.mark.parametrize(
  'name', [n for n, case in CASES.items() if not case.cac_weight]
)
def test_without_a_radius_every_method_is_standard_training(name):
  if CASES[name].make is _FREE:
    found = _outcome(
      _compiled(name)(_variables(), np.zeros_like(_delta()), _batch(), 0.0, 1.0)
    )
    np.testing.assert_array_equal(found.state, 0)
  else:
    found = _do(name, epsilon=0.0)
  expected = _do('standard')
  assert found.loss == pytest.approx(expected.loss, rel=1e-12)
  _assert_close(found.grads, expected.grads)


@pytest.mark.parametrize(
  'name', ['standard', 'pgd, cac', 'fast', 'free, cac', 'trades']
)
def test_a_compiled_step_equals_one_that_is_not(name):
  state = _state(name)
  batch = jax.tree.map(jnp.asarray, _batch())
  found = _outcome(_run(name, _variables(), state, batch, EPSILON, 1.0))
  _assert_close(found, _do(name))


# Published steps. They have no teacher.


def _lengths(x):
  return x.flatten(1).norm(dim=1)[:, None, None, None]


def _step(delta, slope, step_size, norm):
  """A step of delta, brought into the ball but not to the pixels' range."""
  if norm == norms.LINF:
    return torch.clamp(delta + step_size * slope.sign(), -EPSILON, EPSILON)
  delta = delta + step_size * slope / _lengths(slope)
  return delta * torch.clamp(EPSILON / _lengths(delta), max=1)


def _climb(loss, images, first, *, step_size, num_steps, norm=norms.LINF):
  """Steps on delta, brought into the ball, then to the pixels' range."""
  delta = first - images
  for _ in range(num_steps):
    delta = delta.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(images + delta), delta)
    delta = _step(delta, slope, step_size, norm)
    delta = torch.max(torch.min(delta, 1 - images), -images)
  return (images + delta).detach()


def _assert_is_step(name, network, loss, view):
  """A method's outcome is that of a step in PyTorch."""
  found = _do(name, taught=0.0)
  loss.backward()
  # In L2, 1e-12 is added to each length.
  tolerance = 1e-12 if CASES[name].norm == norms.LINF else 1e-11
  np.testing.assert_allclose(_view(name, found), _numpy(view), atol=tolerance)
  assert found.loss == pytest.approx(loss.item(), rel=1e-10)
  _assert_close(found.grads, _torch_grads(network))
  _assert_close(
    found.stats,
    small_network.torch_statistics(
      network,
      _variables()['batch_stats'],
      len(CASES[name].passes),
      COUNT * SIDE * SIDE,
    ),
  )


def _uniform_start(norm):
  batch = _batch()
  start = jax.vmap(norm.uniform_start, (0, 0, None))
  return _torch(start(batch.keys, jnp.asarray(batch.images), EPSILON))


@pytest.mark.parametrize(
  ('name', 'step_size', 'num_steps'),
  [
    ('pgd', STEP, NUM_STEPS),
    ('pgd in L2', STEP, NUM_STEPS),
    ('fast', 1.25 * EPSILON, 1),
  ],
)
def test_steps_of_rice_and_wong_attack_in_training_mode(
  name, step_size, num_steps
):
  """The same loop; that of Wong et al. has one step of 1.25 epsilon."""
  network, batch = _network().train(), _batch()
  images, labels = _torch(batch.images), torch.tensor(batch.labels).long()

  view = _climb(
    lambda x: F.cross_entropy(network(x)[0], labels),
    images,
    _uniform_start(CASES[name].norm),
    step_size=step_size,
    num_steps=num_steps,
    norm=CASES[name].norm,
  )
  network.zero_grad()
  loss = F.cross_entropy(network(view)[0], labels)

  _assert_is_step(name, network, loss, view)


@pytest.mark.parametrize('name', ['trades', 'trades in L2'])
def test_step_of_trades_is_that_of_zhang(name):
  """The attack in evaluation mode; then x, x' and x in training mode."""
  network, batch = _network(), _batch()
  images, labels = _torch(batch.images), torch.tensor(batch.labels).long()
  # The first restart of an attack on each image.
  keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(batch.keys)
  noise = jax.vmap(
    lambda key: 0.001 * jax.random.normal(key, (SIDE, SIDE, CHANNELS))
  )(keys)
  divergence = torch.nn.KLDivLoss(reduction='sum')

  def distance(x, other):
    # As published, x' is the first to pass through the network.
    return divergence(
      torch.log_softmax(network(other)[0], dim=1),
      torch.softmax(network(x)[0], dim=1),
    )

  network.eval()
  view = _climb(
    lambda x: distance(images, x),
    images,
    images + _torch(noise),
    step_size=STEP,
    num_steps=NUM_STEPS,
    norm=CASES[name].norm,
  )
  network.train()
  network.zero_grad()
  natural = F.cross_entropy(network(images)[0], labels)
  loss = natural + 6 * distance(images, view) / COUNT

  _assert_is_step(name, network, loss, view)


def test_step_of_fast_from_the_image_is_fgsm_training():
  """Any step of at least the radius reaches the corner of the ball."""
  network, batch = _network().train(), _batch()
  images, labels = _torch(batch.images), torch.tensor(batch.labels).long()
  given = images.clone().requires_grad_()
  F.cross_entropy(network(given)[0], labels).backward()
  view = (images + EPSILON * given.grad.sign()).clamp(0, 1)
  network.zero_grad()
  loss = F.cross_entropy(network(view)[0], labels)

  _assert_is_step('fast from the image', network, loss, view)


def _free_step(network, images, labels, delta, *, step_size):
  """One replay: the loss per image, gradients, and the next delta."""
  delta = delta.detach().requires_grad_()
  network.zero_grad()
  values = F.cross_entropy(
    network((images + delta).clamp(0, 1))[0], labels, reduction='none'
  )
  values.mean().backward()
  moved = delta.detach() + step_size * delta.grad.sign()
  return values.detach(), moved.clamp(-EPSILON, EPSILON)


def _recipe(method, optimizer, net=None) -> train_state.Recipe:
  return train_state.Recipe(
    net=net or small_network.Network(),
    optimizer=optimizer,
    adversarial=method,
    distillation=DISTILLATION,
    augment=lambda key, image: image,
  )


def _updates(recipe):
  """A step on one device, without augmentation: (state, batch) -> the same."""

  def prepare(recipe, context, step, batch, parts):
    del recipe, context, step, parts
    return train_state.Examples(
      batch.keys, batch.images, batch.labels, (), TEACHER
    )

  def update(state, batch):
    context = train_state.Context(0, (), (), 0.0, 0.0)
    return train_step.train_step(recipe, state, context, batch)

  devices = parallel.devices(1)
  mapped = parallel.pmap(update, devices)

  def run(state, batch):
    batch = jax.tree.map(lambda x: x[None], batch)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(train_step, 'prepare', prepare)
      after = mapped(parallel.replicate(state, devices), batch)
    return parallel.unreplicate(after)

  return run


@pytest.mark.parametrize('replays', [1, 3])
def test_free_training_is_that_of_shafahi(replays):
  """Two batches: delta is carried, and the weights move in every replay.

  It begins at delta = 0, where black and white pixels are at the edge of their
  range.
  """
  method = adversarial.free(epsilon=EPSILON, replays=replays)
  recipe = _recipe(method, optax.sgd(0.3, momentum=0.9))
  update = _updates(recipe)
  state = train_state.start_from(
    recipe, _variables(), _batch().images.shape[1:], COUNT
  )
  network = _network().train()
  optimizer = torch.optim.SGD(network.parameters(), 0.3, momentum=0.9)
  delta = torch.zeros(COUNT, CHANNELS, SIDE, SIDE, dtype=torch.float64)
  for seed in (0, 1):
    batch = _batch(seed)
    images, labels = _torch(batch.images), torch.tensor(batch.labels).long()
    history = []
    for _ in range(replays):
      values, delta = _free_step(
        network, images, labels, delta, step_size=EPSILON
      )
      optimizer.step()
      history.append(values)
    state, metrics = update(state, batch)

    assert state.step == seed + 1
    carried = state.adversarial_state.arrays
    np.testing.assert_allclose(carried, _numpy(delta), atol=1e-12)
    expected = {n: p.detach().numpy() for n, p in network.named_parameters()}
    _assert_close(small_network.parameters(state.params), expected)
    mean = torch.stack(history).mean(dim=0)
    np.testing.assert_allclose(metrics['loss'], mean.sum(), rtol=1e-10)
  _assert_close(
    state.batch_stats,
    small_network.torch_statistics(
      network,
      _variables()['batch_stats'],
      2 * replays,
      COUNT * SIDE * SIDE,
    ),
  )
  # Some pixels have never had a gradient, or have left their range.
  assert 0.5 < (np.abs(carried) == EPSILON).mean() < 1


@pytest.mark.parametrize('name', ['free, cac', 'free, cac, clean lessons'])
def test_the_perturbation_of_free_training_climbs_the_whole_loss(name):
  case, found, batch = CASES[name], _do(name), _batch()
  images, labels = _torch(batch.images), torch.tensor(batch.labels).long()
  delta = _torch(_delta()).requires_grad_()
  terms, _ = _torch_loss(
    case, _network(), images, (images + delta).clamp(0, 1), labels
  )
  (slope,) = torch.autograd.grad(terms['loss'].mean(), delta)
  # Published steps are as long as the radius.
  expected = (delta + EPSILON * slope.sign()).clamp(-EPSILON, EPSILON)

  np.testing.assert_allclose(found.state, _numpy(expected), atol=1e-12)
  pushed_out = np.abs(batch.images + _delta() - 0.5) > 0.5
  assert pushed_out.any()
  np.testing.assert_array_equal(found.state[pushed_out], _delta()[pushed_out])


# What methods have in common.


@pytest.mark.parametrize(
  ('name', 'attack', 'options'),
  [
    ('pgd in evaluation mode', attacks.pgd, _STEPS),
    ('fast from the image in evaluation mode', attacks.fgsm, {}),
  ],
)
def test_an_attack_in_evaluation_mode_and_a_standard_step_are_the_method(
  name, attack, options
):
  variables, batch = _variables(), _batch()

  def logits_fn(images):
    stats = variables['batch_stats']
    return NETWORK(variables['params'], stats, images, train=False)[0]

  view = attacks.perturb(
    attack,
    logits_fn,
    batch.images,
    batch.labels,
    epsilon=EPSILON,
    **options,
  )
  expected = _outcome(
    _compiled('standard')(
      variables, (), batch._replace(images=view), EPSILON, 1.0
    )
  )

  _assert_close(_do(name), expected)


def test_trades_without_its_divergence_has_the_gradient_of_standard_training():
  found, expected = _do('trades without the divergence'), _do('standard')
  assert found.loss == pytest.approx(expected.loss, rel=1e-12)
  _assert_close(found.grads, expected.grads)
  np.testing.assert_array_equal(found.metrics['robust_term'], 0)


def test_lessons_follow_the_view_that_they_are_asked_for():
  """The terms of a teacher differ by the view, the cross-entropy does not."""
  one = _do('pgd in evaluation mode').metrics
  two = _do('pgd in evaluation mode, clean lessons').metrics
  clean = _do('standard').metrics
  np.testing.assert_allclose(
    one['cross_entropy'], two['cross_entropy'], rtol=1e-12
  )
  for name in ('kl', 'attention'):
    np.testing.assert_allclose(two[name], clean[name], rtol=1e-12)
    assert np.abs(one[name] - two[name]).min() > 1e-4


def test_training_on_attacks_is_harder_than_standard_training():
  clean = _do('standard').metrics['cross_entropy'].mean()
  for name in (
    'pgd',
    'pgd in evaluation mode',
    'fast',
    'fast from the image',
    'pgd in L2',
    'free in L2',
    'fast in L1',
  ):
    assert _do(name).metrics['cross_entropy'].mean() > clean
  near, far = (
    _do('trades in L2', epsilon=epsilon).metrics['robust_term'].mean()
    for epsilon in (EPSILON / 10, EPSILON)
  )
  assert far > 4 * near > 0


def test_free_training_in_l2_takes_the_step_of_pgd_and_projects():
  """From the view that went through the network, and into [0, 1]."""
  network, batch = _network(), _batch()
  images, labels = _torch(batch.images), torch.tensor(batch.labels).long()
  delta = _torch(_state('free in L2'))
  view = (images + delta).clamp(0, 1).requires_grad_()
  F.cross_entropy(network(view)[0], labels).backward()
  moved = _step(view.detach() - images, view.grad, STEP, norms.L2)
  expected = (images + moved).clamp(0, 1) - images

  found = _do('free in L2', taught=0.0)

  np.testing.assert_allclose(found.state, _numpy(expected), atol=1e-11)
  assert np.abs(found.state - _state('free in L2')).max() > STEP / 100


def test_free_training_without_replays_is_refused():
  with pytest.raises(ValueError, match='replays=0 must be at least 1'):
    adversarial.free(epsilon=EPSILON, replays=0)
