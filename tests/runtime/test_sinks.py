"""Tests of rnascl_jax.runtime.sinks."""

import sys
import types

import pytest

from rnascl_jax.runtime import disk, files, metrics, sinks
from rnascl_jax.stages import run as runs
from tests import tiny

FACTS = sinks.Facts('digits', 'train/ce', {'seed': 0, 'data.name': 'digits'})


class Memory:
  """Services that keep what they get, by the name of a run."""

  def __init__(self):
    self.began = {}
    self.logged = {}
    self.ended = []

  def begin(self, name, about):
    name = name or f'run{len(self.began)}'
    self.began.setdefault(name, []).append(about)
    self.logged.setdefault(name, [])
    return name

  @property
  def steps(self):
    """Of each run, the steps that were logged."""
    return {
      name: [record['step'] for record in records]
      for name, records in self.logged.items()
    }


@pytest.fixture(autouse=True)
def _nothing_was_warned_of():
  sinks._warn.cache_clear()


@pytest.fixture
def wandb(monkeypatch):
  """Weights & Biases, as far as a sink uses it."""
  memory = Memory()

  def init(**about):
    assert about['resume'] == 'allow'
    name = memory.begin(about.pop('id'), about)
    axes = {}

    def log(record):
      assert axes == {'*': 'step'}
      memory.logged[name].append(record)

    return types.SimpleNamespace(
      id=name,
      define_metric=lambda metric, step_metric: axes.update(
        {metric: step_metric}
      ),
      log=log,
      finish=lambda: memory.ended.append(name),
    )

  module = types.ModuleType('wandb')
  monkeypatch.setattr(module, 'init', init, raising=False)
  monkeypatch.setitem(sys.modules, 'wandb', module)
  return memory


@pytest.fixture
def mlflow(monkeypatch):
  """MLflow, as far as a sink uses it."""
  memory = Memory()
  experiments = {}

  class Client:
    def get_experiment_by_name(self, name):
      number = experiments.get(name)
      return number and types.SimpleNamespace(experiment_id=number)

    def create_experiment(self, name):
      return experiments.setdefault(name, f'experiment of {name}')

    def create_run(self, experiment, run_name):
      about = {'experiment': experiment, 'name': run_name, 'params': {}}
      run_id = memory.begin('', about)
      return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))

    def update_run(self, run_id, status):
      memory.begin(run_id, {'status': status})

    def log_batch(self, run_id, metrics=(), params=()):
      memory.began[run_id][0]['params'].update(params)
      record = {}
      for name, number, _, step in metrics:
        record.update({'step': step, name: number})
      if record:
        memory.logged[run_id].append(record)

    def set_terminated(self, run_id):
      memory.ended.append(run_id)

  module = types.ModuleType('mlflow')
  module.MlflowClient = Client
  module.entities = types.SimpleNamespace(
    Metric=lambda *fields: fields, Param=lambda *fields: fields
  )
  monkeypatch.setitem(sys.modules, 'mlflow', module)
  return memory


@pytest.fixture
def service(request):
  """The memory of the service that a test is run with."""
  return request.getfixturevalue(request.param)


@pytest.fixture
def own(monkeypatch):
  """Registers a sink of one's own; `fails` is where it is to raise."""
  memory = Memory()
  memory.fails = set()
  memory.name = 'mine'

  class Own:
    def __init__(self, folder, facts, *, name, last_step):
      self._fail('making')
      self.name = memory.begin(name or memory.name, last_step)
      if not memory.name:
        self.name = ''

    def _fail(self, where):
      if where in memory.fails:
        raise RuntimeError(f'no luck in {where}')

    def write(self, record):
      self._fail('writing')
      memory.logged[memory.name or 'run0'].append(record)

    def close(self):
      self._fail('closing')
      memory.ended.append(self.name)

  monkeypatch.setattr(sinks, 'SINKS', dict(sinks.SINKS))
  sinks.register('own', Own)
  return memory


def _run(folder, last_step, steps, *words):
  with metrics.open_writer(
    folder, last_step=last_step, words=words, facts=FACTS
  ) as writer:
    for step in steps:
      values = {'loss': step / 2, 'note': 'text', 'bad': float('nan')}
      writer.write(step, values, split='train')


def test_weights_and_biases_gets_numbers_and_what_they_are_of(
  wandb, tmp_path, monkeypatch
):
  monkeypatch.setenv('WANDB_PROJECT', 'ours')

  _run(tmp_path, None, [4], 'wandb')

  assert wandb.began == {
    'run0': [
      {
        'project': 'ours',
        'group': 'digits',
        'name': 'digits/train/ce',
        'config': FACTS.config,
        'dir': str(tmp_path),
        'resume': 'allow',
      }
    ]
  }
  assert wandb.logged == {'run0': [{'step': 4, 'train/loss': 2.0}]}
  assert wandb.ended == ['run0']


