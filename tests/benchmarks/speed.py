"""Measures the tables of docs/speed.md that are of a CPU.

  PYTHONPATH=. python tests/benchmarks/speed.py --small=FILE --before=CHECKOUT

In this order, each in a process of its own, and nothing else may run beside:
AutoAttack and PGD-20 against the official code and PyTorch, steps of training
and of a search against PyTorch, and the compilation of AutoAttack and commands
against those of an earlier checkout. What is done is in --output, and is not
measured again, but for what ran less often than --pairs; the tables are
printed, and take the place of those in --page.

FILE is an exported small ResNet, trained in four minutes by

  rnascl teacher --config=teachers:network=small,method=fast --workdir=DIR \
    --config.teacher.optimization.epochs=4 --config.data.max_train=20480 \
    --config.data.max_test=256 --config.data.validation_size=500 \
    --config.teacher.optimization.select=last
  rnascl export --workdir=DIR --model=teacher --output=small.safetensors

CHECKOUT is a clone at another commit. Its commands and ours run in turn, first
with nothing compiled before and then again.
"""

import datetime
import functools
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from rnascl_jax.reporting import tables
from rnascl_jax.runtime import files

_OUTPUT = flags.DEFINE_string('output', 'docs/results/cpu.json', 'Results.')
_PAGE = flags.DEFINE_string('page', 'docs/speed.md', 'What has the tables.')
_SMALL = flags.DEFINE_string('small', '', 'An exported small ResNet.')
_BEFORE = flags.DEFINE_string('before', '', 'A checkout to compare with.')
_ONLY = flags.DEFINE_string('only', '', 'What has this in its name.')
_PAIRS = flags.DEFINE_integer('pairs', 2, 'Runs of each command.')

_Seconds = dict[str, list[float]]

_MEMBERS = ('APGD-CE', 'APGD-T', 'FAB-T', 'Square', 'AutoAttack', 'PGD-20')
_COMMANDS = {
  'demo': ('--config=digits',),
  'cifar10:smoke': ('--config=cifar10:smoke',),
}
_COMPILATION = 'compilation of AutoAttack for S3'


def _attacks() -> dict[str, tuple[str, ...]]:
  """Flags of autoattack.py by what is attacked."""
  wanted = {
    'S3, 64 images': ('--network=student', '--images=64', '--batch=64'),
    'S3, 32 images': ('--network=student', '--images=32', '--batch=32'),
    'small ResNet, 32 images': (
      f'--network={_SMALL.value}',
      '--images=32',
      '--batch=32',
      '--targets=3',
      '--epsilon_255=4',
    ),
    # With fewer queries: it would take an hour.
    'ResNet-18, 8 images': (
      '--network=resnet18',
      '--images=8',
      '--batch=8',
      '--targets=1',
      '--queries=200',
    ),
  }
  if not _SMALL.value:
    del wanted['small ResNet, 32 images']
  return {name: ('--queries=1000', *args) for name, args in wanted.items()}


def _rows(command: list[str], checkout: str = '.') -> list[dict]:
  """The lines of JSON that a benchmark prints, with the code of a checkout."""
  print('$', *command[1:], flush=True)
  done = subprocess.run(
    command,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env=os.environ | {'PYTHONPATH': str(pathlib.Path(checkout).resolve())},
  )
  lines = [line for line in done.stdout.splitlines() if line.startswith('{')]
  return [json.loads(line) for line in lines]


def _commit() -> str:
  command = ['git', 'rev-parse', '--short', 'HEAD']
  return subprocess.check_output(command, text=True).strip()


