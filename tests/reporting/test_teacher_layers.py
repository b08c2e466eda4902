"""Which teacher layers are robust: saved, drawn and said of a run."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from scipy import stats

from rnascl_jax import attacks, stages
from rnascl_jax.data import batches
from rnascl_jax.evaluation import analysis, classification
from rnascl_jax.evaluation.target import EvaluationTarget
from rnascl_jax.models import networks
from rnascl_jax.reporting import layer_scores, results, statistics
from rnascl_jax.reporting.figures import architecture
from rnascl_jax.reporting.report import teacher_layers
from rnascl_jax.runtime import files, signals
from rnascl_jax.stages import models
from tests import saved_run, tiny

# As in the paper's Fig. 7: a teacher of 31 layers, of which few teach.
SIZE = {'blocks': 5, 'teacher_layers': 31}


@pytest.fixture
def workdir(tmp_path):
  return saved_run.write(tmp_path / 'run', **SIZE)


def _counts(workdir):
  tutors = files.read_json(workdir / 'architecture.json')['tutors']
  return np.bincount([t['tutor'] for t in tutors], minlength=31)


def _set_scores(workdir, scores, model='teacher'):
  with saved_run.edited(workdir / 'evaluation' / 'robustness.json') as saved:
    saved['teachers'][model]['scores'] = list(map(float, scores))


def _drop_second(workdir):
  with saved_run.edited(workdir / 'evaluation' / 'robustness.json') as saved:
    del saved['teachers']['vulnerable_teacher']


def _said(workdir):
  return '\n'.join(teacher_layers.findings(results.load(workdir)))


def _bars(axes):
  return [bar.get_height() for bar in axes.patches]


def _indices(axes):
  return [int(t.get_text().split()[-1]) for t in axes.get_xticklabels()]


def test_the_figure_has_students_and_sorted_scores_with_intervals(workdir):
  run = results.load(workdir)
  figure = architecture.teacher_layers(run)
  left, *panels = figure.axes
  counts = _counts(workdir)
  assert _bars(left) == counts.tolist() and counts.sum() == 16
  for axes, teacher in zip(panels, run.layer_scores.teachers, strict=True):
    np.testing.assert_array_equal(_bars(axes), np.sort(teacher.scores))
    order = _indices(axes)
    np.testing.assert_array_equal(
      teacher.scores[order], np.sort(teacher.scores)
    )
    lines = axes.collections[0].get_segments()
    half = [(line[1, 1] - line[0, 1]) / 2 for line in lines]
    np.testing.assert_allclose(
      half, 1.959964 * teacher.errors[order], rtol=1e-6
    )
    taught = [counts[index] > 0 for index in order]
    blue = [
      bar.get_facecolor() == left.patches[counts.argmax()].get_facecolor()
      for bar in axes.patches
    ]
    assert blue == taught
    expected = stats.spearmanr(teacher.scores, counts).statistic
    title = axes.get_title(loc='left') or axes.get_title()
    assert f'Rank correlation: {expected:+.2f} (p = ' in title
    assert title.startswith(run.label(teacher.model))
    assert axes.get_ylim()[1] > teacher.scores.max()
  assert len({axes.get_ylim() for axes in panels}) == 1


def test_a_search_that_is_under_way_has_the_scores_alone(workdir):
  (workdir / 'architecture.json').unlink()
  figure = architecture.teacher_layers(results.load(workdir))
  assert len(figure.axes) == 2 and not figure.legends
  assert 'Rank correlation' not in figure.axes[0].get_title()
  rows = teacher_layers.section(results.load(workdir)).splitlines()
  assert sum(row.startswith('| ') for row in rows) == 2 + 10
  assert 'The 10 most robust of 31 layers:' in rows[2]
  assert 'taught' not in '\n'.join(rows)
  assert _said(workdir).startswith('Mean score')


@pytest.mark.parametrize('scores', [None, {'layers': ['a'], 'scores': [0.5]}])
def test_without_scores_the_tutors_are_drawn_alone(workdir, scores):
  path = workdir / 'evaluation' / 'robustness.json'
  path.unlink()
  if scores is not None:  # What a former version wrote.
    path.write_text(json.dumps(scores))
  run = results.load(workdir)
  assert run.layer_scores is None
  figure = architecture.teacher_layers(run)
  assert len(figure.axes) == 1 and sum(_bars(figure.axes[0])) == 16
  assert teacher_layers.section(run) == ''


def test_a_teacher_of_other_layers_is_not_compared_with_the_tutors(workdir):
  with saved_run.edited(workdir / 'evaluation' / 'robustness.json') as saved:
    saved['teachers']['vulnerable_teacher'] = {
      'layers': ['a', 'b'],
      'scores': [0.5, 0.4],
      'errors': ['NaN', 'NaN'],
    }
  run = results.load(workdir)
  axes = architecture.teacher_layers(run).axes[2]
  assert _bars(axes) == [0.4, 0.5] and 'Rank' not in axes.get_title(loc='left')
  rows = teacher_layers.cells(run, run.layer_scores)
  assert len(rows[0]) == 4  # No column of its scores.
  assert 'were not searched with' not in _said(workdir)
  assert re.search(
    r'Robust teacher 0\.\d+, Vulnerable teacher 0.450', _said(workdir)
  )


def test_scores_that_do_not_match_the_layers_are_refused(workdir):
  _set_scores(workdir, [0.5])
  with pytest.raises(ValueError, match='31 layers, 1 scores and 31 errors'):
    layer_scores.read(workdir / 'evaluation' / 'robustness.json')


def test_the_table_has_the_best_layers_and_all_tutors(workdir):
  run = results.load(workdir)
  rows = teacher_layers.cells(run, run.layer_scores)
  counts, first = _counts(workdir), run.layer_scores.teachers[0]
  assert rows[0][-1] == 'Student layers taught'
  assert '31 layers, and those that teach:' in teacher_layers.section(run)
  for place, row in enumerate(rows[1:11]):
    index = first.order[place]
    assert row == [
      f'{place + 1}',
      f'{first.layers[index]} ({index})',
      f'{first.scores[index]:.4f} ± {first.errors[index]:.4f}',
      f'{run.layer_scores.teachers[1].scores[index]:.4f} ± '
      f'{run.layer_scores.teachers[1].errors[index]:.4f}',
      f'{counts[index]}',
    ]
  assert sum(int(row[-1]) for row in rows[1:]) == 16
  assert all(row[-1] != '0' for row in rows[11:])
  text = teacher_layers.section(run)
  assert all(' | '.join(row) in text for row in rows)


def test_the_verdict_follows_the_rank_correlation(workdir):
  counts, random = _counts(workdir), np.random.default_rng(2)
  _set_scores(workdir, 1 - 0.01 * counts + 1e-4 * np.arange(31))
  said = _said(workdir)
  number = np.sum(counts > 0)
  assert f'{number} of the {number} teacher layers that teach are' in said
  assert f'chance alone would put {number * 5 / 31:.1f} there' in said
  assert 'in this run, layers that the attack moves less teach more' in said
  assert teacher_layers.NOT_SHOWN not in said
  _set_scores(workdir, 1 + 0.01 * counts + 1e-4 * np.arange(31))
  said = _said(workdir)
  assert f'0 of the {number} teacher layers' in said
  assert f'{teacher_layers.NOT_SHOWN}; on the contrary' in said
  _set_scores(workdir, random.random(31))
  correlation = statistics.rank_correlation(
    results.load(workdir).layer_scores.teachers[0].scores, counts
  )
  assert correlation.p_value > 0.05
  said = _said(workdir)
  assert f'is {correlation.rho:+.2f} (two-sided p = ' in said
  assert f' = {correlation.p_value:.2g}, 10,000' in said
  assert f'permutations): {teacher_layers.NOT_SHOWN}.' in said
  assert 'on the contrary' not in said


def test_few_layers_are_not_compared_with_chance(tmp_path):
  folder = saved_run.write(tmp_path / 'few', blocks=5, teacher_layers=5)
  said = _said(folder)
  assert 'chance alone' not in said
  assert 'rank correlation' in said


def test_scores_that_are_all_equal_show_nothing(workdir):
  _set_scores(workdir, np.full(31, 0.25))
  assert 'not defined' in _said(workdir)
  assert teacher_layers.NOT_SHOWN in _said(workdir)
  axes = architecture.teacher_layers(results.load(workdir)).axes[1]
  assert 'Rank correlation' not in axes.get_title(loc='left')


def test_another_teacher_is_a_control_of_the_correlation(workdir):
  second = results.load(workdir).layer_scores.teachers[1]
  rho = stats.spearmanr(second.scores, _counts(workdir)).statistic
  assert (
    'With the scores of Vulnerable teacher, which the tutors were not searched '
    f'with, the rank correlation is {rho:+.2f} (p = '
  ) in _said(workdir)
  _drop_second(workdir)
  assert 'Vulnerable' not in _said(workdir)
  assert 'Mean score' not in _said(workdir)


def _expected(model, split):
  """Scores in float64 of the images that PGD-20 makes of a network's own."""
  images = np.asarray(batches.to_float(split.images))
  logits_fn = classification.classifier(model.net, model.variables)
  perturbed = attacks.perturb(
    attacks.PRESETS['pgd20_rnascl'],
    logits_fn,
    images,
    split.labels,
    epsilon=16 / 255,
  )
  taps = [
    networks.apply(model.net, model.variables, x)[1]
    for x in (images, perturbed)
  ]
  changes = []
  for clean, moved in zip(*taps, strict=True):
    clean, moved = (
      np.asarray(x, np.float64).reshape(len(images), -1) for x in (clean, moved)
    )
    norms = np.linalg.norm(clean, axis=1)
    changes.append(np.linalg.norm(clean - moved, axis=1) / norms)
  return np.mean(changes, 1), stats.sem(changes, 1)


