"""What models look at: against closed forms and plain loops."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses
from rnascl_jax.evaluation import analysis, classification
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import resnet
from rnascl_jax.runtime import parallel


def _net():
  net = resnet.small_resnet(
    num_classes=10, features=(4,), stage_sizes=(1,), strides=(2,)
  )
  images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))
  return net, net.init(jax.random.key(0), images, train=False), images


class Affine(nn.Module):
  """Its layers are the image, five times the image, and a constant."""

  tap_names = ('image', 'scaled', 'constant')

  @nn.compact
  def __call__(self, images, *, train):
    del train
    scale = self.param('scale', nn.initializers.constant(5.0), ())
    taps = images, scale * images, jnp.ones_like(images)
    return images.mean((1, 2)), taps


def _shift(logits_fn, key, image, target, *, epsilon):
  del logits_fn, key, target
  return image + epsilon


def _noise(logits_fn, key, image, target, *, epsilon):
  del logits_fn, target
  return image + epsilon * jax.random.uniform(key, image.shape)


def _scores(images, attack=_shift, *, devices=1, batch_size=4, epsilon=0.25):
  network = classification.on_devices(
    Affine(),
    {'params': {'scale': jnp.float32(5)}},
    parallel.devices(devices),
    batch_size,
  )
  labels = np.zeros(len(images), np.int32)
  return analysis.robustness_scores(
    network, images, labels, attack, epsilon=epsilon, seed=3
  )


def _random_images(count):
  return np.random.default_rng(0).random((count, 2, 2, 3), np.float32)


def test_scores_of_affine_layers_are_their_closed_form():
  images = _random_images(10)
  found = _scores(images)
  norms = np.linalg.norm(images.reshape(10, -1).astype(np.float64), axis=1)
  changes = 0.25 * np.sqrt(12) / norms  # Of 12 pixels, each moves by 0.25.
  expected = [changes.mean(), changes.mean(), 0]
  np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
  error = np.sqrt(np.sum((changes - changes.mean()) ** 2) / 9 / 10)
  np.testing.assert_allclose(found.errors, [error, error, 0], rtol=1e-4)


def test_a_layer_that_does_not_move_scores_zero():
  assert _scores(_random_images(3)).scores[2] == 0
  still = _scores(_random_images(3), epsilon=0.0).scores
  np.testing.assert_allclose(still, [0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(('batch_size', 'devices'), [(4, 1), (3, 2)])
def test_batches_and_devices_change_no_score(batch_size, devices):
  images = _random_images(10)
  whole = _scores(images, _noise, batch_size=10)
  parts = _scores(images, _noise, batch_size=batch_size, devices=devices)
  np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-6)
  np.testing.assert_allclose(parts.errors, whole.errors, rtol=1e-6)


def test_pixels_of_eight_bits_score_as_their_floats():
  images = np.random.default_rng(1).integers(0, 256, (5, 2, 2, 3), np.uint8)
  floats = (images / 255).astype(np.float32)
  np.testing.assert_allclose(
    _scores(images).scores, _scores(floats).scores, rtol=1e-6
  )


def test_an_attack_is_compiled_once_for_a_network_whatever_its_radius():
  traced = []

  def attack(*arguments, **options):
    traced.append(arguments)
    return _shift(*arguments, **options)

  scores = [
    _scores(_random_images(10), attack, epsilon=epsilon).scores[0]
    for epsilon in (0.1, 0.2)
  ]
  assert len(traced) == 1
  np.testing.assert_allclose(scores[1], 2 * scores[0], rtol=1e-5)


def test_the_spread_of_a_single_image_is_unknown():
  found = _scores(_random_images(1))
  assert np.isfinite(found.scores).all() and np.isnan(found.errors).all()


def test_no_image_has_no_score():
  with pytest.raises(ValueError, match='0 images and 0 labels: at least one'):
    _scores(_random_images(0))


def test_layer_changes_equal_a_plain_loop_over_layers_and_images():
  net, variables, images = _net()
  perturbed = jnp.clip(images + 0.1, 0, 1)
  changes = analysis.layer_changes(net, variables, images, perturbed)
  _, clean = networks.apply(net, variables, images)
  _, moved = networks.apply(net, variables, perturbed)
  assert changes.shape == (3, len(net.tap_names))
  for column, a, b in zip(changes.T, clean, moved, strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    expected = [
      np.linalg.norm((x - y).ravel()) / np.linalg.norm(x.ravel())
      for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(column, expected, rtol=1e-4)


@pytest.mark.parametrize('bilinear', (False, True))
def test_maps_have_norm_one_and_the_common_size(bilinear):
  net, variables, images = _net()
  maps = analysis.maps(net, variables, images, (3, 3), bilinear=bilinear)
  assert maps.shape == (3, len(net.tap_names), 3, 3)
  norms = np.linalg.norm(maps.reshape(3, -1, 9), axis=-1)
  np.testing.assert_allclose(norms, 1.0, rtol=1e-5)
  _, taps = networks.apply(net, variables, images)
  expected = losses.attention_vectors(taps, (3, 3), bilinear=bilinear)
  np.testing.assert_allclose(maps.reshape(3, -1, 9), expected, atol=1e-6)
