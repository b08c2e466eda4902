"""Choices beside widths: what they cost, how they are decided and refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.config import resolve
from rnascl_jax.config.schema import Space
from rnascl_jax.search import (
  arch_params,
  architecture,
  cost_tables,
  flops,
  latency_tables,
  spaces,
)
from rnascl_jax.search.space import Operator
from tests import made_latency

_SHAPE = (8, 8, 1)
_WIDTHS = spaces.from_stages((1, 1), ((6, 4), (6, 4)), (2, 1), stem_features=6)
_SPACE = spaces.with_operators(
  _WIDTHS, kernel_sizes=(3, 5), expansions=(2, 3), depth=True
)


def _every_choice():
  """All networks: ((features, operators), index of each choice)."""
  pairs = tuple(itertools.product((0, 1), repeat=2))
  for w, k, e in itertools.product(pairs, repeat=3):
    for skipped in (0, 1):
      first, second = (_SPACE.blocks[i].choices[w[i]] for i in (0, 1))
      operators = [Operator((3, 5)[k[i]], (2, 3)[e[i]]) for i in (0, 1)]
      if skipped:
        second, operators[1] = first, Operator(skipped=True)
      yield (first, second), tuple(operators), (w, k, e, skipped)


def _latencies():
  made = made_latency.table(
    _SPACE,
    _SHAPE,
    time=lambda b: b.features * b.entering * b.expansion * (b.kernel_size or 1),
  )
  return latency_tables.costs(made, _SPACE, _SHAPE, 10)


_TABLES = {
  'macs': lambda: flops.costs(_SPACE, _SHAPE, 10),
  'parameters': lambda: flops.costs(_SPACE, _SHAPE, 10, kind='parameters'),
  'latency': _latencies,
  'sum': lambda: cost_tables.weighted(
    [(0.5, flops.costs(_SPACE, _SHAPE, 10)), (2.0, _latencies())]
  ),
}


@pytest.mark.parametrize('kind', _TABLES)
def test_the_expected_cost_is_the_mean_over_all_independent_choices(kind):
  tables = _TABLES[kind]()
  logits = jax.tree.map(
    lambda a: jnp.arange(a.size) * 0.7 - 0.2,
    arch_params.init_arch_params(_SPACE, 7, 1).channel_logits,
  )
  weights = jax.tree.map(jax.nn.softmax, logits)
  mean = 0.0
  for features, operators, (w, k, e, skipped) in _every_choice():
    share = float(weights[1]['depth'][skipped])
    for i in (0, 1):
      share *= float(
        weights[i]['width'][w[i]]
        * weights[i]['kernel'][k[i]]
        * weights[i]['expansion'][e[i]]
      )
    cost = cost_tables.of_features(tables, _SPACE, features, operators)
    mean += share * cost
  found = float(cost_tables.expected(tables, weights))
  assert found == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize('kind', ('macs', 'parameters'))
def test_one_hot_choices_cost_what_the_derived_network_counts(kind):
  tables = _TABLES[kind]()
  for features, operators, _ in itertools.islice(_every_choice(), 0, None, 5):
    derived = spaces.with_features(_SPACE, features, operators)
    exact = getattr(flops.count(derived, _SHAPE, 10), kind)
    channels = arch_params.one_hot(_SPACE, features, operators)
    assert cost_tables.expected(tables, channels) == exact
    found = cost_tables.of_features(tables, _SPACE, features, operators)
    assert found == exact


@pytest.mark.parametrize('kind', _TABLES)
def test_least_and_uniform_are_those_of_all_networks(kind):
  tables = _TABLES[kind]()
  costs = [
    cost_tables.of_features(tables, _SPACE, features, operators)
    for features, operators, _ in _every_choice()
  ]
  assert cost_tables.least(tables, _SPACE) == pytest.approx(min(costs))
  assert cost_tables.uniform(tables) == pytest.approx(np.mean(costs), rel=1e-6)


def test_the_most_probable_choices_are_derived_without_the_skipped_layers():
  params = arch_params.init_arch_params(_SPACE, 7, 3)
  first, second = params.channel_logits
  first |= {'width': jnp.array([0.0, 1.0]), 'kernel': jnp.array([0.0, 1.0])}
  second |= {'depth': jnp.array([0.0, 1.0])}
  tutors = jax.nn.one_hot(jnp.arange(7) % 3, 3)
  arch = architecture.derive(
    _SPACE, arch_params.ArchParams((first, second), tutors), ('a', 'b', 'c')
  )
  assert arch.features == (4, 4)
  assert arch.operators == (Operator(5, 2), Operator(skipped=True))
  assert arch.tutors == (0, 1, 2, 0)
  assert arch.student_layers[-1] == 'block0/project'
  fields = architecture.to_dict(arch)
  assert (fields['format'], len(fields['blocks'])) == (2, 1)
  assert fields['blocks'][0]['kernel_size'] == 5
  assert architecture.from_dict(fields) == arch


def test_a_space_of_widths_alone_is_written_and_drawn_as_before():
  assert spaces.with_operators(_WIDTHS) == _WIDTHS
  params = arch_params.init_arch_params(_WIDTHS, 7, 2)
  assert [a.shape for a in jax.tree.leaves(params)] == [(2,), (2,), (7, 2)]
  assert not arch_params.masks(_WIDTHS, params.channel_logits).operators
  fields = architecture.to_dict(
    architecture.derive(_WIDTHS, params, ('a', 'b'))
  )
  assert fields['format'] == 1
  names = {'features', 'choices', 'stride', 'residual', 'squeezed'}
  assert all(block.keys() == names for block in fields['blocks'])


def test_a_table_without_the_kernel_sizes_is_refused():
  made = made_latency.table(_WIDTHS, _SHAPE)
  wider = spaces.with_operators(_WIDTHS, kernel_sizes=(3, 5))
  with pytest.raises(ValueError, match='lacks 6 of the 12 .* kernel 5'):
    latency_tables.costs(made, wider, _SHAPE, 10)


def test_a_table_with_kernel_sizes_is_read_as_it_was_written(tmp_path):
  made = made_latency.table(_SPACE, _SHAPE)
  latency_tables.write(made, tmp_path / 'times.json')
  read = latency_tables.read(str(tmp_path / 'times.json'))
  assert read.blocks == made.blocks


@pytest.mark.parametrize(
  'fields, message',
  (
    ({'kernel_choices': (3, 4)}, r'kernel_choices=\(3, 4\).*must be odd'),
    ({'kernel_choices': (3, 3)}, 'distinct'),
    ({'expansion_choices': (6, 6)}, 'distinct'),
    (
      {'expansion_choices': (3, 6), 'name': 'i_se', 'shortcut': 'pad'},
      'squeeze-excite follow one expansion',
    ),
    (
      {
        'depth_choices': True,
        'name': 'custom',
        'depths': (1,),
        'choices': ((8, 4),),
        'strides': (2,),
      },
      'No block of this space can be skipped',
    ),
  ),
)
def test_choices_that_do_not_fit_a_space_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    resolve.space(Space(**fields))


def test_a_space_of_the_paper_takes_all_choices():
  space = resolve.space(
    Space(kernel_choices=(3, 5), expansion_choices=(3, 6), depth_choices=True)
  )
  blocks = space.blocks
  assert [b.skippable for b in blocks] == [False, True, True] * 3
  assert all(b.kernel_choices == (3, 5) for b in blocks)