def test_every_teacher_is_scored_under_an_attack_on_itself(tiny_run, tmp_path):
  run = tiny.opened(tiny.config(), str(tiny_run))
  teacher = next(iter(models.trained_models(run)))
  other = teacher._replace(
    name='vulnerable_teacher',
    variables=jax.tree.map(lambda x: 1.5 * x, teacher.variables),
  )
  targets = [
    EvaluationTarget(
      model, run.settings, run.data, run.devices, tmp_path, signals.Stop()
    )
    for model in (teacher, other)
  ]
  assert analysis.analyze(targets)
  measured = layer_scores.read(tmp_path / 'evaluation' / 'robustness.json')
  assert measured[1:] == ('PGD-20', 16 / 255, 40, 'L∞')
  for scored, model in zip(measured.teachers, (teacher, other), strict=True):
    assert scored.model == model.name
    assert scored.layers == teacher.net.tap_names
    scores, errors = _expected(model, run.data.test)
    np.testing.assert_allclose(scored.scores, scores, rtol=1e-3)
    np.testing.assert_allclose(scored.errors, errors, rtol=1e-3)
  assert not analysis.analyze(targets)


def test_a_teacher_alone_is_scored_and_drawn(tiny_run, tmp_path):
  folder = tmp_path / 'teacher_only'
  shutil.copytree(tiny_run, folder)
  for name in ('search', 'train', 'adversarial', 'figures'):
    shutil.rmtree(folder / name)
  (folder / 'architecture.json').unlink()
  for path in (folder / 'evaluation').iterdir():
    if path.is_file() and path.stem not in ('teacher', 'robustness'):
      path.unlink()
  stages.evaluate(tiny.config(), str(folder))
  stages.report(str(folder))
  names = {path.stem for path in (folder / 'figures').iterdir()}
  assert 'teacher_layers' in names
  assert not names & {'tutor_map', 'chosen_layers', 'attention_maps'}
  run = results.load(folder)
  assert [t.model for t in run.layer_scores.teachers] == ['teacher']
  assert len(run.attention['teacher_maps']) == 2
  assert '| Rank | Layer | Score, ' in (folder / 'report.md').read_text()
