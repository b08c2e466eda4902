"""Measured blocks: they are the network's, and all of them are timed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.evaluation import timing
from rnascl_jax.interop import latency, onnx_latency, timed_networks
from rnascl_jax.models.student import Student, StudentPart
from rnascl_jax.search import flops, latency_tables, spaces
from tests import random_variables

_SHAPE = (8, 8, 1)
_SPACE = spaces.from_stages(
  (2, 1), ((4, 3), (6, 5)), (1, 2), stem_features=4, expansion=2
)
# As ImageNet's students, with every part that there is.
_GATED = spaces.widest(
  spaces.from_stages(
    (2,), ((6, 4),), (1,), stem_features=4, squeeze_excite=0.5, head_features=5
  )
)


def _parts(space, variables):
  """The parts of a network with their variables, in order."""
  names = [
    {'stem', 'stem_norm'},
    *({f'block{index}'} for index in range(len(space.blocks))),
    {'head', 'classifier'},
  ]
  for index, own in enumerate(names):
    part = StudentPart(space, 10, (0.5,), (0.25,), index=index - 1)
    yield (
      part,
      {
        kind: {name: tree[name] for name in own & tree.keys()}
        for kind, tree in variables.items()
      },
    )


@pytest.fixture(scope='module')
def network():
  net = Student(_GATED, 10, (0.5,), (0.25,))
  return net, random_variables.draw(net, _SHAPE, 0)


def test_the_parts_one_after_another_are_the_network(network):
  net, variables = network
  images = np.random.default_rng(0).random((2, *_SHAPE), np.float32)
  logits, _ = jax.jit(lambda v, x: net.apply(v, x, train=False))(
    variables, images
  )

  @jax.jit
  def in_parts(x):
    for part, own in _parts(_GATED, variables):
      x, taps = part.apply(own, x, train=False)
      assert not taps
    return x

  np.testing.assert_allclose(in_parts(images), logits, rtol=1e-5, atol=1e-6)


def test_what_onnx_runtime_runs_is_copies_of_each_part(network):
  runtime = pytest.importorskip('onnxruntime')
  net, variables = network
  x = np.random.default_rng(0).random((2, *_SHAPE), np.float32)
  for part, own in (*_parts(_GATED, variables), (net, variables)):
    if part is net:
      x = np.random.default_rng(0).random((2, *_SHAPE), np.float32)
    expected = np.asarray(part.apply(own, x, train=False)[0])
    session = runtime.InferenceSession(
      onnx_latency._model(part, own, x.shape, 3),
      providers=['CPUExecutionProvider'],
    )
    # Each copy has an input of its own.
    feeds = {
      entry.name: scale * x.transpose(0, 3, 1, 2)
      for scale, entry in zip(
        np.float32((1, 0, 1)), session.get_inputs(), strict=True
      )
    }
    first, other, third = session.run(None, feeds)
    np.testing.assert_array_equal(first, third)
    assert np.abs(first - other).max() > 1e-3
    axes = (0, 2, 3, 1)[: first.ndim] if first.ndim == 4 else (0, 1)
    np.testing.assert_allclose(
      first.transpose(axes), expected, rtol=1e-4, atol=1e-5
    )
    x = expected


@pytest.mark.parametrize(('count', 'runs'), [(6, 1), (2, 3)])
def test_a_loop_runs_a_function_as_often_as_it_says(count, runs):
  """Each run takes a number of the one before, so that none is left out."""

  def function(x):
    return jnp.cumsum(x, 1) / 4

  program = timing.looped(function, (2, 3), runs=runs)
  expected = x = np.random.default_rng(0).random((2, 3), np.float32)
  for _ in range(6):
    expected = np.asarray(function(x))
    x = x.copy()
    x[0, 0] = expected[0, 0].clip(0, 1)

  np.testing.assert_allclose(program.run(count), expected, rtol=1e-6)
  assert np.abs(expected - function(x)).max() > 1e-6


def test_times_are_medians_of_turns_after_runs_that_are_not_timed(monkeypatch):
  clock = [0.0]
  # Two runs find how many a turn has; then each turn has one before it.
  turns = iter([9.0, 9.0, 8.0, 1.0, 8.0, 5.0, 8.0, 2.0])
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: clock[0])

  def run(count):
    assert count == 1
    clock[0] += next(turns)

  (found,) = timing.medians([timing.Timed(run, copies=4)], repeats=3)
  assert found == pytest.approx(1e6 * 2.0 / 4)


def _counted(monkeypatch) -> latency.Runtime:
  """A runtime whose time is the number of multiply-accumulates."""

  def prepare(net, variables, shape):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    net = net.clone(conv=_native)
    return flops.trace_macs(
      lambda x: net.apply(variables, x, train=False)[0], images
    )

  monkeypatch.setattr(
    timing, 'medians', lambda programs, repeats: [float(m) for m in programs]
  )
  return latency.Runtime(prepare, 'counting', 'paper')


def _native(x, kernel, stride):
  from rnascl_jax.models import convolutions

  return convolutions.native_depthwise_conv(x, kernel, stride)


def test_the_sums_of_a_table_are_the_networks_where_times_add_up(monkeypatch):
  plan = timed_networks.Plan(_SPACE, _SHAPE, 10, (1, 3), networks=6)
  table = latency.measure(plan, _counted(monkeypatch))
  for batch, found in zip((1, 3), table.additivity['batches'], strict=True):
    assert found['spearman'] == 1.0
    assert found['largest_error'] == 0.0 and found['median_ratio'] == 1.0
    costs = latency_tables.costs(table, _SPACE, _SHAPE, 10, batch=batch)
    macs = flops.costs(_SPACE, _SHAPE, 10)
    for mine, its in zip(costs.blocks, macs.blocks, strict=True):
      np.testing.assert_array_equal(mine, batch * its)
    assert costs.stem == batch * macs.stem
    np.testing.assert_array_equal(costs.head, batch * macs.head)


def test_random_networks_are_different_and_those_of_the_seed():
  drawn = timed_networks.random_features(_SPACE, 5, 1)
  assert len(set(drawn)) == 5
  assert drawn == timed_networks.random_features(_SPACE, 5, 1)
  assert drawn != timed_networks.random_features(_SPACE, 5, 2)
  assert len(timed_networks.random_features(_SPACE, 20, 0)) == 8
