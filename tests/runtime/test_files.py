"""Tests of rnascl_jax.runtime.files."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.runtime import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / 'a.txt'
  files.write_atomically(path, 'old')
  with pytest.raises(RuntimeError), files.replacing(path) as file:
    file.write(b'half')
    raise RuntimeError
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['a.txt']


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.txt'
  files.write_atomically(path, 'old')
  code = (
    'import os, sys; from rnascl_jax.runtime import files\n'
    'with files.replacing(sys.argv[1]) as file:\n'
    "  file.write(b'half'); file.flush(); os._exit(9)"
  )
  killed = subprocess.run([sys.executable, '-c', code, path], check=False)
  assert killed.returncode == 9
  assert path.read_text() == 'old'


def test_writing_creates_folders_and_overwrites(tmp_path):
  path = tmp_path / 'x' / 'y' / 'a.npz'
  files.write_atomically(path, 'ε')
  assert path.read_bytes() == 'ε'.encode()
  with files.replacing(path) as file:
    np.savez(file, x=np.arange(3))
  assert files.read_npz(path, 'x')['x'].tolist() == [0, 1, 2]
  assert os.listdir(path.parent) == ['a.npz']


def test_written_json_is_strict_and_keeps_non_finite_floats(tmp_path):
  value = {'a': [1, 2.5, None, True, 'x'], 'b': {'c': math.inf, 'd': -math.inf}}
  files.write_json(tmp_path / 'a.json', {**value, 'nan': math.nan})

  def refuse(name):
    raise AssertionError(f'{name} is not JSON')

  text = (tmp_path / 'a.json').read_text()
  strict = json.loads(text, parse_constant=refuse)
  assert strict['b'] == {'c': 'Infinity', 'd': '-Infinity'}
  read = files.read_json(tmp_path / 'a.json')
  assert math.isnan(read.pop('nan'))
  assert read == value


def test_arrays_scalars_and_paths_become_plain_json():
  value = {
    'f32': np.float32(0.1),
    'bf16': jnp.asarray(1.5, jnp.bfloat16),
    'i': np.int64(2**40),
    'b': np.bool_(True),
    'list': jnp.arange(3),
    'nan': np.array([1.0, np.nan]),
    'tuple': (1, np.float64(2.0)),
    'path': pathlib.Path('a/b'),
    3: 'key',
  }
  plain = json.loads(json.dumps(files.to_json(value), allow_nan=False))
  assert plain.pop('f32') == float(np.float32(0.1))
  assert [*plain] == ['bf16', 'i', 'b', 'list', 'nan', 'tuple', 'path', '3']
  expected = [1.5, 2**40, True, [0, 1, 2], [1.0, 'NaN'], [1, 2.0], 'a/b', 'key']
  assert [*plain.values()] == expected


def test_what_is_not_json_is_refused_by_its_type(tmp_path):
  with pytest.raises(TypeError, match='set cannot be written as JSON'):
    files.write_json(tmp_path / 'a.json', {'x': {1, 2}})
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
  'content, what',
  [
    (b'{"a": 1', 'JSONDecodeError'),
    (b'', 'JSONDecodeError'),
    (b'"\xff"', 'UnicodeDecodeError'),
    (b'[' * 100_000, 'RecursionError'),
    (b'[]', 'it holds a list, not an object'),
    (b'"a"', 'it holds a str, not an object'),
    (b'{}', 'it lacks a'),
    (None, 'IsADirectoryError'),
  ],
)
def test_what_is_not_an_object_with_the_wanted_keys_is_named(
  tmp_path, content, what
):
  path = tmp_path / 'a.json'
  if content is None:
    path.mkdir()
  else:
    path.write_bytes(content)
  with pytest.raises(files.DamagedFileError, match=re.escape(what)) as error:
    files.read_json(path, 'a', remedy='Do this.')
  assert str(error.value).startswith(f'{path} is damaged: ')
  assert str(error.value).endswith('. Do this.')


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_no_flipped_bit_in_a_file_of_arrays_changes_them(tmp_path, save):
  """One bit of every third byte; NumPy itself leaves some unnoticed."""
  path = tmp_path / 'a.npz'
  arrays = {'x': np.arange(9.0), 'name': np.array('L∞'), 'e': np.array(0.1)}
  save(path, **arrays)
  content = path.read_bytes()
  noticed = 0
  for index in range(0, len(content), 3):
    flipped = bytearray(content)
    flipped[index] ^= 1 << index % 8
    path.write_bytes(flipped)
    try:
      read = files.read_npz(path, *arrays)
    except files.DamagedFileError as error:
      assert str(error).startswith(f'{path} is damaged: ')
      noticed += 1
      continue
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
      assert read[name].tobytes() == array.tobytes()
  # Dates and access rights of the members change nothing.
  assert noticed > len(content) / 5


@pytest.mark.parametrize('content', [b'', b'x', b'PK\x03\x04', None])
def test_what_is_no_file_of_arrays_is_named(tmp_path, content):
  path = tmp_path / 'a.npz'
  if content is None:
    np.savez(path, y=np.arange(3))
  else:
    path.write_bytes(content)
  with pytest.raises(files.DamagedFileError, match=r'a\.npz is damaged'):
    files.read_npz(path, 'x')
  with pytest.raises(FileNotFoundError):
    files.read_npz(tmp_path / 'b.npz')


def _write(path, steps):
  with files.JsonLines(path) as lines:
    for step in steps:
      lines.write({'step': step, 'loss': step / 3})


def test_a_line_is_appended_as_soon_as_it_is_written(tmp_path):
  path = tmp_path / 'x' / 'm.jsonl'
  _write(path, [1, 2])
  with files.JsonLines(path) as lines:
    with pytest.raises(ValueError, match="integer 'step'"):
      lines.write({'loss': 1.0})
    lines.write({'step': 3, 'loss': math.inf})
    assert path.read_text().endswith('\n{"step": 3, "loss": "Infinity"}\n')
    losses = [record['loss'] for record in files.read_json_lines(path)]
    assert losses == [1 / 3, 2 / 3, math.inf]


@pytest.mark.parametrize('cut', [1, 10, 30])
def test_a_killed_run_that_goes_on_gives_the_file_of_an_uninterrupted_one(
  tmp_path, cut
):
  whole, resumed = tmp_path / 'whole.jsonl', tmp_path / 'resumed.jsonl'
  _write(whole, range(10))
  # Checkpoint at step 4; killed while writing the line of step 6.
  _write(resumed, range(7))
  resumed.write_bytes(resumed.read_bytes()[:-cut])
  with files.JsonLines(resumed) as lines:
    lines.truncate_after(4)
    for step in range(5, 10):
      lines.write({'step': step, 'loss': step / 3})
  assert resumed.read_bytes() == whole.read_bytes()


def test_a_line_that_was_cut_off_is_neither_read_nor_continued(tmp_path):
  path = tmp_path / 'm.jsonl'
  _write(path, [1, 2])
  path.write_bytes(path.read_bytes()[:-1])  # Only the end of line is missing.
  assert [r['step'] for r in files.read_json_lines(path)] == [1]
  _write(path, [3])
  assert [r['step'] for r in files.read_json_lines(path)] == [1, 3]


def test_truncation_may_leave_nothing_or_everything(tmp_path):
  path = tmp_path / 'm.jsonl'
  _write(path, [1, 2])
  with files.JsonLines(path) as lines:
    lines.truncate_after(2)
    assert len(files.read_json_lines(path)) == 2
    lines.truncate_after(-1)
    assert path.read_bytes() == b''
    lines.write({'step': 0})
  assert files.read_json_lines(path) == [{'step': 0}]


def test_a_broken_line_in_the_middle_is_reported_by_number(tmp_path):
  path = tmp_path / 'm.jsonl'
  path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
  with pytest.raises(ValueError, match=r'm\.jsonl:2 is damaged'):
    files.read_json_lines(path)
  path.write_text('[1]\n')
  with pytest.raises(
    ValueError, match=r'm\.jsonl:1 is damaged: it holds a list'
  ):
    files.read_json_lines(path)
