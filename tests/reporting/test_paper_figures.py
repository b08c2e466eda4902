"""The paper's figures from the runs of a sweep."""

import matplotlib
import numpy as np
import pytest
from matplotlib import image

from rnascl_jax.reporting import paper, style
from rnascl_jax.reporting.paper import definition, drawing, sweep_runs
from tests import saved_sweep

LAYERS = 31


def draw(root, data: str, key: str):
  """The figure, drawn, and its caption; None where there is none."""
  sweep = sweep_runs.load(root)
  with matplotlib.rc_context(style.SETTINGS):
    picture = drawing.FIGURES[data][key](sweep)
    if picture is not None:
      picture.figure.draw_without_rendering()
  return picture


def texts(figure) -> set[str]:
  """All text of a figure that is not empty."""
  items = figure.findobj(matplotlib.text.Text)
  return {item.get_text() for item in items if item.get_text()}


def write(root, seed, row, models, **options):
  cifar10 = {
    'dataset': 'cifar10',
    'epsilon': 8 / 255,
    'teacher_layers': LAYERS,
  }
  saved_sweep.write_row(root, seed, row, models, **cifar10 | options)


def test_a_figure_of_which_no_run_is_there_is_not_drawn(tmp_path):
  write(tmp_path, 0, 'unknown_row', ['rnas_cl'])
  text = paper.write(tmp_path, figures=['3', '8'])

  assert 'Fig. 3: no run of it is there.' in text.splitlines()
  assert 'Fig. 8 on digits: no run of it is there.' in text.splitlines()
  assert not list((tmp_path / 'tables').glob('*.png'))


def test_figure_1_has_the_competitors_the_paper_and_ours(tmp_path):
  for seed in (0, 1):
    write(tmp_path, seed, 's3_wrn34', ['rnas_cl', 'rnas_cl_eq6'])
  picture = draw(tmp_path, 'cifar10', '1')
  written = texts(picture.figure)

  assert 'DARTS (3.3M, 500M*)' in written
  assert 'Hydra ResNet 18 (0.11M, 37.63M)' in written
  assert 'RNAS-CL-S3-WRT-34, ours (0.0065M, 0.313M)' in written
  assert {'1', '29', 'S3', 'M2'} <= written
  left, right = picture.figure.axes
  # Markers of others and of the paper's RNAS-CL, and ours.
  assert len(left.collections) >= 7 + 5 + 1
  assert len(right.collections) >= 22 + 6 + 1
  assert 'RNAS-CL-M2-WRT-34 (with adversarial training)' in picture.caption
  assert 'mean over 2 seeds with standard deviation' in picture.caption
  # Ours are at their mean.
  counts = np.mean([saved_sweep.COUNTS[0] + seed for seed in (0, 1)])
  places = [c.get_offsets() for c in left.collections if len(c.get_offsets())]
  clean = [place[0, 0] for place in places]
  assert np.isclose(clean, 100 * counts / 517).any()


def test_markers_of_figure_1_grow_with_the_number_of_parameters(tmp_path):
  for space, parameters in (('s3', 10**5), ('l', 10**7)):
    write(tmp_path, 0, f'{space}_wrn34', ['rnas_cl'], parameters=parameters)
  picture = draw(tmp_path, 'cifar10', '1')
  ours = [c for c in picture.figure.axes[0].collections if c.get_zorder() == 3]

  small, large = (c.get_sizes()[0] for c in ours)
  assert large > 3 * small


def test_figure_3_draws_every_method_and_larger_spaces_larger(tmp_path):
  lines = definition.TABLES['cifar10']['fig3'].lines
  methods = [line.source.model for line in lines[1:8]]
  for space in ('s3', 's7'):
    write(tmp_path, 0, f'{space}_wrn34', ['rnas_cl'])
    write(tmp_path, 0, f'{space}_wrn34_kd', methods)
  picture = draw(tmp_path, 'cifar10', '3')

  assert {line.labels[1] for line in lines} <= texts(picture.figure)
  assert {'S3', 'S5', 'S7', 'Clean accuracy (%)'} <= texts(picture.figure)
  sizes = [c.get_sizes()[0] for c in picture.figure.axes[0].collections]
  assert sorted(set(sizes)) == [36, 36 * 3.6]
  assert 'RNAS-CL-S5' in picture.caption and 'VID-S3' not in picture.caption
  assert 'of one seed' in picture.caption


