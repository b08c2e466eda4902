"""Students that come with the package are what their cards say."""

import os

import jax
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax import attacks
from rnascl_jax.data import datasets
from rnascl_jax.interop import released

NAMES = tuple(rnascl_jax.released())
needs_cifar10 = pytest.mark.skipif(
  not os.environ.get('TFDS_DATA_DIR'),
  reason='needs CIFAR-10 in TFDS_DATA_DIR, prepared as ArrayRecord',
)
# Of the first 64 test images of CIFAR-10 (JPEG), those classified correctly,
# clean and under PGD-20 at 8/255.
_CORRECT = {'cifar10_s3_eq6': (32, 18)}


def _images(count):
  test = datasets.load('cifar10').test
  return test.images[:count].astype(np.float32) / 255, test.labels[:count]


def test_all_of_them_take_less_than_two_megabytes():
  folder = released.path(NAMES[0]).parent
  assert {*_CORRECT} == {*NAMES}
  assert sum(file.stat().st_size for file in folder.iterdir()) < 2e6


def test_a_name_that_is_none_is_refused_with_those_that_are(tmp_path):
  with pytest.raises(FileNotFoundError, match="Did you mean 'cifar10_s3_eq6'"):
    rnascl_jax.load('cifar10_s3_eq')
  with pytest.raises(FileNotFoundError, match='has no trained model'):
    rnascl_jax.load(tmp_path / 'cifar10_s3_eq6')


@pytest.mark.parametrize('name', NAMES)
def test_pytorch_computes_the_same_logits_of_the_file(name):
  torch = pytest.importorskip('torch')
  from rnascl_jax.interop import student

  model = rnascl_jax.load(name)
  images = np.random.default_rng(0).random((8, 32, 32, 3), np.float32)
  with torch.no_grad():
    theirs = student.load(released.path(name))(
      torch.tensor(images.transpose(0, 3, 1, 2))
    )
  np.testing.assert_allclose(
    jax.jit(model.logits_fn)(images), theirs.numpy(), atol=1e-4
  )
  assert f'{rnascl_jax.released()[name]["parameters"]:,}' in str(model)


@needs_cifar10
@pytest.mark.parametrize('name', NAMES)
def test_it_classifies_as_many_images_as_when_it_was_released(name):
  logits_fn = rnascl_jax.load(name).logits_fn
  images, labels = _images(64)
  preset = attacks.presets.by_name('pgd20_rnascl')
  adversarial = attacks.perturb(preset, logits_fn, images, labels)
  for expected, seen in zip(_CORRECT[name], (images, adversarial), strict=True):
    correct = np.sum(np.argmax(logits_fn(seen), -1) == labels)
    # Rounding differs from machine to machine.
    assert abs(correct - expected) <= 1


@needs_cifar10
@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_the_official_autoattack_agrees_within_one_image_of_200(name):
  torch = pytest.importorskip('torch')
  official = pytest.importorskip('pyautoattack')
  from rnascl_jax.interop import student

  images, labels = _images(200)
  model = rnascl_jax.load(name)
  ours = attacks.auto_attack(
    model.logits_fn, images, labels, epsilon=8 / 255, batch_size=100
  )
  net = student.load(released.path(name))
  attack = official.AutoAttack(net, norm='Linf', eps=8 / 255)
  places = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous()
  adversarial, _ = attack.run_standard_evaluation(
    places, torch.tensor(labels).long(), batch_size=100
  )
  with torch.no_grad():
    correct = net(adversarial).argmax(1).numpy() == labels
  assert abs(correct.sum() - 200 * ours.robust_accuracy) <= 1
