"""Common corruptions that are made: closed forms, statistics, determinism."""

import colorsys
import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from rnascl_jax.data import corruptions, datasets
from rnascl_jax.data.corruptions import made, names, pixels
from tests import tiny_imagenet

_SIDES = (32, 64, 224)
# What ImageMagick 6.9.11-60 (Q16, Debian 12) makes of `_spots` by
# MagickMotionBlurImage with radius 3 and sigma 2, at two angles.
_MAGICK = {
  30.0: (
    *((0, 0, 0, 0, 0, 21, 61, 61, 61), (0, 0, 3, 11, 0, 0, 0, 58, 125)),
    *((0, 0, 0, 27, 51, 0, 0, 0, 0), (0, 0, 0, 0, 0, 74, 84, 0, 0)),
    *((0,) * 9, (0,) * 9, (29, 0, 0, 0, 0, 0, 0, 0, 0)),
  ),
  -100.0: (
    *((0,) * 9, (0, 0, 0, 0, 0, 0, 0, 0, 66)),
    *((0, 0, 0, 0, 0, 0, 0, 0, 58), (0, 0, 0, 0, 0, 0, 84, 0, 40)),
    *((0, 0, 0, 0, 0, 0, 74, 0, 0), (0, 0, 0, 0, 0, 0, 51, 0, 0)),
    (29, 0, 0, 0, 0, 0, 0, 27, 0),
  ),
}


def _flat(value, side, count=1, channels=3):
  return np.full((count, side, side, channels), value, np.uint8)


def _photographs(count, side, channels=3):
  images = [
    np.asarray(
      Image.open(io.BytesIO(tiny_imagenet.photograph(side, side, seed)))
    )
    for seed in range(count)
  ]
  return np.stack(images)[..., :channels]


def _constants(name, side):
  return names.CONSTANTS[name][side]