def test_figure_3_needs_more_than_rnas_cl(tmp_path):
  write(tmp_path, 0, 's3_wrn34', ['rnas_cl'])

  assert draw(tmp_path, 'cifar10', '3') is None


def test_figure_6_shows_means_and_the_range_over_seeds(tmp_path):
  for seed in (0, 1, 2):
    write(tmp_path, seed, 's5_wrn34', ['rnas_cl'])
    write(tmp_path, seed, 's5_ce', {'ce': (500, 200, 100 + 50 * seed, 1, 1)})
  picture = draw(tmp_path, 'cifar10', '6')
  (axes,) = picture.figure.axes

  assert axes.get_title(loc='left') == 'S5, WRT-34'
  lines = {line.get_label(): line for line in axes.get_lines()}
  assert set(lines) == {'RNAS-CL', 'Standard'}
  (legend,) = picture.figure.legends
  assert [t.get_text() for t in legend.get_texts()] == ['RNAS-CL', 'Standard']
  x, y = lines['Standard'].get_data()
  place = np.flatnonzero(np.isclose(x, 8))[0]
  assert np.isclose(y[place], 100 * 150 / 517)
  band = axes.collections[0].get_paths()[0].vertices
  at = band[np.isclose(band[:, 0], 8), 1]
  assert np.allclose([at.min(), at.max()], 100 * np.array([100, 200]) / 517)
  assert 'KL (S5, WRT-34)' in picture.caption
  assert 'RNAS-CL (S3, WRT-34)' in picture.caption
  assert 'ε (units of 1/255)' in texts(picture.figure)


def test_figure_4_has_a_panel_for_each_teacher(tmp_path):
  # Only what was searched with its own objective counts as KL and Standard.
  for teacher in ('resnet18', 'wrn50'):
    write(tmp_path, 0, f'i_{teacher}', ['rnas_cl', 'ce_kl', 'ce'])
  write(tmp_path, 0, 'i_wrn50_ce_kl', {'ce_kl': (1, 1, 1, 1, 1)})
  panels = draw(tmp_path, 'cifar10', '4').figure.axes

  titles = [axes.get_title(loc='left') for axes in panels]
  assert titles == ['I, R-18', 'I, WRT-50']
  assert [len(axes.get_lines()) for axes in panels] == [1, 2]
  (line,) = (x for x in panels[1].get_lines() if x.get_label() == 'KL')
  assert np.isclose(line.get_ydata()[0], 100 / 517)


def test_figure_5b_has_both_attacks_and_what_was_fine_tuned(tmp_path):
  write(tmp_path, 0, 's7_wrn34', ['rnas_cl', 'rnas_cl_eq6'])
  write(tmp_path, 0, 's7_wrn34_ce_kl', {'ce_kl_eq6': (500, 400, 100, 1, 1)})
  picture = draw(tmp_path, 'cifar10', '5b')

  for axes, attack, correct in zip(
    picture.figure.axes, ('PGD-20', 'FGSM'), (100, 400), strict=True
  ):
    assert axes.get_ylabel() == f'{attack} accuracy (%)'
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {'RNAS-CL', 'RNAS-CL + eq. (6)', 'KL + eq. (6)'}
    x, y = lines['KL + eq. (6)'].get_data()
    assert np.allclose(y[np.isclose(x, 8)], 100 * correct / 517)
  assert 'Standard + eq. (6) (FGSM)' in picture.caption


def pixels(figure) -> list[np.ndarray]:
  """The pictures in a figure, row by row in each of its parts."""
  return [np.asarray(i.get_array()) for i in figure.findobj(image.AxesImage)]


def test_figure_5a_has_the_maps_of_a_kl_student_with_its_own_search(tmp_path):
  write(tmp_path, 0, 'i_resnet50', ['rnas_cl', 'ce_kl'], is_analyzed=True)
  assert draw(tmp_path, 'cifar10', '5a') is None
  for seed in (1, 2):
    write(tmp_path, seed, 'i_resnet50', ['rnas_cl'], is_analyzed=True)
  write(tmp_path, 2, 'i_resnet50_ce_kl', ['ce_kl'], is_analyzed=True)
  picture = draw(tmp_path, 'cifar10', '5a')

  runs = sweep_runs.load(tmp_path).runs
  run, kl = runs['i_resnet50'][2], runs['i_resnet50_ce_kl'][2]
  shown = pixels(picture.figure)
  for maps in (
    kl.attention['maps/ce_kl'][0, 0],
    run.attention['maps/rnas_cl'][0, 0],
    run.attention['teacher_maps'][0, run.tutors[0]['tutor']],
  ):
    assert any(np.array_equal(maps, other) for other in shown)
  # The labels are those of the evaluations of both.
  assert {'ce_kl', 'rnas_cl', 'Tutor'} <= texts(picture.figure)
  assert picture.caption.endswith(
    'Rows i_resnet50 and i_resnet50_ce_kl, seed 2.'
  )


