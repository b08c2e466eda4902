"""What models look at: against closed forms and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import analysis, networks
from rnascl_jax.teachers import resnet


def _net():
  net = resnet.small_resnet(
    num_classes=10, features=(4,), stage_sizes=(1,), strides=(2,)
  )
  images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))
  return net, net.init(jax.random.key(0), images, train=False), images


def test_histogram_counts_students_of_every_teacher_layer():
  counts = analysis.tutor_histogram((1, 3, 1, 0), 5)
  np.testing.assert_array_equal(counts, [1, 2, 0, 1, 0])


def test_robustness_scores_equal_a_plain_loop_over_layers_and_images():
  net, variables, images = _net()
  perturbed = jnp.clip(images + 0.1, 0, 1)
  scores = analysis.robustness_scores(net, variables, images, perturbed)
  _, clean = networks.apply(net, variables, images)
  _, moved = networks.apply(net, variables, perturbed)
  for score, a, b in zip(scores, clean, moved, strict=True):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    expected = np.mean(
      [
        np.linalg.norm((x - y).ravel()) / np.linalg.norm(x.ravel())
        for x, y in zip(a, b, strict=True)
      ]
    )
    np.testing.assert_allclose(score, expected, rtol=1e-4)


def test_robustness_scores_are_zero_without_a_perturbation():
  net, variables, images = _net()
  scores = analysis.robustness_scores(net, variables, images, images)
  np.testing.assert_allclose(scores, np.zeros(len(net.tap_names)), atol=1e-6)


def test_maps_have_norm_one_and_the_common_size():
  net, variables, images = _net()
  maps = analysis.maps(net, variables, images, (2, 2))
  assert maps.shape == (3, len(net.tap_names), 2, 2)
  norms = np.linalg.norm(maps.reshape(3, -1, 4), axis=-1)
  np.testing.assert_allclose(norms, 1.0, rtol=1e-5)
