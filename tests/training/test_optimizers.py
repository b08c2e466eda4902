"""Optimisers and schedules do what `torch.optim` does, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.config import resolve, settings
from rnascl_jax.training import optimizers

torch = pytest.importorskip('torch')

_STEPS = 20
_SHAPES = {'kernel': (3, 2), 'bias': (2,)}


def _spec(**fields) -> settings.Optimization:
  return settings.Optimization(epochs=_STEPS, learning_rate=0.1, **fields)


def _numbers(seed: int) -> dict[str, np.ndarray]:
  random = np.random.default_rng(seed)
  return {name: random.normal(size=s) for name, s in _SHAPES.items()}


def _ours(made: optax.GradientTransformation) -> dict[str, np.ndarray]:
  """Parameters after steps along fixed gradients."""
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, _numbers(0))
    state = made.init(params)
    for step in range(_STEPS):
      updates, state = made.update(_numbers(1 + step), state, params)
      params = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, params)


def _theirs(make, schedule=None, clip=0.0) -> dict[str, np.ndarray]:
  params = {
    name: torch.nn.Parameter(torch.tensor(x)) for name, x in _numbers(0).items()
  }
  optimizer = make(params)
  rate = schedule(optimizer) if schedule else None
  for step in range(_STEPS):
    for name, gradient in _numbers(1 + step).items():
      params[name].grad = torch.tensor(gradient)
    if clip:
      torch.nn.utils.clip_grad_norm_(params.values(), clip)
    optimizer.step()
    if rate:
      rate.step()
  return {name: p.detach().numpy() for name, p in params.items()}


def _groups(params, decay: float):
  """All parameters, of which the kernel alone decays."""
  return [
    {'params': [params['kernel']], 'weight_decay': decay},
    {'params': [params['bias']], 'weight_decay': 0.0},
  ]


def _assert_equal(ours, theirs, tolerance=1e-12):
  for name, values in theirs.items():
    np.testing.assert_allclose(ours[name], values, rtol=tolerance)


_OPTIMIZERS = {
  'sgd': (torch.optim.SGD, {'momentum': 0.9}),
  'adam': (torch.optim.Adam, {'betas': (0.8, 0.99)}),
  'adamw': (torch.optim.AdamW, {'betas': (0.8, 0.99)}),
}


@pytest.mark.parametrize('decayed', ['all', 'kernels'])
@pytest.mark.parametrize('name', _OPTIMIZERS)
def test_an_optimizer_with_weight_decay_is_that_of_pytorch(name, decayed):
  make, options = _OPTIMIZERS[name]

  def theirs(params):
    if decayed == 'kernels':
      return make(_groups(params, 0.05), lr=0.1, **options)
    return make(params.values(), lr=0.1, weight_decay=0.05, **options)

  spec = _spec(
    optimizer=name,
    schedule='constant',
    weight_decay=0.05,
    decayed=decayed,
    **options,
  )
  _assert_equal(_ours(resolve.optimizer(spec, 1)), _theirs(theirs))


@pytest.mark.parametrize('name', ['adam', 'adamw'])
def test_the_architectures_optimizer_has_betas_and_weight_decay(name):
  make, options = _OPTIMIZERS[name]
  spec = settings.SearchSettings(
    arch_optimizer=name,
    arch_learning_rate=0.1,
    arch_betas=options['betas'],
    arch_weight_decay=1e-2,
  )
  theirs = _theirs(
    lambda p: make(p.values(), lr=0.1, weight_decay=1e-2, **options)
  )
  _assert_equal(_ours(resolve.arch_optimizer(spec)), theirs)


@pytest.mark.parametrize(
  ('fields', 'theirs'),
  [
    (
      {'schedule': 'cosine', 'min_learning_rate': 0.01},
      lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(
        o, _STEPS, eta_min=0.01
      ),
    ),
    (
      {'schedule': 'one_cycle'},
      lambda o: torch.optim.lr_scheduler.OneCycleLR(
        o, 0.1, total_steps=_STEPS + 1, cycle_momentum=False
      ),
    ),
    (
      {'schedule': 'piecewise', 'milestones': (0.25, 0.75)},
      lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [5, 15]),
    ),
  ],
)
def test_a_schedule_is_that_of_pytorch(fields, theirs):
  if fields['schedule'] == 'one_cycle':
    # PyTorch may step its schedule once more than the optimiser.
    with jax.enable_x64(True):
      made = optax.sgd(optimizers.one_cycle(0.1, _STEPS + 1))
  else:
    made = resolve.optimizer(_spec(momentum=0.0, weight_decay=0.0, **fields), 1)
  expected = _theirs(lambda p: torch.optim.SGD(p.values(), lr=0.1), theirs)
  _assert_equal(_ours(made), expected, 1e-9)


def test_a_one_cycle_ends_with_the_training():
  rate = resolve.schedule(_spec(schedule='one_cycle'), 5)
  rates = [float(rate(step)) for step in range(5 * _STEPS)]
  assert rates[0] == pytest.approx(0.1 / 25)
  assert (np.argmax(rates), max(rates)) == (29, pytest.approx(0.1))
  assert rates[-1] == pytest.approx(0.1 / 25e4, abs=1e-8)


def test_gradients_are_clipped_before_they_decay_as_in_pytorch():
  spec = _spec(schedule='constant', gradient_clip=0.5, weight_decay=0.05)
  theirs = _theirs(
    lambda p: torch.optim.SGD(
      p.values(), lr=0.1, momentum=0.9, weight_decay=0.05
    ),
    clip=0.5,
  )
  # PyTorch adds 1e-6 to the norm.
  _assert_equal(_ours(resolve.optimizer(spec, 1)), theirs, 1e-5)


def test_a_warm_up_rises_to_a_cosine_that_ends_at_its_floor():
  spec = dataclasses.replace(
    _spec(schedule='cosine'), warmup=0.1, min_learning_rate=0.05
  )
  rate = resolve.schedule(spec, 10)
  assert float(rate(0)) == pytest.approx(0.1 / 20)
  assert float(rate(200)) == pytest.approx(0.05)


def test_without_a_floor_a_rate_of_0_stays_0():
  spec = dataclasses.replace(_spec(schedule='cosine'), learning_rate=0.0)
  assert float(resolve.schedule(spec, 10)(7)) == 0
