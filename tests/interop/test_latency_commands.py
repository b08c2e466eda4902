"""`rnascl latency` and `rnascl pareto`, as users start them."""

import shutil

import pytest

from rnascl_jax.config import resolve, settings
from rnascl_jax.runtime import files
from rnascl_jax.search import latency_tables
from tests import commands, tiny

# In the place of the demo's.
_SPACE = {
  'depths': '(1,)',
  'choices': '((4, 2),)',
  'strides': '(2,)',
  'stem_features': '4',
  'stem_stride': '2',
  'expansion': '2',
}


def test_the_command_measures_a_space_without_its_images(tmp_path):
  path = tmp_path / 'table.json'
  fields = [f'--config.space.{name}={v}' for name, v in _SPACE.items()]
  status, output = commands.run(
    *('latency', f'--output={path}', *fields, '--images=8,8,1', '--classes=3'),
    *('--batches=2', '--repeats=1', '--networks=2'),
  )
  assert status == 0, output
  table = latency_tables.read(str(path))
  config = settings.template()
  config.space.update(name='custom', depths=(1,), choices=((4, 2),))
  config.space.update(strides=(2,), stem_features=4, expansion=2)
  space = resolve.space(settings.parse(config).space)
  latency_tables.costs(table, space, (8, 8, 1), 3, batch=2)
  assert len(table.additivity['networks']) == 2
  assert table.provenance['command'].startswith('python -m experiments.latency')
  assert 'Spearman' in output and '1 thread' in table.runtime


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--batches=1,1', 'must be different numbers'),
    ('--images=8,8', '--images=8,8 and --classes=0 belong together'),
    ('--output=table.txt', 'must end in .json'),
    ('--threads=999', 'is more than the'),
  ],
)
def test_a_wrong_flag_is_refused_before_anything_is_compiled(flag, message):
  status, output = commands.run('latency', '--output=t.json', flag)
  assert status == 1 and message in output.replace('\n', ' '), output


def test_the_front_of_a_sweep_has_the_times_of_its_networks(tiny_run, tmp_path):
  folder = tmp_path / 'seed0' / 'row'
  shutil.copytree(tiny_run, folder)
  status, output = commands.run(
    'pareto', f'--workdir={tmp_path}', '--repeats=1'
  )
  assert status == 0, output
  saved = files.read_json(tmp_path / 'pareto' / 'latency.json')
  (network,) = saved['times']
  assert network['row'] == 'row' and 0 < network['us'] < 1e5
  page = (tmp_path / 'pareto' / 'pareto.md').read_text()
  cost = tiny.config().search.cost
  assert f'| row | {cost} | 1 | 1 |' in page
  assert (tmp_path / 'pareto' / 'pareto.png').exists()
