"""Every command line on a page is one that the commands take."""

import argparse
import itertools
import multiprocessing
import os
import re
import runpy
import shlex
import sys

import pytest
from absl import app, flags

from rnascl_jax import sweeps
from rnascl_jax.config import config_files
from tests.docs import pages

_NAME = re.compile(r'(?:\brnascl\s+|python -m experiments\.)(?=[a-z$])')
# A variable of the shell that holds the beginning of commands.
_VARIABLE = re.compile(r'^(\w+)="(rnascl [^"]*)"$', re.MULTILINE)
# What pages write in the place of a number, and of a word.
_NUMBERS = re.compile(r'(?<=seed=)(?:N\b|\$\w+)|\bN\b')
_ENDS = {';', '&&', '&', '|', '>', '<', '(', ')'}
# Ends a command of which a sentence tells a part.
_PART = '...'
# How many folders a command takes that follow no flag.
_FOLDERS = {'watch': 1}
# A loop over commands.
_LOOPS = {'$stage': 'teacher'}


def commands_of(text: str) -> list[list[str]]:
  """The words of each command in a block of code, from its name on."""
  text = re.sub(r'\\\n\s*', ' ', text)
  for name, value in _VARIABLE.findall(text):
    text = text.replace(f'{name}="{value}"', '').replace(f'${name}', value)
  lines = []
  for line in text.splitlines():
    for match in _NAME.finditer(line):
      lines.append(_words(_NUMBERS.sub('0', line[match.end() :])))
  return lines


def _words(line: str) -> list[str]:
  try:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
  except ValueError:  # It stands inside quotes, which end behind it.
    words = line.rpartition('"')[0].split()
  ends = [i for i, word in enumerate(words) if word in _ENDS]
  return words[: min(ends, default=len(words))]


def _on_pages() -> dict[str, list[list[str]]]:
  """The words of all commands on all pages, by their names."""
  by_name: dict[str, list[list[str]]] = {}
  for path in pages.PATHS:
    text = path.read_text('utf-8')
    found = [commands_of(code) for code in pages.fences(text, 'bash')]
    # A command in a sentence need not be whole.
    found += [
      [[*words, _PART] for words in commands_of(code)]
      for code in pages.inline(text)
    ]
    for name, *words in itertools.chain(*found):
      name = _LOOPS.get(name, name).replace('-', '_')
      by_name.setdefault(name, []).append(words)
  return by_name


COMMANDS = _on_pages()


@pytest.fixture(scope='module')
def refusals():
  """Why each command refuses some of its lines, by its name."""
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['rnascl_jax.stages', 'rnascl_jax.sweeps'])
  # Of concurrent.futures, a pool whose processes have one task each may wait
  # for ever (CPython's issue 115634).
  with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
    refused = pool.map(_refused, COMMANDS.items(), chunksize=1)
    return dict(zip(COMMANDS, refused, strict=True))


def _refused(item: tuple[str, list[list[str]]]) -> list[str]:
  """Reads each line with the flags that the command defines."""
  name, lines = item
  parse = _parser(name)
  refused = []
  for words in lines:
    whole = words[-1:] != [_PART]
    try:
      parse(words if whole else words[:-1])
    except (ValueError, flags.Error, SystemExit) as error:
      if whole or 'must have a value' not in str(error):
        refused.append(f'{name} {shlex.join(words)}: {error}')
  return refused


def _parser(name):
  """What reads the words of a command; it is started up to that point."""
  parsers = []

  def stop(self=None, *_, **__):
    parsers.append(self)
    raise SystemExit

  app.run = stop
  read = argparse.ArgumentParser.parse_args
  argparse.ArgumentParser.parse_args = stop
  sys.argv = [name]
  try:
    runpy.run_module(f'experiments.{name}', run_name='__main__')
  except SystemExit:
    pass
  argparse.ArgumentParser.parse_args = read
  if isinstance(parsers[0], argparse.ArgumentParser):
    return lambda words: read(parsers[0], words)
  return lambda words: _parse(name, words)


def _parse(name: str, words: list[str]) -> None:
  config = [w for w in words if re.match(r'--config\b', w)]
  for flag in flags.FLAGS:
    flags.FLAGS[flag].unparse()
  rest = words if name == 'sweep' else [w for w in words if w not in config]
  _, *left = flags.FLAGS([name, *rest])
  if len(left) > _FOLDERS.get(name, 0):
    raise ValueError(f'{left} are no flags.')
  files = [w.partition('=')[2] for w in config if w.startswith('--config=')]
  if files and ('mine.py' in files[0] or files[0] == 'CONFIG'):
    return  # A file that the page shows, or any.
  if name == 'sweep':
    sweeps.load(files[0])
  elif config:
    config_files.parse(config)


def test_there_are_commands_on_the_pages():
  assert len(COMMANDS) >= 12
  assert sum(map(len, COMMANDS.values())) >= 90


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_on_a_page_is_taken(name, refusals):
  assert not refusals[name]


@pytest.mark.parametrize('path', pages.PATHS, ids=pages.IDS)
def test_every_config_with_an_argument_on_a_page_can_be_made(path):
  """Such as `cifar10:space=s5`; some arguments are those of a sweep."""
  for code in set(pages.inline(path.read_text('utf-8'))):
    name, colon, _ = code.removeprefix('--config=').partition(':')
    if colon and name in config_files.names() and ' ' not in code:
      text = code.removeprefix('--config=')
      try:
        config_files.load(text)
      except ValueError:
        assert sweeps.load(text)


@pytest.mark.parametrize('name', ['data.md', 'sweeps.md'])
def test_a_config_file_that_a_page_shows_is_read(name, tmp_path):
  text = (pages.ROOT / 'docs' / name).read_text('utf-8')
  (code,) = (c for c in pages.fences(text, 'python') if '# mine.py' in c)
  path = tmp_path / 'mine.py'
  path.write_text(code)
  (words,) = commands_of(code.splitlines()[0])
  if words[0] == 'sweep':
    assert sweeps.plan(sweeps.load(str(path)), [0, 1], str(tmp_path))
  else:
    assert config_files.parse([f'--config={path}'])
