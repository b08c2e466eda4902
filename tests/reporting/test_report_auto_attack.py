"""What a person sees of AutoAttack: tables, sentences, and the figure."""

import re

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from rnascl_jax.reporting import figures, report, results, style
from rnascl_jax.reporting.figures import auto_attack
from rnascl_jax.reporting.report import model_table
from tests import saved_auto_attack, saved_run

STUDENT, BASELINE = 'RNAS-CL student', 'CE student'


@pytest.fixture(autouse=True)
def other_figures_are_left_out(monkeypatch):
  """They take longest."""
  drawn = {'auto_attack': figures.FIGURES['auto_attack']}
  monkeypatch.setattr(figures, 'FIGURES', drawn)


def _column(workdir):
  rows = model_table.cells(results.load(workdir))
  place = next(i for i, cell in enumerate(rows[0]) if 'AutoAttack' in cell)
  assert place == rows[0].index('CW-20') + 1
  return [row[place] for row in rows]


def test_the_column_stands_after_cw_and_says_on_how_many_images(workdir):
  heading, *cells = _column(workdir)
  assert heading == 'AutoAttack (64 images)'
  assert cells == ['—', '—', f'{2300 / 64:.1f}', '12.5', '—', '—']
  assert results.load(workdir).headline_attack == 'pgd20'


def test_on_as_many_images_as_others_the_heading_is_the_label(workdir):
  for model in saved_auto_attack.LEFT:
    saved_run.write_auto_attack(
      workdir, model, (509, 230, 210, 210, 210), images=517
    )
  assert _column(workdir)[0] == 'AutoAttack'
  assert 'on the first' not in report.table(workdir)


def test_different_images_are_never_in_one_column(workdir):
  saved_run.write_auto_attack(workdir, 'ce', (509, 90, 75, 75, 75), images=517)
  rows = model_table.cells(results.load(workdir))
  assert rows[0][6:8] == ['AutoAttack', 'AutoAttack (64 images)']
  assert rows[3][6:8] == ['—', '35.9'] and rows[4][6:8] == ['14.5', '—']


def test_the_notes_say_which_images_and_which_members(workdir):
  text = report.table(workdir)
  assert 'AutoAttack is on the first 64 of 517 test images' in text
  assert 'the worst case of APGD-CE, APGD-T, FAB-T, Square' in text


def test_a_table_with_long_names_stays_within_a_console(workdir):
  with saved_run.edited(
    workdir / 'evaluation' / 'control_rnas_cl.json'
  ) as saved:
    saved['label'] = 'RNAS-CL, teacher without attacks'
  lines = report.terminal_table(workdir).splitlines()
  assert max(map(len, lines)) <= 96
  row = next(i for i, s in enumerate(lines) if s.startswith('RNAS-CL, teacher'))
  assert '33.1' in lines[row] and lines[row + 1] == 'without attacks'


def test_the_section_has_every_member_of_every_model(workdir):
  text = report.write(workdir).read_text(encoding='utf-8')
  section = text.split('## AutoAttack: which attack broke how many')[1]
  section = section.split('\n## ')[0]
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in section.splitlines()
    if line.startswith('|')
  ][2:]
  assert [row[0] for row in rows] == [
    STUDENT,
    *[''] * 4,
    BASELINE,
    *[''] * 4,
  ]
  for row, before, after in zip(
    rows[1:5], (63, 26, 24, 23), (26, 24, 23, 23), strict=True
  ):
    share = f'{100 * after / 64:.1f}'
    assert row[2:6] == [str(before), str(before - after), share, '1.5']
  assert rows[5][1:5] == ['none', '64', '1', '98.4']
  assert rows[4][6:] == ['2,300', '0']  # Square has no backward passes.


def test_the_console_shows_what_each_attack_left(workdir):
  lines = report.terminal_table(workdir).splitlines()
  place = next(i for i, s in enumerate(lines) if s.startswith('Model  '))
  place = lines.index(next(s for s in lines if 'Attacked' in s), place)
  cells = [re.split(r'\s{2,}', line) for line in lines[place + 2 : place + 5]]
  assert cells == [
    [STUDENT, 'none', '64', '1', '98.4', *'———'],
    ['', 'APGD-CE', '63', '37', '40.6', '1.5', '6,300', '6,300'],
    ['', 'APGD-T', '26', '2', '37.5', '1.5', '23,400', '23,400'],
  ]


