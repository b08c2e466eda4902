"""Trained models under common corruptions, from the images to the table."""

import shutil
import signal

import jax
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax.data import batches
from rnascl_jax.data import corruptions as making
from rnascl_jax.evaluation import corruptions as evaluating
from rnascl_jax.reporting import corruptions as reading
from rnascl_jax.reporting import figures, report
from rnascl_jax.runtime import files, signals
from rnascl_jax.stages import corruptions
from rnascl_jax.stages import run as runs
from tests import tiny

_NAMES, _SEVERITIES = ('fog', 'shot_noise'), (1, 5)
_WHAT = {
  'models': ('ce', 'rnas_cl'),
  'corruptions_or_groups': _NAMES,
  'severities': _SEVERITIES,
}


@pytest.fixture(scope='module')
def workdir(tiny_run, tmp_path_factory):
  """The tiny run, evaluated, and the table."""
  folder = tmp_path_factory.mktemp('corruptions') / 'run'
  shutil.copytree(tiny_run, folder)
  shutil.rmtree(folder / 'figures')
  return folder


def _evaluate(folder, **changes):
  with runs.open_run(tiny.config(), str(folder)) as run:
    return corruptions.evaluate(run, corruptions.plan(run, **_WHAT | changes))


@pytest.fixture(scope='module')
def table(workdir):
  return _evaluate(workdir)


def _results(workdir, model, name='made'):
  folder = workdir / 'evaluation' / 'corruptions' / name
  return files.read_json(folder / f'{model}.json')['results']


@pytest.mark.usefixtures('table')
def test_counts_are_those_of_the_loaded_models_on_the_corrupted_images(
  workdir,
):
  with runs.open_run(tiny.config(), str(workdir)) as run:
    test = run.data.test
  for name in ('ce', 'rnas_cl'):
    logits_fn = jax.jit(rnascl_jax.load(workdir, name).logits_fn)
    results = _results(workdir, name)
    cells = {('clean', 0): test.images}
    for corruption in _NAMES:
      for severity in _SEVERITIES:
        cells[corruption, severity] = making.corrupt(
          test.images, corruption, severity
        )
    for (corruption, severity), images in cells.items():
      right = logits_fn(batches.to_float(images)).argmax(-1) == test.labels
      saved = results[corruption][str(severity)]
      assert saved['images'] == 40
      assert saved['correct'] == int(right.sum())
    assert sum(map(len, results.values())) == len(cells)


def test_the_table_has_means_over_severities_and_says_what_is_not_normalised(
  workdir, table
):
  saved = reading.read_set(workdir / 'evaluation' / 'corruptions' / 'made')
  assert [model.model for model in saved.models] == ['rnas_cl', 'ce']
  for model in saved.models:
    results = _results(workdir, model.model)
    means = {
      name: np.mean([results[name][s]['correct'] / 40 for s in '15'])
      for name in _NAMES
    }
    assert saved.accuracy(model, 'fog') == pytest.approx(means['fog'])
    mean = np.mean(list(means.values()))
    assert saved.mean_accuracy(model) == pytest.approx(mean)
    assert f'{100 * mean:.1f}' in table
  words = ' '.join(table.split())
  assert 'Means over severities 1, 5, and then over 2 corruptions' in words
  assert 'not normalised' in words
  assert '40 of each corruption and severity' in words
  assert 'constants of CIFAR-10-C' in words


@pytest.mark.usefixtures('table')
def test_the_report_has_the_table_and_two_figures(workdir, monkeypatch):
  names = ('corruption_curves', 'corrupted_images')
  drawn = {name: figures.FIGURES[name] for name in names}
  monkeypatch.setattr(figures, 'FIGURES', drawn)
  text = report.write(workdir).read_text()
  assert '## Common corruptions' in text
  assert '| shot noise |' in text
  for name in names:
    assert (workdir / 'figures' / f'{name}.png').stat().st_size > 5000
  assert 'jpeg' not in report.terminal_table(workdir)
  assert 'shot noise' in report.terminal_table(workdir)


@pytest.fixture
def cells(monkeypatch):
  """Names and severities that are computed."""
  computed = []
  evaluate = evaluating._evaluate_cell

  def recorded(models, split, name, severity, *others):
    computed.append((len(models), name, severity))
    evaluate(models, split, name, severity, *others)

  monkeypatch.setattr(evaluating, '_evaluate_cell', recorded)
  return computed


def test_only_what_is_missing_is_computed(workdir, table, cells, tmp_path):
  folder = shutil.copytree(workdir, tmp_path / 'run')
  provenance = (folder / 'provenance.json').read_text()
  assert _evaluate(folder) == table
  assert not cells
  assert (folder / 'provenance.json').read_text() == provenance
  _evaluate(folder, severities=(3, 5), models=('ce',))
  assert cells == [(1, 'shot_noise', 3), (1, 'fog', 3)]
  cells.clear()
  _evaluate(folder, severities=(3,), corruptions_or_groups=('fog',))
  assert cells == [(1, 'fog', 3)]
  assert set(_results(folder, 'ce')['fog']) == {'1', '3', '5'}


