"""Tests of docs/tutorials: notebooks are stored with all their outputs."""

import json
import pathlib
import re

import pytest

_FOLDER = pathlib.Path(__file__).parents[1] / 'docs' / 'tutorials'
_NOTEBOOKS = sorted(_FOLDER.glob('*.ipynb'))
_MOST_BYTES = 400_000
# Of the machine on which they ran.
_PATH = re.compile(r'(?<![\w.])/(home|root|tmp|Users|work|var|opt)/|C:\\')


@pytest.fixture(params=_NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
  return json.loads(request.param.read_text())


def _code(notebook):
  return [c for c in notebook['cells'] if c['cell_type'] == 'code']


def test_there_are_notebooks():
  names = [path.stem for path in _NOTEBOOKS]
  assert names == ['own_classifier', 'own_images', 'own_loop']


def test_all_cells_were_executed_in_order(notebook):
  counts = [cell['execution_count'] for cell in _code(notebook)]
  assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_results_without_errors_and_warnings(notebook):
  outputs = [output for cell in _code(notebook) for output in cell['outputs']]
  assert not [o for o in outputs if o['output_type'] == 'error']
  assert not [o for o in outputs if o.get('name') == 'stderr']
  assert any('image/png' in o.get('data', {}) for o in outputs)
  assert any(o.get('name') == 'stdout' for o in outputs)


def test_no_path_of_a_machine_and_no_time_of_execution_is_stored(notebook):
  for cell in _code(notebook):
    assert 'execution' not in cell['metadata']
    for output in cell['outputs']:
      output = {k: v for k, v in output.items() if k != 'data'} | {
        k: v for k, v in output.get('data', {}).items() if 'image' not in k
      }
      assert not _PATH.search(json.dumps(output))


@pytest.mark.parametrize('path', _NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small(path):
  assert path.stat().st_size < _MOST_BYTES


def test_a_notebook_ends_with_suggestions(notebook):
  last = ''.join(notebook['cells'][-1]['source'])
  assert last.startswith('## Change this\n')
  assert 3 <= len(re.findall(r'^\d\. ', last, re.MULTILINE)) <= 5


def test_links_to_other_pages_lead_to_files(notebook):
  texts = [''.join(c['source']) for c in notebook['cells']]
  links = re.findall(r'\]\((?!http)([^)#]+)', ''.join(texts))
  assert links and all((_FOLDER / link).is_file() for link in links)
