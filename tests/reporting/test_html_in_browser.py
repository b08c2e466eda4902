"""The report's page in a real browser: what only a browser can show."""

import shutil
import threading

import pytest

from rnascl_jax.reporting import html, results, watch
from rnascl_jax.reporting.html import sweep
from rnascl_jax.reporting.paper import sweep_runs
from tests import saved_run, saved_sweep

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
if CHROMIUM is None:
  pytest.skip('there is no Chromium to show pages', allow_module_level=True)
sync_api = pytest.importorskip(
  'playwright.sync_api', reason='playwright, which drives Chromium, is missing'
)

# The contrast of every text with what is behind it, by WCAG 2; the lowest ones.
CONTRASTS = """() => {
  const context = document.createElement('canvas').getContext(
    '2d', {willReadFrequently: true});
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const texts = [...element.childNodes].filter(
      (n) => n.nodeType === 3 && n.textContent.trim());
    if (!texts.length || !element.checkVisibility()) continue;
    if (['SCRIPT', 'TITLE', 'title'].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const isDrawn = element.namespaceURI.endsWith('svg');
    const [a, b] = [rgba(isDrawn ? style.fill : style.color), behind(element)]
      .map(luminance).sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.textContent.slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""


@pytest.fixture(scope='module')
def browser():
  with sync_api.sync_playwright() as playwright:
    launched = playwright.chromium.launch(
      executable_path=CHROMIUM, args=['--no-sandbox']
    )
    yield launched
    launched.close()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A run's report and a sweep's index, as files."""
  root = tmp_path_factory.mktemp('pages')
  workdir = saved_run.write(root / 'run')
  saved_run.write_fine_tuned(workdir)
  (root / 'report.html').write_text(html.page(results.load(workdir)))
  for seed in (0, 1):
    saved_sweep.write_row(root / 'sweep', seed, 'digits_small', ['rnas_cl'])
    saved_sweep.write_row(root / 'sweep', seed, 'digits_ce', ['ce', 'other'])
  index = sweep.page(sweep_runs.load(root / 'sweep'))
  (root / 'index.html').write_text(index)
  return root


@pytest.fixture
def show(browser, folder):
  """Opens a page; what its console says but for information is an error."""
  opened, said = [], []

  def open_page(name='report.html', width=1280, **options):
    context = browser.new_context(
      viewport={'width': width, 'height': 900}, **options
    )
    opened.append(context)
    page = context.new_page()
    page.on('console', lambda message: said.append(message.text))
    page.on('pageerror', lambda error: said.append(f'{error}'))
    page.goto((folder / name).as_uri() if '://' not in name else name)
    return page

  yield open_page
  for context in opened:
    context.close()
  assert said == []


def _column(page, table, column):
  cells = page.locator(f'{table} tbody tr > :nth-child({column})')
  return cells.all_text_contents()


@pytest.mark.parametrize('name', ['report.html', 'index.html'])
@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_text_stands_out_and_pictures_have_words_in_both_themes(
  show, name, theme
):
  page = show(name, color_scheme=theme)
  contrasts = page.evaluate(CONTRASTS)
  assert len(contrasts) > 100 and contrasts[0][0] >= 4.5, contrasts[:5]
  alts = page.locator('img').evaluate_all('all => all.map(i => i.alt)')
  assert all(alts) and (alts or name == 'index.html')
  page.click('#theme')
  other = page.evaluate(CONTRASTS)
  assert other[0][0] >= 4.5, other[:5]
  background = 'getComputedStyle(document.body).backgroundColor'
  red = int(page.evaluate(background)[4:].split(',')[0])
  assert (red < 128) == (theme == 'light')  # The button changed it.


@pytest.mark.parametrize('name', ['report.html', 'index.html'])
def test_on_a_phone_nothing_is_wider_than_the_screen(show, name):
  page = show(name, width=360)
  width = page.evaluate('document.documentElement.scrollWidth')
  assert width == 360
  assert (
    page.locator('.charts svg').first.bounding_box()['width'] > 250
    if (name == 'report.html')
    else True
  )


def test_a_heading_sorts_numbers_as_numbers_and_what_is_none_comes_last(show):
  page = show()
  button = page.locator('#results-table th button', has_text='AutoAttack')
  button.focus()
  page.keyboard.press('Enter')
  down = _column(page, '#results-table', 7)
  page.keyboard.press('Enter')
  up = _column(page, '#results-table', 7)
  numbers = [float(t) for t in down if t != '—']
  assert numbers == sorted(numbers, reverse=True) and len(numbers) > 1
  assert [float(t) for t in up if t != '—'] == numbers[::-1]
  assert down[-1] == up[-1] == '—'
  heading = page.locator('#results-table th[aria-sort]')
  assert heading.get_attribute('aria-sort') == 'ascending'
  page.click('#results-table th button >> text=MACs')
  macs = _column(page, '#results-table', 9)
  assert macs[0].endswith('M') and not macs[-1].endswith('M')


