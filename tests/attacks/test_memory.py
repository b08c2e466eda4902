"""How many images an attack takes at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks
from rnascl_jax.attacks import memory
from rnascl_jax.runtime import parallel
from tests import attack_networks as nets

WEIGHTS = np.linspace(-1, 1, 12 * 3, dtype=np.float32).reshape(12, 3)
IMAGES = np.zeros([5, 2, 2, 3], np.float32)
# The state of an attack, 16 copies of an image of 12 numbers, and 3 logits.
STATE = (16 * 12 + 3) * 4


def linear(images):
  return images.reshape(len(images), -1) @ WEIGHTS


def wide(images):
  """Keeps 1,000 cosines of each image for the backward pass."""
  waves = jnp.sin(images[:, 0, 0, :1] * jnp.arange(1e3)[None])  # [B, 1000]
  return linear(images) + waves.sum(axis=1, keepdims=True)


def fitting(monkeypatch, logits_fn, free, devices=1):
  monkeypatch.setattr(parallel, 'free_memory', lambda device: free)
  return memory.batch_size(logits_fn, IMAGES, jax.devices()[:devices])


@pytest.mark.parametrize(
  ('logits_fn', 'of_an_image'), ((linear, STATE), (wide, STATE + 4000))
)
def test_a_batch_keeps_no_more_than_a_quarter_of_the_free_memory(
  monkeypatch, logits_fn, of_an_image
):
  for count in (1, 8, 64):
    free = 4 * count * of_an_image
    assert fitting(monkeypatch, logits_fn, free) == count
    assert fitting(monkeypatch, logits_fn, free - 1) == max(count // 2, 1)


def test_devices_of_a_cpu_share_its_memory(monkeypatch):
  free = 4 * 8 * STATE

  assert fitting(monkeypatch, linear, free, devices=2) == 2 * 4


@pytest.mark.parametrize('free', (0, 10**15))
def test_a_cpu_takes_256_images_where_memory_sets_no_limit(monkeypatch, free):
  assert fitting(monkeypatch, linear, free) == 256


def test_processes_that_share_devices_take_the_same_batch(monkeypatch):
  monkeypatch.setattr(parallel, 'here', lambda devices: list(devices)[:1])

  assert fitting(monkeypatch, linear, free=1, devices=2) == 2 * 256


def test_a_classifier_without_a_gradient_is_no_obstacle(monkeypatch):
  def called_back(images):
    shape = jax.ShapeDtypeStruct((len(images), 3), np.float32)
    return jax.pure_callback(linear, shape, images, vmap_method='expand_dims')

  assert fitting(monkeypatch, called_back, 4 * 8 * STATE) == 8


def test_an_attack_in_batches_that_fit_is_that_of_one_batch(monkeypatch):
  images = np.float32(np.random.default_rng(0).uniform(size=(6, 8, 8, 3)))
  labels = np.asarray(nets.plain(images)).argmax(-1)
  options = {'epsilon': 0.1, 'checks': False}

  def perturbed(**more):
    return attacks.perturb(
      attacks.fgsm, nets.plain, images, labels, **options | more
    )

  expected = perturbed()
  monkeypatch.setattr(memory, 'batch_size', lambda *arguments: 2)

  np.testing.assert_allclose(perturbed(), expected, atol=1e-6)
  np.testing.assert_allclose(
    perturbed(devices=jax.devices()[:2]), expected, atol=1e-6
  )
