"""The site: built strictly, whole, and shown without a network.

It needs the extra `docs`; CONTRIBUTING.md says how to build and see the site.
"""

import ast
import dataclasses
import html.parser
import re
import subprocess
import sys
import zlib

import pytest

from rnascl_jax.config import schema
from tests.docs import pages

pytest.importorskip('mkdocs', reason='needs the extra docs')
# Where a browser fetches something as it shows a page.
_FETCHED = {
  ('audio', 'src'),
  ('embed', 'src'),
  ('iframe', 'src'),
  ('image', 'href'),
  ('img', 'src'),
  ('img', 'srcset'),
  ('link', 'href'),
  ('object', 'data'),
  ('script', 'src'),
  ('source', 'src'),
  ('use', 'href'),
  ('video', 'src'),
}
# What a search engine reads, and no browser fetches.
_NOT_FETCHED = {'canonical', 'next', 'prev'}


class Fetched(html.parser.HTMLParser):
  """What a browser fetches to show a page."""

  def __init__(self, text: str):
    super().__init__()
    self.addresses: list[str] = []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    named = dict(attrs)
    if tag == 'link' and named.get('rel') in _NOT_FETCHED:
      return
    self.addresses += [
      value for name, value in attrs if value and (tag, name) in _FETCHED
    ]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  """The built site. A warning is an error, as is a link to nothing."""
  folder = tmp_path_factory.mktemp('site')
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'mkdocs', 'build', '--strict'),
      *('-f', 'docs/site/mkdocs.yml', '-d', folder),
    ],
    cwd=pages.ROOT,
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stdout + done.stderr
  return folder


@pytest.fixture(scope='module')
def documented(site):
  """Names of all that the reference of Python has an entry for."""
  *_, packed = (site / 'objects.inv').read_bytes().split(b'\n', 4)
  lines = zlib.decompress(packed).decode().splitlines()
  return {line.split()[0] for line in lines if ' py:' in line}


def public_names():
  """All that the package's sources define and do not hide."""
  for path in (pages.ROOT / 'rnascl_jax').rglob('*.py'):
    parts = path.relative_to(pages.ROOT).with_suffix('').parts
    module = '.'.join(parts).removesuffix('.__init__')
    yield module
    for node in ast.parse(path.read_text('utf-8')).body:
      for name in _defined(node):
        if not name.startswith('_'):
          yield f'{module}.{name}'
      if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
        yield from (f'{module}.{node.name}.{own}' for own in _methods(node))


def _methods(node: ast.ClassDef) -> list[str]:
  """Public methods with a docstring; the class tells of the others."""
  functions = [n for n in node.body if isinstance(n, ast.FunctionDef)]
  names = [f.name for f in functions if ast.get_docstring(f)]
  return [n for n in names if n == '__call__' or not n.startswith('_')]


def _defined(node: ast.stmt) -> list[str]:
  if isinstance(node, ast.FunctionDef | ast.ClassDef):
    return [node.name]
  targets = getattr(node, 'targets', None) or [getattr(node, 'target', None)]
  return [t.id for t in targets if isinstance(t, ast.Name)]


def test_every_public_name_has_an_entry_in_the_reference(documented):
  assert not sorted(set(public_names()) - documented)


def test_every_field_of_a_config_has_a_row_with_its_meaning(site):
  text = (site / 'reference' / 'config.html').read_text('utf-8')
  told = []
  for table in re.findall(r'<table>(.*?)</table>', text, re.DOTALL):
    rows = re.findall(r'<tr>(.*?)</tr>', table, re.DOTALL)
    cells = [re.findall(r'<td[^>]*>(.*?)</td>', row, re.DOTALL) for row in rows]
    told.append([re.sub('<.*?>', '', row[0]) for row in cells if row])
    assert all(len(row[-1]) > 5 for row in cells if row)
  classes = {c for c in vars(schema).values() if dataclasses.is_dataclass(c)}
  # What several sections share is told in each of them.
  for cls in classes - {schema.TeacherWeights}:
    assert [field.name for field in dataclasses.fields(cls)] in told, cls


def test_the_help_of_every_command_is_on_its_page(site):
  text = (site / 'reference' / 'cli.html').read_text('utf-8')
  for path in (pages.ROOT / 'experiments').glob('*.py'):
    if path.stem != '__init__':
      name = path.stem.replace('_', '-')
      shown = re.search(rf'<h2 id="{name}".*?</pre>', text, re.DOTALL)
      assert shown and '--' in shown[0], name
  assert str(pages.ROOT) not in text


def test_no_page_or_style_fetches_anything_from_the_network(site):
  looked_at = 0
  for path in site.rglob('*.html'):
    for address in Fetched(path.read_text('utf-8')).addresses:
      looked_at += 1
      assert not re.match(r'(\w+:)?//', address), f'{path}: {address}'
      if path.name != '404.html' and not address.startswith('data:'):
        target = path.parent / re.split('[?#]', address)[0]
        assert target.exists(), f'{path}: {address}'
  assert looked_at > 100
  for path in site.rglob('*.css'):
    text = path.read_text('utf-8')
    assert not re.search(r'(url\(|@import)\s*["\']?(\w+:)?//', text), path


def test_every_name_that_a_package_offers_is_told_what_it_is(site):
  rows = 0
  for path in (site / 'python').glob('*.html'):
    text = path.read_text('utf-8')
    for table in re.findall(r'<table>(.*?)</table>', text, re.DOTALL):
      if 'What it is' in table:
        for name, meaning in re.findall(
          r'<td[^>]*>(.*?)</td>\s*<td[^>]*>(.*?)</td>', table, re.DOTALL
        ):
          rows += 1
          assert re.sub('<[^>]*>', '', meaning).strip('\\ '), f'{path}: {name}'
  assert rows > 50