@pytest.mark.parametrize('place, count', [('examples', 3), ('attention', 4)])
def test_a_slider_steps_through_images_by_the_keyboard(show, place, count):
  page = show()
  steps = page.locator(f'#{place} .step')
  slider = page.locator(f'#{place} input[type=range]')
  assert steps.count() == count
  assert [s.is_visible() for s in steps.all()] == [True] + [False] * (count - 1)
  slider.focus()
  page.keyboard.press('ArrowRight')
  assert steps.nth(1).is_visible() and not steps.nth(0).is_visible()
  assert page.locator(f'#{place} output').text_content() == f'2 of {count}'


def test_values_show_where_the_pointer_is_and_by_the_arrow_keys(show, folder):
  page = show()
  chart = page.locator('#results .chart svg').first
  chart.scroll_into_view_if_needed()
  tip, hit = page.locator('#tip'), chart.locator('.hit').nth(2)
  hit.hover()
  text = tip.text_content()
  assert tip.is_visible() and text.startswith('ε 0.1\nRobust teacher: ')
  page.mouse.move(0, 0)
  assert not tip.is_visible()
  chart.focus()
  for _ in range(3):
    page.keyboard.press('ArrowRight')
  assert tip.is_visible() and tip.text_content() == text
  page.keyboard.press('Escape')
  assert not tip.is_visible()


def test_without_scripts_all_content_is_there(show):
  page = show(java_script_enabled=False)
  steps = page.locator('.step')
  assert steps.count() == 7 and all(s.is_visible() for s in steps.all())
  assert page.locator('th button, #theme, input').count() == 0
  # Titles are what browsers show of a drawing by themselves.
  titles = page.locator('#results .chart .hit title')
  assert 'Robust teacher: ' in titles.first.text_content()


def test_the_index_is_filtered_by_words_and_by_columns(show):
  page = show('index.html')
  rows = page.locator('#runs-table tbody tr:visible')
  assert rows.count() == 6
  page.get_by_label('Seed').select_option('1')
  assert rows.count() == 3
  page.get_by_label('Contains').fill('CE other')
  assert rows.count() == 1
  assert page.locator('.filters-bar [role=status]').text_content() == '1 of 6'


def test_a_printed_page_has_no_controls_and_stays_light(show):
  page = show(color_scheme='dark')
  page.emulate_media(media='print')
  assert not page.locator('nav, .tools, .stepper-bar').first.is_visible()
  background = 'getComputedStyle(document.body).backgroundColor'
  assert page.evaluate(background) == 'rgb(255, 255, 255)'


def test_a_live_page_follows_the_run_and_keeps_its_place(show, tmp_path):
  saved_run.write_evaluation(tmp_path, saved_run.evaluation('ce'))
  saved_run.files.write_config(tmp_path, {'data': {'name': 'digits'}})
  with watch.server(tmp_path) as served:
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    try:
      page = show(f'http://127.0.0.1:{served.server_port}/', width=360)
      page.wait_for_function(
        "document.getElementById('live').innerText != 'live'"
      )
      page.click('summary >> text=The whole config')
      page.evaluate('scrollTo(0, 300)')
      saved_run.write_evaluation(tmp_path, saved_run.evaluation('rnas_cl'))
      page.locator('#results-table', has_text='RNAS-CL student').wait_for()
      assert page.evaluate('scrollY') == 300
      assert page.locator('#results-table th button').count() > 5
      assert page.locator('details[open]').count() == 1
    finally:
      served.shutdown()
      thread.join()


def test_what_changes_while_a_live_page_loads_is_shown(browser, tmp_path):
  saved_run.write_evaluation(tmp_path, saved_run.evaluation('ce'))
  saved_run.files.write_config(tmp_path, {'data': {'name': 'digits'}})

  def change(route):
    path = tmp_path / 'evaluation' / 'rnas_cl.json'
    if route.request.resource_type == 'fetch' and not path.exists():
      saved_run.write_evaluation(tmp_path, saved_run.evaluation('rnas_cl'))
    route.continue_()

  with watch.server(tmp_path) as served, browser.new_page() as page:
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    try:
      page.route('**/*', change)
      page.goto(f'http://127.0.0.1:{served.server_port}/')
      page.locator('#results-table', has_text='RNAS-CL student').wait_for(
        timeout=5000
      )
    finally:
      served.shutdown()
      thread.join()
