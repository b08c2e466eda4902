"""The contract of every attack on one image and every preset."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import (
  apgd_l1,
  gradient,
  lifting,
  norms,
  presets,
  square_l1,
  stepwise,
  unrolling,
)

COUNT, SIDE, CLASSES = 6, 4, 3
EPSILON = 0.05
# float32: x + epsilon is rounded, by up to half a unit in the last place of 1.
ROUNDING = 6e-8


def _at_ratio(attack, norm=norms.LINF, **options):
  """An attack as a function of epsilon alone: step = 0.3 epsilon."""
  options['norm'] = norm

  def one(*arguments, epsilon, **others):
    return attack(
      *arguments,
      epsilon=epsilon,
      step_size=0.3 * epsilon,
      num_steps=5,
      **options | others,
    )

  one.norm = norm
  return one


def _structure(preset):
  """A preset without its numbers."""
  return dataclasses.replace(
    preset,
    origin='',
    epsilon=0,
    step_size=0,
    num_steps=min(preset.num_steps, 2),
    restarts=min(preset.restarts, 2),
    decay=None if preset.decay is None else 1.0,
  )


# Presets of one structure differ in numbers alone, which other tests compare
# with what is published: the first of them stands for all.
_PRESETS = {
  _structure(attacks.PRESETS[n]): n for n in reversed(attacks.PRESETS)
}
CASES = {
  'mi_fgsm': _at_ratio(attacks.mi_fgsm),
  'cw': _at_ratio(attacks.cw),
  'pgd from gaussian noise': _at_ratio(
    attacks.pgd, start=norms.Norm.gaussian_start
  ),
  'pgd keeping the best': _at_ratio(
    attacks.pgd, keep_best=True, start=presets.unclamped_start, decay=0.5
  ),
} | {name: attacks.PRESETS[name] for name in _PRESETS.values()}
for _norm in (norms.L2, norms.L1):
  CASES |= {
    f'mi_fgsm in {_norm.name}': _at_ratio(attacks.mi_fgsm, _norm),
    f'cw in {_norm.name}': _at_ratio(attacks.cw, _norm),
    f'pgd keeping the best in {_norm.name}': _at_ratio(
      attacks.pgd, _norm, keep_best=True, start=norms.Norm.gaussian_start
    ),
  }
# Attacks in steps, whose own tests say what they climb.
STEPWISE = {
  'apgd': attacks.apgd.APGD(num_steps=5),
  'fab': attacks.fab.FAB(num_steps=5, targets=2, restarts=2),
  'square': attacks.square.SquareLinf(num_steps=20),
  'apgd in l1': apgd_l1.APGDL1(num_steps=7, large_radii=True),
  'square in l1': square_l1.SquareL1(num_steps=20),
}
every_attack = pytest.mark.parametrize('name', [*CASES, *STEPWISE])


def _logits(params, images):
  """A smooth network: images [B, H, W, C] -> logits [B, K]."""
  hidden = jnp.tanh(images.reshape(len(images), -1) @ params['in'])
  return hidden @ params['out'] + params['bias']


@functools.cache
def _data(num_classes=CLASSES):
  keys = jax.random.split(jax.random.key(0), 4)
  params = {
    'in': jax.random.normal(keys[0], (SIDE * SIDE, 8)),
    'out': jax.random.normal(keys[1], (8, num_classes)),
    'bias': jax.random.normal(keys[3], (1, num_classes)),
  }
  images = jax.random.uniform(keys[2], (COUNT, SIDE, SIDE, 1))
  # Extreme pixels, where the ball is cut off.
  images = images.at[0].set(0.0).at[1].set(1.0)
  # The predicted class for all but the first image, which is broken already.
  labels = jnp.argmax(_logits(params, images), axis=-1)
  labels = labels.at[0].set((labels[0] + 1) % num_classes)
  return params, images, labels


class _Lifted:
  """A jitted, vmapped attack that counts how often it is traced."""

  def __init__(self, attack):
    self.traces = 0

    def run(params, keys, images, labels, epsilon):
      self.traces += 1
      logits_fn = functools.partial(_logits, params)
      return attacks.batched(attack)(
        logits_fn, keys, images, labels, epsilon=epsilon
      )

    self._run = jax.jit(run)

  def __call__(self, params, images, labels, epsilon=EPSILON, indices=None):
    indices = jnp.arange(len(images)) if indices is None else indices
    keys = attacks.image_keys(jax.random.key(1), indices)
    return self._run(params, keys, images, labels, epsilon)


@functools.cache
def _lifted(name):
  return _Lifted((CASES | STEPWISE)[name])


def _loss(name):
  """What an attack climbs."""
  loss = getattr(CASES[name], 'loss', losses.cross_entropy)
  return losses.cw_loss if name.split()[0] == 'cw' else loss


def _lengths(name, perturbations):
  """Lengths of perturbations [n, H, W, C] in the norm of an attack."""
  return jax.vmap((CASES | STEPWISE)[name].norm.length)(perturbations)


def _bound(name):
  """The longest perturbation; in L1 the rounding of all pixels adds up."""
  is_l1 = (CASES | STEPWISE)[name].norm == norms.L1
  return EPSILON + ROUNDING * (SIDE * SIDE if is_l1 else 1)


# The contract.


@every_attack
def test_result_stays_in_the_ball_and_in_the_unit_interval(name):
  params, images, labels = _data()
  result = _lifted(name)(params, images, labels)
  assert result.shape == images.shape
  assert result.dtype == images.dtype
  assert _lengths(name, result - images).max() <= _bound(name)
  assert result.min() >= 0
  assert result.max() <= 1
  assert jnp.any(result != images)


@every_attack
def test_epsilon_zero_returns_the_very_image(name):
  params, images, labels = _data()
  result = _lifted(name)(params, images, labels, 0.0)
  np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize('name', CASES)
def test_loss_increases_on_every_image(name):
  params, images, labels = _data()
  loss = _loss(name)
  result = _lifted(name)(params, images, labels)
  gains = loss(_logits(params, result), labels) > loss(
    _logits(params, images), labels
  )
  if getattr(CASES[name], 'stop_when_fooled', False):
    # Where it stopped the loss may be anything.
    gains |= jnp.argmax(_logits(params, result), axis=-1) != labels
  assert jnp.all(gains)


@every_attack
def test_compiles_once_whatever_epsilon_and_data_are(name):
  params, images, labels = _data()
  lifted = _lifted(name)
  for epsilon in (0.0, 0.01, EPSILON, 1.0):
    lifted(params, images, labels, epsilon)
  lifted(params, 1 - images, labels[::-1])
  assert lifted.traces == 1


@every_attack
def test_gradients_of_zero_or_nan_never_give_nan_images(name):
  params, images, labels = _data()
  for value in (0.0, jnp.nan, jnp.inf):
    broken = jax.tree.map(lambda x, v=value: jnp.full_like(x, v), params)
    result = _lifted(name)(broken, images, labels)
    lengths = _lengths(name, result - images)
    assert jnp.all(lengths <= _bound(name)), value


@every_attack
def test_result_depends_on_the_index_and_not_on_batch_or_order(name):
  params, images, labels = _data()
  lifted = _lifted(name)
  whole = lifted(params, images, labels)
  order = jnp.array([3, 5, 0, 2, 1, 4])
  permuted = lifted(params, images[order], labels[order], indices=order)
  np.testing.assert_allclose(permuted, whole[order], atol=1e-6)
  # Other images beside it, as in padding, change nothing.
  padded = jnp.array([2, 2, 2, 0, 0, 0])
  beside = lifted(params, images[padded], labels[padded], indices=padded)
  np.testing.assert_allclose(beside, whole[padded], atol=1e-6)


@pytest.mark.parametrize(
  'name', ['cw', 'pgd20_trades', 'pgd10_l2_rice', *STEPWISE]
)
def test_jit_and_vmap_give_what_the_plain_function_gives(name):
  params, images, labels = _data()
  whole = _lifted(name)(params, images, labels)
  keys = attacks.image_keys(jax.random.key(1), jnp.arange(COUNT))
  logits_fn = functools.partial(_logits, params)
  attack = (CASES | STEPWISE)[name]
  alone = attack(logits_fn, keys[2], images[2], labels[2], epsilon=EPSILON)
  np.testing.assert_allclose(alone, whole[2], atol=1e-6)


@pytest.mark.parametrize(
  'name',
  ['fgsm', 'mi_fgsm', 'pgd20_trades', 'pgd50x10_fast', 'pgd20_l2_robustness'],
)
@pytest.mark.parametrize('num_classes', [2, 3])
def test_targeted_attacks_descend_towards_the_target(name, num_classes):
  params, images, labels = _data(num_classes)
  targets = (labels + 1) % num_classes
  attack = functools.partial(CASES[name], targeted=True)
  result = _Lifted(attack)(params, images, targets)
  before = losses.cross_entropy(_logits(params, images), targets)
  after = losses.cross_entropy(_logits(params, result), targets)
  assert jnp.all(after < before)


@pytest.mark.parametrize('name', ['fgsm', 'pgd20_trades', 'cw'])
def test_two_classes_are_enough(name):
  params, images, labels = _data(2)
  result = _Lifted(CASES[name])(params, images, labels)
  before = losses.margin(_logits(params, images), labels)
  assert jnp.all(losses.margin(_logits(params, result), labels) < before)


@pytest.mark.parametrize('attack', STEPWISE.values())
def test_equal_attacks_in_steps_are_equal_and_hash_alike(attack):
  other = dataclasses.replace(attack, restarts=7)

  assert attack == dataclasses.replace(attack) != other
  assert hash(attack) == hash(dataclasses.replace(attack)) != hash(other)


# The options of PGD.


def _pgd_of(params, image, **options):
  options = {
    'key': jax.random.key(2),
    'target': 0,
    'epsilon': EPSILON,
    'step_size': 0.03,
    'num_steps': 4,
  } | options
  logits_fn = functools.partial(_logits, params)
  key, target = options.pop('key'), options.pop('target')
  return attacks.pgd(logits_fn, key, image, target, **options)


def test_more_restarts_never_do_less_damage():
  params, images, labels = _data()

  @functools.partial(jax.jit, static_argnums=0)
  def damage(restarts):
    keys = attacks.image_keys(jax.random.key(3), jnp.arange(COUNT))
    # One step that is too short: where it ends depends on where it began.
    result = attacks.batched(attacks.pgd)(
      functools.partial(_logits, params),
      keys,
      images,
      labels,
      epsilon=0.3,
      step_size=0.01,
      num_steps=1,
      restarts=restarts,
    )
    logits = _logits(params, result)
    fooled = jnp.argmax(logits, axis=-1) != labels
    return fooled, losses.cross_entropy(logits, labels)

  fooled, loss = damage(1)
  gained = 0
  for restarts in (3, 12):
    more_fooled, more_loss = damage(restarts)
    assert jnp.all(more_fooled >= fooled)
    assert jnp.all((more_loss >= loss - 1e-6) | (more_fooled > fooled))
    gained += jnp.sum(more_loss > loss + 1e-3)
    fooled, loss = more_fooled, more_loss
  assert gained > COUNT  # The comparison was not an empty one.


def test_a_fooled_restart_beats_a_larger_loss():
  image = jnp.zeros((1, 1, 1))

  def point(loss, fooled):
    return stepwise.Candidate(image + loss, jnp.float32(loss), jnp.bool(fooled))

  calm, loud, fooled = point(1.0, False), point(3.0, False), point(0.5, True)
  for worse, better in ((loud, calm), (fooled, loud), (fooled, calm)):
    assert stepwise.worse_of(better, worse).loss == worse.loss
    assert stepwise.worse_of(worse, better).loss == worse.loss
  nan = point(jnp.nan, False)
  assert stepwise.worse_of(calm, nan).loss == calm.loss


@pytest.mark.parametrize(
  ('first', 'peak', 'num_steps', 'best'),
  [
    (0.65, 0.5, 4, 0.4),  # .65 .4 .65 .4 .65: in the middle
    (0.45, 0.5, 4, 0.45),  # .45 .7 .45 .7 .45: the start
    (0.3, 0.5, 1, 0.55),  # .3 .55: the last
    (0.04, 0.05, 4, 0.1),  # .04 .29 .1 .1 .1: the start is outside
  ],
)
def test_keep_best_returns_the_largest_loss_in_the_ball(
  first, peak, num_steps, best
):
  def run(keep_best):
    return attacks.pgd(
      lambda images: jnp.tile(images.sum((1, 2, 3))[:, None], (1, 2)),
      jax.random.key(0),
      jnp.full((1, 1, 1), 0.4),
      1,
      loss=lambda logits, labels: -jnp.abs(logits[:, 1] - peak),
      epsilon=0.3,
      step_size=0.25,
      num_steps=num_steps,
      start=lambda norm, key, image, epsilon: jnp.full_like(image, first),
      keep_best=keep_best,
    ).item()

  assert run(True) == pytest.approx(best)
  if num_steps == 4 and first > 0.4:
    assert run(False) == pytest.approx(first)  # An even number of steps.


def test_stopping_when_fooled_keeps_the_first_fooled_iterate():
  params, images, labels = _data()
  lengths = (1, 2, 3, 4, 5)

  @jax.jit
  def run(params, image, label):
    options = {'epsilon': 0.3, 'start': None, 'target': label}
    paths = [_pgd_of(params, image, num_steps=k, **options) for k in lengths]
    stopped = _pgd_of(
      params, image, num_steps=5, stop_when_fooled=True, **options
    )
    return jnp.stack(paths), stopped

  stops = []
  for image, label in zip(images[1:], labels[1:], strict=True):
    path, stopped = run(params, image, label)
    fooled = np.argmax(_logits(params, path), axis=-1) != label
    stops.append(int(np.argmax(fooled)) if fooled.any() else len(path) - 1)
    np.testing.assert_allclose(stopped, path[stops[-1]], atol=1e-6)
  assert 0 < min(stops) < len(lengths) - 1  # Some stopped on the way.


def test_targets_may_be_log_probabilities():
  params, images, _ = _data()

  def kl(logits, targets):
    log_probs = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(targets) * (targets - log_probs), axis=-1)

  clean = jax.nn.log_softmax(_logits(params, images[2:3]))  # [1, K]
  options = {'target': clean[0], 'loss': kl, 'start': norms.Norm.gaussian_start}
  noisy = norms.LINF.gaussian_start(jax.random.key(2), images[2], EPSILON)
  for restarts in (1, 2):
    run = functools.partial(_pgd_of, restarts=restarts, **options)
    result = jax.jit(run)(params, images[2])
    reached = kl(_logits(params, result[None]), clean)
    assert reached > 10 * kl(_logits(params, noisy[None]), clean)
  with pytest.raises(ValueError, match='needs an integer label'):
    _pgd_of(params, images[2], stop_when_fooled=True, **options)


def test_an_attack_is_a_constant_of_a_training_loss():
  params, images, labels = _data()

  def training_loss(params, attack):
    logits = _logits(params, attack(params)[None])
    return losses.cross_entropy(logits, labels[2:3])[0]

  def attacked(params):
    return _pgd_of(
      params, images[2], target=labels[2], restarts=2, keep_best=True
    )

  through = jax.jit(jax.grad(functools.partial(training_loss, attack=attacked)))
  adversarial = jax.jit(attacked)(params)
  constant = jax.grad(training_loss)(params, lambda _: adversarial)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-6),
    through(params),
    constant,
  )
  for restarts in (1, 2):
    run = functools.partial(_pgd_of, restarts=restarts)
    by_image = jax.jit(jax.grad(lambda x, run=run: run(params, x).sum()))
    np.testing.assert_array_equal(by_image(images[2]), 0 * images[2])


def test_fgsm_is_one_signed_step():
  params, images, labels = _data()
  grad = jax.grad(
    lambda x: losses.cross_entropy(_logits(params, x[None]), labels[2:3])[0]
  )(images[2])
  expected = jnp.clip(images[2] + EPSILON * jnp.sign(grad), 0, 1)
  result = _lifted('fgsm')(params, images, labels)[2]
  np.testing.assert_allclose(result, expected, atol=1e-6)


def test_momentum_remembers_a_gradient_that_has_vanished():
  # A ramp that is flat beyond 0.52: PGD stays there, momentum walks on.
  def logits_fn(images):
    ramp = jnp.minimum(images.mean((1, 2, 3)), 0.52)
    return jnp.stack([-ramp, ramp], axis=-1)

  def run(decay):
    return attacks.pgd(
      logits_fn,
      jax.random.key(0),
      jnp.full((2, 2, 1), 0.5),
      0,
      epsilon=0.1,
      step_size=0.03,
      num_steps=3,
      start=None,
      decay=decay,
    ).max()

  np.testing.assert_allclose(run(None), 0.53, atol=1e-6)
  np.testing.assert_allclose(run(1.0), 0.59, atol=1e-6)


def _attack_along(gradients, **options):
  """Where MI-FGSM gets to if gradients(x) are those of its objective."""

  @jax.custom_vjp
  def value(x):
    return jnp.sum(x)

  value.defvjp(lambda x: (value(x), x), lambda x, g: (g * gradients(x),))
  return attacks.mi_fgsm(
    lambda images: jnp.tile(value(images[0]).reshape(1, 1), (1, 2)),
    jax.random.key(0),
    jnp.full((1, 1, 3), 0.5),
    0,
    loss=lambda logits, labels: logits[:, 0],
    epsilon=0.1,
    step_size=0.02,
    **options,
  ).ravel()


def test_momentum_counts_gradients_as_small_as_those_of_confident_networks():
  def gradients(x):
    return jnp.where(x < 0.51, 1e-20, -1.0)

  # Up, and then 2 * 1 - 1 upwards again: both gradients count alike.
  result = _attack_along(gradients, num_steps=2, decay=2.0)
  np.testing.assert_allclose(result, 0.54, atol=1e-6)


def test_a_pixel_without_a_finite_gradient_does_not_stop_the_others():
  for values, expected in (
    ([jnp.nan, 1.0, -1.0], [0.5, 0.52, 0.48]),
    ([jnp.inf, 1.0, -1.0], [0.52, 0.52, 0.48]),
    ([-jnp.inf, jnp.nan, -1.0], [0.48, 0.5, 0.48]),
  ):
    gradient = jnp.array(values).reshape(1, 1, 1, 3)
    for decay in (None, 1.0):
      result = _attack_along(
        lambda x, g=gradient[0]: g, num_steps=1, decay=decay
      )
      np.testing.assert_allclose(result, expected, atol=1e-6)


def test_restarts_without_a_random_start_are_refused():
  params, images, _ = _data()
  with pytest.raises(ValueError, match='repeat one attack'):
    _pgd_of(params, images[0], restarts=2, start=None)


# CW and the hinge of a batch.


def _batch_hinge(logits, labels):
  """The published loss of a batch, -relu(sum z_y - sum max_other z)."""
  return -jax.nn.relu(jnp.sum(losses.margin(logits, labels)))


def test_one_broken_image_silences_a_batch_summed_hinge_but_not_ours():
  params, images, _ = _data()
  logits = _logits(params, images)
  labels = jnp.argmax(logits, axis=-1)
  margins = losses.margin(logits, labels)
  # Images that the network gets right by little, then the last one replaced by
  # an image that is broken by more than all their margins together.
  narrow = jnp.argsort(margins)[jnp.array([0, 0, 0, 0, 1, 1])]
  right, right_labels = images[narrow], labels[narrow]
  widest = jnp.argmin(logits.min(axis=-1) - logits.max(axis=-1))
  batch = right.at[-1].set(images[widest])
  batch_labels = right_labels.at[-1].set(jnp.argmin(logits[widest]))
  assert jnp.sum(losses.margin(_logits(params, batch), batch_labels)) < 0

  def hinge_gradient(images, labels):
    return jax.grad(lambda x: _batch_hinge(_logits(params, x), labels))(images)

  gradient_size = jnp.abs(hinge_gradient(right, right_labels)).max((1, 2, 3))
  assert jnp.all(gradient_size > 0)
  np.testing.assert_array_equal(hinge_gradient(batch, batch_labels), 0 * batch)

  result = _lifted('cw')(params, batch, batch_labels)
  before = losses.margin(_logits(params, batch), batch_labels)
  after = losses.margin(_logits(params, result), batch_labels)
  assert jnp.all(after < before)
  all_right = _lifted('cw')(params, right, right_labels)
  np.testing.assert_allclose(result[:-1], all_right[:-1], atol=1e-6)


# The ball.


def test_ball_is_cut_off_at_the_unit_interval():
  image = jnp.array([0.0, 0.1, 0.5, 1.0]).reshape(2, 2, 1)
  lower = norms.LINF.project(image, image - 2, 0.25)
  upper = norms.LINF.project(image, image + 2, 0.25)
  np.testing.assert_allclose(lower.ravel(), [0, 0, 0.25, 0.75])
  np.testing.assert_allclose(upper.ravel(), [0.25, 0.35, 0.75, 1])


def test_starts_fill_the_ball_as_their_names_say():
  image = jnp.full((32, 32, 1), 0.5).at[:16].set(0.0)
  key = jax.random.key(0)
  clamped = norms.LINF.uniform_start(key, image, 0.2)
  unclamped = norms.LINF.uniform_start(key, image, 0.2, clip=False)
  assert clamped.min() == 0
  assert unclamped.min() < -0.19
  np.testing.assert_array_equal(clamped, jnp.clip(unclamped, 0, 1))
  noise = unclamped - image
  assert jnp.abs(noise).max() <= 0.2 + ROUNDING
  # U(-0.2, 0.2): mean 0, standard deviation 0.2 / sqrt(3), 1024 draws.
  assert abs(noise.mean()) < 5 * 0.2 / (3 * 1024) ** 0.5
  np.testing.assert_allclose(noise.std(), 0.2 / 3**0.5, rtol=0.05)
  gaussian = norms.LINF.gaussian_start(key, image, 0.2)
  np.testing.assert_allclose((gaussian - image).std(), 1e-3, rtol=0.1)


@pytest.mark.parametrize(
  ('norm', 'power', 'variance'),
  [(norms.L2, 2, 1 / (3 + 2)), (norms.L1, 1, 2 / ((3 + 1) * (3 + 2)))],
)
def test_starts_fill_balls_uniformly(norm, power, variance):
  """In n dimensions, |x|^n is uniform, and x_i has the variance given."""
  stats = pytest.importorskip('scipy.stats')
  image, count = jnp.full((1, 1, 3), 0.5), 4000
  keys = jax.random.split(jax.random.key(0), count)
  start = jax.jit(jax.vmap(norm.uniform_start, (0, None, None)))
  points = (np.asarray(start(keys, image, 0.25)).reshape(count, 3) - 0.5) / 0.25
  lengths = (np.abs(points) ** power).sum(axis=1) ** (1 / power)
  assert lengths.max() <= 1 + 1e-6
  assert stats.kstest(lengths**3, 'uniform').pvalue > 0.01
  np.testing.assert_allclose((points**2).mean(axis=0), variance, rtol=0.08)
  # Directions without preference: no mean, no correlation.
  np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.04)
  np.testing.assert_allclose(np.corrcoef(points.T), np.eye(3), atol=0.06)
  # At a corner of [0, 1], what leaves it is clamped.
  black = start(keys[:100], 0 * image, 0.25)
  assert black.min() == 0 and black.max() > 0.1


@pytest.mark.parametrize('norm', [norms.L2, norms.L1])
def test_tiny_gradients_move_an_image_by_a_whole_step(norm):
  """Squares of gradients of confident networks are zero in float32."""
  image, key = jnp.full((2, 2, 1), 0.5), jax.random.key(0)
  slope = jax.random.normal(key, image.shape)
  options = {'epsilon': 1.0, 'step_size': 0.2, 'share': 1.0}
  for scale in (1.0, 1e-25, 1e25):
    move = gradient.ascend(norm, image, image, scale * slope, **options) - image
    assert norm.length(move) == pytest.approx(0.2, rel=1e-5)
    assert jnp.all(jnp.sign(move) == jnp.sign(slope))
  still = gradient.ascend(norm, image, image, 0 * slope, **options)
  np.testing.assert_array_equal(still, image)
  np.testing.assert_array_equal(norm.direction(0 * slope), 0 * slope)


def test_a_start_counts_if_it_is_in_the_ball_of_its_norm():
  """The loss is largest at the start, and what follows is worse."""

  def run(length, norm):
    image = jnp.full((2, 2, 1), 0.5)
    first = image + norm.direction(jnp.arange(4.0).reshape(2, 2, 1)) * length
    result = attacks.pgd(
      lambda images: jnp.tile(
        -jnp.abs(images - first[None]).sum((1, 2, 3))[:, None], (1, 2)
      ),
      jax.random.key(0),
      image,
      1,
      loss=lambda logits, labels: logits[:, 1],
      norm=norm,
      epsilon=0.3,
      step_size=0.2,
      num_steps=2,
      start=lambda norm, key, image, epsilon: first,
      keep_best=True,
    )
    return bool(jnp.all(result == first)), norm.length(result - image)

  for norm in (norms.L2, norms.L1):
    assert run(0.3, norm)[0]
    kept, length = run(0.31, norm)
    assert not kept and length <= 0.3 + 1e-6


def test_lengths_beyond_every_perturbation_are_refused_in_each_norm():
  params, images, _ = _data()
  for norm, longest in ((norms.LINF, 1), (norms.L2, 4), (norms.L1, 16)):
    with pytest.raises(ValueError, match=rf'must lie in \[0, {longest}\]'):
      _pgd_of(params, images[0], norm=norm, epsilon=1.01 * longest)
  with pytest.raises(ValueError, match="norm='L2' must be one of norms.LINF"):
    _pgd_of(params, images[0], norm='L2')
  with pytest.raises(ValueError, match='epsilon=1.01 must lie'):
    attacks.PRESETS['pgd10_rice'].scaled(1.01)
  assert attacks.PRESETS['pgd10_l2_rice'].scaled(3.0).epsilon == 3


# Entry points.


def test_perturb_pads_the_last_batch_and_drops_the_padding():
  params, images, labels = _data()
  logits_fn = jax.tree_util.Partial(_logits, params)
  run = functools.partial(
    attacks.perturb,
    attacks.PRESETS['pgd20_trades'],
    logits_fn,
    key=jax.random.key(1),
  )
  whole = run(images, labels)
  assert isinstance(whole, np.ndarray)
  expected = _lifted('pgd20_trades')(params, images, labels, 0.031)
  np.testing.assert_allclose(whole, expected, atol=1e-6)
  in_two_batches = run(images, labels, batch_size=4)
  np.testing.assert_allclose(in_two_batches, whole, atol=1e-6)
  part = run(images[4:], labels[4:], indices=np.array([4, 5]))
  np.testing.assert_allclose(part, whole[4:], atol=1e-6)
  assert run(images[:0], labels[:0]).shape == (0, SIDE, SIDE, 1)


@pytest.mark.parametrize('as_pytree', [True, False])
def test_perturb_compiles_once_for_an_epsilon_curve(as_pytree):
  params, images, labels = _data()
  traces = []

  def logits_fn(params, images):
    traces.append(len(images))
    return _logits(params, images)

  if as_pytree:
    logits_fn = jax.tree_util.Partial(logits_fn, params)
  else:
    logits_fn = functools.partial(logits_fn, params)
  preset = attacks.PRESETS['pgd10_madry']
  run = functools.partial(
    attacks.perturb,
    logits_fn=logits_fn,
    key=jax.random.key(0),
    images=images,
    labels=labels,
  )
  run(preset)
  before = len(traces)
  for epsilon in (0.0, 0.01, 0.5):
    run(preset, epsilon=epsilon)
    run(preset.scaled(epsilon))
  assert len(traces) == before


def test_perturb_measures_lengths_in_the_norm_of_the_attack():
  params, images, labels = _data()
  logits_fn = jax.tree_util.Partial(_logits, params)
  run = functools.partial(
    attacks.perturb,
    logits_fn=logits_fn,
    key=jax.random.key(1),
    images=images,
    labels=labels,
  )
  result = run(attacks.PRESETS['pgd10_l1_foolbox'], epsilon=1.5)
  options = {'step_size': 0.3, 'num_steps': 10, 'start': None}
  same = run(attacks.pgd, epsilon=1.5, norm=norms.L1, share=0.01, **options)
  np.testing.assert_allclose(result, same, atol=1e-6)
  lengths = jax.vmap(norms.L1.length)(result - images)
  assert 1.4 < lengths.max() <= 1.5 + 1e-5
  with pytest.raises(ValueError, match=r'epsilon=4.1 must lie in \[0, 4\]'):
    run(attacks.PRESETS['fgm_l2'], epsilon=4.1)


def test_any_callable_is_a_classifier():
  images = np.random.default_rng(0).uniform(size=(3, 2, 2, 1))
  weights = jnp.arange(8.0).reshape(4, 2)
  result = attacks.perturb(
    attacks.fgsm,
    lambda x: x.reshape(-1, 4) @ weights,
    images.astype(np.float32),
    [0, 0, 1],
    epsilon=0.1,
  )
  sign = np.array([1, 1, -1]).reshape(3, 1, 1, 1)
  np.testing.assert_allclose(
    result, np.clip(images + 0.1 * sign, 0, 1), atol=1e-6
  )


def test_perturb_takes_the_name_of_a_norm():
  params, images, labels = _data()
  logits_fn = jax.tree_util.Partial(_logits, params)
  run = functools.partial(
    attacks.perturb, attacks.fgsm, logits_fn, images, labels, epsilon=2.0
  )

  by_name = run(norm='L2')

  np.testing.assert_array_equal(by_name, run(norm=norms.L2))
  lengths = np.linalg.norm((by_name - images).reshape(len(images), -1), axis=1)
  assert 1 < lengths.max() <= 2 + 1e-6
  with pytest.raises(ValueError, match="norm='l2' must be one of Linf"):
    run(norm='l2')


# Presets.


def test_presets_keep_the_ratio_of_step_to_epsilon():
  for preset in attacks.PRESETS.values():
    assert preset.scaled(preset.epsilon) == preset
    half = preset.scaled(preset.epsilon / 2)
    assert half.step_size == pytest.approx(preset.step_size / 2)
    assert preset.scaled(0.0).step_size == 0


def test_presets_name_their_number_of_steps_and_their_origin():
  for name, preset in attacks.PRESETS.items():
    digits = name.replace('_l2', '').replace('_l1', '')
    steps = ''.join(c if c.isdigit() else ' ' for c in digits).split()
    assert int(steps[0] if steps else 1) == preset.num_steps, name
    if len(steps) > 1:
      assert int(steps[1]) == preset.restarts, name
    assert preset.origin
    assert 0 < preset.epsilon < preset.norm.longest(3 * 32 * 32)
    assert 0 < preset.step_size < preset.norm.longest(3 * 32 * 32)
    assert (preset.norm == norms.L2) == ('_l2' in name)
    assert (preset.norm == norms.L1) == ('_l1' in name)
    on_margin = name.startswith('cw') or name == 'pgd100_l1_tramer'
    expected = losses.cw_loss if on_margin else losses.cross_entropy
    assert preset.loss is expected


def test_unknown_presets_list_the_known_ones():
  assert presets.by_name('fgsm') is attacks.PRESETS['fgsm']
  with pytest.raises(ValueError, match='pgd21.*pgd20_trades'):
    presets.by_name('pgd21')


# Unrolling.


def _convolve(x, layers=2, groups=1):
  kernel = jnp.ones((3, 3, 4 // groups, 4)) / 10
  for _ in range(layers):
    x = jax.nn.relu(
      jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
      )
    )
  return x.mean()


def test_loops_are_unrolled_only_for_convolutions_that_need_it():
  def chosen(function, length=20):
    return unrolling.choose(function, jnp.ones((1, 5, 5, 4)), length=length)

  backward = jax.grad(_convolve)
  on_cpu = jax.default_backend() == 'cpu'
  assert (chosen(backward) is True) == on_cpu
  assert (chosen(jax.jit(backward)) is True) == on_cpu
  assert chosen(backward, length=1000) is not True
  assert chosen(_convolve) is not True
  assert chosen(jax.grad(functools.partial(_convolve, layers=1))) is not True
  assert chosen(jax.grad(functools.partial(_convolve, groups=4))) is not True
  dense = jax.grad(lambda x: jnp.tanh(x @ jnp.ones((4, 4))).sum())
  assert chosen(dense) is not True
  assert chosen(dense, length=1) is True


def test_unrolling_does_not_change_the_result():
  params, images, _ = _data()
  results = [
    jax.jit(functools.partial(_pgd_of, unroll=unroll, restarts=2))(
      params, images[2]
    )
    for unroll in (1, 2, True)
  ]
  np.testing.assert_allclose(results[1], results[0], atol=1e-6)
  np.testing.assert_allclose(results[2], results[0], atol=1e-6)


def test_lifting_is_generic_in_the_attack():
  def darken(logits_fn, key, image, target, *, epsilon):
    del logits_fn, key, target
    return norms.LINF.project(image, image - 1, epsilon)

  result = lifting.batched(darken)(
    None,
    attacks.image_keys(jax.random.key(0), jnp.arange(2)),
    jnp.full((2, 1, 1, 1), 0.5),
    jnp.zeros(2, int),
    epsilon=0.25,
  )
  np.testing.assert_allclose(result.ravel(), [0.25, 0.25])
