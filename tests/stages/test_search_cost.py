"""A search by latency keeps its costs, and says what it found."""

import dataclasses

import pytest

from rnascl_jax import stages
from rnascl_jax.config import resolve, settings
from rnascl_jax.runtime import files
from rnascl_jax.search import cost_tables, latency_tables
from rnascl_jax.stages import workdir
from tests import made_latency, tiny

_SHAPE = (8, 8, 1)


@pytest.fixture
def config(tiny_run, tmp_path):
  """The tiny run with a table of latencies, and a teacher that is there."""
  config = tiny.config()
  config.teacher.checkpoint = str(tiny_run / 'teacher')
  path = tmp_path / 'table.json'
  _write(path, resolve.space(settings.parse(config).space))
  config.search.cost = f'latency:{path}'
  config.search.cost_device = made_latency.DEVICE
  return config


def _write(path, space, **changes) -> None:
  table = made_latency.table(space, _SHAPE)
  latency_tables.write(dataclasses.replace(table, **changes), path)


def test_a_network_that_was_searched_by_latency_says_its_time(
  config, trainings, tmp_path
):
  stages.teacher(config, str(tmp_path / 'run'))
  found = stages.search(config, str(tmp_path / 'run'))
  assert 'search' in trainings
  saved = files.read_json(tmp_path / 'run' / 'architecture.json')
  assert saved['cost'] == config.search.cost
  space = found.space
  times = latency_tables.costs(
    made_latency.table(space, _SHAPE), space, _SHAPE, 10
  )
  expected = cost_tables.of_features(times, space, found.features)
  assert saved['latency_us'] == pytest.approx(expected)


def test_a_table_that_was_made_again_ends_no_other_search(
  config, trainings, tmp_path
):
  del trainings
  run = tmp_path / 'run'
  stages.teacher(config, str(run))
  found = stages.search(config, str(run))
  # As if it had been interrupted.
  (run / 'search' / 'stage.json').unlink()
  assert stages.search(config, str(run)) == found
  (run / 'search' / 'stage.json').unlink()
  _write(tmp_path / 'table.json', found.space, stem=(6.0, 7.5))
  with pytest.raises(ValueError, match='restore the table of latencies'):
    stages.search(config, str(run))


def test_a_search_by_macs_leaves_no_costs(tiny_run):
  assert not (tiny_run / 'search' / 'cost.json').exists()
  saved = files.read_json(tiny_run / 'architecture.json')
  assert not {'cost', 'latency_us'} & saved.keys()


def test_a_table_of_another_device_is_refused_before_there_is_a_run(
  config, tmp_path
):
  config.search.cost_device = ''
  with pytest.raises(ValueError, match="measured on 'a phone', not on"):
    stages.search(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_a_run_from_before_there_were_costs_goes_on(tiny_run, tmp_path):
  """And the device may be named later: it changes no number."""
  parsed = settings.parse(tiny.config())
  saved = dataclasses.asdict(parsed)
  for name in ('cost', 'cost_batch', 'cost_device'):
    del saved['search'][name]
  files.write_config(tmp_path, saved)
  workdir.compare(tmp_path, parsed)
  search = dataclasses.replace(parsed.search, cost_device='a phone')
  workdir.compare(tmp_path, dataclasses.replace(parsed, search=search))
  search = dataclasses.replace(parsed.search, cost='parameters')
  with pytest.raises(ValueError, match="'macs' there, 'parameters' here"):
    workdir.compare(tmp_path, dataclasses.replace(parsed, search=search))


def test_a_run_from_before_more_than_widths_was_searched_goes_on(tmp_path):
  parsed = settings.parse(tiny.config())
  saved = dataclasses.asdict(parsed)
  for name in ('kernel_choices', 'expansion_choices', 'depth_choices'):
    del saved['space'][name]
  files.write_config(tmp_path, saved)
  workdir.compare(tmp_path, parsed)
  space = dataclasses.replace(parsed.space, kernel_choices=(3, 5))
  with pytest.raises(ValueError, match=r'kernel_choices: \[\] there, \[3, 5\]'):
    workdir.compare(tmp_path, dataclasses.replace(parsed, space=space))
