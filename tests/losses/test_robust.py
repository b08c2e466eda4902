"""Losses of two views against the papers' definitions in PyTorch and by hand.

Everything is in float64 but where float32 is the point.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from rnascl_jax import losses
from rnascl_jax.runtime import parallel

LABELS = (0, 2, 3, 1, 4, 4)
THRESHOLD = 0.5


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


def _views(dtype=np.float64, scale=1.5):
  """Logits of six images and of their adversarial views, [6, 5].

  Some averages of both predictions are above the threshold, and some are not.
  """
  rng = np.random.default_rng(0)
  clean, change = scale * rng.normal(size=(2, len(LABELS), 5))
  return clean.astype(dtype), (clean + change).astype(dtype)


def _softmax(logits):
  powers = np.exp(logits - logits.max(-1, keepdims=True))
  return powers / powers.sum(-1, keepdims=True)


def _consistency(clean, adv, *, temperature=0.1, threshold=THRESHOLD):
  """Eq. (5) image by image, and the targets."""
  values, targets = [], []
  for p, q in zip(_softmax(clean), _softmax(adv), strict=True):
    mean = (p + q) / 2
    sharp = mean ** (1 / temperature)
    sharp /= sharp.sum()
    pull = [(sharp * np.log(sharp / x)).sum() for x in (p, q)]
    values.append(sum(pull) if mean.max() >= threshold else 0.0)
    targets.append(sharp)
  return np.array(values), np.array(targets)


def _slopes(loss, *logits):
  """Gradients of the mean over a batch by both views' logits."""

  def mean(*views):
    return loss(*views).mean()

  return jax.jit(jax.grad(mean, argnums=(0, 1)))(*map(jnp.asarray, logits))


def _assert_close(found, expected, tolerance=1e-10):
  for one, two in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


# TRADES.


@pytest.mark.parametrize('beta', [1.0, 6.0])
def test_trades_is_that_of_its_authors_code(float64, beta):
  """Cross-entropy plus beta times a summed KLDivLoss over the batch size."""
  torch = pytest.importorskip('torch')
  views = _views()
  labels = jnp.array(LABELS)

  def loss(clean, adv):
    return losses.trades(clean, adv, labels, beta=beta)

  given = [torch.tensor(z, requires_grad=True) for z in views]
  log_adv = torch.log_softmax(given[1], dim=1)
  summed = torch.nn.KLDivLoss(reduction='sum')(
    log_adv, torch.softmax(given[0], dim=1)
  )
  natural = torch.nn.functional.cross_entropy(given[0], torch.tensor(LABELS))
  expected = natural + beta * summed / len(LABELS)
  expected.backward()

  assert loss(*views).shape == (len(LABELS),)
  _assert_close([loss(*views).mean()], [expected.item()])
  _assert_close(_slopes(loss, *views), [z.grad.numpy() for z in given])


def test_gradients_of_trades_agree_with_differences(float64):
  labels = jnp.array(LABELS)
  test_util.check_grads(
    lambda z, adv: losses.trades(z, adv, labels), _views(), 1, ['rev'], 1e-7
  )


def test_trades_of_equal_views_is_the_cross_entropy_with_its_gradient(float64):
  clean, _ = _views()
  labels = jnp.array(LABELS)

  found = losses.trades(clean, clean, labels)
  by_clean, by_adv = _slopes(
    lambda z, adv: losses.trades(z, adv, labels), clean, clean
  )
  expected, _ = _slopes(lambda z, _: losses.cross_entropy(z, labels), *_views())

  _assert_close([found], [losses.cross_entropy(clean, labels)])
  _assert_close([by_clean, by_adv], [expected, np.zeros_like(clean)])


# The consistency of eq. (5).


@pytest.mark.parametrize('temperature', [0.1, 0.5, 1.0])
def test_consistency_is_equation_5_image_by_image(float64, temperature):
  views = _views()
  expected, _ = _consistency(*views, temperature=temperature)
  assert 1 < np.count_nonzero(expected) < len(LABELS) - 1

  found = losses.cac(*views, temperature=temperature, threshold=THRESHOLD)
  sure = losses.confident(*views, threshold=THRESHOLD)

  _assert_close([found], [expected])
  np.testing.assert_array_equal(sure, expected > 0)


def test_gradients_of_the_consistency_are_those_of_pytorch(float64):
  """By autograd, with the target detached and the indicator a constant."""
  torch = pytest.importorskip('torch')
  views = _views()

  given = [torch.tensor(z, requires_grad=True) for z in views]
  predictions = [torch.softmax(z, dim=1) for z in given]
  mean = (predictions[0] + predictions[1]) / 2
  target = mean**10 / (mean**10).sum(dim=1, keepdim=True)
  target = target.detach()
  divergence = sum(
    (target * (target.log() - p.log())).sum(dim=1) for p in predictions
  )
  expected = (divergence * (mean.max(dim=1).values >= THRESHOLD)).mean()
  expected.backward()

  found = losses.cac(*views, threshold=THRESHOLD).mean()
  slopes = _slopes(lambda *z: losses.cac(*z, threshold=THRESHOLD), *views)
  _assert_close([found], [expected.item()])
  _assert_close(slopes, [z.grad.numpy() for z in given])


