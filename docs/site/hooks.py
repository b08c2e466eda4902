"""What the site has beside the pages in docs/, made when it is built.

The reference is made from the code: a page for each room, the configs' fields
and the commands' help. Notebooks, with the outputs that are stored in them, and
source files that pages link to become pages as well.
"""

import importlib.util
import pathlib
import posixpath
import re
import sys

import nbconvert
from mkdocs.structure.files import File

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
TUTORIALS = sorted((ROOT / 'docs' / 'tutorials').glob('*.ipynb'))
# A link that leaves docs/ for a file of the repository.
_SOURCE = re.compile(r'\]\((?P<up>(?:\.\./)+)(?P<path>[\w./-]+\.\w+)\)')

# The repository's own modules, before any that is installed.
sys.path.insert(0, str(ROOT))


def _sibling(name):
  spec = importlib.util.spec_from_file_location(f'_{name}', HERE / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


reference = _sibling('reference')


def on_config(config):
  """Lists the tutorials and the pages of the rooms in the navigation."""
  if str(ROOT) not in sys.path:  # MkDocs has put it back as it was.
    sys.path.insert(0, str(ROOT))
  if TUTORIALS:
    names = [f'tutorials/{path.stem}.md' for path in TUTORIALS]
    config.nav.insert(1, {'Tutorials': names})
  for section in config.nav:
    for entry in section.get('Reference', []):
      if 'Python' in entry:
        entry['Python'] = [
          {name: f'python/{name}.md'} for name in reference.packages()
        ]
  return config


def on_files(files, config):
  """Adds the pages that are made."""
  pages = {
    'reference/cli.md': reference.commands_page(),
    'reference/config.md': reference.config_page(),
  }
  for name in reference.packages():
    pages[f'python/{name}.md'] = reference.package_page(name)
  for file in list(files.documentation_pages()):
    if file.src_uri.endswith('.md'):
      pages |= _sources(file)
  for path in TUTORIALS:
    pages |= _tutorial(path)
  for uri, content in pages.items():
    files.append(File.generated(config, uri, content=content))
  style = HERE / 'site.css'
  files.append(
    File.generated(config, 'assets/site.css', abs_src_path=str(style))
  )
  return files


def _tutorial(path):
  """The page of a notebook, and the pictures in it."""
  name = path.stem
  text, resources = nbconvert.MarkdownExporter().from_filename(
    str(path), {'unique_key': name, 'output_files_dir': f'{name}_files'}
  )
  title, _, rest = text.partition('\n')
  link = (
    f'[Download this page as a notebook]({name}.ipynb){{ download }}, and open '
    'it where `pip install ".[notebooks]"` was run.'
  )
  pages = {f'tutorials/{name}.md': f'{title}\n\n{link}\n{rest}'}
  for picture, content in resources['outputs'].items():
    pages[f'tutorials/{picture}'] = content
  return pages


def _sources(file):
  """Pages of the source files that a page links to."""
  pages = {}
  for path in _linked(file.content_string, file.src_uri):
    text = (ROOT / path).read_text(encoding='utf-8')
    suffix = pathlib.Path(path).suffix.removeprefix('.')
    pages[f'sources/{path}.md'] = f'# {path}\n\n````{suffix}\n{text}````\n'
  return pages


def _linked(text, uri):
  for match in _SOURCE.finditer(text):
    yield _outside(match, uri)


def _outside(match, uri):
  """The path in the repository of what a page in docs/ links to."""
  folder = posixpath.dirname(f'docs/{uri}')
  return posixpath.normpath(posixpath.join(folder, match['up'], match['path']))


def on_page_markdown(markdown, page, **_):
  """Turns links to sources and notebooks into links to their pages."""
  up = posixpath.relpath('.', posixpath.dirname(page.file.src_uri) or '.')

  def to_page(match):
    path = _outside(match, page.file.src_uri)
    if path.startswith('docs/'):
      return match[0]
    return f']({up}/sources/{path}.md)'

  markdown = re.sub(r'\.ipynb\)(?!{ download })', '.md)', markdown)
  return _SOURCE.sub(to_page, markdown)
