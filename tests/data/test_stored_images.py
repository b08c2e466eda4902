"""Tests of rnascl_jax.data.images and of images on disk."""

import io
import math
import pickle

import numpy as np
import pytest
from PIL import Image

from rnascl_jax.data import images, stored_images
from rnascl_jax.data.datasets import StoredImages
from tests import tiny_imagenet

SIZES = ((500, 375), (375, 500), (64, 64), (341, 257), (97, 31), (7, 90))


def stored(encoded, side=32, name='tiny train'):
  source = tiny_imagenet.Encoded(encoded)
  return StoredImages(source, np.arange(len(encoded)), side, name=name)


def reference_test_image(encoded, side):
  """Resize(256/224 side) and CenterCrop(side) of torchvision, written out."""
  image = Image.open(io.BytesIO(encoded)).convert('RGB')
  size = round(side * 256 / 224)
  w, h = image.size
  short, long = (w, h) if w <= h else (h, w)
  new_short, new_long = size, int(size * long / short)
  new = (new_short, new_long) if w <= h else (new_long, new_short)
  image = image.resize(new, Image.Resampling.BILINEAR)
  top = int(round((new[1] - side) / 2.0))
  left = int(round((new[0] - side) / 2.0))
  return np.array(image)[top : top + side, left : left + side]


@pytest.mark.parametrize('side', [32, 65, 224])
@pytest.mark.parametrize('size', SIZES)
def test_test_images_are_those_of_torchvision(size, side):
  encoded = tiny_imagenet.photograph(*size)
  np.testing.assert_array_equal(
    images.evaluation_image(encoded, side), reference_test_image(encoded, side)
  )


def test_half_pixels_of_a_centre_crop_are_rounded_to_even():
  # 341 columns: 58.5 is rounded to 58, and 343 columns: 59.5 to 60.
  for width, left in ((341, 58), (343, 60)):
    encoded = tiny_imagenet.photograph(width, 256)
    pixels = np.array(Image.open(io.BytesIO(encoded)))
    np.testing.assert_array_equal(
      images.evaluation_image(encoded, 224),
      pixels[16:240, left : left + 224],
    )


@pytest.mark.parametrize(
  'mode, kind', [('L', 'JPEG'), ('CMYK', 'JPEG'), ('P', 'PNG'), ('RGBA', 'PNG')]
)
def test_other_kinds_of_images_become_rgb(mode, kind):
  encoded = tiny_imagenet.photograph(40, 30, mode=mode, kind=kind)
  expected = np.array(Image.open(io.BytesIO(encoded)).convert('RGB'))
  np.testing.assert_array_equal(np.array(images.decode(encoded)), expected)


def test_crops_keep_to_their_bounds_and_have_the_expected_mean():
  side, least, count = 1000, 0.08, 4000
  crops = [
    images.random_crop(side, side, images.uniforms(0, step, 5), min_area=least)
    for step in range(count)
  ]
  areas = np.array([c.width * c.height for c in crops]) / side**2
  ratios = np.array([c.width / c.height for c in crops])
  # Width and height are rounded to pixels, of at least 245.
  assert areas.min() > least - 0.005 and areas.max() <= 1
  assert ratios.min() > 3 / 4 - 0.005 and ratios.max() < 4 / 3 + 0.008
  # Of a square, a crop of ratio r fits if its area is at most min(r, 1 / r):
  # the integral of that over the logarithm of r in [0, log(4 / 3)].
  width = math.log(4 / 3)
  mean = (7 / 32 - least**2 * width) / 2 / (1 / 4 - least * width)
  np.testing.assert_allclose(areas.mean(), mean, atol=5 * 0.23 / count**0.5)
  np.testing.assert_allclose(np.log(ratios).mean(), 0, atol=0.015)
  # Uniform places: standard deviation 0.29, five of them.
  left = [c.left / (side - c.width) for c in crops if c.width < side]
  top = [c.top / (side - c.height) for c in crops if c.height < side]
  for free in (left, top):
    assert min(free) >= 0 and max(free) <= 1
    np.testing.assert_allclose(np.mean(free), 0.5, atol=5 * 0.29 / count**0.5)


@pytest.mark.parametrize(
  'size, crop',
  [
    ((1000, 100), (433, 0, 133, 100)),
    ((100, 1000), (0, 433, 100, 133)),
    ((100, 101), (0, 0, 100, 101)),
  ],
)
def test_where_no_crop_fits_it_is_the_largest_in_the_centre(size, crop):
  # A whole image's area fits with its own ratio only, which no draw here has.
  draws = [0.5, 0.1, 0.9, 0.9] * 10
  assert images.random_crop(*size, draws, min_area=1.0) == crop


