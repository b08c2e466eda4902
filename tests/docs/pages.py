"""The pages that a user reads: the README and docs/, and what is in them."""

import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PATHS = (
  ROOT / 'README.md',
  ROOT / 'CONTRIBUTING.md',
  *sorted((ROOT / 'docs').glob('*.md')),
)
IDS = [path.name for path in PATHS]
_FENCE = re.compile(r'^ *```(\w*)\n(.*?)^ *```$', re.DOTALL | re.MULTILINE)


def fences(text: str, language: str) -> list[str]:
  """The blocks of code in a language."""
  return [code for name, code in _FENCE.findall(text) if name == language]


def inline(text: str) -> list[str]:
  """What stands in backticks, which may go over the end of a line."""
  found = re.findall(r'`([^`]+)`', _FENCE.sub('', text))
  return [' '.join(code.split()) for code in found]


def headings(text: str) -> set[str]:
  """The anchors of a page's headings, as GitHub and the site make them."""
  lines = re.findall(r'^#+ (.*)$', _FENCE.sub('', text), re.MULTILINE)
  titles = (re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', line) for line in lines)
  return {
    re.sub(r'[^\w\- ]', '', title.lower()).strip().replace(' ', '-')
    for title in titles
  }


def links(text: str) -> Iterator[tuple[str, str]]:
  """Path and anchor of every link to another place in the repository."""
  for target in re.findall(r'\]\(([^)\s]+)\)', _FENCE.sub('', text)):
    if '://' not in target:
      path, _, anchor = target.partition('#')
      yield path, anchor
