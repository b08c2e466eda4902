import json
import struct

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.backends.backend_agg import FigureCanvasAgg

from rnascl_jax.reporting import figures, results, style
from rnascl_jax.reporting.figures import (
  architecture,
  attention,
  robustness,
  training,
)
from rnascl_jax.runtime import files
from tests import saved_run

# A network of 64 student layers under a teacher of 31, the paper's WRN-34.
LARGE = {
  'blocks': 21,
  'teacher_layers': 31,
  'dataset': 'cifar10',
  'epsilon': 8 / 255,
}


@pytest.fixture
def settings():
  with matplotlib.rc_context(style.SETTINGS):
    yield


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  return saved_run.write(tmp_path_factory.mktemp('runs') / 'small')


@pytest.fixture(scope='module')
def large(tmp_path_factory):
  return saved_run.write(tmp_path_factory.mktemp('runs') / 'large', **LARGE)


def _saved(workdir, name):
  return json.loads((workdir / name).read_text())


@pytest.mark.parametrize('size', ['small', 'large'])
def test_a_complete_run_gets_every_figure_as_a_png_of_150_dpi(size, request):
  workdir = request.getfixturevalue(size)
  paths = figures.draw(workdir)
  assert [p.stem for p in paths] == list(figures.FIGURES)
  for path in paths:
    assert path.parent == workdir / 'figures'
    data = path.read_bytes()
    assert data.startswith(b'\x89PNG\r\n\x1a\n')
    start = data.index(b'pHYs') + 4
    per_metre, _, unit = struct.unpack('>IIB', data[start : start + 9])
    assert unit == 1 and per_metre == round(150 / 0.0254)
    pixels = image.imread(path)
    assert 300 < pixels.shape[0] < 2400 and 500 < pixels.shape[1] < 2400
    assert pixels[..., :3].std() > 0.02  # Not an empty page.
  assert set((workdir / 'figures').iterdir()) == set(paths)  # Nothing half.


@pytest.mark.parametrize(
  ('missing', 'skipped'),
  [
    ('architecture.json', {'tutor_map', 'filters'}),
    ('search/history.npz', {'tutor_map'}),
    ('search/metrics.jsonl', {'search'}),
    ('evaluation/attention.npz', {'attention_maps', 'chosen_layers'}),
    ('evaluation/robustness.json', set()),
    ('config.json', set()),
    ('provenance.json', set()),
    ('train/ce/metrics.jsonl', set()),
    ('evaluation/ce_kl.json', set()),
  ],
)
def test_a_missing_file_costs_only_its_own_figures(workdir, missing, skipped):
  (workdir / missing).unlink()
  run = results.load(workdir)
  none = {name for name, make in figures.FIGURES.items() if make(run) is None}
  also = {'attention_maps', 'chosen_layers'}
  assert none == skipped | (also if missing == 'architecture.json' else set())


def test_an_empty_workdir_has_no_figures_and_gets_no_folder(tmp_path):
  assert figures.draw(tmp_path) == ()
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('content', [b'', b'text', b'[]', b'{}', None])
@pytest.mark.parametrize(
  'name',
  [
    'config.json',
    'provenance.json',
    'architecture.json',
    'train/ce/stage.json',
    'train/ce/metrics.jsonl',
    'search/history.npz',
    'evaluation/attention.npz',
    'evaluation/robustness.json',
    'evaluation/ce.json',
    'evaluation/ce.npz',
    'evaluation/examples/ce.npz',
  ],
)
def test_a_file_that_is_damaged_or_of_another_kind_is_named(
  workdir, name, content
):
  path = workdir / name
  path.unlink(missing_ok=True)
  if content is None:
    path.mkdir()
  else:
    # A log that was cut off in its first line has no lines.
    path.write_bytes(content + b'\n' * name.endswith('.jsonl'))
  try:
    results.load(workdir)
  except files.DamagedFileError as error:
    assert str(path) in str(error)
  except ValueError as error:
    assert content == b'{}' and name == 'config.json'
    assert f'{workdir} was made by version 0.1' in str(error)
  else:
    assert content == b'{}' and name.endswith('n')
    assert name not in ('architecture.json', 'evaluation/ce.json')


