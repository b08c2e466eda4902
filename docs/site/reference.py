"""The pages of the reference, as Markdown made from the code."""

import concurrent.futures
import dataclasses
import functools
import json
import pathlib
import re
import typing
from collections.abc import Iterator, Mapping

import griffe

from rnascl_jax.config import schema
from rnascl_jax.reporting import tables
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]


@functools.cache
def _library() -> griffe.Module:
  as_written = pathlib.Path(__file__).with_name('docstrings.py')
  return griffe.load(
    'rnascl_jax',
    search_paths=[str(ROOT)],
    extensions=griffe.load_extensions(str(as_written)),
  )


def _module(name: str) -> griffe.Module:
  return _library()[name] if name else _library()


@functools.cache
def packages() -> tuple[str, ...]:
  """Names of all packages behind `rnascl_jax.`, and of its one module."""
  root = ROOT / 'rnascl_jax'
  folders = [path.parent for path in sorted(root.rglob('__init__.py'))]
  names = ('.'.join(folder.relative_to(root).parts) for folder in folders)
  return tuple(name or 'base' for name in names)


def package_page(name: str) -> str:
  """The docstrings of a package, of its modules and all that is in them."""
  package = '' if name == 'base' else name
  if package:
    modules = [
      f'{name}.{module.name}'
      for module in _module(name).modules.values()
      if module.filepath.name != '__init__.py'
    ]
  else:
    modules = ['base']
  title = f'rnascl_jax.{package}'.removesuffix('.')
  own = [
    member.name
    for member in _module(package).members.values()
    if not (member.is_alias or member.is_module or member.name[0] == '_')
  ]
  parts = [
    f'# {title}',
    f'::: {title}\n    options:\n      show_root_heading: false\n'
    f'      members: {json.dumps(own)}',
    _names(package),
    *(f'::: rnascl_jax.{module}' for module in sorted(modules)),
  ]
  return '\n\n'.join(parts) + '\n'


def _names(name: str) -> str:
  """What a package offers from its modules, with links and first sentences."""
  rows = [['Name', 'What it is']]
  package = _module(name)
  for alias in sorted(package.exports or [], key=str):
    member = package[str(alias)]
    if not member.is_alias or member.final_target.is_module:
      continue
    target = member.final_target
    text = target.docstring.value if target.docstring else ''
    rows.append([f'[`{alias}`][{target.path}]', text.partition('\n')[0]])
  return tables.markdown(rows, left=2) if rows[1:] else ''


def commands_page() -> str:
  """What `rnascl COMMAND --help` prints, of each command."""
  names = sorted(
    path.stem
    for path in (ROOT / 'experiments').glob('*.py')
    if path.stem != '__init__'
  )
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    texts = pool.map(lambda name: commands.run(name, '--help')[1], names)
  parts = [
    '# Command line',
    'This is what `rnascl COMMAND --help` prints. '
    '[Commands and configs](../commands.md) explains how they go together.',
  ]
  for name, text in zip(names, texts, strict=True):
    text = re.sub(r'\S+/experiments/\w+\.py', f'rnascl {name}', text)
    parts += [f'## {name.replace("_", "-")}', f'```text\n{text.strip()}\n```']
  return '\n\n'.join(parts) + '\n'


def config_page() -> str:
  """All fields of a config: type, bounds, default and meaning."""
  parts = [
    '# Fields of a config',
    'Every field can be changed on the command line, as in '
    '`--config.search.gamma=100`. A value of another type, out of its bounds '
    'or at odds with another field is refused before anything is computed. '
    'Defaults are those of `rnascl_jax.config.settings.template()`; a config '
    'file changes some of them. Tuples are written '
    '`--config.evaluation.attacks="(\'fgsm\',)"`.',
  ]
  places: dict[type, dict[str, typing.Any]] = {}
  for path, section in _sections('config', schema.Settings()):
    places.setdefault(type(section), {})[path] = section
  titles = {cls: _title(list(at)) for cls, at in places.items()}
  for cls, at in places.items():
    parts += [f'## {titles[cls]}', *_section(cls, at, titles)]
  return '\n\n'.join(parts) + '\n'


def _title(paths: list[str]) -> str:
  """What a section is called: its path, or the end of several paths."""
  names = [path.removesuffix('.NAME').split('.') for path in paths]
  return (
    '.'.join(names[0][1:] if len(names) == 1 else names[0][-1:]) or 'config'
  )


def _sections(path: str, section) -> Iterator[tuple[str, typing.Any]]:
  """A section of a config and all that are in it, by their paths."""
  yield path, section
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      yield from _sections(f'{path}.{field.name}', value)
    elif isinstance(value, Mapping):
      named = next(iter(value.values()))
      yield from _sections(f'{path}.{field.name}.NAME', type(named)())


def _section(
  cls: type, at: Mapping[str, typing.Any], titles: Mapping[type, str]
) -> Iterator[str]:
  doc = _docstring(cls)
  yield doc[0].value
  yield 'In a config: ' + ', '.join(f'`{path}`' for path in at) + '.'
  hints, plain, meanings = typing.get_type_hints(cls), cls(), _meanings(cls)
  rows = [['Field', 'Type', 'Values', 'Default', 'Meaning']]
  for field in dataclasses.fields(cls):
    value = getattr(plain, field.name)
    rows.append(
      [
        f'`{field.name}`',
        _type(hints[field.name], titles),
        _bounds(field),
        _default(value),
        meanings[field.name],
      ]
    )
  yield tables.markdown(rows, left=5)
  others = [
    f'- `{path}`: {", ".join(changes)}'
    for path, section in at.items()
    if (changes := list(_changes(section, plain)))
  ]
  if others:
    yield 'Defaults that differ:'
    yield '\n'.join(others)


def _docstring(cls: type) -> list:
  return _library()[f'config.schema.{cls.__name__}'].docstring.parse('google')


def _meanings(cls: type) -> dict[str, str]:
  """What the docstrings of a dataclass and of its bases say of its fields."""
  meanings: dict[str, str] = {}
  for base in reversed(cls.__mro__[:-1]):
    for section in _docstring(base):
      if section.kind is griffe.DocstringSectionKind.attributes:
        for attribute in section.value:
          text = ' '.join(attribute.description.split())
          meanings[attribute.name] = text.replace('|', r'\|')
  return meanings


def _type(hint, titles: Mapping[type, str]) -> str:
  if hint in titles:
    return f'[{titles[hint]}](#{titles[hint].replace(".", "").lower()})'
  if typing.get_origin(hint) is Mapping:
    return f'names of {_type(typing.get_args(hint)[1], titles)}'
  return f'`{hint.__name__ if type(hint) is type else hint}`'


def _bounds(field: dataclasses.Field) -> str:
  options = field.metadata.get('options')
  if options:
    return ', '.join(f'`{option}`' for option in options)
  low, high = field.metadata.get('low'), field.metadata.get('high')
  if low is None and high is None:
    return ''
  return f'{low:,} to {high:,}'


def _default(value) -> str:
  if dataclasses.is_dataclass(value):
    return ''
  if isinstance(value, Mapping):
    return ', '.join(f'`{name}`' for name in value)
  return f'`{value!r}`'


def _changes(section, plain) -> Iterator[str]:
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if not dataclasses.is_dataclass(value) and value != getattr(
      plain, field.name
    ):
      yield f'`{field.name}={value!r}`'