def test_maps_of_other_images_or_layers_are_not_shown_beside_each_other(
  tmp_path,
):
  for row, models, blocks in (
    ('i_resnet50', ['rnas_cl'], 2),
    ('i_resnet50_ce_kl', ['ce_kl'], 3),
  ):
    write(tmp_path, 0, row, models, blocks=blocks, is_analyzed=True)
  with pytest.raises(ValueError, match='not of the same images and student'):
    draw(tmp_path, 'cifar10', '5a')


def test_figure_7_has_the_tutors_beside_the_scores_of_the_row_of_the_teacher(
  tmp_path,
):
  for seed in (0, 1):
    write(tmp_path, seed, 's5_wrn34', ['rnas_cl'], is_analyzed=True)
    assert draw(tmp_path, 'cifar10', '7') is None or seed
    write(tmp_path, seed, 'teacher_wrn34', ['teacher'], is_analyzed=True)
  picture = draw(tmp_path, 'cifar10', '7')
  tutors, scores = picture.figure.axes

  runs = sweep_runs.load(tmp_path).runs
  taught = [bar.get_height() for bar in tutors.patches]
  assert taught == list(runs['s5_wrn34'][0].tutor_counts)
  (scored,) = runs['teacher_wrn34'][0].layer_scores.teachers
  assert [bar.get_height() for bar in scores.patches] == sorted(scored.scores)
  for seed, run in runs['s5_wrn34'].items():
    (scored,) = runs['teacher_wrn34'][seed].layer_scores.teachers
    teaching = {tutor['tutor'] for tutor in run.tutors}
    places = sorted(
      int(sum(scored.scores <= scored.scores[t])) for t in teaching
    )
    assert f'{str(places)[1:-1]} of {LAYERS} (seed {seed};' in picture.caption


def test_a_figure_of_one_run_is_of_the_first_row_and_seed_that_have_it(
  tmp_path,
):
  write(tmp_path, 0, 's5_wrn34', ['rnas_cl'])
  for seed, row in ((1, 's5_wrn34'), (2, 's5_wrn34'), (0, 's7_wrn34')):
    write(tmp_path, seed, row, ['rnas_cl'], is_analyzed=True)

  for key in ('2a', '2b', '9'):
    picture = draw(tmp_path, 'cifar10', key)
    assert picture.caption.endswith('. Row s5_wrn34, seed 1.')
  names = [
    drawn.file
    for drawn in drawing.draw(
      sweep_runs.load(tmp_path), 'cifar10', ['2a', '12']
    )
  ]
  assert sorted(names) == ['fig12.png', 'fig2a.png']


def test_figure_8_counts_the_layers_that_each_teacher_layer_teaches(tmp_path):
  for seed in (0, 1):
    write(tmp_path, seed, 's3_wrn34', ['rnas_cl'], blocks=9)
  write(tmp_path, 0, 'm_wrn34', ['rnas_cl'], blocks=17)
  picture = draw(tmp_path, 'cifar10', '8')
  panels = picture.figure.axes

  titles = [axes.get_title(loc='left') for axes in panels]
  assert titles == ['RNAS-CL-S3', 'RNAS-CL-M']
  for axes, layers in zip(panels, (1 + 3 * 9, 1 + 3 * 17), strict=True):
    heights = [bar.get_height() for bar in axes.patches]
    assert len(heights) == LAYERS and np.isclose(sum(heights), layers)
  runs = sweep_runs.load(tmp_path).runs['s3_wrn34'].values()
  counts = np.mean([run.tutor_counts for run in runs], 0)
  assert [bar.get_height() for bar in panels[0].patches] == list(counts)
  assert 'Not run: RNAS-CL-S5, RNAS-CL-S7' in picture.caption


