"""Robust distillation, MART and AWP against published steps, in PyTorch.

Everything is in float64, on networks with BatchNorm that are the same in both
frameworks; images, labels and random starts are given to both. A whole step is
compared: the weights and the running statistics that it leaves.
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax import attacks, losses
from rnascl_jax.distillation import compare
from rnascl_jax.models import networks
from rnascl_jax.runtime import parallel
from rnascl_jax.training import adversarial, train_state, train_step
from tests import small_network

torch = pytest.importorskip('torch')
F = torch.nn.functional

COUNT, SHAPE = 6, (4, 4, 2)
EPSILON, STEP, NUM_STEPS = 0.15, 0.06, 3
RATE, GAMMA = 0.3, 0.05
_BALL = {'epsilon': EPSILON, 'step_size': STEP, 'num_steps': NUM_STEPS}


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


@functools.cache
def _variables(which: str):
  """Of 'student' and 'teacher', which have the same form."""
  found = small_network.variables(SHAPE)
  if which == 'teacher':
    turned = jax.tree.map(lambda x: np.flip(x).copy(), found['params'])
    found |= {'params': turned}
  return found


def _network(which: str = 'student'):
  return small_network.torch_network(_variables(which))


class Batch(NamedTuple):
  images: np.ndarray
  labels: np.ndarray
  keys: Any


@functools.cache
def _batch() -> Batch:
  rng = np.random.default_rng(0)
  images = rng.uniform(-0.15, 1.15, (COUNT, *SHAPE)).clip(0, 1)
  labels = rng.integers(0, 3, COUNT).astype(np.int32)
  keys = attacks.image_keys(jax.random.key(0), jnp.arange(COUNT))
  return Batch(images, labels, keys)


def _torch(images) -> Any:
  return torch.tensor(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def _images():
  return _torch(_batch().images)


def _labels():
  return torch.tensor(_batch().labels).long()


def _uniform():
  batch = _batch()
  start = jax.vmap(attacks.norms.LINF.uniform_start, (0, 0, None))
  return _torch(start(batch.keys, jnp.asarray(batch.images), EPSILON))


def _gaussian():
  """That of the first restart of an attack on each image."""

  def draw(key):
    return 0.001 * jax.random.normal(jax.random.fold_in(key, 0), SHAPE)

  return _images() + _torch(jax.vmap(draw)(_batch().keys))


def _climb(loss, first):
  """Steps along signs into the ball, then to the pixels' range."""
  images, x = _images(), first
  for _ in range(NUM_STEPS):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(x).sum(), x)
    x = x.detach() + STEP * slope.sign()
    x = torch.min(torch.max(x, images - EPSILON), images + EPSILON)
    x = x.clamp(0, 1)
  return x


def _kl(teacher, student, temperature=1.0):
  """KL(teacher, student), [B]."""
  p = torch.softmax(teacher / temperature, 1)
  log_q = torch.log_softmax(student / temperature, 1)
  return F.kl_div(log_q, p, reduction='none').sum(dim=1)


def _cross_entropy(network, x):
  return F.cross_entropy(network(x)[0], _labels(), reduction='none')


# Published steps: (student in training mode, teacher) -> x', loss [B] of any
# network at its own weights.


def _ard_view(student, teacher):
  del teacher
  return _climb(functools.partial(_cross_entropy, student), _uniform())


def _evaluated(student, loss):
  """The attack of code that calls `eval()` before and `train()` after it."""
  student.eval()
  view = _climb(loss, _gaussian())
  student.train()
  return view


def _ard(student, teacher, view):
  adv, clean = student(view)[0], student(_images())[0]
  natural = F.cross_entropy(clean, _labels(), reduction='none')
  return 0.8 * 4**2 * _kl(teacher(_images())[0], adv, 4) + 0.2 * natural


