"""Mapping over devices: what is split, copied and put back together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.runtime import compilation, parallel


@pytest.mark.parametrize('count', [1, 2])
def test_replicated_trees_come_back_with_the_same_bits(count):
  tree = {
    'a': np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    'b': (jnp.uint32(5), np.array([True, False])),
  }
  devices = parallel.devices(count)
  copies = parallel.replicate(tree, devices)
  assert copies['a'].shape == (count, 2, 3)
  back = parallel.unreplicate(copies)
  np.testing.assert_array_equal(back['a'], tree['a'])
  assert back['b'][0] == 5 and back['b'][0].dtype == np.uint32


def _state_of_images(size: int):
  rng = np.random.default_rng(0)
  return {
    'params': {'w': rng.random(3)},
    'images': parallel.PerImage(
      {'delta': rng.random((size, 2)), 'count': np.arange(size)}
    ),
    'nothing': parallel.PerImage(()),
  }


@pytest.mark.parametrize('count', [1, 2])
def test_entries_of_images_are_split_and_put_together_again(count):
  state = _state_of_images(4)
  devices = parallel.devices(count)
  copies = parallel.replicate(state, devices)
  delta = copies['images'].arrays['delta']
  assert copies['params']['w'].shape == (count, 3)
  assert delta.shape == (count, 4 // count, 2)
  for shard, device in zip(delta.addressable_shards, devices, strict=True):
    assert shard.device == device and shard.data.shape == (1, 4 // count, 2)
  back = parallel.unreplicate(copies)
  assert jax.tree.structure(back) == jax.tree.structure(state)
  for found, expected in zip(
    jax.tree.leaves(back), jax.tree.leaves(state), strict=True
  ):
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_a_device_has_the_entries_of_the_images_that_it_has():
  """And what each of them makes of its own comes back in one order."""
  devices = parallel.devices(2)

  def step(state, batch):
    (images,) = jax.tree.leaves(state)
    where = parallel.positions(images.shape[0])
    return parallel.PerImage(images + 10 * batch + 100 * where)

  state = parallel.PerImage(np.arange(6))
  mapped = parallel.pmap(step, devices)
  found = mapped(
    parallel.replicate(state, devices), parallel.share(np.arange(6), devices)
  )
  back = parallel.unreplicate(found)
  np.testing.assert_array_equal(back.arrays, 111 * np.arange(6))


@pytest.mark.parametrize('count', [1, 2])
def test_brief_programs_map_and_reduce_like_others(count, monkeypatch):
  options = {'xla_backend_optimization_level': 1}
  monkeypatch.setattr(compilation, 'brief', lambda platform: options)
  devices = parallel.devices(count)

  def step(state, batch):
    where = parallel.positions(batch.shape[0])
    return {'own': state + batch, 'all': parallel.psum(batch.sum())}, where

  arguments = (
    parallel.replicate(np.float32(3), devices),
    parallel.share(np.arange(6), devices),
  )
  expected = parallel.pmap(step, devices)(*arguments)
  found = parallel.pmap(step, devices, brief=True)(*arguments)
  for one, other in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert one.sharding.is_equivalent_to(other.sharding, one.ndim)
    np.testing.assert_array_equal(one, other)


def test_entries_of_images_that_do_not_split_are_refused():
  with pytest.raises(ValueError, match='batch of 5.*multiple of 2'):
    parallel.replicate(_state_of_images(5), parallel.devices(2))


def test_shards_are_contiguous_and_positions_number_the_whole_batch():
  devices = parallel.devices(2)
  shards = parallel.share(np.arange(8), devices)
  np.testing.assert_array_equal(shards, [[0, 1, 2, 3], [4, 5, 6, 7]])
  numbers = parallel.pmap(lambda x: parallel.positions(x.shape[0]), devices)(
    shards
  )
  np.testing.assert_array_equal(numbers, shards)


def test_another_axis_can_be_split():
  rows = np.arange(12).reshape(3, 4)
  shards = parallel.share(rows, parallel.devices(2), axis=1)
  assert shards.shape == (2, 3, 2)
  np.testing.assert_array_equal(np.concatenate(shards, axis=1), rows)


def test_a_batch_that_does_not_split_is_refused():
  with pytest.raises(ValueError, match='batch of 5.*multiple of 2'):
    parallel.share(np.arange(5), parallel.devices(2))


def test_zero_devices_means_all():
  assert parallel.devices(0) == jax.local_devices()
  assert len(parallel.devices(1)) == 1