def _pairs(name: str, seconds: _Seconds) -> _Seconds:
  """Adds those of a command here and in the other checkout, cold and warm."""
  while _runs(seconds) < _PAIRS.value:
    with tempfile.TemporaryDirectory() as folder:
      for state in ('cold', 'warm'):
        for where in (_BEFORE.value, '.'):
          place = pathlib.Path(folder, 'before' if where != '.' else 'here')
          workdir = place / 'run'
          shutil.rmtree(workdir, ignore_errors=True)
          begin = time.perf_counter()
          subprocess.run(
            [
              *(sys.executable, '-m', 'experiments.pipeline'),
              *(*_COMMANDS[name], f'--workdir={workdir}'),
            ],
            cwd=where,
            env=os.environ
            | {
              'PYTHONPATH': str(pathlib.Path(where).resolve()),
              'XDG_CACHE_HOME': str(place / 'cache'),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
          )
          key = f'{state}_{place.name}_s'
          seconds.setdefault(key, []).append(
            round(time.perf_counter() - begin, 1)
          )
  return seconds


def _compilations(seconds: _Seconds) -> _Seconds:
  """Adds those of compiling AutoAttack here and in the other checkout."""
  command = [sys.executable, 'tests/benchmarks/attack_compilation.py']
  while _runs(seconds) < _PAIRS.value:
    for name, checkout in (('before_s', _BEFORE.value), ('here_s', '.')):
      (row,) = _rows(command, checkout)
      seconds.setdefault(name, []).append(row['compile_s'])
  return seconds


def _runs(seconds: _Seconds) -> int:
  """How often each of some commands ran."""
  return min(map(len, seconds.values()), default=0)


def _measure(results: dict) -> None:
  """Adds what is missing to the results, and writes them after each."""
  folder = 'tests/benchmarks'
  jobs = {
    name: lambda args=args: _rows(
      [sys.executable, f'{folder}/autoattack.py', *args]
    )
    for name, args in _attacks().items()
  }
  for step in ('s3 standard', 's3 pgd', 's3 trades', 's3 search', 'resnet18'):
    jobs[f'steps of {step}'] = lambda step=step: _rows(
      [
        *(sys.executable, f'{folder}/training_steps.py', '--cpu'),
        f'--only={step}',
      ]
    )
  jobs = {name: job for name, job in jobs.items() if name not in results}
  repeated = {_COMPILATION: _compilations}
  for name in _COMMANDS:
    repeated[f'{name}, all of it'] = functools.partial(_pairs, name)
  for name, add in repeated.items() if _BEFORE.value else ():
    (seconds,) = results.get(name, {}).get('rows', ({},))
    if _runs(seconds) < _PAIRS.value:
      jobs[name] = lambda add=add, seconds=seconds: [add(seconds)]
  for name, job in jobs.items():
    if _ONLY.value in name:
      results[name] = {
        'rows': job(),
        'commit': _commit(),
        'date': datetime.date.today().isoformat(),
      }
      files.write_json(pathlib.Path(_OUTPUT.value), results)


def _attack_table(results: dict) -> str:
  lines = []
  for name in _attacks():
    for row in results.get(name, {}).get('rows', ()):
      seconds = row['seconds']
      ratios = [
        f'{seconds[m]["ratio"]:.2f}' if m in seconds else '—' for m in _MEMBERS
      ]
      whole = seconds['AutoAttack']
      lines.append(
        [
          f'{name}, {row["targets"]} target{"s" * (row["targets"] > 1)}',
          *ratios,
          *(f'{whole[k]:.1f}' for k in ('ours_s', 'pytorch_s', 'limit_s')),
          f'{row["compile_s"]:.0f}',
        ]
      )
  head = [*_MEMBERS, 'here, s', 'official, s', 'limit, s', 'compilation, s']
  return tables.markdown([['Network', *head], *lines])


def _step_table(results: dict) -> str:
  lines = []
  for name, entry in results.items():
    for row in entry['rows'] if name.startswith('steps') else ():
      theirs = row['pytorch_ms']
      lines.append(
        [
          f'{row["step"]}, batch {row["batch"]}',
          f'{row["ms"]:.0f}',
          f'{theirs["default"]:.0f}',
          f'{theirs["channels_last"]:.0f}',
          f'{row["ratio"]:.2f}',
          f'{row["compile_s"]:.0f}',
          f'{row["temporary_mib"]}',
        ]
      )
  head = ['here, ms', 'PyTorch, ms', 'channels last, ms', 'ratio']
  head = ['Step', *head, 'compilation, s', 'temporary MiB']
  return tables.markdown([head, *lines])


def _command_table(results: dict) -> str:
  times = {}
  for name in _COMMANDS:
    for row in results.get(f'{name}, all of it', {}).get('rows', ()):
      for state in ('cold', 'warm'):
        keys = f'{state}_here_s', f'{state}_before_s'
        times[f'{name}, {state}'] = [row[key] for key in keys]
  for row in results.get(_COMPILATION, {}).get('rows', ()):
    times[_COMPILATION] = row['here_s'], row['before_s']
  lines = []
  for name, both in times.items():
    here, before = map(statistics.median, both)
    lines.append([name, f'{here:.0f}', f'{before:.0f}', f'{here / before:.2f}'])
  head = ['Command', 'here, s', 'before, s', 'ratio']
  return tables.markdown([head, *lines])


def main(argv) -> None:
  """Measures what is missing, and writes the tables."""
  del argv
  path, page = pathlib.Path(_OUTPUT.value), pathlib.Path(_PAGE.value)
  results = json.loads(path.read_text()) if path.exists() else {}
  _measure(results)
  text = page.read_text()
  for mark, make in (
    ('attacks', _attack_table),
    ('steps', _step_table),
    ('commands', _command_table),
  ):
    table = make(results)
    print(f'\n{table}')
    text = re.sub(
      f'(<!-- {mark} -->\n)(.*?)(<!-- end -->)',
      lambda match, table=table: f'{match[1]}\n{table}\n\n{match[3]}',
      text,
      flags=re.DOTALL,
    )
  files.write_atomically(page, text)


if __name__ == '__main__':
  app.run(main)