def test_a_model_that_lacks_severities_of_others_has_no_mean(
  workdir, tmp_path, table
):
  del table
  folder = shutil.copytree(workdir, tmp_path / 'run')
  text = _evaluate(folder, severities=(3,), models=('ce',))
  row = next(line for line in text.splitlines() if line.startswith('fog'))
  assert row.split()[1] == '—' and row.split()[2] != '—'
  row = next(line for line in text.splitlines() if line.startswith('Mean acc'))
  assert row.split()[2] == '—'


def test_a_run_that_was_stopped_goes_on_where_it_was(
  workdir, table, cells, tmp_path, monkeypatch
):
  folder = shutil.copytree(workdir, tmp_path / 'run')
  shutil.rmtree(folder / 'evaluation' / 'corruptions')
  add, start = evaluating._ModelResults.add, evaluating._ModelResults.__init__
  models = []

  def started(self, *arguments):
    models.append(self)
    start(self, *arguments)

  def add_and_stop(self, name, severity, *others):
    add(self, name, severity, *others)
    if (name, severity) == ('shot_noise', 5) and self is models[-1]:
      signal.raise_signal(signal.SIGTERM)

  with monkeypatch.context() as patched:
    patched.setattr(evaluating._ModelResults, 'add', add_and_stop)
    patched.setattr(evaluating._ModelResults, '__init__', started)
    with pytest.raises(signals.Interrupted):
      _evaluate(folder)
  done = _results(folder, 'ce')
  assert {name: list(of) for name, of in done.items()} == {
    'clean': ['0'],
    'shot_noise': ['1', '5'],
  }
  cells.clear()
  assert _evaluate(folder) == table
  assert cells == [(2, 'fog', 1), (2, 'fog', 5)]
  for model in ('ce', 'rnas_cl'):
    first, second = (_results(f, model) for f in (workdir, folder))
    for name, severities in first.items():
      for severity, counts in severities.items():
        assert counts['correct'] == second[name][severity]['correct']


def test_arrays_of_a_folder_give_the_numbers_of_the_same_images(
  workdir, table, tmp_path
):
  """And errors over those of a baseline."""
  folder = shutil.copytree(workdir, tmp_path / 'run')
  with runs.open_run(tiny.config(), str(folder)) as run:
    test = run.data.test
  place = tmp_path / 'digits-C'
  place.mkdir()
  for name in _NAMES:
    corrupted = [making.corrupt(test.images, name, s) for s in range(1, 6)]
    np.save(place / f'{name}.npy', np.concatenate(corrupted))
  np.save(place / 'labels.npy', np.tile(test.labels, 5))
  baseline = tmp_path / 'reference.csv'
  baseline.write_text(
    'corruption,error\nfog,.8,.8,.8,.8,1\nshot_noise,0.5,.5,.5,.5,.6'
  )
  text = _evaluate(folder, data=str(place), baseline=str(baseline))
  for model in ('ce', 'rnas_cl'):
    results = _results(folder, model, 'digits-C')
    assert [
      {s: counts['correct'] for s, counts in results[name].items()}
      for name in _NAMES
    ] == [
      {s: counts['correct'] for s, counts in _results(folder, model)[n].items()}
      for n in _NAMES
    ]
    errors = {
      name: sum(1 - results[name][s]['correct'] / 40 for s in '15')
      for name in _NAMES
    }
    mce = (errors['fog'] / 1.8 + errors['shot_noise'] / 1.1) / 2
    row = next(t for t in text.splitlines() if t.startswith('mCE, reference'))
    assert f' {100 * mce:.1f}' in row
  assert _evaluate(folder, data=str(place)) == text  # It keeps the baseline.
  assert table.splitlines()[5:] != text.splitlines()[5:]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'models': ('cee',)}, "no trained model 'cee'. Did you mean 'ce'"),
    ({'severities': (0,)}, r'severities=\[0\] must be some of 1, 2, 3'),
    ({'severities': ()}, r'severities=\[\] must be some of'),
    ({'corruptions_or_groups': ('frost',)}, "corruption 'frost' is not there"),
    ({'data': '/no/where'}, "/no/where is no folder; write 'made'"),
    ({'baseline': 'alexnet'}, 'is for ImageNet-C with its 1000 classes'),
    ({'baseline': '/no/where'}, 'there is no file /no/where; name a JSON'),
  ],
)
def test_a_wrong_wish_is_refused_before_anything_is_computed(
  changes, message, tiny_run, cells
):
  with (
    runs.open_run(tiny.config(), str(tiny_run)) as run,
    pytest.raises((ValueError, FileNotFoundError), match=message),
  ):
    corruptions.plan(run, **_WHAT | changes)
  assert not cells
  assert not (tiny_run / 'evaluation' / 'corruptions').exists()


@pytest.mark.usefixtures('table')
def test_results_on_other_images_of_the_same_name_are_not_mixed(
  workdir, tmp_path
):
  folder = shutil.copytree(workdir, tmp_path / 'run')
  path = folder / 'evaluation' / 'corruptions' / 'made' / 'set.json'
  saved = files.read_json(path)
  saved['identity']['version'] = 0
  files.write_json(path, saved)
  with pytest.raises(ValueError, match='has results on other images with the'):
    _evaluate(folder)