def _iad(student, teacher, view, introspects=1):
  adv, clean = student(view)[0], student(_images())[0]
  trust = torch.softmax(teacher(view)[0], 1)[torch.arange(COUNT), _labels()]
  own = (1 - trust**0.1) * _kl(clean, adv) * introspects
  return _kl(teacher(_images())[0], adv) + own


def _rslad_view(student, teacher):
  said = teacher(_images())[0]
  return _evaluated(student, lambda x: _kl(said, student(x)[0]))


def _rslad(student, teacher, view):
  said = teacher(_images())[0]
  adv, clean = student(view)[0], student(_images())[0]
  return 5 / 6 * _kl(said, adv) + 1 / 6 * _kl(said, clean)


def _adaad_view(student, teacher):
  return _evaluated(student, lambda x: _kl(teacher(x)[0], student(x)[0]))


def _adaad(student, teacher, view, alpha=1.0):
  clean, adv = student(_images())[0], student(view)[0]
  natural = _kl(teacher(_images())[0], clean)
  return alpha * _kl(teacher(view)[0], adv) + (1 - alpha) * natural


def _mart_view(student, teacher):
  del teacher
  return _evaluated(student, functools.partial(_cross_entropy, student))


def _mart(student, teacher, view):
  """Without the small numbers that the code adds."""
  del teacher
  labels, rows = _labels(), torch.arange(COUNT)
  clean, adv = student(_images())[0], student(view)[0]
  p, q = torch.softmax(clean, 1), torch.softmax(adv, 1)
  top = torch.argsort(q, dim=1)[:, -2:]
  rival = torch.where(top[:, -1] == labels, top[:, -2], top[:, -1])
  boosted = F.cross_entropy(adv, labels, reduction='none')
  boosted = boosted - torch.log(1 - q[rows, rival])
  return boosted + 5 * _kl(clean, adv) * (1 - p[rows, labels])


def _pgd(student, teacher, view):
  del teacher
  return _cross_entropy(student, view)


class Case(NamedTuple):
  """A method, its view and its loss in PyTorch, and passes of the loss.

  Attributes:
    method: of `adversarial`.
    view: (student, teacher) -> x'.
    loss: (student, teacher, x') -> [B].
    passes: through the student in training mode.
    awp: whether it perturbs the weights.
  """

  method: adversarial.AdversarialMethod
  view: Any
  loss: Any
  passes: int
  awp: bool = False


_ard_method = functools.partial(adversarial.ard, alpha=0.8, temperature=4.0)
CASES = {
  'ard': Case(_ard_method(**_BALL), _ard_view, _ard, NUM_STEPS + 2),
  'iad': Case(adversarial.iad(**_BALL), _ard_view, _iad, NUM_STEPS + 2),
  'iad, before it introspects': Case(
    adversarial.iad(**_BALL, warmup_steps=1),
    _ard_view,
    functools.partial(_iad, introspects=0),
    NUM_STEPS + 2,
  ),
  'rslad': Case(adversarial.rslad(**_BALL), _rslad_view, _rslad, 2),
  'adaad': Case(adversarial.adaad(**_BALL), _adaad_view, _adaad, 2),
  'adaad, half': Case(
    adversarial.adaad(**_BALL, alpha=0.5),
    _adaad_view,
    functools.partial(_adaad, alpha=0.5),
    2,
  ),
  'mart': Case(adversarial.mart(**_BALL), _mart_view, _mart, 2),
  'awp': Case(
    adversarial.awp(
      adversarial.pgd_training(
        **_BALL, start=attacks.norms.Norm.gaussian_start, in_training_mode=False
      ),
      gamma=GAMMA,
    ),
    _mart_view,
    _pgd,
    1,
    awp=True,
  ),
  'awp, rslad': Case(
    adversarial.awp(adversarial.rslad(**_BALL), gamma=GAMMA),
    _rslad_view,
    _rslad,
    2,
    awp=True,
  ),
  'awp, before it begins': Case(
    adversarial.awp(adversarial.mart(**_BALL), gamma=GAMMA, warmup_steps=1),
    _mart_view,
    _mart,
    2,
  ),
}


