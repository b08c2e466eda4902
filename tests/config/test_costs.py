"""What a search pays, as configs say it."""

import dataclasses

import numpy as np
import pytest

from rnascl_jax.config import resolve, settings
from rnascl_jax.search import cost_tables, flops, latency_tables, spaces
from tests import made_latency

_SPACE = spaces.from_stages((2,), ((8, 6),), (2,), stem_features=8)
_SHAPE = (8, 8, 1)


def _cost(cost: str, **fields) -> resolve.SearchCost:
  spec = dataclasses.replace(settings.SearchSettings(), cost=cost, **fields)
  return resolve.search_cost(spec, _SPACE, _SHAPE, 10)


@pytest.fixture
def table(tmp_path) -> str:
  path = tmp_path / 'table.json'
  latency_tables.write(made_latency.table(_SPACE, _SHAPE), path)
  return str(path)


def _equal(first: cost_tables.Costs, second: cost_tables.Costs) -> bool:
  pairs = zip(first.blocks, second.blocks, strict=True)
  same = all(np.array_equal(*pair) for pair in pairs)
  return (
    same
    and first.stem == second.stem
    and np.array_equal(first.head, second.head)
  )


def test_by_default_a_search_pays_macs_and_measures_nothing_else():
  spec = settings.SearchSettings()
  found = resolve.search_cost(spec, _SPACE, _SHAPE, 10)
  assert _equal(found.tables, flops.costs(_SPACE, _SHAPE, 10))
  assert list(found.measures) == ['macs']


def test_a_cost_is_measured_beside_macs(table):
  named = {'cost_device': made_latency.DEVICE, 'cost_batch': 2}
  found = _cost(f'latency:{table}', **named)
  times = latency_tables.costs(
    made_latency.table(_SPACE, _SHAPE), _SPACE, _SHAPE, 10, batch=2
  )
  assert _equal(found.tables, times)
  assert list(found.measures) == ['macs', 'latency_us']
  assert list(_cost('parameters').measures) == ['macs', 'parameters']
  both = _cost(f'0.25*macs + 0.75*latency:{table}', **named)
  assert _equal(both.measures['latency_us'], times)
  assert cost_tables.uniform(both.tables) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize(
  ('cost', 'message'),
  [
    ('flops', "cost='flops' is unknown.*'macs', 'parameters', 'latency'"),
    ('mac', "mean 'macs'"),
    ('', "'' is unknown"),
    ('latency', 'needs the table of its times: write latency:TABLE'),
    ('macs:table.json', "'macs' takes no table"),
    ('latency:none.json', r'none\.json does not exist'),
    ('latency:phone', "no table 'phone'"),
    ('2*macs', 'a cost that is alone has no weight'),
    ('macs+macs', 'each cost once'),
    ('0.5*macs+x*parameters', "weight 'x' must be a positive number"),
    ('0.5*macs+-1*parameters', "weight '-1' must be a positive"),
    ('0.5*macs+nan*parameters', "weight 'nan' must be a positive"),
  ],
)
def test_a_cost_that_is_none_is_refused(cost, message):
  with pytest.raises(ValueError, match=message):
    _cost(cost)


def test_a_table_of_another_device_is_refused_unless_it_is_named(table):
  with pytest.raises(
    ValueError, match="on 'a phone', not on .*cost_device='a phone'"
  ):
    _cost(f'latency:{table}')
  with pytest.raises(ValueError, match="not on 'a tablet'"):
    _cost(f'latency:{table}', cost_device='a tablet')


def test_a_table_of_another_space_says_what_differs(table):
  spec = dataclasses.replace(
    settings.SearchSettings(),
    cost=f'latency:{table}',
    cost_device=made_latency.DEVICE,
  )
  with pytest.raises(ValueError, match='does not fit.*image_shape'):
    resolve.search_cost(spec, _SPACE, (16, 16, 1), 10)


def test_a_device_without_a_table_has_no_meaning():
  config = settings.template()
  config.search.cost_batch = 64
  with pytest.raises(ValueError, match='cost_batch=64 has no meaning beside'):
    settings.parse(config)


def test_a_logarithm_is_taken_of_one_cost_above_1(tmp_path):
  with pytest.raises(ValueError, match='is a sum of relative ones'):
    _cost('0.5*macs+0.5*parameters', penalty='log')
  path = tmp_path / 'fast.json'
  made = made_latency.table(_SPACE, _SHAPE, time=lambda block: 1e-3)
  latency_tables.write(dataclasses.replace(made, stem=(0.01, 0.01)), path)
  fast = {'cost_device': made_latency.DEVICE, 'penalty': 'log'}
  with pytest.raises(ValueError, match='needs a cost above 1, and .* 0.6'):
    _cost(f'latency:{path}', **fast)