@pytest.mark.parametrize(
  'name, saved',
  [
    ('ce', {'attacks': [3]}),
    ('ce', {'attacks': [{'attack': 'pgd'}]}),
    ('ce', {'attacks': [{'attack': 'pgd', 'images': 'many', 'correct': 1}]}),
    ('ce', {'curves': {'points': []}}),
    ('robustness', {'teachers': ['teacher']}),
    ('robustness', {'teachers': {'teacher': {'layers': ['a']}}}),
  ],
)
def test_values_of_another_kind_are_named(workdir, name, saved):
  path = workdir / 'evaluation' / f'{name}.json'
  path.write_text(json.dumps({'model': 'ce', **saved}))
  with pytest.raises(files.DamagedFileError, match=f'{path} is damaged: '):
    results.load(workdir)


def test_an_impossible_count_is_refused_with_its_value(workdir):
  saved = saved_run.evaluation('ce', (518, 1, 1, 1, 1))
  saved_run.write_evaluation(workdir, saved, per_image=False)
  with pytest.raises(ValueError, match=r'correct=518 of images=517'):
    results.load(workdir)


@pytest.mark.usefixtures('settings')
@pytest.mark.parametrize(
  ('size', 'scale', 'unit'),
  [('small', 1, 'in [0, 1]'), ('large', 255, '1/255')],
)
def test_epsilon_curves_are_the_saved_points(size, scale, unit, request):
  workdir = request.getfixturevalue(size)
  figure = robustness.epsilon_curves(results.load(workdir))
  assert [a.get_title(loc='left') for a in figure.axes] == ['PGD-20', 'FGSM']
  for axes, index in zip(figure.axes, (0, 1), strict=True):
    assert unit in axes.get_xlabel()
    for model, line in zip(saved_run.MODELS, axes.lines, strict=True):
      saved = _saved(workdir, f'evaluation/{model}.json')['curves'][index]
      points = [(p['epsilon'], p['accuracy']) for p in saved['points']]
      expected = np.asarray(points) * [scale, 100]
      np.testing.assert_allclose(line.get_xydata(), expected, rtol=1e-12)


def test_a_model_keeps_its_colour_whichever_others_are_there(workdir):
  def colors():
    run = results.load(workdir)
    curves = robustness.epsilon_curves(run).axes[0].lines
    names = [e.model for e in run.evaluations if e.curves]
    return {
      name: line.get_color() for name, line in zip(names, curves, strict=True)
    }

  before = colors()
  assert len(set(before.values())) == len(before)
  (workdir / 'evaluation' / 'ce.json').unlink()
  (workdir / 'train' / 'ce' / 'metrics.jsonl').unlink()
  after = colors()
  assert after == {k: v for k, v in before.items() if k != 'ce'}
  looks = style.looks([*before, 'ablation_b', 'ablation_a'])
  del looks['search']  # It is of RNAS-CL, and shares its colour.
  assert len({(v.color, v.line) for v in looks.values()}) == len(looks)


def test_clean_against_robust_needs_two_students(workdir):
  for model in ('ce', 'ce_kl', 'control_rnas_cl'):
    assert robustness.clean_vs_robust(results.load(workdir)) is not None
    (workdir / 'evaluation' / f'{model}.json').unlink()
  assert robustness.clean_vs_robust(results.load(workdir)) is None


def test_clean_against_robust_shows_each_model_at_its_accuracies(small):
  figure = robustness.clean_vs_robust(results.load(small))
  points = [
    c.get_offsets()[0]
    for c in figure.axes[0].collections
    if c.get_label()[0] != '_'
  ]
  expected = [
    (100 * counts[0] / saved_run.IMAGES, 100 * counts[2] / saved_run.IMAGES)
    for _, _, _, counts in saved_run.MODELS.values()
  ]
  np.testing.assert_allclose(points, expected, rtol=1e-12)


def _inside(figure):
  """Whether all legends of a figure are on its page."""
  FigureCanvasAgg(figure).draw()
  page = figure.bbox
  boxes = [legend.get_window_extent() for legend in figure.legends]
  assert boxes
  return all(
    page.x0 <= box.x0
    and box.x1 <= page.x1
    and page.y0 <= box.y0
    and box.y1 <= page.y1
    for box in boxes
  )


def test_labels_of_any_characters_are_drawn_as_they_are(workdir):
  label = r'5$ of 10$, \frac $\nosuch{$ a|b `c` <d>' + 'x' * 60
  for path in (workdir / 'evaluation').glob('*.json'):
    saved = json.loads(path.read_text())
    if isinstance(saved, dict) and 'label' in saved:
      path.write_text(json.dumps(saved | {'label': label}))
  drawn = [path.stem for path in figures.draw(workdir)]
  assert {'epsilon_curves', 'clean_vs_robust', 'training_curves'} <= set(drawn)
  with matplotlib.rc_context(style.SETTINGS):
    (legend,) = robustness.epsilon_curves(results.load(workdir)).legends
  assert label in [text.get_text() for text in legend.get_texts()]


