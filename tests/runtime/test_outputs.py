"""Text for streams and files, whatever the encoding of the terminal."""

import ast
import io
import pathlib
import sys

import pytest

from rnascl_jax.runtime import outputs, progress

_ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
  ('encoding', 'expected'),
  [
    ('ascii', b'CW-inf, eps = 0.1: 35.0 +/- 1.0 x 2, o \\u4e2d ?\n'),
    ('latin-1', b'CW-inf, eps = 0.1: 35.0 \xb1 1.0 \xd7 2, \xf6 \\u4e2d ?\n'),
    ('utf-8', 'CW-∞, ε = 0.1: 35.0 ± 1.0 × 2, ö 中 \ufffd\n'.encode()),
  ],
)
def test_what_a_stream_cannot_encode_stays_readable(
  encoding, expected, monkeypatch
):
  for name in ('stdout', 'stderr'):
    stream = io.TextIOWrapper(io.BytesIO(), encoding, errors='strict')
    monkeypatch.setattr(sys, name, stream)
  outputs.degrade()
  for stream in (sys.stdout, sys.stderr):
    text = 'CW-∞, ε = 0.1: 35.0 ± 1.0 × 2, ö 中 \ufffd'
    print(text, file=stream, flush=True)
    assert stream.buffer.getvalue() == expected


def test_a_progress_bar_is_drawn_where_only_ascii_can_be_shown(monkeypatch):
  class Terminal(io.TextIOWrapper):
    def isatty(self):
      return True

  terminal = Terminal(io.BytesIO(), 'ascii', errors='strict')
  monkeypatch.setattr(sys, 'stderr', terminal)
  outputs.degrade()
  with progress.Progress(2, description='PGD at ε = 0.1') as bar:
    bar.update(2)
  terminal.flush()
  shown = terminal.buffer.getvalue()
  assert b'PGD at eps = 0.1: 100%|##' in shown


def test_all_text_is_read_and_written_in_an_encoding_that_is_named():
  found = []
  for package in ('rnascl_jax', 'experiments', 'configs'):
    for path in (_ROOT / package).rglob('*.py'):
      tree = ast.parse(path.read_bytes())
      calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
      found += [f'{path}:{call.lineno}' for call in calls if _is_unsaid(call)]
  assert not found


def _is_unsaid(call: ast.Call) -> bool:
  """Whether a call handles text in the encoding of the environment."""
  name = getattr(call.func, 'id', getattr(call.func, 'attr', ''))
  words = {word.arg: word.value for word in call.keywords}
  if 'encoding' in words:
    return False
  if name == 'open' and isinstance(call.func, ast.Name):
    mode = call.args[1] if len(call.args) > 1 else words.get('mode')
    return 'b' not in getattr(mode, 'value', '')
  if name in ('read_text', 'write_text'):
    return len(call.args) < 1 + (name == 'write_text')
  return 'text' in words and name in ('run', 'Popen', 'check_output')
