"""The report of a run as one HTML file, and the index of a sweep."""

import base64
import concurrent.futures
import io
import re
from html import parser, unescape

import numpy as np
import pytest
from PIL import Image

from rnascl_jax.reporting import html, paper, results, tables
from rnascl_jax.reporting.html import (
  charts,
  images,
  networks,
  scores,
  summary,
  sweep,
  trainings,
)
from rnascl_jax.reporting.paper import comparison as paper_tables
from rnascl_jax.reporting.paper import sweep_runs
from rnascl_jax.reporting.report import comparison, model_table, verdicts
from rnascl_jax.runtime import lock
from tests import saved_run, saved_sweep

EVIL = '"\'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}'


class Parsed(parser.HTMLParser):
  """Tags with their attributes, and the text outside of styles and scripts."""

  def __init__(self, page):
    super().__init__()
    self.tags, self.texts, self._inside = [], [], ''
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self._inside = tag

  def handle_data(self, data):
    if self._inside not in ('style', 'script'):
      self.texts.append(data)

  @property
  def text(self):
    return re.sub(r'\s+', ' ', ' '.join(self.texts))

  def of(self, name):
    return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  workdir = saved_run.write(tmp_path_factory.mktemp('html') / 'run')
  saved_run.write_fine_tuned(workdir)
  return workdir


@pytest.fixture(scope='module')
def run(folder):
  return results.load(folder)


@pytest.fixture(scope='module')
def page(run):
  return html.page(run)


def test_the_page_has_the_numbers_and_sentences_of_the_markdown_report(
  run, page
):
  text = Parsed(page).text
  for rows in (model_table.cells(run), comparison.cells(run)):
    for row in rows:
      assert ' '.join(' '.join(row).split()) in text
  plain = re.sub(r'\s+', '', text)
  for sentence in verdicts.verdicts(run):
    assert re.sub(r'\s+|\*\*|`', '', sentence) in plain
  assert run.provenance['command'] in text
  assert run.provenance['commit'] in text


def test_warnings_about_attacks_are_in_the_summary_too(page, tmp_path):
  workdir = saved_run.write(tmp_path / 'run')
  with saved_run.edited(workdir / 'evaluation' / 'ce.json') as saved:
    saved['warnings'] = [{'kind': 'gradients are 0', 'message': 'Of a half.'}]
  text = Parsed(html.page(results.load(workdir))).text
  assert '1 warning about models and attacks' in text
  assert 'Warning, gradients are 0 (CE student): Of a half.' in text
  assert 'about models and attacks: see' not in Parsed(page).text


def test_every_section_that_the_contents_name_is_there_once(page):
  parsed = Parsed(page)
  places = [a['id'] for _, a in parsed.tags if 'id' in a]
  assert len(places) == len(set(places))
  links = [a['href'] for a in parsed.of('a')]
  assert {'#summary', '#examples', '#attention', '#training'} <= set(links)
  assert {link[1:] for link in links} <= set(places)


def test_the_page_loads_nothing_and_allows_only_its_own_script(page):
  parsed = Parsed(page)
  for _, attributes in parsed.tags:
    for name in ('src', 'href', 'xlink:href', 'srcset', 'action'):
      assert attributes.get(name, '#').startswith(('#', 'data:'))
  assert '@import' not in page and 'url(' not in page
  (policy,) = (a['content'] for a in parsed.of('meta') if 'http-equiv' in a)
  assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
  assert len(parsed.of('script')) == 1


def test_text_from_data_is_text_whatever_it_holds(tmp_path):
  workdir = saved_run.write(tmp_path / 'run')
  for path in (workdir / 'evaluation').glob('*.json'):
    with saved_run.edited(path) as saved:
      if 'label' in saved:
        saved['label'] += EVIL
        saved['warnings'] = [{'kind': EVIL, 'message': EVIL}]
        for attack in (*saved['attacks'], *saved['curves']):
          attack['label'] += EVIL
  with saved_run.edited(workdir / 'architecture.json') as saved:
    for tutor in saved['tutors']:
      tutor |= {'layer': EVIL, 'tutor_layer': EVIL}
    saved['space'] = EVIL
  with saved_run.edited(workdir / 'config.json') as saved:
    saved['data'] = {'name': EVIL}
  with saved_run.edited(workdir / 'provenance.json') as saved:
    saved |= {'command': EVIL, 'commit': EVIL}
  parsed = Parsed(html.page(results.load(workdir)))
  assert len(parsed.of('script')) == 1
  assert not [a for _, a in parsed.tags if any(n[:2] == 'on' for n in a)]
  assert all(a['src'].startswith('data:') for a in parsed.of('img'))
  assert parsed.text.count('alert(1)') > 10 and '{{ 7*7 }}' in parsed.text


def test_a_page_of_the_largest_network_is_below_five_megabytes(tmp_path):
  workdir = saved_run.write(
    tmp_path / 'run', blocks=21, teacher_layers=31, dataset='cifar10'
  )
  assert len(html.page(results.load(workdir)).encode()) < 5e6


