"""Costs of all choices: sums of them, their expectations, measured times."""

import dataclasses
import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from rnascl_jax.config import resolve, settings
from rnascl_jax.runtime import files
from rnascl_jax.search import (
  arch_params,
  cost_tables,
  flops,
  latency_tables,
  spaces,
)
from tests import made_latency

_SPACE = spaces.from_stages((2, 1), ((8, 6), (12, 9)), (1, 2), stem_features=8)
_SHAPE = (8, 8, 1)
_ALL = [*itertools.product(*(block.choices for block in _SPACE.blocks))]


def _latencies(batch: int = 1) -> cost_tables.Costs:
  made = made_latency.table(_SPACE, _SHAPE)
  return latency_tables.costs(made, _SPACE, _SHAPE, 10, batch=batch)


@pytest.mark.parametrize('features', _ALL)
def test_expected_latency_at_one_hot_is_the_sum_of_the_blocks(features):
  made = made_latency.table(_SPACE, _SHAPE)
  expected = made.stem[1] + made.head[features[-1]][1]
  size = (4, 4)
  for entering, leaving, block in zip(
    (8, *features), features, _SPACE.blocks, strict=False
  ):
    facts = entering, leaving, block.stride, 6, block.residual, *size
    expected += made.blocks[latency_tables.MeasuredBlock(*facts)][1]
    size = tuple(side // block.stride for side in size)

  tables = _latencies(batch=2)

  channels = arch_params.one_hot(_SPACE, features)
  assert cost_tables.expected(tables, channels) == pytest.approx(expected)
  exact = cost_tables.of_features(tables, _SPACE, features)
  assert exact == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('batch_norm', [False, True])
def test_expected_parameters_at_one_hot_are_those_of_the_network(batch_norm):
  tables = flops.costs(
    _SPACE, _SHAPE, 10, kind='parameters', batch_norm=batch_norm
  )
  for features in _ALL:
    derived = spaces.with_features(_SPACE, features)
    exact = flops.count(derived, _SHAPE, 10, batch_norm=batch_norm)
    channels = arch_params.one_hot(_SPACE, features)
    assert cost_tables.expected(tables, channels) == exact.parameters


def test_the_least_cost_is_that_of_the_cheapest_network():
  """Which has wide blocks here: they are the fast ones."""
  made = made_latency.table(
    _SPACE, _SHAPE, time=lambda block: 100.0 / block.features + block.entering
  )
  tables = latency_tables.costs(made, _SPACE, _SHAPE, 10)
  every = [cost_tables.of_features(tables, _SPACE, f) for f in _ALL]
  assert cost_tables.least(tables, _SPACE) == pytest.approx(min(every))
  assert _ALL[int(np.argmin(every))] != min(_ALL)


def test_a_sum_has_its_weights_at_uniform_choices_whatever_the_units():
  macs, times = flops.costs(_SPACE, _SHAPE, 10), _latencies()
  both = cost_tables.weighted([(0.5, macs), (2.0, times)])
  assert cost_tables.uniform(both) == pytest.approx(2.5, rel=1e-6)
  channels = [jnp.array([0.3, 0.7])] * 3
  parts = [
    weight * cost_tables.expected(one, channels) / cost_tables.uniform(one)
    for weight, one in ((0.5, macs), (2.0, times))
  ]
  found = cost_tables.expected(both, channels)
  assert float(found) == pytest.approx(float(sum(parts)), rel=1e-6)


def test_a_table_is_read_as_it_was_written(tmp_path):
  made = dataclasses.replace(
    made_latency.table(_SPACE, _SHAPE), provenance={'command': 'a'}
  )
  latency_tables.write(made, tmp_path / 'table.json')
  assert latency_tables.read(f'{tmp_path}/table.json') == made
  text = (tmp_path / 'table.json').read_text()
  # A line for each block.
  assert len(text.splitlines()) < 40 and json.loads(text)['format'] == 1


@pytest.mark.parametrize(
  ('space', 'shape', 'classes', 'batch', 'message'),
  [
    (dict(stem_features=4), _SHAPE, 10, 1, 'stem_features: 8 in .*, 4 here'),
    (dict(kernel_size=5), _SHAPE, 10, 1, 'kernel_size: 3 in the table, 5 here'),
    ({}, (16, 16, 1), 10, 1, 'other images .*image_shape: .8, 8, 1. in the'),
    ({}, _SHAPE, 5, 1, 'num_classes: 10 in the table, 5 here'),
    ({}, _SHAPE, 10, 64, 'no times of 64 images at once; it has 1, 2'),
    (dict(choices=((8, 5), (12, 9))), _SHAPE, 10, 1, 'lacks .*8 -> 5 channels'),
    (dict(choices=((8, 6), (12, 9, 3))), _SHAPE, 10, 1, 'lacks .* 3 channels'),
  ],
)
def test_a_table_of_something_else_is_refused(
  space, shape, classes, batch, message
):
  made = made_latency.table(_SPACE, _SHAPE)
  fields = {'choices': ((8, 6), (12, 9)), 'stem_features': 8} | space
  other = spaces.from_stages((2, 1), strides=(1, 2), **fields)
  with pytest.raises(ValueError, match=message):
    latency_tables.costs(made, other, shape, classes, batch=batch)


def test_a_table_that_is_not_there_or_damaged_is_named(tmp_path):
  with pytest.raises(ValueError, match="mean 'digits_cpu'.*ends in .json"):
    latency_tables.read('digit_cpu')
  with pytest.raises(ValueError, match='none.json does not exist'):
    latency_tables.read(str(tmp_path / 'none.json'))
  path = tmp_path / 'table.json'
  latency_tables.write(made_latency.table(_SPACE, _SHAPE), path)
  saved = files.read_json(path)
  saved['blocks'][0]['us'] = [0.0, 1.0]
  files.write_json(path, saved)
  with pytest.raises(files.DamagedFileError, match='2 positive numbers'):
    latency_tables.read(str(path))
  files.write_json(path, saved | {'format': 9})
  with pytest.raises(ValueError, match='format=9, and 1 is read here'):
    latency_tables.read(str(path))


@pytest.mark.parametrize('name', latency_tables.shipped())
def test_a_shipped_table_has_its_spaces_and_how_it_was_made(name):
  table = latency_tables.read(name)
  assert {'command', 'commit', 'versions', 'seed'} <= table.provenance.keys()
  assert 'AMD EPYC' in table.device and '1 thread' in table.runtime
  assert len(table.additivity['networks']) == 20
  known, shape = [spaces.CIFAR_SPACES[s] for s in ('s3', 's5', 's7')], (32, 32)
  if name.startswith('digits'):
    known = [resolve.space(settings.parse(digits.get_config()).space)]
    shape = (8, 8)
  for space in known:
    for batch in (1, 64):
      channels = 1 if name.startswith('digits') else 3
      image = (*shape, channels)
      costs = latency_tables.costs(table, space, image, 10, batch=batch)
      assert cost_tables.least(costs, space) > 1
