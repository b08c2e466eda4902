"""Mapping over devices: what is split, copied and put back together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import parallel


@pytest.mark.parametrize('count', [1, 2])
def test_replicated_trees_come_back_with_the_same_bits(count):
  tree = {
    'a': np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    'b': (jnp.uint32(5), np.array([True, False])),
  }
  over = parallel.devices(count)
  copies = parallel.replicate(tree, over)
  assert copies['a'].shape == (count, 2, 3)
  back = parallel.unreplicate(copies)
  np.testing.assert_array_equal(back['a'], tree['a'])
  assert back['b'][0] == 5 and back['b'][0].dtype == np.uint32


def test_shards_are_contiguous_and_positions_number_the_whole_batch():
  over = parallel.devices(2)
  shards = parallel.shard(np.arange(8), 2)
  np.testing.assert_array_equal(shards, [[0, 1, 2, 3], [4, 5, 6, 7]])
  numbers = parallel.pmap(lambda x: parallel.positions(x.shape[0]), over)(
    shards
  )
  np.testing.assert_array_equal(numbers, shards)


def test_another_axis_can_be_split():
  rows = np.arange(12).reshape(3, 4)
  shards = parallel.shard(rows, 2, axis=1)
  assert shards.shape == (2, 3, 2)
  np.testing.assert_array_equal(np.concatenate(shards, axis=1), rows)


def test_a_batch_that_does_not_split_is_refused():
  with pytest.raises(ValueError, match='batch of 5.*multiple of 2'):
    parallel.shard(np.arange(5), 2)


def test_zero_devices_means_all():
  assert parallel.devices(0) == jax.local_devices()
  assert len(parallel.devices(1)) == 1
