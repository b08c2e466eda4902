"""Common corruptions in tables, in the report and in figures."""

import json

import numpy as np
import pytest

from rnascl_jax.evaluation import corruption_baseline
from rnascl_jax.reporting import corruptions as reading
from rnascl_jax.reporting import report, results
from rnascl_jax.reporting.figures import corruptions as figures
from rnascl_jax.reporting.report import corruptions as tables
from rnascl_jax.runtime import files
from tests import saved_corruptions, saved_run

# Errors of the baseline at severities 1, 3 and 5 come to 1.5 and 2.0.
_BASELINE = {
  'name': 'Reference',
  'source': 'a file',
  'errors': {
    'fog': [0.2, 0.9, 0.6, 0.9, 0.7],
    'snow': [0.5, 0.9, 0.6, 0.9, 0.9],
  },
}


def test_the_table_has_means_of_severities_and_then_of_corruptions(tmp_path):
  saved_corruptions.write(tmp_path)
  (saved,) = reading.read(tmp_path)
  assert tables.cells(saved) == [
    ['Corruption', 'RNAS-CL student', 'CE student'],
    ['none', '95.0', '97.0'],
    ['snow', '60.0', '45.0'],
    ['fog', '68.3', '54.3'],
    ['Mean accuracy', '64.2', '49.7'],
    ['Mean error', '35.8', '50.3'],
  ]
  words = ' '.join(tables.plain([saved]).split())
  assert 'severities 1, 3, 5, and then over 2 corruptions' in words
  assert 'not normalised: it is not divided' in words
  assert 'constants of CIFAR-10-C' in words


def test_errors_are_divided_by_those_of_the_baseline(tmp_path):
  saved_corruptions.write(
    tmp_path, 'CIFAR-10-C', baseline=_BASELINE, constants=None
  )
  (saved,) = reading.read(tmp_path)
  fog, snow = 3 - 410 / 200, 3 - 360 / 200
  expected = (fog / 1.5 + snow / 2.0) / 2
  row = tables.cells(saved)[-1]
  assert row[0] == 'mCE, Reference = 100'
  assert row[1] == f'{100 * expected:.1f}'
  assert 'images in the folder CIFAR-10-C' in tables.about(saved)
  assert 'not normalised' not in ' '.join(tables.notes(saved))


def test_a_model_with_alexnets_errors_has_an_mce_of_100(tmp_path):
  folder = saved_corruptions.write(tmp_path)
  baseline = corruption_baseline.load(
    'alexnet', ('fog', 'snow'), (1, 2, 3, 4, 5), is_imagenet_c=True
  )
  with saved_run.edited(folder / 'set.json') as about:
    about['baseline'] = baseline
  with saved_run.edited(folder / 'ce.json') as saved:
    for name, error in baseline['errors'].items():
      counts = {'images': 10**6, 'correct': round(10**6 * (1 - error))}
      saved['results'][name] = dict.fromkeys('12345', counts)
  (folder / 'rnas_cl.json').unlink()
  (corrupted,) = reading.read(tmp_path)
  assert tables.cells(corrupted)[-1] == ['mCE, AlexNet = 100', '100.0']
  with saved_run.edited(folder / 'ce.json') as saved:
    del saved['results']['fog']['3']
  (corrupted,) = reading.read(tmp_path)
  assert tables.cells(corrupted)[-1][1] == '—'


def test_extra_corruptions_are_in_the_table_and_in_no_mean(tmp_path):
  folder = saved_corruptions.write(tmp_path, baseline=_BASELINE)
  (without,) = reading.read(tmp_path)
  with saved_run.edited(folder / 'ce.json') as saved:
    saved['results']['saturate'] = saved['results']['fog']
  (corrupted,) = reading.read(tmp_path)
  rows = tables.cells(corrupted)
  assert rows[-4] == ['saturate', '—', '54.3']
  assert rows[-3:] == tables.cells(without)[-3:]
  assert '2 corruptions (not the extra ones)' in tables.notes(corrupted)[0]


def test_a_console_shows_corruptions_where_nothing_was_attacked(tmp_path):
  saved_corruptions.write(tmp_path)
  run = results.load(tmp_path)
  assert report.terminal_table(tmp_path) == tables.plain(run.corruptions)


def test_corruptions_of_other_severities_are_named(tmp_path):
  folder = saved_corruptions.write(tmp_path)
  for model in saved_corruptions.COUNTS:
    with saved_run.edited(folder / f'{model}.json') as saved:
      del saved['results']['fog']['3']
  (corrupted,) = reading.read(tmp_path)
  assert (
    'severities 1, 3, 5 (snow) and severities 1, 5 (fog)'
    in (tables.notes(corrupted)[0])
  )


def test_curves_begin_without_a_corruption_and_end_at_severity_5(tmp_path):
  saved_corruptions.write(tmp_path)
  saved_corruptions.write(tmp_path, 'CIFAR-10-C', constants=None)
  figure = figures.corruption_curves(results.load(tmp_path))
  panels = [axes for axes in figure.axes if axes.get_visible()]
  assert [axes.get_title() for axes in panels] == [
    *('snow, CIFAR-10-C', 'fog, CIFAR-10-C', 'snow, made', 'fog, made')
  ]
  student, _ = panels[1].lines
  np.testing.assert_array_equal(student.get_xdata(), [0, 1, 3, 5])
  np.testing.assert_allclose(student.get_ydata(), [95, 90, 70, 45])
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  assert labels == ['RNAS-CL student', 'CE student']


def test_the_pictures_are_a_row_a_corruption_and_a_column_a_severity(tmp_path):
  saved_corruptions.write(tmp_path)
  figure = figures.corrupted_images(results.load(tmp_path))
  grid = np.reshape(figure.axes, (2, 4))
  assert [axes.get_title() for axes in grid[0]] == ['none', '1', '3', '5']
  assert [line[0].get_ylabel() for line in grid] == ['snow', 'fog']
  # That of snow 3 was not written.
  shown = [[len(axes.images) for axes in line] for line in grid]
  assert shown == [[1, 1, 0, 1], [1, 1, 1, 1]]


def test_a_run_without_corruptions_has_no_section_and_no_figure(tmp_path):
  run = results.load(tmp_path)
  assert run.corruptions == ()
  assert tables.section(run.corruptions) == tables.plain(run.corruptions) == ''
  assert figures.corruption_curves(run) is figures.corrupted_images(run) is None


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('set.json', '{}'),
    ('ce.json', '{"model": "ce"}'),
    (
      'ce.json',
      json.dumps(
        {
          'model': 'ce',
          'results': {'fog': {'1': {'images': 3, 'correct': 4}}},
        }
      ),
    ),
  ],
)
def test_a_broken_file_is_named(name, content, tmp_path):
  folder = saved_corruptions.write(tmp_path)
  (folder / name).write_text(content)
  with pytest.raises(files.DamagedFileError, match=name):
    results.load(tmp_path)
