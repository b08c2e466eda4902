"""Draws docs/rooms.svg from the imports of the code, and docs/step.svg.

python docs/site/diagrams.py
"""

import ast
import html
import pathlib
import textwrap

ROOT = pathlib.Path(__file__).parents[2]
_WIDTH, _MARGIN, _GAP = 800, 16, 12
_STYLE = """
  text { font-family: system-ui, sans-serif; font-size: 13px; fill: #1c2230; }
  .name { font-weight: 600; font-size: 15px; }
  .small { font-size: 12px; fill: #4a5266; }
  .code { font-family: monospace; font-size: 12px; fill: #303f9f; }
  .sheet { fill: #ffffff; }
  .box { fill: #eef0fa; stroke: #9fa8da; }
  .arrow { stroke: #5c6bc0; stroke-width: 2; marker-end: url(#head); }
"""
_HEAD = (
  '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
  'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#5c6bc0"/>'
  '</marker>'
)
# A part of a training step, what it gives, and where it is.
_STEP = (
  ('Augment', 'crops and mirrors, a random key for each image', 'prepare'),
  (
    'Ask the teacher',
    'logits and attention maps of the clean images, once',
    'compare.ask_teacher',
  ),
  (
    'Perturb the images',
    'by the adversarial method; standard training leaves them',
    'method.perturb',
  ),
  (
    'Loss',
    'cross-entropy, KL, attention by tutors, robust term: eqs. (2), (4), (6)',
    'loss.loss_fn',
  ),
  (
    'Gradient',
    'in parts where memory is short, then the mean over all devices',
    'accumulation.mean_gradient',
  ),
  (
    'Update',
    'weights, projections and the memory of CRD',
    'recipe.optimizer.update',
  ),
  ('Metrics', 'sums over the global batch', 'train_state.sum_up'),
)


def imports() -> dict[str, set[str]]:
  """The rooms that each room imports from."""
  graph: dict[str, set[str]] = {'base': set()}
  for path in sorted((ROOT / 'rnascl_jax').glob('*/**/*.py')):
    room = path.relative_to(ROOT / 'rnascl_jax').parts[0]
    names = graph.setdefault(room, set())
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.ImportFrom) and node.module:
        names |= {f'{node.module}.{alias.name}' for alias in node.names}
      elif isinstance(node, ast.Import):
        names |= {alias.name for alias in node.names}
  rooms = set(graph)
  for room, names in graph.items():
    parts = (n.split('.') for n in names if n.startswith('rnascl_jax.'))
    graph[room] = {part[1] for part in parts} & rooms - {room}
  return graph


def floors(graph: dict[str, set[str]]) -> list[list[str]]:
  """Rooms by floors: each stands right below the lowest that it needs."""
  floor: dict[str, int] = {}
  while len(floor) < len(graph):
    for room, needs in graph.items():
      if room not in floor and needs <= set(floor):
        floor[room] = 1 + max((floor[need] for need in needs), default=-1)
  rows: list[list[str]] = [[] for _ in range(1 + max(floor.values()))]
  for room, row in floor.items():
    rows[row].append(room)
  return rows


def _nearest(graph: dict[str, set[str]], room: str) -> list[str]:
  """What a room imports from and none of these imports from."""

  def above(name: str) -> set[str]:
    return graph[name].union(*map(above, graph[name]))

  others = set().union(*map(above, graph[room])) if graph[room] else set()
  return sorted(graph[room] - others)


def rooms() -> str:
  """The rooms on their floors, with their docstrings."""
  graph, parts, y = imports(), [], _MARGIN
  for row in floors(graph):
    width = (_WIDTH - 2 * _MARGIN - _GAP * (len(row) - 1)) / len(row)
    texts = {room: _wrapped(_sentence(room), width) for room in row}
    height = 58 + 17 * max(map(len, texts.values()))
    for place, room in enumerate(row):
      x = _MARGIN + place * (width + _GAP)
      parts += [_box(x, y, width, height), _text(x + 12, y + 22, room, 'name')]
      for line, text in enumerate(texts[room]):
        parts.append(_text(x + 12, y + 42 + 17 * line, text))
      near = ', '.join(_nearest(graph, room))
      if near:
        parts.append(_text(x + 12, y + height - 10, f'from {near}', 'small'))
    y += height + _GAP
  return _svg(parts, y + _MARGIN - _GAP)


def _sentence(room: str) -> str:
  path = ROOT / 'rnascl_jax' / room / '__init__.py'
  path = path if path.exists() else path.parent.with_suffix('.py')
  text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
  sentence = (text or '').splitlines()[0].replace('`', '')
  sentence = sentence.removeprefix(f'{room.capitalize()}: ')
  return sentence[0].upper() + sentence[1:]


def step() -> str:
  """The parts of a training step, one below the other."""
  parts, y, height = [], _MARGIN, 54
  for place, (name, gives, where) in enumerate(_STEP):
    if place:
      x = _MARGIN + 60
      parts.append(f'<path class="arrow" d="M{x} {y - 20}V{y}"/>')
    parts += [
      _box(_MARGIN, y, _WIDTH - 2 * _MARGIN, height),
      _text(_MARGIN + 12, y + 22, name, 'name'),
      _text(_MARGIN + 12, y + 42, gives),
      _text(_WIDTH - _MARGIN - 12, y + 22, where, 'code" text-anchor="end'),
    ]
    y += height + 20
  return _svg(parts, y + _MARGIN - 20)


def _wrapped(text: str, width: float) -> list[str]:
  return textwrap.wrap(text, int((width - 24) / 6.6))


def _box(x: float, y: float, width: float, height: float) -> str:
  return (
    f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" '
    f'height="{height:g}" rx="6"/>'
  )


def _text(x: float, y: float, text: str, kind: str = '') -> str:
  text = html.escape(text)
  return f'<text class="{kind}" x="{x:g}" y="{y:g}">{text}</text>'


def _svg(parts: list[str], height: float) -> str:
  return '\n'.join(
    [
      '<svg xmlns="http://www.w3.org/2000/svg" '
      f'viewBox="0 0 {_WIDTH} {height:g}">',
      f'<style>{_STYLE}</style><defs>{_HEAD}</defs>',
      f'<rect class="sheet" width="{_WIDTH}" height="{height:g}" rx="8"/>',
      *parts,
      '</svg>\n',
    ]
  )


if __name__ == '__main__':
  for name, picture in (('rooms', rooms()), ('step', step())):
    path = ROOT / 'docs' / f'{name}.svg'
    path.write_text(picture, encoding='utf-8')