def test_gradients_of_the_consistency_agree_with_differences(float64):
  """With the target frozen: it is a constant, and so is the indicator."""
  views = _views()
  values, targets = _consistency(*views)
  sure = values > 0

  def frozen(clean, adv):
    logs = np.log([_softmax(clean), _softmax(adv)])
    return (sure * (targets * (np.log(targets) - logs)).sum((0, 2))).mean()

  def difference(which, place, size=1e-6):
    ends = []
    for change in (size, -size):
      moved = [z.copy() for z in views]
      moved[which][place] += change
      ends.append(frozen(*moved))
    return (ends[0] - ends[1]) / (2 * size)

  slopes = _slopes(lambda *z: losses.cac(*z, threshold=THRESHOLD), *views)
  for which, slope in enumerate(slopes):
    expected = [difference(which, at) for at in np.ndindex(slope.shape)]
    np.testing.assert_allclose(slope.ravel(), expected, atol=1e-8)


def test_no_gradient_flows_through_the_target_of_the_consistency(float64):
  """The gradient by logits is prediction minus target, nothing else."""
  views = _views()
  values, targets = _consistency(*views)
  sure = (values > 0)[:, None] / len(values)

  slopes = _slopes(lambda *z: losses.cac(*z, threshold=THRESHOLD), *views)

  expected = [sure * (_softmax(z) - targets) for z in views]
  _assert_close(slopes, expected)


@pytest.mark.parametrize(('added', 'tolerance'), [(0.0, 1e-10), (1e-8, 1e-5)])
def test_the_authors_consistency_has_three_times_that_gradient(
  float64, added, tolerance
):
  """6 times the mean of two cross-entropies over confident images alone.

  A value added to probabilities under the logarithm is all that differs.
  """
  torch = pytest.importorskip('torch')
  views = _views()

  given = [torch.tensor(z, requires_grad=True) for z in views]
  predictions = [torch.softmax(z, dim=1) for z in given]
  mean = (predictions[0] + predictions[1]) / 2
  sharp = mean ** (1 / 0.1)
  sharp = (sharp / (sharp.sum(dim=1, keepdim=True) + added)).detach()
  mask = mean.max(dim=1).values > THRESHOLD
  both = [
    -(sharp[mask] * (p[mask] + added).log()).sum(dim=1).mean()
    for p in predictions
  ]
  (6 * (both[0] + both[1]) / 2).backward()

  def ours(clean, adv):
    return (
      6 / 2 * losses.cac(clean, adv, threshold=THRESHOLD, only_confident=True)
    )

  _assert_close(
    _slopes(ours, *views), [z.grad.numpy() for z in given], tolerance
  )


def test_a_mean_over_confident_images_is_that_of_the_values_they_have(float64):
  views = _views()

  found = losses.cac(*views, threshold=THRESHOLD, only_confident=True)

  values, _ = _consistency(*views)
  np.testing.assert_allclose(found.mean(), values[values > 0].mean())
  np.testing.assert_array_equal(found > 0, values > 0)


@pytest.mark.parametrize('only_confident', [False, True])
def test_without_confident_images_the_consistency_is_exactly_zero(
  only_confident,
):
  views = _views(np.float32, scale=0.1)

  def loss(*z):
    return losses.cac(*z, threshold=0.9, only_confident=only_confident)

  np.testing.assert_array_equal(loss(*views), np.zeros(len(LABELS)))
  for slope in _slopes(loss, *views):
    np.testing.assert_array_equal(slope, np.zeros_like(slope))


def test_a_threshold_of_zero_lets_every_image_through(float64):
  views = _views(scale=0.1)

  assert losses.confident(*views, threshold=0.0).all()
  expected, _ = _consistency(*views, threshold=0.0)
  _assert_close([losses.cac(*views, threshold=0.0)], [expected])


def test_an_average_at_the_threshold_is_confident():
  views = jnp.zeros((2, 1, 2))

  assert losses.confident(*views, threshold=0.5).all()
  assert not losses.confident(*views, threshold=0.501).any()


@pytest.mark.parametrize('only_confident', [False, True])
def test_the_consistency_of_huge_logits_is_finite(only_confident):
  """Both views are certain, of the same class and of different ones."""
  clean = jnp.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4]])
  adv = jnp.array([[1e4, -1e4, 0.0], [-1e4, 0.0, 1e4]])

  def loss(*z):
    return losses.cac(*z, only_confident=only_confident)

  # Where they contradict each other, each is half of the target: half of the
  # distance 2e4 for both, twice.
  np.testing.assert_allclose(loss(clean, adv), [0.0, 2e4], rtol=1e-4)
  for slope in _slopes(loss, clean, adv):
    assert np.isfinite(slope).all()
    assert np.abs(slope[1]).max() > 0.1


