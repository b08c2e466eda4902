"""The front of searches by several costs, and the page about it."""

import numpy as np
import pytest

from rnascl_jax.reporting import pareto, pareto_page, statistics
from rnascl_jax.reporting.figures import pareto as figures
from rnascl_jax.reporting.paper import sweep_runs
from rnascl_jax.runtime import files
from tests import saved_sweep


def _point(row, cost='macs', exponent=1.0, clean=0.9, robust=0.5, latency=1.0):
  """A row of three seeds that differ a little."""
  spread = (-0.01, 0.0, 0.01)
  return pareto.Point(
    row,
    cost,
    exponent,
    (0, 1, 2),
    ((8, 16),) * 3,
    tuple(clean + s for s in spread),
    tuple(robust + s for s in spread),
    (100, 110, 120),
    (1000, 1100, 1200),
    tuple(latency * (1 + s) for s in spread),
  )


def test_a_row_on_the_front_is_beaten_by_no_other_in_both():
  fast = _point('fast', latency=1.0, robust=0.3)
  strong = _point('strong', latency=3.0, robust=0.6)
  beaten = _point('beaten', latency=2.0, robust=0.2)
  same = _point('same', latency=3.0, robust=0.6)
  slow = _point('slow', latency=4.0, robust=0.6)
  found = pareto.front([slow, beaten, strong, fast, same], 'latency', 'robust')
  assert [point.row for point in found] == ['fast', 'strong', 'same']


@pytest.mark.parametrize(
  ('latency', 'verdict'),
  [(0.5, 'faster'), (1.0, 'no difference'), (1.5, 'slower')],
)
def test_a_row_is_called_faster_or_slower_by_its_interval(latency, verdict):
  base = _point('macs_1')
  other = _point('latency_1', 'latency:t', latency=latency)
  noisy = other._replace(
    row='noisy', latency=(latency, 3 * latency, 0.2 * latency)
  )
  alone = _point('latency_2', 'latency:t', exponent=2.0)
  head, row, unsure = pareto_page.difference_cells(
    [base, other, noisy, alone], 'PGD-20'
  )
  assert (row[0], row[1], row[3]) == ('latency_1', '3', verdict)
  assert unsure[3] == 'no difference'
  assert head[2:4] == ['Latency (%)', 'It is']


def test_the_interval_of_a_mean_is_students():
  values = [1.0, 2.0, 4.0]
  low, high = statistics.interval_of_mean(values)
  half = 4.302652729911275 * np.std(values, ddof=1) / np.sqrt(3)
  assert (low, high) == pytest.approx((7 / 3 - half, 7 / 3 + half))
  assert statistics.interval_of_mean([1.0]) is None
  assert statistics.interval_of_mean([2.0, 2.0]) == (2.0, 2.0)


@pytest.fixture
def sweep(tmp_path) -> sweep_runs.SweepRuns:
  for row, cost in (('macs_1', 'macs'), ('latency_1', 'latency:digits_cpu')):
    for seed in (0, 1):
      folder = saved_sweep.write_row(tmp_path, seed, row, ['rnas_cl'])
      config = files.read_config(folder)
      config['search'] |= {'cost': cost, 'flops_exponent': 1.0}
      files.write_config(folder, config)
  saved_sweep.write_row(tmp_path, 0, 'teacher_small', ['teacher'])
  return sweep_runs.load(tmp_path)


def test_the_page_has_every_searched_row_and_the_networks_of_the_front(
  sweep, tmp_path
):
  models = pareto.searched(sweep, 'rnas_cl')
  assert set(models) == {
    (row, seed) for row in ('macs_1', 'latency_1') for seed in (0, 1)
  }
  times = {key: 10.0 + (key[0] == 'macs_1') + 0.1 * key[1] for key in models}
  found = pareto.points(models, times)
  measured = pareto.Measured('a phone', 'a runtime', 1, 31, times)
  page = pareto_page.page(found, measured, 'PGD-20', 'rnascl pareto')
  cells = pareto_page.cells(found, 'PGD-20')
  assert {row[0]: row[-1] for row in cells[1:]} == {
    'macs_1': '',
    'latency_1': '*',
  }
  assert 'median of 31 turns' in page and 'a phone' in page
  for row in pareto_page.architecture_cells(found)[1:]:
    assert row[0] == 'latency_1' and row[2] == '16 24'
  figures.write(found, 'PGD-20', tmp_path / 'pareto.png')
  assert (tmp_path / 'pareto.png').stat().st_size > 10_000


def test_a_student_of_a_fixed_architecture_is_on_no_front(sweep, tmp_path):
  for run in sweep.runs['macs_1'].values():
    config = files.read_config(run.workdir)
    config['students'] = {'rnas_cl': {'network': {'name': 'mobilenet_v2'}}}
    files.write_config(run.workdir, config)
  models = pareto.searched(sweep_runs.load(tmp_path), 'rnas_cl')
  assert {row for row, _ in models} == {'latency_1'}


def test_a_sweep_without_searched_rows_is_refused(sweep):
  with pytest.raises(ValueError, match="no evaluated 'ce' of a searched row"):
    pareto.searched(sweep, 'ce')