@pytest.mark.parametrize(
  'missing, place',
  [
    ('architecture.json', 'architecture'),
    ('evaluation/attention.npz', 'attention'),
    ('evaluation/robustness.json', 'teacher-layers'),
  ],
)
def test_a_missing_file_costs_only_its_own_section(
  workdir, page, missing, place
):
  (workdir / missing).unlink()
  without = html.page(results.load(workdir))
  assert f'id="{place}"' in page and f'id="{place}"' not in without
  assert f'href="#{place}"' not in without and 'id="results"' in without


def test_a_run_of_an_earlier_version_says_that_it_kept_no_examples(workdir):
  for path in (workdir / 'evaluation' / 'examples').iterdir():
    path.unlink()
  page = html.page(results.load(workdir))
  assert 'This run kept no examples' in page
  assert 'id="examples-steps"' not in page


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
  saved_run.files.write_config(tmp_path, {'data': {'name': 'digits'}})
  page = html.page(results.load(tmp_path), is_live=True)
  assert 'No model has been evaluated yet.' in page
  assert 'id="results"' not in page


def _pixels(uri):
  content = base64.b64decode(uri.removeprefix('data:image/png;base64,'))
  return np.asarray(Image.open(io.BytesIO(content))) / 255


def test_examples_are_the_saved_images_and_their_magnified_changes(run):
  _, (broken, held, wrong) = images.examples(run)
  saved = run.examples['rnas_cl']
  first = broken.models[0]
  assert first.label == 'RNAS-CL student' and first.outcome.startswith(
    'taken for 8 (75 %)'
  )
  np.testing.assert_allclose(
    _pixels(broken.picture), saved['images'][0][..., 0] / 255, atol=0.01
  )
  change = saved['adversarial'][0].astype(float) - saved['images'][0] / 255
  shown = (_pixels(first.perturbation) - 0.5) / float(first.factor)
  np.testing.assert_allclose(shown, change[..., 0], atol=0.003)
  assert held.models[0].outcome == 'withstands the attack'
  assert wrong.models[0].outcome == 'wrong without an attack'
  assert not held.models[0].adversarial and not wrong.models[0].adversarial


def test_attention_maps_have_the_distance_to_the_tutors_map(run):
  headings, shown = images.attention(run)
  assert headings == ['CE + KL student', 'RNAS-CL student', 'Tutor']
  saved, layer = run.attention, 2
  tutor = run.tutors[layer]['tutor']
  apart = saved['maps/rnas_cl'][1, layer] - saved['teacher_maps'][1, tutor]
  cells = shown[1].rows[layer].cells
  assert cells[1].note == f'{np.linalg.norm(apart):.2f}'
  assert _pixels(cells[2].picture).shape == (4, 4, 3)


def test_the_diagram_has_a_box_for_every_part_and_a_line_for_every_tutor(run):
  boxes, *_ = networks.diagram(run)
  blocks = run.architecture['blocks']
  assert [box.text for box in boxes] == [
    'stem · 16',
    *(f'block {i} · {block["features"]}' for i, block in enumerate(blocks)),
    'classifier',
  ]
  assert [box.stride for box in boxes[1:-1]] == [b['stride'] for b in blocks]
  wide = np.argsort([block['features'] for block in blocks], kind='stable')
  widths = [box.width for box in boxes[1:-1]]
  np.testing.assert_array_equal(np.argsort(widths, kind='stable'), wide)
  texts = [text for box in boxes for text in box.tutors]
  assert [text.partition(' ← ')[2] for text in texts] == [
    tutor['tutor_layer'] for tutor in run.tutors
  ]
  shown = unescape(html.page(run))
  assert all(text in shown for text in texts)


def test_a_chart_says_the_values_of_all_lines_at_each_place(run):
  curves = scores.epsilon_curves(run)
  chart, values = curves[0]
  for index, strip in enumerate(chart.strips):
    for row in values.rows:
      number = row[1 + index].text
      if number != tables.NOTHING:
        assert f'\n{row[0].text}: {number} %' in strip.text


def test_strips_of_a_long_training_stay_few_and_cover_the_chart():
  look = charts.style.Look(charts.style.BLUE, '-', 'o')
  x = np.arange(1.0, 501.0)
  series = [charts.Series('a', look, x, x)]
  chart = charts.lines('t', ('Epoch', ''), series)
  assert len(chart.strips) == 60
  assert chart.strips[0].text == 'Epoch 1\na: 1'
  assert chart.strips[-1].text == 'Epoch 500\na: 500'
  ends = [strip.x + strip.width for strip in chart.strips]
  np.testing.assert_allclose(ends[:-1], [s.x for s in chart.strips[1:]], atol=1)
  assert (chart.strips[0].x, ends[-1]) == (chart.left, chart.right)


