"""The table over seeds: means and deviations of what the runs saved."""

import shutil
import statistics

import pytest

from rnascl_jax.reporting import report
from rnascl_jax.runtime import files


@pytest.fixture
def three_runs(tiny_run, tmp_path):
  """Copies of a run whose numbers of correct images differ."""
  folders = []
  for seed, correct in enumerate((10, 20, 24)):
    folder = tmp_path / str(seed)
    shutil.copytree(tiny_run, folder)
    config = files.read_json(folder / 'config.json')
    files.write_json(folder / 'config.json', config | {'seed': seed})
    path = folder / 'evaluation' / 'ce.json'
    saved = files.read_json(path)
    saved['attacks'][1] |= {'correct': correct, 'accuracy': correct / 40}
    files.write_json(path, saved)
    folders.append(folder)
  return folders


def test_the_table_has_mean_and_standard_deviation_of_every_model(three_runs):
  table = report.seeds_table(three_runs)
  shares = [25.0, 50.0, 60.0]
  mean, deviation = statistics.mean(shares), statistics.stdev(shares)
  row = next(line for line in table.splitlines() if line.startswith('| CE '))
  assert f'{mean:.1f} ± {deviation:.1f}' in row
  assert 'over 3 runs (seeds 0, 1, 2)' in table
  assert '| RNAS-CL ' in table and '± 0.0' in table


def test_a_model_that_one_run_lacks_is_left_out(three_runs):
  (three_runs[1] / 'evaluation' / 'ce.json').unlink()
  table = report.seeds_table(three_runs)
  assert '| CE ' not in table and '| RNAS-CL ' in table


def test_runs_under_other_attacks_are_refused(three_runs):
  path = three_runs[2] / 'evaluation' / 'teacher.json'
  saved = files.read_json(path)
  saved['attacks'][1]['epsilon'] = 0.5
  files.write_json(path, saved)
  with pytest.raises(ValueError, match='other attacks'):
    report.seeds_table(three_runs)


def test_one_run_has_no_deviation(three_runs):
  with pytest.raises(ValueError, match='needs two'):
    report.seeds_table(three_runs[:1])


def test_an_attack_that_one_run_lacks_is_a_dash(three_runs):
  path = three_runs[0] / 'evaluation' / 'ce.json'
  saved = files.read_json(path)
  name = saved['attacks'].pop(1)['label']
  files.write_json(path, saved)
  lines = report.seeds_table(three_runs).splitlines()
  place = lines[0].split(' | ').index(name)
  cells = {line.split(' | ')[0]: line.split(' | ') for line in lines[2:-2]}
  assert cells['| CE'][place] == '—' and '±' in cells['| RNAS-CL'][place]


def test_an_attack_on_other_images_is_refused(three_runs):
  path = three_runs[2] / 'evaluation' / 'ce.json'
  saved = files.read_json(path)
  saved['attacks'][1] |= {'images': 30}
  files.write_json(path, saved)
  with pytest.raises(ValueError, match='other attacks'):
    report.seeds_table(three_runs)