@pytest.mark.usefixtures('settings')
def test_numbers_of_a_logarithmic_axis_are_no_formulas(small):
  figure = training.search(results.load(small))
  FigureCanvasAgg(figure).draw()
  written = [
    tick.get_text()
    for axes in figure.axes
    for tick in [*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)]
  ]
  assert '$' not in ''.join(written)
  scaled = [axes for axes in figure.axes if axes.get_yscale() == 'log']
  assert scaled and all(
    any(tick.get_text() for tick in axes.get_yticklabels(which='both'))
    for axes in scaled
  )


@pytest.mark.usefixtures('settings')
@pytest.mark.parametrize('count', [1, 11])
def test_legends_of_many_fine_tuned_students_are_on_the_page(workdir, count):
  for index in range(count):
    name = f'RNAS-CL, objective {index}: mean over confident images'
    saved_run.write_fine_tuned(workdir, f'tuned{index}', label=name)
  run = results.load(workdir)
  for make in (
    robustness.epsilon_curves,
    robustness.clean_vs_robust,
    training.training_curves,
  ):
    figure = make(run)
    assert _inside(figure), make
    panel = figure.axes[0].get_window_extent()
    assert min(panel.width, panel.height) > 1.5 * figure.dpi, make


def test_tutor_map_shows_final_probabilities_and_marks_the_chosen(large):
  figure = architecture.tutor_map(results.load(large))
  mesh, marks = figure.axes[0].collections
  with np.load(large / 'search' / 'history.npz') as history:
    final = history['tutor_probabilities'][-1]
  np.testing.assert_array_equal(mesh.get_array(), final)
  saved = _saved(large, 'architecture.json')
  cells = np.floor(marks.get_offsets()).astype(int).tolist()
  assert cells == [[t['tutor'], i] for i, t in enumerate(saved['tutors'])]
  assert figure.axes[0].yaxis_inverted()


@pytest.mark.parametrize('size', ['small', 'large'])
def test_layer_names_do_not_overlap(size, request):
  run = results.load(request.getfixturevalue(size))
  for make in (architecture.tutor_map, architecture.teacher_layers):
    figure = make(run)
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    columns = [t.get_window_extent() for t in axes.get_xticklabels()]
    assert all(a.x1 <= b.x0 for a, b in zip(columns, columns[1:], strict=False))
    if make is architecture.tutor_map:
      rows = [t.get_window_extent() for t in axes.get_yticklabels()]
      assert all(a.y0 >= b.y1 for a, b in zip(rows, rows[1:], strict=False))
      assert min(t.get_fontsize() for t in axes.get_yticklabels()) >= 6


def test_filters_shows_every_choice_and_marks_the_chosen(small):
  figure = architecture.filters(results.load(small))
  bars, heat = figure.axes[:2]
  blocks = _saved(small, 'architecture.json')['blocks']
  assert [b.get_width() for b in bars.patches] == [
    c for block in blocks for c in block['choices']
  ]
  chosen = [
    bar.get_width()
    for bar in bars.patches
    if bar.get_facecolor() != bars.patches[1].get_facecolor()
  ]
  assert chosen == [block['features'] for block in blocks]
  with np.load(small / 'search' / 'history.npz') as history:
    saved = history['channel_probabilities']  # [E, blocks, N]
  rows = [
    saved[:, b, c]
    for b, block in enumerate(blocks)
    for c in range(len(block['choices']))
  ]
  shown = heat.collections[0].get_array()
  np.testing.assert_array_equal(shown, rows)
  assert np.isfinite(shown).all()


def test_attention_maps_print_the_distance_to_the_tutor(small):
  figure = attention.attention_maps(results.load(small))
  saved = _saved(small, 'architecture.json')['tutors']
  with np.load(small / 'evaluation' / 'attention.npz') as maps:
    # The last shown layer is the last of the student; RNAS-CL is in the middle.
    tutor = maps['teacher_maps'][0, saved[-1]['tutor']]
    distance = np.linalg.norm(maps['maps/rnas_cl'][0, -1] - tutor)
  part = figure.subfigs[-1]
  assert part.axes[1].get_xlabel() == f'{distance:.2f}'
  assert [a.get_title() for a in part.axes[:3]] == [
    'CE + KL student',
    'RNAS-CL student',
    'Tutor',
  ]
  assert f'({saved[-1]["tutor"]})' in part.get_suptitle()


