"""The gradient attacks against loops in PyTorch, and against Foolbox.

In float64 every pixel must agree to 1e-12; in L2, where 1e-12 is added to each
length as in the official AutoAttack, to 1e-11. In float32 a derivative that is
zero but for rounding has a sign that no two programs need agree on, and the
pixel then moves by a whole step: there 1e-6 is asked of all but 0.2 % of the
pixels.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import gradient as gradient_attacks
from rnascl_jax.attacks import norms, presets
from tests import attack_networks as nets

OPTIMIZED = True

torch = pytest.importorskip('torch')
ep = pytest.importorskip('eagerpy')
optimize = pytest.importorskip('scipy.optimize')

COUNT, SIDE, CLASSES = 12, 8, 10
EPSILON, STEP = 8 / 255, 2 / 255


@functools.cache
def _data():
  """Images, labels of which a few are wrong, and noise in [-1, 1]."""
  rng = np.random.default_rng(1)
  images = rng.uniform(size=(COUNT, SIDE, SIDE, 3))
  images[0], images[1] = 0, 1
  noise = rng.uniform(-1, 1, size=images.shape)
  logits = nets.torch_plain(nets.to_torch(images, np.float64))
  labels = logits.argmax(dim=1).numpy()
  labels[-2:] = (labels[-2:] + 1) % CLASSES
  return images, labels, noise


def _torch_margin(logits, labels):
  own = logits.gather(1, labels[:, None])[:, 0]
  others = logits.scatter(1, labels[:, None], -torch.inf)
  return (others.amax(dim=1) - own).sum()


def _torch_cross_entropy(logits, labels):
  return torch.nn.functional.cross_entropy(logits, labels, reduction='sum')


def _torch_linf_step(x, gradient, images, epsilon, step_size):
  moved = x + step_size * gradient.sign()
  moved = torch.min(torch.max(moved, images - epsilon), images + epsilon)
  return torch.clamp(moved, 0, 1)


def _torch_l2_step(x, gradient, images, epsilon, step_size):
  def lengths(tensor):
    return tensor.flatten(1).norm(dim=1)[:, None, None, None]

  delta = x + step_size * gradient / lengths(gradient) - images
  # Not renorm, which makes the length 1e-7 smaller than it is told to.
  delta = delta * torch.clamp(epsilon / lengths(delta), max=1)
  return torch.clamp(images + delta, 0, 1)


def _torch_attack(
  dtype,
  first,
  *,
  norm=norms.LINF,
  loss=losses.cross_entropy,
  epsilon=EPSILON,
  step_size=EPSILON,
  num_steps=1,
  decay=None,
  stop_when_fooled=False,
  targeted=False,
):
  """Gradient steps on a batch, as the public loops write them."""
  step = _torch_linf_step if norm == norms.LINF else _torch_l2_step
  images, labels = (
    nets.to_torch(_data()[0], dtype),
    torch.tensor(_data()[1]).long(),
  )
  climbed = _torch_margin if loss is losses.cw_loss else _torch_cross_entropy
  x = nets.to_torch(first, dtype)
  velocity = torch.zeros_like(x)
  for _ in range(num_steps):
    x.requires_grad_()
    logits = nets.torch_plain(x)
    (gradient,) = torch.autograd.grad(climbed(logits, labels), x)
    x, gradient = x.detach(), -gradient if targeted else gradient
    if decay is not None:
      size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
      velocity = gradient = decay * velocity + gradient / size
    moved = step(x, gradient, images, epsilon, step_size)
    fooled = (logits.argmax(dim=1) != labels)[:, None, None, None]
    x = torch.where(fooled, x, moved) if stop_when_fooled else moved
  return nets.from_torch(x)


def _ours(dtype, first, attack=attacks.pgd, **options):
  """Our result from the same starting points, [B, H, W, C]."""
  images, labels, _ = _data()

  def one(image, label, first):
    start = {}
    if attack is attacks.pgd:
      start['start'] = lambda norm, key, image, epsilon: first
    return attack(
      nets.plain, jax.random.key(0), image, label, **start, **options
    )

  with jax.enable_x64(dtype == np.float64):
    arguments = (images.astype(dtype), labels, np.asarray(first, dtype))
    return np.asarray(jax.jit(jax.vmap(one))(*arguments))


def _assert_same(ours, expected, norm=norms.LINF):
  assert ours.dtype == expected.dtype
  difference = np.abs(ours - expected)
  if ours.dtype == np.float64:
    assert difference.max() <= (1e-12 if norm == norms.LINF else 1e-11)
  else:
    assert np.mean(difference > 1e-6) <= 2e-3


def _first(start):
  """A starting point of the literature."""
  images, _, noise = _data()
  uniform = images + EPSILON * noise
  return {
    'image': images,
    'clamped': np.clip(uniform, 0, 1),
    'unclamped': uniform,
    'gaussian': images + 1e-3 * noise,
  }[start]


# The start, the attack and its options.
_STEPS = {'epsilon': EPSILON, 'step_size': STEP, 'num_steps': 10}
_MOMENTUM = _STEPS | {'step_size': EPSILON / 10}
_STOP = {'epsilon': 0.1, 'step_size': 0.02, 'num_steps': 10}
_L2 = {'norm': norms.L2, 'epsilon': 0.5, 'step_size': 0.1, 'num_steps': 10}
_STOP_L2 = _L2 | {'stop_when_fooled': True}
CASES = {
  'fgsm': ('image', attacks.fgsm, {'epsilon': EPSILON}),
  'mi_fgsm': ('image', attacks.mi_fgsm, _MOMENTUM | {'decay': 1.0}),
  'mi_fgsm, 10': ('image', attacks.mi_fgsm, _MOMENTUM | {'decay': 10.0}),
  'pgd': ('image', attacks.pgd, _STEPS),
  'pgd, clamped start': ('clamped', attacks.pgd, _STEPS),
  'pgd, unclamped start': ('unclamped', attacks.pgd, _STEPS),
  'pgd, gaussian start': ('gaussian', attacks.pgd, _STEPS),
  'pgd, targeted': ('clamped', attacks.pgd, _STEPS | {'targeted': True}),
  'cw': ('unclamped', attacks.pgd, _STEPS | {'loss': losses.cw_loss}),
  'pgd, stop': ('clamped', attacks.pgd, _STOP | {'stop_when_fooled': True}),
  'mi_fgsm in L2': ('image', attacks.mi_fgsm, _L2 | {'decay': 1.0}),
  'pgd in L2': ('clamped', attacks.pgd, _L2),
  'pgd in L2, targeted': ('clamped', attacks.pgd, _L2 | {'targeted': True}),
  'cw in L2': ('unclamped', attacks.pgd, _L2 | {'loss': losses.cw_loss}),
  'pgd in L2, stop': ('clamped', attacks.pgd, _STOP_L2),
}


@pytest.mark.parametrize('name', CASES)
def test_attacks_are_those_of_pytorch(name):
  start, attack, options = CASES[name]
  first = _first(start)

  ours = _ours(np.float64, first, attack, **options)
  expected = _torch_attack(np.float64, first, **options)
  _assert_same(ours, expected, options.get('norm', norms.LINF))

  if options.get('stop_when_fooled'):
    moving = options | {'stop_when_fooled': False}
    moving = _torch_attack(np.float64, first, **moving)
    assert np.abs(moving - ours).max() > 0.01  # Some image did stop.


@pytest.mark.parametrize('name', ['mi_fgsm', 'pgd, unclamped start', 'cw'])
def test_attacks_in_float32_are_those_of_pytorch(name):
  start, attack, options = CASES[name]
  first = _first(start)

  ours = _ours(np.float32, first, attack, **options)

  _assert_same(ours, _torch_attack(np.float32, first, **options))


# Settings as the cited code has them: epsilon, step and number of steps; the
# start (none, clamped to [0, 1] or not); further options.
_CITED = {
  'fgsm': (8 / 255, 8 / 255, 1, None, {}),
  'mi_fgsm10_dong': (16 / 255, 1.6 / 255, 10, None, {'decay': 1.0}),
  'mi_fgsm20': (8 / 255, 0.8 / 255, 20, None, {'decay': 1.0}),
  'mi_fgsm20_rnascl': (8 / 255, 0.8 / 255, 20, None, {'decay': 10.0}),
  'pgd20_trades': (0.031, 0.003, 20, 'raw', {}),
  'pgd20_advrush': (0.031, 0.01, 20, 'raw', {}),
  'pgd20_rnascl': (8 / 255, 0.003, 20, 'raw', {}),
  'pgd20_robnet': (8 / 255, 2 / 255, 20, 'raw', {}),
  'pgd20_huang': (8 / 255, 0.8 / 255, 20, 'raw', {}),
  'cw20_rnascl': (8 / 255, 0.003, 20, 'raw', {}),
  'cw20_huang': (8 / 255, 0.8 / 255, 20, 'raw', {}),
  'pgd20_rnascl_clamped': (8 / 255, 0.8 / 255, 20, 'clamped', {}),
  'pgd10_madry': (8 / 255, 2 / 255, 10, 'clamped', {}),
  'pgd20_madry': (8 / 255, 2 / 255, 20, 'clamped', {}),
  'cw20_madry': (8 / 255, 2 / 255, 20, 'clamped', {}),
  'pgd10_rice': (8 / 255, 2 / 255, 10, 'clamped', {'stop': True}),
  'pgd50x10_fast': (
    8 / 255,
    2 / 255,
    50,
    'clamped',
    {'stop': True, 'restarts': 10},
  ),
  'pgd10_imagenet_free': (4 / 255, 1 / 255, 10, 'clamped', {}),
  'pgd50_imagenet_free': (4 / 255, 1 / 255, 50, 'clamped', {}),
  'pgd7_imagenet_rnascl': (1 / 255, 2 / 255, 7, 'clamped', {}),
  'fgm_l2': (0.5, 0.5, 1, None, {}),
  'pgd10_l2_rice': (128 / 255, 15 / 255, 10, 'length', {'stop': True}),
  'pgd20_l2_robustness': (0.5, 2.5 * 0.5 / 20, 20, None, {'best': True}),
  'pgd100_l2_robustness': (0.5, 2.5 * 0.5 / 100, 100, None, {'best': True}),
  'pgd10_l1_foolbox': (12, 2.4, 10, None, {}),
  'pgd100_l1_tramer': (2000 / 255, 2, 100, 'length', {}),
}


@pytest.mark.parametrize('name', presets.PRESETS)
def test_presets_have_the_settings_that_they_cite(name):
  epsilon, step_size, num_steps, start, options = _CITED[name]
  preset = presets.PRESETS[name]
  assert (preset.epsilon, preset.step_size) == (epsilon, step_size)
  assert preset.num_steps == num_steps
  assert preset.decay == options.get('decay')
  assert preset.restarts == options.get('restarts', 1)
  assert preset.stop_when_fooled == options.get('stop', False)
  assert preset.keep_best == options.get('best', False)
  if start is None:
    assert preset.start is None
    return
  grey = jnp.full((8, 8, 1), 0.5)
  if start == 'length':
    lengths = [
      preset.norm.length(preset.start(preset.norm, key, grey, 0.5) - grey)
      for key in jax.random.split(jax.random.key(0), 8)
    ]
    any_length = name == 'pgd10_l2_rice'
    assert 0.4 < max(lengths) <= 0.5 + 1e-5
    assert (min(lengths) < 0.2) == any_length
    return
  # A white image, whose noise above 1 clamping removes.
  white, key = jnp.ones((8, 8, 1)), jax.random.key(0)
  first = preset.start(preset.norm, key, white, epsilon)
  assert 0.9 * epsilon < 1 - first.min() <= epsilon + 6e-8
  assert (first.max() > 1) == (start == 'raw')


# Foolbox.


@pytest.fixture(scope='module')
def foolbox():
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # It imports from deprecated places.
    return pytest.importorskip('foolbox')


def _foolbox(foolbox, attack, epsilon):
  images, labels, _ = _data()
  model = torch.nn.Module()
  model.forward = nets.torch_plain
  model = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device='cpu')
  result, _, _ = attack(
    model,
    nets.to_torch(images, np.float64),
    torch.tensor(labels).long(),
    epsilons=epsilon,
  )
  return nets.from_torch(result)


@pytest.mark.parametrize('norm', [norms.LINF, norms.L2])
def test_fgsm_is_that_of_foolbox(foolbox, norm):
  kind = 'Linf' if norm == norms.LINF else 'L2'
  attack = getattr(foolbox.attacks, f'{kind}FastGradientAttack')
  images, _, _ = _data()
  for epsilon in (EPSILON, 0.5):
    ours = _ours(np.float64, images, attacks.fgsm, epsilon=epsilon, norm=norm)
    theirs = _foolbox(foolbox, attack(random_start=False), epsilon)
    _assert_same(ours, theirs)


@pytest.mark.parametrize(
  'options',
  [_STEPS, _L2, _L2 | {'epsilon': 3.0, 'step_size': 1.5}],
)
def test_pgd_is_that_of_foolbox_from_the_same_start(
  foolbox, monkeypatch, options
):
  kind = 'L2' if 'norm' in options else 'Linf'
  attack = getattr(foolbox.attacks, f'{kind}PGD')
  attack = attack(abs_stepsize=options['step_size'], steps=10)
  first = _first('clamped')

  def injected(x0, epsilon):
    del epsilon
    return type(x0)(nets.to_torch(first, np.float64))

  monkeypatch.setattr(attack, 'get_random_start', injected)
  ours = _ours(np.float64, first, **options)
  _assert_same(ours, _foolbox(foolbox, attack, options['epsilon']))


def test_steps_in_l1_move_the_values_that_foolbox_moves(foolbox):
  attack = foolbox.attacks.SparseL1DescentAttack(quantile=0.95)
  images, _, noise = _data()
  images = np.where(noise > 0.5, np.round(images), images)  # Many at 0 and 1.
  expected = attack.normalize(
    ep.astensor(nets.to_torch(noise, np.float64)),
    x=ep.astensor(nets.to_torch(images, np.float64)),
    bounds=foolbox.types.Bounds(0, 1),
  )

  def step(image, gradient):
    # In so large a ball only what leaves [0, 1] is cut off.
    return gradient_attacks.ascend(
      norms.L1, image, image, gradient, epsilon=1e3, step_size=1e-3, share=0.05
    )

  with jax.enable_x64(True):
    moved = np.asarray(jax.vmap(step)(images, noise)) - images
  np.testing.assert_allclose(
    moved, 1e-3 * nets.from_torch(expected.raw), atol=1e-12
  )


def _nearest_in_l1(image, point, epsilon):
  """The point of the ball and of [0, 1] nearest to a point, by bisection."""
  size, sign = np.abs(point - image), np.sign(point - image)
  reach = np.where(sign > 0, 1 - image, image)

  def excess(shift):
    return np.clip(size - shift, 0, reach).sum() - epsilon

  shift = 0.0
  if excess(0.0) > 0:
    shift = optimize.brentq(excess, 0.0, size.max(), xtol=1e-15, rtol=1e-14)
  return image + sign * np.clip(size - shift, 0, reach)


def test_pgd_in_l1_is_that_of_foolbox_with_the_exact_projection(
  foolbox, monkeypatch
):
  attack = foolbox.attacks.SparseL1DescentAttack(quantile=0.95, steps=10)

  def project(points, images, epsilon):
    # Foolbox leaves [0, 1] out, and its index of the threshold is one too high.
    pairs = zip(images.numpy(), points.numpy(), strict=True)
    nearest = [_nearest_in_l1(*pair, epsilon) for pair in pairs]
    return type(points)(torch.tensor(np.stack(nearest)))

  monkeypatch.setattr(attack, 'project', project)
  options = {'epsilon': 1.0, 'step_size': 0.2, 'num_steps': 10, 'share': 0.05}
  ours = _ours(np.float64, _data()[0], norm=norms.L1, **options)
  np.testing.assert_allclose(
    ours, _foolbox(foolbox, attack, 1.0), rtol=0, atol=1e-11
  )
