"""Tests of rnascl_jax.data.batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.data import batches

OPTIMIZED = True


def test_order_is_the_recorded_one():
  # Origin: this code, NumPy 2.4.6, x86-64. NumPy guarantees Philox's stream,
  # so a difference means that resumed runs no longer see the same images.
  golden = {
    (0, 0): [0, 2, 9, 1, 8, 5, 4, 3, 6, 7],
    (1, 0): [3, 5, 2, 9, 7, 0, 8, 6, 1, 4],
    (0, 1): [5, 3, 7, 8, 2, 4, 1, 0, 6, 9],
    (2**63 + 5, 7): [7, 4, 3, 8, 5, 9, 1, 6, 2, 0],
  }
  for (seed, epoch), expected in golden.items():
    order = batches.random_order(seed, epoch, 10)
    assert order.dtype == np.int32
    assert order.tolist() == expected


def test_order_is_a_permutation_that_seed_and_epoch_change():
  orders = [
    batches.random_order(seed, epoch, 1000)
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]
  ]
  for order in orders:
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
  assert len({order.tobytes() for order in orders}) == 4


def test_first_example_of_an_order_is_uniform():
  first = [batches.random_order(0, epoch, 8)[0] for epoch in range(4000)]
  # 500 expected each, standard deviation 21: five of them.
  np.testing.assert_allclose(np.bincount(first), 500, atol=105)


@pytest.mark.parametrize('seed, epoch', [(-1, 0), (0, -1), (2**64, 0)])
def test_seed_and_epoch_out_of_range_are_refused(seed, epoch):
  with pytest.raises(ValueError, match='outside'):
    batches.random_order(seed, epoch, 10)


def test_training_batches_are_the_order_without_its_remainder():
  order = batches.batch_order(0, 2, num_examples=23, batch_size=5)
  assert order.shape == (4, 5)
  np.testing.assert_array_equal(
    order.ravel(), batches.random_order(0, 2, 23)[:20]
  )


def test_every_example_is_trained_on_although_each_epoch_drops_some():
  seen = set()
  for epoch in range(10):
    seen.update(batches.batch_order(0, epoch, 23, 5).ravel().tolist())
  assert seen == set(range(23))


@pytest.mark.parametrize('batch_size', [0, 24])
def test_batch_size_out_of_range_is_refused(batch_size):
  with pytest.raises(ValueError, match=f'batch_size={batch_size}'):
    batches.batch_order(0, 0, 23, batch_size)


def test_holdout_gives_every_class_its_share():
  labels = np.repeat([0, 1, 3], [60, 30, 11])
  # Exact shares of 20 are 11.88, 5.94 and 2.18; class 2 has no example.
  for size, counts in ((0, []), (20, [12, 6, 0, 2]), (101, [60, 30, 0, 11])):
    held_out = batches.stratified_holdout(labels, size)
    assert np.bincount(labels[held_out]).tolist() == counts


def test_holdout_larger_than_the_data_is_refused():
  with pytest.raises(ValueError, match=r'size=11 must lie in \[0, 10\]'):
    batches.stratified_holdout(np.zeros(10, int), 11)


@pytest.mark.parametrize('compile_it', [False, True])
def test_pixels_are_the_float32_nearest_to_v_over_255(compile_it):
  pixels = np.arange(256, dtype=np.uint8)
  function = jax.jit(batches.to_float) if compile_it else batches.to_float
  result = np.asarray(function(pixels))
  assert result.dtype == np.float32
  nearest = (pixels.astype(np.float64) / 255).astype(np.float32)
  np.testing.assert_array_equal(result, nearest)
  np.testing.assert_array_equal(np.round(result * 255), pixels)


def test_pixels_on_the_host_become_float_there():
  pixels = np.arange(256, dtype=np.uint8)
  assert isinstance(batches.to_float(pixels), np.ndarray)


def test_only_uint8_becomes_float():
  with pytest.raises(ValueError, match='float32, must be uint8'):
    batches.to_float(np.zeros((2, 2), np.float32))


def _images(count, side=6):
  return jnp.asarray(
    np.random.default_rng(0).uniform(0.1, 1, (count, side, side, 3)),
    jnp.float32,
  )


def test_without_padding_and_flip_augmentation_is_the_identity():
  image = _images(1)[0]
  result = batches.augment(jax.random.key(0), image, padding=0, flip=False)
  np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize('padding, flip', [(1, False), (2, True), (0, True)])
def test_augmentation_is_one_of_the_crops_and_all_of_them_occur(padding, flip):
  image = _images(1)[0]
  padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  crops = [
    padded[row : row + 6, column : column + 6]
    for row in range(2 * padding + 1)
    for column in range(2 * padding + 1)
  ]
  if flip:
    crops += [crop[:, ::-1] for crop in crops]
  number = {crop.tobytes(): i for i, crop in enumerate(crops)}
  assert len(number) == len(crops)
  draws = 200 * len(crops)
  keys = jax.random.split(jax.random.key(1), draws)
  function = jax.jit(
    jax.vmap(
      lambda key: batches.augment(key, image, padding=padding, flip=flip)
    )
  )
  counts = np.bincount(
    [number[x.tobytes()] for x in np.asarray(function(keys))]
  )
  # 200 expected each, standard deviation 14: five of them.
  assert len(counts) == len(crops)
  np.testing.assert_allclose(counts, 200, atol=70)


def test_augmentation_of_a_batch_is_that_of_each_image():
  images = _images(4)
  keys = jax.random.split(jax.random.key(2), 4)
  batch = jax.vmap(lambda k, x: batches.augment(k, x, padding=2, flip=True))(
    keys, images
  )
  for key, image, result in zip(keys, images, batch, strict=True):
    np.testing.assert_array_equal(
      batches.augment(key, image, padding=2, flip=True), result
    )


def test_erasing_fills_one_rectangle_of_the_papers_areas_and_ratios():
  keys = jax.random.split(jax.random.key(0), 2000)
  image = jnp.full((32, 48, 1), 2.0)
  erased = np.asarray(jax.vmap(batches.erase, (0, None))(keys, image))[..., 0]
  changed = erased != 2
  assert ((erased[changed] >= 0) & (erased[changed] < 1)).all()
  rows, columns = changed.any(2), changed.any(1)
  # A row that has a changed pixel has one in every changed column.
  rectangles = rows[:, :, None] & columns[:, None, :]
  np.testing.assert_array_equal(changed, rectangles)
  heights, widths = rows.sum(1), columns.sum(1)
  for side in (rows, columns):  # In one piece.
    starts = np.diff(side.astype(int), axis=1, prepend=0) == 1
    assert (starts.sum(1) == 1).all()
  whole = (heights < 32) & (widths < 48)
  areas = (heights * widths)[whole] / (32 * 48)
  ratios = (heights / widths)[whole]
  # Sides are whole pixels.
  assert 0.015 < areas.min() < 0.03 and 0.37 < areas.max() < 0.42
  assert 0.24 < ratios.min() < 0.35 and 2.9 < ratios.max() < 3.7
  assert abs(np.log(ratios[areas < 0.2]).mean()) < 0.05
  assert changed.any(0).all()


def test_erasing_leaves_the_other_draws_and_happens_as_often_as_asked_for():
  image = _images(1)[0]
  keys = jax.random.split(jax.random.key(1), 1000)

  def augmented(erasing):
    return jax.vmap(
      lambda key: batches.augment(
        key, image, padding=1, flip=True, erasing=erasing
      )
    )(keys)

  same = (augmented(0.25) == augmented(0.0)).all(axis=(1, 2, 3))
  assert abs(same.mean() - 0.75) < 0.05


def test_augmentation_refuses_a_batch_and_negative_padding():
  with pytest.raises(ValueError, match='one image'):
    batches.augment(jax.random.key(0), _images(2), padding=0, flip=True)
  with pytest.raises(ValueError, match='padding=-1'):
    batches.augment(jax.random.key(0), _images(1)[0], padding=-1, flip=True)