@pytest.mark.parametrize('name', ['gaussian_noise', 'speckle_noise'])
@pytest.mark.parametrize('side', _SIDES)
def test_noise_has_the_published_deviation(name, side):
  """By its quartiles, which cutting at 0 and 1 does not move."""
  image = _flat(128, side, 50_000 // side**2 + 1)
  for severity, constant in enumerate(_constants(name, side), start=1):
    sigma = constant * (1 if name == 'gaussian_noise' else 128 / 255)
    out = corruptions.corrupt(image, name, severity) / 255
    width = np.subtract(*np.quantile(out, (0.75, 0.25)))
    expected = 2 * stats.norm.ppf(0.75) * sigma
    assert width == pytest.approx(expected, rel=0.03, abs=1 / 255)
    assert np.median(out) == pytest.approx(127.5 / 255, abs=0.01)


@pytest.mark.parametrize('side', _SIDES)
def test_shot_noise_counts_photons_of_a_poisson_distribution(side):
  image, x = _flat(128, side, 50_000 // side**2 + 1), 128 / 255
  for severity, rate in enumerate(_constants('shot_noise', side), start=1):
    out = corruptions.corrupt(image, 'shot_noise', severity)
    for count in {int(rate * x), int(rate * x * 0.8)}:
      share = np.mean(out <= 255 * count / rate)
      expected = stats.poisson(rate * x).cdf(count)
      assert share == pytest.approx(expected, abs=0.012)


def test_shot_noise_has_the_variance_of_photons():
  """Where nothing is cut, mean x and variance x / rate."""
  for severity, rate in enumerate(_constants('shot_noise', 32), start=1):
    out = corruptions.corrupt(_flat(77, 32, 20), 'shot_noise', severity) / 255
    assert out.mean() == pytest.approx(77 / 255, abs=0.004)
    assert out.var() == pytest.approx(77 / 255 / rate, rel=0.05)


@pytest.mark.parametrize('side', _SIDES)
def test_impulse_noise_changes_the_published_share_half_to_white(side):
  image = _flat(100, side, 100_000 // side**2 + 1)
  for severity, share in enumerate(_constants('impulse_noise', side), start=1):
    out = corruptions.corrupt(image, 'impulse_noise', severity)
    assert set(np.unique(out)) == {0, 100, 255}
    assert (out != 100).mean() == pytest.approx(share, rel=0.06)
    assert (out == 255).mean() == pytest.approx(share / 2, rel=0.09)


@pytest.mark.parametrize('name', ['brightness', 'saturate'])
@pytest.mark.parametrize('side', _SIDES)
def test_colours_change_as_in_hsv(name, side):
  """The reference is Python's colorsys."""
  random = np.random.default_rng(0)
  image = np.zeros((1, side, side, 3), np.uint8)
  image[0, :8, :8] = random.integers(0, 256, (8, 8, 3))
  image[0, 0, 0] = 60  # Grey, and black elsewhere.
  for severity in corruptions.SEVERITIES:
    constant = _constants(name, side)[severity - 1]
    out = corruptions.corrupt(image, name, severity)[0, :9, :9]
    for row, column in np.ndindex(9, 9):
      h, s, v = colorsys.rgb_to_hsv(*image[0, row, column] / 255)
      if name == 'brightness':
        v = min(v + constant, 1)
      else:
        s = min(s * constant[0] + constant[1], 1)
      expected = 255 * np.array(colorsys.hsv_to_rgb(h, s, v))
      error = expected - out[row, column]
      assert (-1e-6 < error).all() and (error < 1 + 1e-6).all()


def test_grey_images_become_brighter_by_the_constant():
  out = corruptions.corrupt(_flat(51, 8, channels=1), 'brightness', 5)
  assert (out == 127).all()  # 51 / 255 + 0.3 is 127.5 / 255.


@pytest.mark.parametrize('side', _SIDES)
def test_contrast_shrinks_the_distance_to_the_mean(side):
  image = _photographs(1, side)
  x = image / 255
  means = x.mean((1, 2), keepdims=True)
  for severity, factor in enumerate(_constants('contrast', side), start=1):
    expected = 255 * (means + factor * (x - means))
    out = corruptions.corrupt(image, 'contrast', severity)
    np.testing.assert_allclose(out + 0.5, expected, atol=0.51)


@pytest.mark.parametrize('channels', [1, 3])
def test_jpeg_compression_is_pillows(channels):
  image = _photographs(2, 32, channels)
  for severity, quality in enumerate((80, 65, 58, 50, 40), start=1):
    out = corruptions.corrupt(image, 'jpeg_compression', severity)
    for one, compressed in zip(image, out, strict=True):
      file = io.BytesIO()
      Image.fromarray(one.squeeze()).save(file, 'JPEG', quality=quality)
      read = np.asarray(Image.open(file)).reshape(one.shape)
      np.testing.assert_array_equal(compressed, read)


def test_pixelate_makes_blocks_of_means():
  """Of 224 pixels severity 2 leaves 112; Pillow rounds across, then down."""
  image = _photographs(1, 224)
  pairs = image.reshape(224, 112, 2, 3).astype(float)
  across = np.floor(pairs.mean(2) + 0.5)
  means = np.floor(across.reshape(112, 2, 112, 3).mean(1) + 0.5)
  expected = means.repeat(2, axis=0).repeat(2, axis=1)
  out = corruptions.corrupt(image, 'pixelate', 2)[0]
  np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
  'name', [*corruptions.KINDS['blur'], 'gaussian_blur', 'elastic_transform']
)
@pytest.mark.parametrize('side', [8, 32, 224])
def test_a_flat_image_stays_flat_when_it_is_blurred_or_moved(name, side):
  for severity in (1, 5):
    out = corruptions.corrupt(_flat(180, side), name, severity)
    # Bytes are rounded down; a disk at the border of its grid sums to 1.004.
    assert set(np.unique(out)) <= {179, 180, 181}


def test_gaussian_blur_spreads_a_point_by_its_sigma():
  image = _flat(0, 65)
  image[0, 32, 32] = 255
  out = corruptions.corrupt(image, 'gaussian_blur', 5)[0, :, :, 0]
  weights = stats.norm.pdf(np.arange(-6, 7), scale=1.5)
  weights /= weights.sum()
  expected = 255 * np.outer(weights, weights)
  np.testing.assert_allclose(out[26:39, 26:39] + 0.5, expected, atol=0.51)


def test_defocus_blur_spreads_a_point_over_a_disk():
  image = _flat(0, 224)
  image[0, 112, 112] = 255
  out = corruptions.corrupt(image, 'defocus_blur', 1)[0, :, :, 0].astype(float)
  distance = np.hypot(*(np.indices(out.shape) - 112))
  inside = distance <= 3
  np.testing.assert_array_equal(out[inside], math.floor(255 / inside.sum()))
  assert not out[~inside].any()


@pytest.mark.parametrize('angle', _MAGICK)
def test_blur_along_a_line_is_imagemagicks(angle):
  spots = np.zeros((7, 9, 1), np.uint8)
  spots[3, 6], spots[1, 8], spots[6, 0] = 255, 200, 90
  blurred = pixels.blurred_along(spots, 3, 2.0, angle)
  np.testing.assert_array_equal(blurred[..., 0], _MAGICK[angle])


def test_zoom_blur_is_a_mean_of_enlarged_images():
  """Of x^2 around the centre: enlarged by z it is (x / z)^2."""
  side, centre = 225, 112
  x = (np.arange(side) - centre) / centre
  image = np.zeros((1, side, side, 3), np.uint8)
  image[:] = np.rint(255 * x**2)[None, None, :, None]
  out = corruptions.corrupt(image, 'zoom_blur', 5)[0, centre, :, 0] / 255
  factors = np.arange(1, 1.31, 0.03)
  expected = np.mean([x**2, *((x / z) ** 2 for z in factors)], axis=0)
  np.testing.assert_allclose(out, expected, atol=0.02)


def test_glass_blur_takes_every_pixel_from_a_near_one():
  """At severity 1 of small images pixels come from up to one up and left."""
  image = np.zeros((1, 16, 16, 3), np.uint8)
  image[0, ..., 0], image[0, ..., 1] = 16 * np.indices((16, 16)) + 8
  out = corruptions.corrupt(image, 'glass_blur', 1)[0].astype(int)
  down, right = np.indices((16, 16)) - out[..., :2].transpose(2, 0, 1) // 16
  for moved in (down, right):
    assert set(np.unique(moved[2:, 2:])) == {0, 1}
    assert not moved[:2].any() and not moved[:, :2].any()


def test_fog_is_a_fractal_whose_range_is_the_constant():
  image = _flat(200, 32, 3)
  x = 200 / 255
  for severity, (amount, _) in enumerate(_constants('fog', 32), start=1):
    out = (corruptions.corrupt(image, 'fog', severity) + 0.5) / 255
    fractal = (out * (x + amount) / x - x) / amount
    near = 1.5 / 255 / amount
    np.testing.assert_allclose(fractal.min((1, 2, 3)), 0, atol=near)
    np.testing.assert_allclose(fractal.max((1, 2, 3)), 1, atol=near)


def test_snow_whitens_and_is_the_same_upside_down():
  image = _flat(90, 32, 4)
  whiter = []
  for severity in corruptions.SEVERITIES:
    out = corruptions.corrupt(image, 'snow', severity).astype(int)
    kept = _constants('snow', 32)[severity - 1][-1]
    grey = 90 * kept + (1 - kept) * (1.5 * 90 + 127.5)
    assert (out >= math.floor(grey) - 1).all()
    np.testing.assert_allclose(out, out[:, ::-1, ::-1], atol=1)
    whiter.append(out.mean())
  assert sorted(whiter) == whiter


def test_an_elastic_transform_of_severity_1_is_affine():
  """A plane stays a plane where the border is far."""
  image = np.zeros((2, 32, 32, 3), np.uint8)
  image[:] = (4 * np.arange(32)[:, None] + 3 * np.arange(32))[..., None]
  out = corruptions.corrupt(image, 'elastic_transform', 1).astype(int)
  inner = out[:, 10:22, 10:22]
  for axis in (1, 2):
    assert abs(np.diff(inner, n=2, axis=axis)).max() <= 2
  assert (abs(inner - image[:, 10:22, 10:22]).max((1, 2, 3)) > 2).all()


@pytest.mark.parametrize(('side', 'channels'), [(8, 1), (16, 3)])
@pytest.mark.parametrize('name', made.FORMULAS)
def test_an_image_is_the_same_in_any_batch_and_differs_by_severity(
  name, side, channels
):
  if name not in made.available(channels):
    pytest.skip('grey images have no saturation')
  images = _photographs(5, side, channels)
  lazy = corruptions.CorruptedImages(images, name, 3, seed=4)
  whole = lazy[:]
  assert whole.dtype == np.uint8 and whole.shape == images.shape == lazy.shape
  rows = np.array([4, 0, 2, 0, 0])
  np.testing.assert_array_equal(lazy[rows], whole[rows])
  np.testing.assert_array_equal(lazy[1:3], whole[1:3])
  other = corruptions.corrupt(images, name, 5, seed=4)
  assert (other != whole).any()
  copies = corruptions.corrupt(images[[0] * 5], name, 3, seed=4)
  np.testing.assert_array_equal(copies[0], whole[0])
  seeded = corruptions.corrupt(images, name, 3, seed=5)
  is_random = (seeded != whole).any()
  assert is_random == (copies != copies[0]).any()
  assert is_random == (
    name
    not in (
      *('brightness', 'contrast', 'saturate', 'gaussian_blur', 'defocus_blur'),
      *('zoom_blur', 'pixelate', 'jpeg_compression'),
    )
  )


def test_images_on_disk_are_corrupted_as_those_in_memory():
  files = [tiny_imagenet.photograph(20, 12, seed) for seed in range(3)]
  stored = datasets.StoredImages(
    tiny_imagenet.Encoded(files), np.arange(3), 16, name='photographs'
  )
  lazy = corruptions.CorruptedImages(stored, 'shot_noise', 2)
  np.testing.assert_array_equal(
    lazy[np.array([2, 1])],
    corruptions.corrupt(np.asarray(stored), 'shot_noise', 2)[[2, 1]],
  )


@pytest.mark.parametrize('shape', [(9, 21, 3), (30, 8, 1)])
def test_images_need_not_be_square(shape):
  images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
  for name in made.available(shape[2]):
    assert corruptions.corrupt(images, name, 5).shape == images.shape


@pytest.mark.parametrize(
  ('sides', 'size'),
  [((8, 8), 32), ((45, 90), 32), ((46, 46), 64), ((119, 119), 64)]
  + [((120, 120), 224), ((500, 400), 224)],
)
def test_constants_are_those_of_the_nearest_size(sides, size):
  assert names.size_of_constants(*sides) == size


def test_every_corruption_has_constants_of_five_severities():
  assert set(names.CONSTANTS) == set(made.FORMULAS)
  assert set(names.NAMES) - set(made.FORMULAS) == {'frost', 'spatter'}
  for by_size in names.CONSTANTS.values():
    assert {size: len(row) for size, row in by_size.items()} == {
      32: 5,
      64: 5,
      224: 5,
    }


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'name': 'fogg'}, "no corruption 'fogg'. Did you mean 'fog'"),
    ({'name': 'frost'}, "'frost' is not there: there are gaussian_noise, "),
    ({'severity': 6}, r'severities=\[6\] must be some of 1, 2, 3, 4 and 5'),
    ({'seed': -1}, r'seed=-1 must lie in \[0, 2\^64\)'),
    ({'images': np.zeros((1, 8, 8, 3))}, r'are float64 \[1, 8, 8, 3\]'),
    ({'images': _flat(0, 8, 1, 2)}, 'must be uint8 .* with 1 or 3 channels'),
    ({'images': _flat(0, 7)}, 'have 7 x 7 pixels, too few .* at least 8 x 8'),
    (
      {'images': _flat(0, 8, 1, 1), 'name': 'saturate'},
      "'saturate' is not there",
    ),
  ],
)
def test_a_wrong_argument_is_refused_in_words(changes, message):
  arguments = {'images': _flat(0, 8), 'name': 'fog', 'severity': 1, 'seed': 0}
  with pytest.raises(ValueError, match=message):
    corruptions.CorruptedImages(
      **{key: changes.get(key, value) for key, value in arguments.items()}
    )


def test_groups_stand_for_what_there_is_of_them():
  there = made.available(3)
  assert names.expand(['weather', 'fog'], there) == (
    *('snow', 'fog', 'brightness'),
  )
  assert len(names.expand(['common'], there)) == 14
  assert names.expand(['all'], there) == tuple(
    name for name in names.NAMES if name in there
  )
  with pytest.raises(ValueError, match="corruption 'extra' is not there"):
    names.expand(['extra'], ['fog'])