def _teacher(**fields) -> compare.Distillation:
  return compare.Distillation(small_network.Network(), attends=False, **fields)


def _step(method):
  """State and metrics after a step of SGD on one device, not augmented."""
  recipe = train_state.Recipe(
    net=small_network.Network(axis_name=parallel.AXIS),
    optimizer=optax.sgd(RATE),
    adversarial=method,
    distillation=_teacher(),
    augment=lambda key, image: image,
  )
  context = train_state.Context(0, _variables('teacher'), (), 0.0, 0.0)

  def prepare(recipe, context, step, batch, parts):
    del step, parts
    answer = compare.ask_teacher(
      recipe.distillation, context.teacher, batch.images
    )
    return train_state.Examples(
      batch.keys, batch.images, batch.labels, (), answer
    )

  state = train_state.start_from(recipe, _variables('student'), SHAPE, COUNT)
  devices = parallel.devices(1)
  mapped = parallel.pmap(
    functools.partial(train_step.train_step, recipe), devices
  )
  arguments = (parallel.replicate(tree, devices) for tree in (state, context))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train_step, 'prepare', prepare)
    after = mapped(*arguments, jax.tree.map(lambda x: x[None], _batch()))
  return parallel.unreplicate(after)


def _perturb_weights(student, loss):
  """The proxy of AWP: what is added to the weights, by their names."""
  proxy = copy.deepcopy(student).train()
  optimizer = torch.optim.SGD(proxy.parameters(), lr=0.01)
  optimizer.zero_grad()
  (-loss(proxy).mean()).backward()
  optimizer.step()
  moved = {}
  with torch.no_grad():
    for name, weights in student.named_parameters():
      if weights.dim() > 1 and 'weight' in name:
        change = proxy.get_parameter(name) - weights
        moved[name] = GAMMA * weights.norm() / (change.norm() + 1e-20) * change
  return moved


@pytest.mark.parametrize(
  'name',
  [
    # Variants of others.
    pytest.param(name, marks=pytest.mark.slow) if ', ' in name else name
    for name in CASES
  ],
)
def test_a_step_is_the_published_one(name):
  case = CASES[name]
  student, teacher = _network().train(), _network('teacher').eval()
  view = case.view(student, teacher)
  loss = functools.partial(case.loss, teacher=teacher, view=view)
  moved = _perturb_weights(student, loss) if case.awp else {}
  with torch.no_grad():
    for key, change in moved.items():
      student.get_parameter(key).add_(change)
  optimizer = torch.optim.SGD(student.parameters(), lr=RATE)
  optimizer.zero_grad()
  value = loss(student).mean()
  value.backward()
  optimizer.step()
  with torch.no_grad():
    for key, change in moved.items():
      student.get_parameter(key).sub_(change)

  state, sums = _step(case.method)

  expected = {n: p.detach().numpy() for n, p in student.named_parameters()}
  for key, weights in small_network.parameters(state.params).items():
    np.testing.assert_allclose(weights, expected[key], atol=1e-9, err_msg=key)
  start = _variables('student')['batch_stats']
  statistics = small_network.torch_statistics(
    student, start, case.passes, COUNT * SHAPE[0] * SHAPE[1]
  )
  for key, values in statistics['norm'].items():
    np.testing.assert_allclose(
      state.batch_stats['norm'][key], values, atol=1e-9, err_msg=key
    )
  assert sums['loss'] == pytest.approx(COUNT * value.item(), rel=1e-9)
  assert (set(moved) == {'conv.weight', 'head.weight'}) == case.awp


# What the attacks climb, at images [B, H, W, C] in evaluation mode.


def _logits(which, images):
  net = small_network.Network()
  return networks.apply(net, _variables(which), images)[0]


def _inner(name, images):
  student = _logits('student', images)
  said = {
    'rslad': _logits('teacher', _batch().images),
    'adaad': _logits('teacher', images),
  }
  if name in said:
    return losses.kl_teacher_student(student, said[name])
  return losses.cross_entropy(student, _batch().labels)