def test_the_bars_of_table_7_have_a_dot_for_each_seed(tmp_path):
  for seed in (0, 1, 2):
    write(tmp_path, seed, 's7_ce', ['ce', 'ce_eq6'])
  picture = draw(tmp_path, 'cifar10', 'table7')
  clean, robust = picture.figure.axes

  assert [axes.get_title(loc='left') for axes in (clean, robust)] == [
    'Clean',
    'PGD-20',
  ]
  shares = [100 * (saved_sweep.COUNTS[2] + seed) / 517 for seed in (0, 1, 2)]
  assert np.isclose(robust.patches[0].get_height(), np.mean(shares))
  assert np.allclose(robust.collections[0].get_offsets()[:, 1], shares)
  assert [t.get_text() for t in robust.texts] == ['not run'] * 6
  ticks = [t.get_text() for t in clean.get_xticklabels()]
  assert ticks == ['CE', 'CE + KL', 'CE + ICC', 'CE + KL + ICC']
  printed = [line.get_ydata()[0] for line in robust.get_lines()]
  assert 19.3 in printed and 43.88 in printed


def test_numbers_of_cifar10_are_not_drawn_beside_bars_of_digits(tmp_path):
  saved_sweep.write_row(tmp_path, 0, 'digits_ce', ['ce'])
  picture = draw(tmp_path, 'digits', 'table7')

  assert not picture.figure.axes[1].get_lines()
  assert 'the paper' not in texts(picture.figure)


def test_the_study_of_the_factor_has_a_thin_line_a_seed_and_thick_means(
  tmp_path,
):
  models = ['none', 'literal', 'sum', 'only_literal']
  for seed in (0, 1):
    saved_sweep.write_row(tmp_path, seed, 'digits_small_reduction', models)
  picture = draw(tmp_path, 'digits', 'reduction')
  _, robust = picture.figure.axes

  thin = [line for line in robust.get_lines() if line.get_linewidth() < 1]
  thick = [line for line in robust.get_lines() if line.get_linewidth() > 2]
  assert (len(thin), len(thick)) == (4, 2)
  assert list(thick[0].get_xdata()) == [0, 1, 3]
  share = 100 * (saved_sweep.COUNTS[2] + 0.5) / 517
  assert np.allclose(thick[0].get_ydata(), share)
  assert 'own search: 10 × sum' in picture.caption
  assert {'CE + KL + ICC', 'Attention loss, eq. (1)'} <= texts(picture.figure)


def test_the_study_needs_a_row_of_its_own(tmp_path):
  saved_sweep.write_row(tmp_path, 0, 'digits_small', ['rnas_cl'])

  assert draw(tmp_path, 'digits', 'reduction') is None
  text = paper.write(tmp_path, data='digits')
  assert '10 × sum' not in text.split('No row')[0]


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  """All figures of digits, written."""
  root = tmp_path_factory.mktemp('sweep')
  for seed in (0, 1):
    for row, models in {
      'teacher_small': ['teacher'],
      'digits_ce': ['ce', 'ce_eq6'],
      'digits_small': ['rnas_cl', 'rnas_cl_eq6'],
      'digits_small_ce_kl': ['ce_kl', 'ce_kl_eq6'],
      'digits_small_kd': ['at', 'pkt'],
      'digits_small_reduction': ['none'],
    }.items():
      saved_sweep.write_row(root, seed, row, models, is_analyzed=True)
  paper.write(root, root / 'out', data='digits')
  return root / 'out'


def test_every_figure_is_a_png_with_a_caption_on_the_page(page):
  text = (page / 'tables.md').read_text()
  names = sorted(path.name for path in page.glob('*.png'))

  assert names == [
    'fig12_digits.png',
    'fig2a_digits.png',
    'fig2b_digits.png',
    'fig3_digits.png',
    'fig5a_digits.png',
    'fig5b_digits.png',
    'fig6_digits.png',
    'fig7_digits.png',
    'fig8_digits.png',
    'fig9_digits.png',
    'reduction_digits.png',
    'table7_digits.png',
  ]
  for name in names:
    pixels = image.imread(page / name)
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.02
    caption = text.split(f']({name})\n\n')[1].split('\n')[0]
    assert len(caption) > 60 and caption.endswith(('.', '.**'))


def test_nothing_half_written_is_left(page):
  assert not [path for path in page.iterdir() if path.name.startswith('.')]


def test_a_figure_is_written_only_after_all_were_drawn(tmp_path, monkeypatch):
  write(tmp_path, 0, 's7_ce', ['ce'])

  def fails(sweep):
    raise ValueError('broken')

  monkeypatch.setitem(drawing.FIGURES['digits'], 'reduction', fails)
  with pytest.raises(ValueError, match='broken'):
    paper.write(tmp_path)
  assert not (tmp_path / 'tables').exists()