def test_the_first_try_that_fits_is_taken():
  too_wide = [0.99, 0.99, 0.0, 0.0]
  fits = [1 / 3, 0.5, 0.0, 0.999]
  crop = images.random_crop(
    100, 100, [*too_wide, *fits, *([0.3] * 32)], min_area=0.25
  )
  # Half of the area, square, at the left and at the bottom.
  assert crop == (0, 29, 71, 71)


def test_draws_are_the_recorded_ones_of_seed_step_and_position():
  # Origin: this code, NumPy 2.4.6, x86-64. NumPy guarantees Philox's stream.
  draws = images.uniforms(3, 70000, 255)
  assert len(draws) == 40
  assert all(0 <= u < 1 for u in draws)
  assert draws[:2] == [0.9880236362475094, 0.8266499701154307]
  places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
  draws = [u for place in places for u in images.uniforms(*place)]
  assert len(set(draws)) == len(draws)


def test_a_training_image_is_the_resized_crop():
  encoded = tiny_imagenet.photograph(90, 70)
  draws = images.uniforms(0, 1, 2)
  left, top, width, height = images.random_crop(90, 70, draws, min_area=0.08)
  pixels = np.array(Image.open(io.BytesIO(encoded)))
  part = pixels[top : top + height, left : left + width]
  resized = Image.fromarray(part).resize((48, 48), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(
    images.training_image(encoded, 48, draws, min_area=0.08), np.array(resized)
  )


def test_indexing_is_that_of_an_array(monkeypatch):
  encoded = tiny_imagenet.photographs(6)
  lazy = stored(encoded)
  array = np.stack([images.evaluation_image(e, 32) for e in encoded])
  assert (lazy.shape, lazy.dtype, lazy.ndim) == (array.shape, array.dtype, 4)
  assert (len(lazy), lazy.nbytes) == (6, array.nbytes)
  mask = array[:, 0, 0, 0] > 100
  for index in ([3, 0, -1], np.array([[1, 2], [5, 5]]), mask, [], 4, -2):
    np.testing.assert_array_equal(lazy[index], array[index])
  np.testing.assert_array_equal(np.asarray(lazy), array)
  # More images than are read at a call.
  monkeypatch.setattr(stored_images, '_READ', 4)
  np.testing.assert_array_equal(np.asarray(lazy), array)
  np.testing.assert_array_equal(lazy[1:5][::2][np.array([1])], array[3:4])
  np.testing.assert_array_equal(list(lazy[4:]), array[4:])


def test_slices_stay_on_disk_and_only_what_is_indexed_is_read():
  lazy = stored(tiny_imagenet.photographs(6))
  part = lazy[1:][:3]
  assert isinstance(part, StoredImages) and part.shape == (3, 32, 32, 3)
  assert lazy.source.reads == []
  assert part[np.array([2, 0])].shape == (2, 32, 32, 3)
  assert lazy.source.reads == [3, 1]
  other = pickle.loads(pickle.dumps(part))
  np.testing.assert_array_equal(np.asarray(other), np.asarray(lazy)[1:4])


def test_images_are_told_apart_without_reading_them():
  source = tiny_imagenet.Encoded([])
  prints = {
    StoredImages(source, records, side, name=name, version=v).fingerprint()
    for records, side, name, v in (
      ([0, 1, 2], 8, 'a', ''),
      ([0, 2, 1], 8, 'a', ''),
      ([0, 1], 8, 'a', ''),
      ([0, 1, 2], 9, 'a', ''),
      ([0, 1, 2], 8, 'b', ''),
      ([0, 1, 2], 8, 'a', 'x'),
    )
  }
  assert len(prints) == 6
  again = StoredImages(source, np.array([0, 1, 2]), 8, name='a').fingerprint()
  assert again in prints


@pytest.mark.parametrize(
  'damage', [lambda e: e[: len(e) // 2], lambda e: b'<html>', lambda e: b'']
)
def test_a_damaged_image_is_named(damage):
  encoded = tiny_imagenet.photographs(4)
  encoded[2] = damage(encoded[2])
  lazy = stored(encoded)
  assert lazy[np.array([0, 1, 3])].shape[0] == 3
  with pytest.raises(
    ValueError,
    match=r'record 2 of tiny train \(n01440764_2.JPEG\) is not an image',
  ):
    np.asarray(lazy)


def test_what_cannot_index_images_is_refused():
  lazy = stored(tiny_imagenet.photographs(2))
  for index in (0.5, (0, 1), None):
    with pytest.raises(TypeError, match='tiny train are indexed by .*use a sl'):
      _ = lazy[index]
  with pytest.raises(ValueError, match='without a copy'):
    np.array(lazy, copy=False)
  with pytest.raises(ValueError, match='image_size=0 must be at least 1'):
    stored([], side=0)
