"""The command that fills minutes of a GPU: what it keeps, and when it ends."""

import pathlib
import time

import pytest

from experiments import gpu_evidence
from experiments.gpu_evidence import Block
from rnascl_jax.config import config_files

_ROOT = pathlib.Path(__file__).parents[2]


def _print(
  name: str, code: str, seconds: float = 60.0, group: str = ''
) -> Block:
  return Block(name, ('-c', code), seconds, group)


def _run(root, *blocks, minutes=1.0):
  return gpu_evidence.run(root, blocks, time.monotonic() + 60 * minutes)


def _runs(pid: int) -> bool:
  status = pathlib.Path(f'/proc/{pid}/status')
  return status.exists() and 'State:\tZ' not in status.read_text()


def test_a_block_that_fails_or_is_ended_keeps_its_rows_and_runs_again(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(_ROOT)
  row = """print('{"ms": 1.5}')"""
  child = (
    'import subprocess, sys, time; '
    'nap = "import time; time.sleep(60)"; '
    'print(subprocess.Popen([sys.executable, "-c", nap], '
    'stdout=subprocess.DEVNULL).pid)'
  )
  results = _run(
    tmp_path,
    _print('fails', f'{row}; 1 / 0'),
    _print('is ended', f'{row}; {child}; print("{{cut"); time.sleep(60)', 5.0),
    _print('works', f'{row}; print("words")'),
  )
  assert [r['complete'] for r in results] == [False, False, True]
  assert [r['rows'] for r in results] == [[{'ms': 1.5}]] * 3
  pid, cut = results[1]['text']
  assert cut == '{cut' and not _runs(int(pid))
  assert 'ZeroDivisionError' in (tmp_path / 'fails.log').read_text()
  page = (tmp_path / 'page.md').read_text()
  assert page.count('| 1.5 |') == 3 and page.count('ended before') == 2
  again = _run(tmp_path, _print('works', '1 / 0'), _print('fails', row))
  assert [(r['block'], r['complete']) for r in again] == [
    ('works', True),
    ('fails', True),
  ]


def test_no_block_starts_when_time_is_up_and_a_group_runs_at_once(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(_ROOT)
  monkeypatch.setattr(gpu_evidence, '_GRACE_S', 0.1)
  meet = (
    'import pathlib, sys, time\n'
    'here, there = map(pathlib.Path, {0!r}.split())\n'
    'here.touch()\n'
    'while not there.exists(): time.sleep(0.01)'
  )
  one, two = tmp_path / 'one', tmp_path / 'two'
  results = _run(
    tmp_path,
    _print('one', meet.format(f'{one} {two}'), group='both'),
    _print('two', meet.format(f'{two} {one}'), group='both'),
    _print('long', 'import time; time.sleep(60)'),
    _print('late', 'print(1)'),
    minutes=0.1,
  )
  assert [(r['block'], r['complete']) for r in results] == [
    ('one', True),
    ('two', True),
    ('long', False),
  ]


@pytest.mark.parametrize('tiny', [False, True])
def test_every_block_names_files_that_there_are_and_fields_of_configs(
  tiny, tmp_path, monkeypatch
):
  monkeypatch.chdir(_ROOT)
  *_, pipeline = blocks = gpu_evidence.blocks(tmp_path, tiny)
  for block in blocks:
    words = [w.split('=', 1)[-1].split(':')[0] for w in block.command]
    named = [w for w in words if w.startswith(('tests/', 'docs/'))]
    assert all((_ROOT / name).exists() for name in named)
    assert named or block is pipeline
  parsed = config_files.parse(pipeline.command)
  assert parsed.teacher.bfloat16 == ('never' if tiny else 'accelerators')
