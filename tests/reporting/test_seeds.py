"""The table over seeds: means and deviations of what the runs saved."""

import statistics

import pytest

from rnascl_jax.reporting import report
from rnascl_jax.runtime import files
from tests import saved_run

PGD20 = (250, 300, 350)


@pytest.fixture
def three_runs(tmp_path):
  """Runs whose numbers of images right under PGD-20 differ."""
  folders = []
  for seed, correct in enumerate(PGD20):
    counts = {'ce': (509, 480, correct, 96, 72)}
    folder = saved_run.write(tmp_path / str(seed), counts=counts)
    config = files.read_json(folder / 'config.json')
    files.write_json(folder / 'config.json', config | {'seed': seed})
    folders.append(folder)
  return folders


def _cells(runs):
  """The table's rows by model, each by heading."""
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in report.seeds_table(runs).splitlines()
    if line.startswith('| ')
  ]
  return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def _change(workdir, model, index=2, **values):
  with saved_run.edited(workdir / 'evaluation' / f'{model}.json') as saved:
    saved['attacks'][index] |= values


def test_the_table_has_mean_and_standard_deviation_of_every_model(three_runs):
  shares = [100 * correct / 517 for correct in PGD20]
  mean, deviation = statistics.mean(shares), statistics.stdev(shares)
  cells = _cells(three_runs)
  assert cells['CE student']['PGD-20'] == f'{mean:.1f} ± {deviation:.1f}'
  assert cells['RNAS-CL student']['Clean'] == '98.5 ± 0.0'
  assert 'over 3 runs (seeds 0, 1, 2)' in report.seeds_table(three_runs)


def test_a_model_that_one_run_lacks_is_left_out(three_runs):
  (three_runs[1] / 'evaluation' / 'ce.json').unlink()
  cells = _cells(three_runs)
  assert 'CE student' not in cells and 'RNAS-CL student' in cells


@pytest.mark.parametrize(
  'values', [{'epsilon': 0.5}, {'images': 510}, {'steps': 7}, {'norm': 'L2'}]
)
def test_runs_under_other_attacks_are_refused(three_runs, values):
  _change(three_runs[2], 'rnas_cl', **values)
  with pytest.raises(ValueError, match='other attacks'):
    report.seeds_table(three_runs)


def test_one_run_has_no_deviation(three_runs):
  with pytest.raises(ValueError, match='needs two'):
    report.seeds_table(three_runs[:1])


def test_an_attack_that_one_run_lacks_is_a_dash(three_runs):
  with saved_run.edited(three_runs[0] / 'evaluation' / 'ce.json') as saved:
    del saved['attacks'][1]
  cells = _cells(three_runs)
  assert cells['CE student']['FGSM'] == '—'
  assert '±' in cells['RNAS-CL student']['FGSM']


def test_autoattack_on_few_images_is_said_to_be(three_runs):
  saved_run.write_auto_attack(three_runs[1], 'ce', (63, 20, 16, 16, 16))
  column = 'AutoAttack (64 images)'
  deviation = statistics.stdev([12.5, 25.0, 12.5])
  cells = _cells(three_runs)
  assert cells['CE student'][column] == f'16.7 ± {deviation:.1f}'
  assert cells['RNAS-CL student'][column] == '35.9 ± 0.0'
  assert cells['Control'][column] == '—'
  assert 'first 64 of 517' in report.seeds_table(three_runs)