def test_a_sharpened_average_does_not_underflow():
  """In float32 0.3^100 is 0, and the published form 0 / 0."""
  rng = np.random.default_rng(1)
  views = (0.1 * rng.normal(size=(2, 4, 4))).astype(np.float32)
  mean = (_softmax(views[0]) + _softmax(views[1])) / 2
  assert ((mean**100).sum(-1) == 0).all()

  found = losses.cac(*views, temperature=0.01)

  expected, _ = _consistency(
    *views.astype(np.float64), temperature=0.01, threshold=0.2
  )
  assert expected.min() > 0
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_views_that_agree_with_certainty_are_consistent():
  certain = 40.0 * jnp.eye(5, dtype=jnp.float32)
  np.testing.assert_allclose(losses.cac(certain, certain), 0, atol=1e-6)
  for slope in _slopes(losses.cac, certain, certain):
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_views_that_agree_are_drawn_to_their_sharpened_prediction(float64):
  """Unless nothing is sharpened."""
  clean, _ = _views()

  pulled = losses.cac(clean, clean, threshold=0.0)
  plain = losses.cac(clean, clean, threshold=0.0, temperature=1.0)

  assert pulled.min() > 0.01
  np.testing.assert_allclose(plain, 0, atol=1e-12)


def test_the_consistency_does_not_know_which_view_is_which(float64):
  clean, adv = _views()
  _assert_close([losses.cac(clean, adv)], [losses.cac(adv, clean)])


def test_confident_images_are_counted_on_all_devices():
  """One of four on the first device and three on the second."""
  sure = np.array([1, 0, 0, 0, 1, 1, 0, 1])
  rng = np.random.default_rng(0)
  views = rng.normal(size=(2, 8, 4)).astype(np.float32)
  views[:, sure > 0, 0] += 6
  np.testing.assert_array_equal(losses.confident(*views, threshold=0.7), sure)

  def value_and_grad(axis_name, views):
    def mean(views):
      values = losses.cac(
        *views, threshold=0.7, only_confident=True, axis_name=axis_name
      )
      return values.mean(), values

    (_, values), slope = jax.value_and_grad(mean, has_aux=True)(views)
    return values, slope

  devices = parallel.devices(2)
  mapped = parallel.pmap(
    lambda views: value_and_grad(parallel.AXIS, views), devices
  )
  values, slope = mapped(views.reshape(2, 2, 4, 4).swapaxes(0, 1))
  expected, expected_slope = value_and_grad(None, jnp.asarray(views))

  np.testing.assert_allclose(values.reshape(8), expected, rtol=1e-6)
  # Each device has the mean over its own half.
  slope = slope.swapaxes(0, 1).reshape(2, 8, 4) / 2
  np.testing.assert_allclose(slope, expected_slope, rtol=1e-5, atol=1e-8)


def test_views_of_different_shapes_are_refused():
  clean, adv = _views(np.float32)
  for loss in (losses.cac, losses.robust_term):
    with pytest.raises(AssertionError):
      loss(clean, adv[:1])


# What eq. (6) adds.


def test_robustness_adds_a_divergence_and_the_consistency(float64):
  views = _views()
  labels = jnp.array(LABELS)
  natural = losses.cross_entropy(views[0], labels)

  both = losses.robust_term(*views, beta=3.0, cac_weight=2.0, threshold=0.5)
  one = losses.robust_term(*views, beta=3.0, cac_weight=0.0)
  other = losses.robust_term(*views, beta=0.0, cac_weight=2.0, threshold=0.5)
  none = losses.robust_term(*views, beta=0.0, cac_weight=0.0)

  expected = 2.0 * _consistency(*views)[0]
  _assert_close([one + natural], [losses.trades(*views, labels, beta=3.0)])
  _assert_close([other, both], [expected, one + expected])
  np.testing.assert_array_equal(none, np.zeros(len(LABELS)))


def test_robustness_by_default_is_equation_6(float64):
  views = _views()
  expected, _ = _consistency(*views, temperature=0.1, threshold=0.2)
  p, q = map(_softmax, views)
  divergence = (p * np.log(p / q)).sum(-1)

  _assert_close([losses.robust_term(*views)], [6 * divergence + expected])


def test_equation_6_adds_robustness_to_equation_4(float64):
  views = _views()
  terms = losses.Terms(*np.random.default_rng(0).random((3, len(LABELS))))
  added = losses.robust_term(*views)

  found = losses.training_objective(
    terms._replace(robust_term=added), kl_weight=2.0, gamma=30.0
  )

  plain = losses.training_objective(terms, kl_weight=2.0, gamma=30.0)
  _assert_close([found], [plain + added])