def test_a_line_goes_through_its_points_on_both_axes():
  look = charts.style.Look(charts.style.BLUE, '--', 'o')
  x, y = np.array([0.0, 1.0]), np.array([1.0, 10.0])
  series = [charts.Series('a', look, x, y)]
  linear = charts.lines('t', ('x', 'y'), series, limits=(0.0, 10.0))
  (line,) = linear.lines
  assert line.dash and line.color == 'blue'
  numbers = [float(n) for n in re.findall(r'[\d.]+', line.path)]
  height = linear.bottom - linear.top
  assert numbers[0] == linear.left
  assert numbers[1] == pytest.approx(linear.bottom - 0.1 * height, abs=0.1)
  assert numbers[3] == linear.top
  log = charts.lines('t', ('x', 'y'), series, is_log=True)
  assert [tick.text for tick in log.y_ticks] == ['1', '2', '5', '10']
  places = [tick.place for tick in log.y_ticks]
  assert places == sorted(places, reverse=True)


def test_the_forest_has_the_comparisons_under_the_headline_attack(run):
  forest = summary.forest(run)
  expected = [
    (c.names, f'{c.points:+.1f}')
    for c in comparison.comparisons(run)
    if c.under == 'PGD-20' and c.results[0].images == run.images
  ]
  assert [(row.names, row.points) for row in forest.rows] == expected
  for row in forest.rows:
    assert 0 <= row.low < row.middle < row.high <= 100
    assert (row.low > forest.zero) == row.interval.startswith('+')


def test_progress_tells_trainings_that_are_done_under_way_and_not_begun(
  workdir,
):
  (workdir / 'teacher' / 'stage.json').write_text('{"epochs": 20}')
  epochs = {'optimization': {'epochs': 40}}
  with saved_run.edited(workdir / 'config.json') as saved:
    saved |= {
      'teacher': epochs,
      'train': epochs,
      'students': {'ce': {}, 'x': {}},
    }
  stages = trainings.stages(results.load(workdir))
  assert [(s.done, s.epochs, s.is_complete) for s in stages] == [
    (20.0, 40, True),
    (20.0, 40, False),
    (0, 40, False),
  ]


def test_no_search_is_waited_for_where_an_architecture_was_taken(workdir):
  epochs = {'optimization': {'epochs': 40}}
  (workdir / 'search' / 'metrics.jsonl').unlink()
  for architecture, expected in (('', ['Search']), ('a.json', [])):
    with saved_run.edited(workdir / 'config.json') as saved:
      saved['search'] = {**epochs, 'architecture': architecture}
    stages = trainings.stages(results.load(workdir))
    assert [s.name for s in stages] == expected


def test_the_page_is_written_whole_under_the_lock_of_the_workdir(tmp_path):
  saved_run.write(tmp_path / 'run')
  path = html.write(tmp_path / 'run')
  assert path.read_text('utf-8') == html.page(results.load(path.parent))
  assert not list(path.parent.glob('.*'))  # Nothing half written.
  with lock.take(path.parent):
    assert html.write(path.parent) == path  # This thread holds it.
  with concurrent.futures.ThreadPoolExecutor(1) as other:
    held = other.submit(lock.take, path.parent).result()
  with held, pytest.raises(lock.HeldError):
    html.write(path.parent)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp('sweep')
  for seed in (0, 1):
    models = ['rnas_cl', 'rnas_cl_eq6']
    saved_sweep.write_row(root, seed, 'digits_small', models)
  saved_sweep.write_row(root, 0, 'digits_ce', ['ce'], marker=False)
  return root


def test_the_index_has_a_row_for_every_model_and_a_link_to_its_report(root):
  path = sweep.write(root)
  page = Parsed(path.read_text('utf-8'))
  links = [a['href'] for a in page.of('a') if not a['href'].startswith('#')]
  expected = ['digits_small', 'digits_small', 'digits_ce']
  assert sorted(set(links)) == sorted(
    f'seed{seed}/{row}/report.html'
    for seed, row in zip((0, 1, 0), expected, strict=True)
  )
  assert all((root / link).is_file() for link in links)
  assert len(links) == 5
  assert '3 runs, 2 of them finished' in page.text


def test_the_index_has_the_papers_numbers_beside_ours(root):
  page = sweep.page(sweep_runs.load(root), is_live=True)
  text = Parsed(page).text
  filled = paper_tables.fill(paper.TABLES['digits']['7'], sweep_runs.load(root))
  for row in paper_tables.cells(filled):
    assert ' '.join(' '.join(row).split()) in text
  assert 'name="viewport"' in page and 'data-live' in page


def test_an_index_whose_seeds_differ_says_so_and_keeps_its_runs(root, tmp_path):
  for seed, epsilon in ((0, 0.1), (1, 0.2)):
    saved_sweep.write_row(
      tmp_path, seed, 'digits_small', ['rnas_cl'], epsilon=epsilon
    )
  page = sweep.page(sweep_runs.load(tmp_path), is_live=True)
  assert 'cannot be averaged' in unescape(page)
  assert page.count('seed1/digits_small/report.html') == 1
