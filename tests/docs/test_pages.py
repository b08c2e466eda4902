"""What the pages name exists: files, anchors, functions and fields."""

import ast
import fnmatch
import functools
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterator

import ml_collections
import pytest

import rnascl_jax
from rnascl_jax.config import config_files, settings
from tests.docs import pages

# Folders whose files the pages name.
_FILE = re.compile(
  r'(?<![\w./-])(?:\.\./)*'
  r'((?:configs|docs|experiments|rnascl_jax|tests)/[\w/.-]*\w)'
)
_DOTTED = re.compile(r'(?<![\w/.-])rnascl_jax(?:\.\w+)+(?![\w(]*/)')
_FIELD = re.compile(r'(?<![\w.])(?:--)?config((?:\.(?:\w+|<\w+>|\*))+)')
_SUFFIXES = (
  *('csv', 'ckpt', 'html', 'json', 'jsonl', 'md', 'npy', 'npz', 'pt', 'py'),
  *('onnx', 'safetensors', 'tar', 'txt'),
)
# Pages that the site makes.
_MADE = ('python/', 'reference/')
# Names that a page makes up for its example.
_EXAMPLES = {'result'}

every_page = pytest.mark.parametrize('path', pages.PATHS, ids=pages.IDS)


@functools.cache
def modules() -> dict[str, list[str]]:
  """Modules by the last part of their names."""
  by_name: dict[str, list[str]] = {}
  for module in pkgutil.walk_packages(rnascl_jax.__path__, 'rnascl_jax.'):
    by_name.setdefault(module.name.rpartition('.')[2], []).append(module.name)
  return by_name


def exists(name: str) -> bool:
  """Whether a dotted name is a module, or something in one."""
  try:
    pkgutil.resolve_name(name)
  except (ImportError, AttributeError):
    return False
  return True


@functools.cache
def fields() -> tuple[str, ...]:
  """Paths of all sections and fields of the configs."""
  configs = (settings.template(), config_files.load('digits'))
  paths = [f'.{path}' for config in configs for path in _paths(config)]
  return tuple(dict.fromkeys(paths))


def _paths(section) -> Iterator[str]:
  for name, value in section.items():
    yield name
    if isinstance(value, ml_collections.ConfigDict):
      yield from (f'{name}.{path}' for path in _paths(value))


def is_field(path: str) -> bool:
  """Whether a config has a field whose path ends so; <stage> and * are any."""
  pattern = '*.' + re.sub('<\\w+>', '*', path)
  return any(fnmatch.fnmatchcase(field, pattern) for field in fields())


@every_page
def test_every_link_leads_to_a_file_and_a_heading(path):
  for target, anchor in pages.links(path.read_text('utf-8')):
    if target.startswith(_MADE):
      continue
    page = (path.parent / target).resolve() if target else path
    assert page.exists(), target
    if anchor:
      assert anchor in pages.headings(page.read_text('utf-8')), target


@every_page
def test_every_file_that_a_page_names_exists(path):
  for name in _FILE.findall(path.read_text('utf-8')):
    assert (pages.ROOT / name).exists(), name


@every_page
def test_every_dotted_name_on_a_page_exists(path):
  for name in _DOTTED.findall(path.read_text('utf-8')):
    assert exists(name), name


@every_page
def test_every_field_on_a_page_is_in_the_schema(path):
  for name in _FIELD.findall(path.read_text('utf-8')):
    if name.rpartition('.')[2] not in _SUFFIXES:
      assert is_field(name.removeprefix('.')), f'config{name}'


@every_page
def test_what_a_page_says_of_a_module_or_section_is_in_it(path):
  """Such as `losses.rkd` or `search.gamma`."""
  for code in pages.inline(path.read_text('utf-8')):
    match = re.match(r'(\w+)((?:\.[\w*]+)+)', code)
    if not match or match[0].rpartition('.')[2] in _SUFFIXES:
      continue
    room, name = match[1], match[0]
    homes = modules().get(room, [])
    if room in ('config', *_EXAMPLES) or not (homes or is_field(room)):
      continue
    assert is_field(name) or any(exists(h + match[2]) for h in homes), code


@every_page
def test_python_on_a_page_uses_names_that_exist(path):
  for code in pages.fences(path.read_text('utf-8'), 'python'):
    tree = ast.parse(code)
    ours = {}
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
          name = f'{node.module}.{alias.name}'
          if name.startswith('rnascl_jax.'):
            ours[alias.asname or alias.name] = name
            assert exists(name), name
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute):
        whole = ast.unparse(node)
        first, _, rest = whole.partition('.')
        if first in ours and re.fullmatch(r'[\w.]+', rest):
          module = ours[first]
          if importlib.util.find_spec(module.rpartition('.')[0]):
            assert exists(f'{module}.{rest}'), whole


def test_the_rooms_are_drawn_from_the_imports_of_today():
  path = pages.ROOT / 'docs' / 'site' / 'diagrams.py'
  spec = importlib.util.spec_from_file_location('diagrams', path)
  diagrams = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(diagrams)
  for name, picture in (('rooms', diagrams.rooms), ('step', diagrams.step)):
    drawn = (pages.ROOT / 'docs' / f'{name}.svg').read_text('utf-8')
    assert drawn == picture(), 'run python docs/site/diagrams.py'


@pytest.mark.slow
def test_the_example_of_the_first_page_runs(capsys):
  (code,) = pages.fences(
    (pages.ROOT / 'docs' / 'index.md').read_text(), 'python'
  )

  exec(code, {})

  assert 'robust accuracy after SQUARE' in capsys.readouterr().out