@pytest.mark.parametrize(('classes', 'said'), [(3, '3'), (None, 'so few')])
def test_a_member_that_is_not_defined_says_why(workdir, classes, said):
  saved_run.write_auto_attack(
    workdir, 'ce', (63, 9, 9, 8, 8), trials={'apgd_t': 0}, classes=classes
  )
  why = f'APGD-T is left out: not defined for {said} classes.'
  text = report.write(workdir).read_text(encoding='utf-8')
  assert why in text
  assert why in ' '.join(report.terminal_table(workdir).split())
  assert '|  | APGD-T | left out | — |' in text


def test_without_autoattack_the_report_is_as_before(workdir):
  for model in saved_auto_attack.LEFT:
    saved_run.write_auto_attack(workdir, model)
  text = report.write(workdir).read_text(encoding='utf-8')
  assert 'AutoAttack' not in text + report.terminal_table(workdir)
  assert auto_attack.auto_attack(results.load(workdir)) is None


def test_the_report_says_where_adversarial_images_are(workdir):
  assert 'Adversarial images' not in report.write(workdir).read_text('utf-8')
  for model in saved_auto_attack.LEFT:
    with saved_run.edited(workdir / 'evaluation' / f'{model}.json') as saved:
      images = f'evaluation/adversarial/{model}/autoattack.npz'
      saved['attacks'][-1]['adversarial'] = images
  text = report.write(workdir).read_text(encoding='utf-8')
  assert 'Adversarial images are in `evaluation/adversarial/`.' in text


def test_impossible_counts_of_a_member_are_refused(workdir):
  with saved_run.edited(workdir / 'evaluation' / 'ce.json') as saved:
    saved['attacks'][-1]['members'][1]['broken'] = 10
  with pytest.raises(ValueError, match='broken=10 of attacked=9 of images=64'):
    results.load(workdir)


def _draw(workdir):
  with matplotlib.rc_context(style.SETTINGS):
    figure = auto_attack.auto_attack(results.load(workdir))
    FigureCanvasAgg(figure).draw()
  return figure


def test_bars_are_the_counts_and_cover_all_images(workdir):
  axes = _draw(workdir).axes[0]
  widths = {}
  for bar in axes.patches:
    row = round(bar.get_y() + bar.get_height() / 2)
    widths.setdefault(row, []).append(int(bar.get_width()))
  assert widths == {0: [1, 37, 2, 1, 23], 1: [1, 54, 1, 8]}
  assert [t.get_text() for t in axes.get_yticklabels()] == [STUDENT, BASELINE]
  written = [text.get_text() for text in axes.texts]
  assert 'APGD-CE 37' in written and 'Robust 8' in written
  assert any(t.startswith('12.5 % robust\n(6.5 to 22.8') for t in written)


@pytest.mark.parametrize('images', [64, 517])
def test_no_text_of_the_figure_overlaps_another_or_its_part(workdir, images):
  if images == 517:
    for model, (*_, counts) in saved_run.MODELS.items():
      pgd = counts[2]
      left = (counts[0], pgd, pgd - 6, pgd - 7, pgd - 8)
      saved_run.write_auto_attack(workdir, model, left, images=517)
  figure = _draw(workdir)
  (axes,) = figure.axes
  boxes = [t.get_window_extent() for t in axes.texts if t.get_text()]
  boxes += [label.get_window_extent() for label in axes.get_yticklabels()]
  boxes += [
    label.get_window_extent()
    for label in axes.get_xticklabels()
    if label.get_position()[0] <= images
  ]
  boxes += [figure.legends[0].get_window_extent()]
  for i, box in enumerate(boxes):
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert not any(box.overlaps(other) for other in boxes[:i])


def test_parts_have_colours_of_the_palette_that_differ(workdir):
  figure = _draw(workdir)
  handles = figure.legends[0].legend_handles
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  colors = [to_hex(handle.get_facecolor()).upper() for handle in handles]
  assert labels == [
    'Wrong without attack',
    *(label for label, *_ in saved_auto_attack.MEMBERS.values()),
    'Robust',
  ]
  assert len(set(colors)) == len(colors)