def test_chosen_layers_are_those_with_most_students_beside_these(large):
  figure = attention.chosen_layers(results.load(large))
  tutors = [t['tutor'] for t in _saved(large, 'architecture.json')['tutors']]
  with np.load(large / 'evaluation' / 'attention.npz') as saved:
    maps = dict(saved)
  most = sorted(set(tutors), key=lambda j: (-tutors.count(j), j))[:3]
  assert len(figure.subfigs) == 1 + len(most)
  for part, tutor in zip(figure.subfigs[1:], most, strict=True):
    heading = part.get_suptitle()
    assert f'({tutor})\nteaches {tutors.count(tutor)} student lay' in heading
    taught = [i for i, t in enumerate(tutors) if t == tutor]
    columns = part.axes[: 1 + 2 * min(2, len(taught))]  # Of the first image.
    shown = [axes.images[0].get_array() for axes in columns]
    np.testing.assert_array_equal(shown[-1], maps['teacher_maps'][0, tutor])
    ends = [taught[0], taught[-1]][: len(taught)]
    expected = [
      maps[f'maps/{m}'][0, i] for i in ends for m in ('ce_kl', 'rnas_cl')
    ]
    np.testing.assert_array_equal(shown[:-1], expected)
    for axes, own, layer in zip(
      columns, expected, np.repeat(ends, 2), strict=False
    ):
      distance = np.linalg.norm(own - shown[-1])
      assert axes.get_xlabel() == f'{distance:.2f}'
      assert axes.get_title().endswith(f'student\nlayer {layer}')


def test_a_one_step_run_of_the_smallest_space_can_be_drawn(tmp_path):
  workdir = saved_run.write(tmp_path / 'run', blocks=1, teacher_layers=1)
  saved = _saved(workdir, 'architecture.json')
  saved['blocks'][0]['choices'] = saved['blocks'][0]['choices'][:1]
  # What the library alone writes has the teacher's layers at the top level.
  saved['teacher_layers'] = saved.pop('teacher')['layers']
  (workdir / 'architecture.json').write_text(json.dumps(saved))
  np.savez(
    workdir / 'search' / 'history.npz',
    epochs=[0.1],
    channel_probabilities=np.ones((1, 1, 1)),
    tutor_probabilities=np.ones((1, 4, 1)),
  )
  for log in workdir.rglob('metrics.jsonl'):
    first = log.read_text().splitlines()[0]
    log.write_text(first + '\n')
  assert len(figures.draw(workdir)) == len(figures.FIGURES)


def test_a_log_survives_a_kill(workdir):
  log = workdir / 'train' / 'ce' / 'metrics.jsonl'
  with open(log, 'a') as file:
    file.write('{"step": 20, "epoch": 1.0, "lo')
  stage = next(s for s in results.load(workdir).stages if s.model == 'ce')
  epochs, losses = stage.series('loss', 'train')
  assert epochs.tolist() == (np.arange(10, 401, 10) / 20).tolist()
  assert np.isfinite(losses).all()


def test_values_that_are_not_finite_are_left_out_of_curves(workdir):
  log = workdir / 'teacher' / 'metrics.jsonl'
  lines = [json.loads(line) for line in log.read_text().splitlines()]
  for record in lines[10:]:
    record['loss'] = 'NaN'  # How the project's JSON writes it.
  log.write_text('\n'.join(map(json.dumps, lines)))
  run = results.load(workdir)
  _, losses = run.stages[0].series('loss')
  assert len(losses) == 10 and np.isfinite(losses).all()
  assert training.training_curves(run) is not None


@pytest.mark.usefixtures('settings')
def test_training_curves_have_a_column_per_stage_and_attacked_accuracy(workdir):
  figure = training.training_curves(results.load(workdir))
  titles = [a.get_title(loc='left') for a in figure.axes[:3]]
  assert titles == ['Teachers', 'Search', 'Students']
  before = len(figure.axes)
  with open(workdir / 'teacher' / 'metrics.jsonl', 'a') as file:
    record = {'step': 500, 'epoch': 25.0, 'split': 'validation'}
    file.write(json.dumps(record | {'adversarial_accuracy': 0.5}) + '\n')
  figure = training.training_curves(results.load(workdir))
  assert len(figure.axes) == before + 1  # Only the teacher was attacked.
  assert figure.axes[-1].get_ylabel() == 'Accuracy under attack (%)'