_INNER = {
  'ard': adversarial.ard,
  'iad': adversarial.iad,
  'rslad': adversarial.rslad,
  'adaad': adversarial.adaad,
  'mart': adversarial.mart,
}


@pytest.mark.parametrize('name', _INNER)
def test_an_attack_raises_the_published_inner_loss_more_than_any_other(name):
  """In evaluation mode, where each image has a loss of its own."""
  variables, batch = _variables('student'), _batch()
  network = networks.classifier(small_network.Network())
  answer = compare.ask_teacher(
    _teacher(), _variables('teacher'), jnp.asarray(batch.images)
  )
  teacher = compare.teacher_predictions(
    _teacher(), _variables('teacher'), answer
  )

  def view(make):
    return make(**_BALL, in_training_mode=False).perturb(
      network,
      variables['params'],
      variables['batch_stats'],
      (),
      batch.keys,
      jnp.asarray(batch.images),
      jnp.asarray(batch.labels),
      teacher,
    )

  own = view(_INNER[name])
  reached = _inner(name, own.images).mean()
  assert own.batch_stats is variables['batch_stats']
  assert np.abs(own.images - batch.images).max() <= EPSILON + 1e-12
  assert own.images.min() >= 0 and own.images.max() <= 1
  assert reached > 1.2 * _inner(name, batch.images).mean()
  others = {'ard': ('rslad', 'adaad'), 'rslad': ('ard', 'adaad')}
  others |= {'adaad': ('ard', 'rslad')}
  others |= {'iad': others['ard'], 'mart': others['ard']}
  for other in others[name]:
    assert reached > _inner(name, view(_INNER[other]).images).mean()


def test_a_perturbation_of_weights_raises_the_loss_and_has_its_length():
  method = adversarial.awp(adversarial.pgd_training(**_BALL), gamma=GAMMA)
  params, stats = _variables('student').values()
  images, labels = map(jnp.asarray, (_batch().images, _batch().labels))
  network = networks.classifier(small_network.Network())

  def loss(params):
    logits, _ = network(params, stats, images, train=True)
    return losses.cross_entropy(logits, labels).mean()

  slope = jax.jit(jax.grad(loss))(params)
  worst = method.perturb_weights(params, slope, jnp.int32(0))

  assert loss(worst) > loss(params) + 0.01
  for layer in ('conv', 'head'):
    weights = params[layer]['kernel']
    change = np.linalg.norm(worst[layer]['kernel'] - weights)
    assert change == pytest.approx(GAMMA * np.linalg.norm(weights), rel=1e-9)
  for path in (('head', 'bias'), ('norm', 'scale'), ('norm', 'bias')):
    np.testing.assert_array_equal(
      worst[path[0]][path[1]], params[path[0]][path[1]]
    )


def test_weights_without_a_gradient_are_not_perturbed():
  method = adversarial.awp(adversarial.standard(), gamma=GAMMA)
  params = _variables('student')['params']
  zeros = jax.tree.map(np.zeros_like, params)
  worst = method.perturb_weights(params, zeros, jnp.int32(0))
  jax.tree.map(np.testing.assert_array_equal, worst, params)


def test_awp_of_free_training_is_refused():
  free = adversarial.free(epsilon=EPSILON, replays=2)
  with pytest.raises(ValueError, match='not replays=2: choose another one'):
    adversarial.awp(free, gamma=GAMMA)


@pytest.mark.parametrize('name', ['ard', 'iad', 'rslad', 'adaad'])
def test_a_recipe_without_a_teacher_is_refused(name):
  with pytest.raises(ValueError, match='learns from a teacher'):
    train_state.Recipe(
      net=small_network.Network(),
      optimizer=optax.sgd(RATE),
      adversarial=_INNER[name](**_BALL),
      distillation=compare.Distillation(),
      augment=lambda key, image: image,
    )