def test_mlflow_gets_numbers_and_the_config(mlflow, tmp_path):
  for number in range(2):
    _run(tmp_path / f'{number}', None, [4], 'mlflow')

  assert (
    mlflow.began['run0']
    == mlflow.began['run1']
    == [
      {
        'experiment': 'experiment of rnascl_jax',
        'name': 'digits/train/ce',
        'params': {'seed': '0', 'data.name': 'digits'},
      }
    ]
  )
  assert mlflow.logged['run0'] == [{'step': 4, 'train/loss': 2.0}]
  assert mlflow.ended == ['run0', 'run1']


@pytest.mark.parametrize(
  ('word', 'service'),
  [('wandb', 'wandb'), ('mlflow', 'mlflow'), ('own', 'own')],
  indirect=['service'],
)
@pytest.mark.parametrize('last_step', [None, 1])
def test_a_stage_that_goes_on_logs_no_step_twice_and_keeps_its_run(
  word, service, last_step, tmp_path
):
  _run(tmp_path, None, range(4), word)
  first = 0 if last_step is None else last_step + 1

  _run(tmp_path, last_step, range(first, 6), word)

  (name,) = service.began
  assert len(service.began[name]) == 2
  assert service.steps == {name: [0, 1, 2, 3, 4, 5]}


@pytest.mark.parametrize(
  ('word', 'service'),
  [('wandb', 'wandb'), ('own', 'own')],
  indirect=['service'],
)
def test_a_sink_that_is_chosen_later_gets_all_records(word, service, tmp_path):
  _run(tmp_path, None, range(3))
  _run(tmp_path, 2, range(3, 5), word)

  assert list(service.steps.values()) == [[0, 1, 2, 3, 4]]


def test_a_sink_without_a_name_gets_what_is_new(own, tmp_path):
  own.name = ''
  _run(tmp_path, None, range(4), 'own')
  _run(tmp_path, 1, range(2, 5), 'own')

  assert own.steps['run0'] == [0, 1, 2, 3, 2, 3, 4]
  assert [about for abouts in own.began.values() for about in abouts] == [
    None,
    1,
  ]
  assert not list(tmp_path.glob('sink_*'))


@pytest.mark.parametrize('where', ['making', 'writing', 'closing'])
def test_a_sink_that_raises_is_switched_off_and_the_run_goes_on(
  where, own, wandb, tmp_path, caplog
):
  own.fails.add(where)

  _run(tmp_path, None, range(3), 'own', 'wandb')

  lines = files.read_json_lines(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [0, 1, 2]
  assert wandb.steps == {'run0': [0, 1, 2]} and wandb.ended == ['run0']
  # The service is told that it ends, or its next run would be the same one.
  assert own.ended == (['mine'] if where == 'writing' else [])
  (message,) = [record.getMessage() for record in caplog.records]
  assert f'The sink own is switched off: RuntimeError: no luck in {where}' in (
    message
  )

  own.fails.clear()
  _run(tmp_path, 1, [2, 3], 'own')
  assert own.steps == {'mine': [0, 1, 2, 3]}


def test_a_sink_whose_package_is_missing_says_what_installs_it(
  tmp_path, caplog, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'wandb', None)

  _run(tmp_path, None, range(3), 'wandb')

  (message,) = [record.getMessage() for record in caplog.records]
  assert 'pip install "rnascl_jax[wandb]"' in message


def test_a_disk_that_is_full_is_not_the_sink_s_fault(
  own, tmp_path, monkeypatch
):
  def refuse(path, value):
    raise disk.DiskError('full')

  monkeypatch.setattr(files, 'write_json', refuse)

  with pytest.raises(disk.DiskError, match='full'):
    _run(tmp_path, None, range(3), 'own')


def test_only_the_main_process_has_sinks(own, tmp_path):
  with metrics.open_writer(
    tmp_path, last_step=None, words=('own',), is_main_process=False
  ) as writer:
    writer.write(0, {'loss': 1.0})

  assert not own.began


def test_a_sink_that_is_not_there_is_refused_before_anything(tmp_path):
  message = r"--sinks=wand: there is no sink 'wand'. Did you mean 'wandb'\?"
  with pytest.raises(ValueError, match=message):
    with runs.open_run(tiny.config(), str(tmp_path / 'run'), sinks=['wand']):
      pass
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('word', 'message'), [('a/b', 'letters, digits'), ('wandb', 'another word')]
)
def test_words_of_sinks_name_files_and_one_sink_each(word, message):
  with pytest.raises(ValueError, match=message):
    sinks.register(word, sinks.TensorBoard)
