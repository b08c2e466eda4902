"""A search finds what is cheap by the cost that it pays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.distillation import compare
from rnascl_jax.models import student
from rnascl_jax.runtime import parallel
from rnascl_jax.search import (
  arch_params,
  architecture,
  cost_tables,
  flops,
  latency_tables,
  spaces,
)
from rnascl_jax.training import (
  adversarial,
  search_step,
  train_state,
)
from tests import made_latency
from tests.training import test_train_step as steps

_SHAPE = (8, 8, 1)
_SPACE = spaces.from_stages(
  (1, 1), ((8, 2), (8, 2)), (2, 1), stem_features=4, expansion=1
)
_STEPS = 12


def _time(block: latency_tables.MeasuredBlock) -> float:
  """In the first block, that with a stride, the wide choice is free."""
  is_free = (block.features == 8) == (block.stride == 2)
  return 1e-6 if is_free else 100.0


@pytest.fixture(scope='module')
def searched():
  """The history of a search by these times, which is half MACs besides."""
  made = made_latency.table(_SPACE, _SHAPE, time=_time)
  times = latency_tables.costs(made, _SPACE, _SHAPE, 10)
  recipe = train_state.Recipe(
    net=student.Student(
      _SPACE, 10, mean=(0.3,), std=(0.4,), axis_name=parallel.AXIS
    ),
    optimizer=optax.sgd(0.1),
    adversarial=adversarial.standard(),
    distillation=compare.Distillation(),
    augment=steps._identity,
  )
  search = search_step.Search(
    space=_SPACE,
    tables=times,
    measures={
      'macs': flops.costs(_SPACE, _SHAPE, 10),
      'latency_us': times,
    },
    optimizer=optax.adam(0.3),
    steps_per_epoch=4,
    reference=cost_tables.uniform(times),
  )
  weights = train_state.init_state(
    recipe, jax.random.key(0), _SHAPE, steps._BATCH, np.arange(10)
  )
  layers = len(recipe.net.tap_names)
  state = search_step.init_search_state(
    weights,
    arch_params.init_arch_params(_SPACE, layers, 1),
    search.optimizer,
  )
  context = train_state.Context(
    jnp.uint32(3), (), (), jnp.zeros(()), jnp.zeros(())
  )
  step = search_step.make_search_step(recipe, search)
  return search, steps._run(step, state, context, 1, (12, 4), _STEPS)


def test_a_search_takes_the_wide_choice_that_costs_no_time(searched):
  _, history = searched
  state, _ = history[-1]
  found = architecture.derive(_SPACE, state.arch, ('none',))
  assert found.features == (8, 2)
  probabilities = arch_params.probabilities(state.arch).channels
  assert float(probabilities[0][0]) > 0.8 and float(probabilities[1][1]) > 0.8


def test_expected_costs_are_metrics_and_the_time_falls(searched):
  search, history = searched
  measured = [
    {name: float(sums[name][0] / sums['count'][0]) for name in search.measured}
    for _, sums in history
  ]
  # The architecture after the step, and the MACs beside the time.
  channels = arch_params.probabilities(history[-1][0].arch).channels
  for name, tables in search.measured.items():
    expected = float(cost_tables.expected(tables, channels))
    assert measured[-1][name] == pytest.approx(expected, rel=1e-5)
  assert measured[-1]['latency_us'] < 0.5 * measured[0]['latency_us']
