r"""Measures in minutes of one GPU what no CPU can: one JSON and one page.

  JAX_PLATFORMS=cpu PYTHONPATH=. python tests/benchmarks/precision.py \
    --reference=DIR/precision.npz  # Beforehand, on any machine.
  rnascl gpu-evidence --workdir=DIR

In this order, each in a process of its own, and as far as --minutes go:

  precision   results in float32, TF32 and bfloat16 against the CPU's
  resume      whether a run that is stopped goes on to the bit
  steps       steps of training and of a search
  pytorch     the same of PyTorch, where it is installed
  autoattack  AutoAttack against the official code, 512 images of CIFAR-10 and
              the teacher in docs/results
  pipeline    ResNet-18 by FastAT in bfloat16, then S3 searched, trained,
              hardened with eq. (6) and attacked; it goes on where it was ended

The first two run at the same time, the others alone. When a block has ended,
DIR/results.json and DIR/page.md are written; one that was complete is not run
again, so the same command adds what is missing. It needs CIFAR-10 under
TFDS_DATA_DIR (51 MB as JPEG), the extra `test`, and a PyTorch for the GPU.

--tiny has small networks in all blocks, to rehearse it on a CPU.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from absl import flags, logging

from rnascl_jax.reporting import tables
from rnascl_jax.runtime import files, paths
from rnascl_jax.stages import launcher

_MINUTES = flags.DEFINE_float('minutes', 9.0, 'When to end.', lower_bound=0.1)
_TINY = flags.DEFINE_bool('tiny', False, 'Rehearses on a CPU.')
_ONLY = flags.DEFINE_list('only', [], 'Blocks to run; all without it.')
# Between the signal that ends a block and its end by force.
_GRACE_S = 20.0
_BENCHMARKS = 'tests/benchmarks'
_TEACHER = 'docs/results/cifar10_wrn_22_2.safetensors'


@dataclasses.dataclass(frozen=True)
class Block:
  """One of the things that are measured.

  Attributes:
    name: in the results.
    command: of Python; what it prints is kept, lines of JSON as rows.
    seconds: it is ended after them.
    group: blocks of a group run at the same time; empty to run alone.
  """

  name: str
  command: tuple[str, ...]
  seconds: float
  group: str = ''


def blocks(root: pathlib.Path, tiny: bool) -> tuple[Block, ...]:
  """The blocks in their order; the pipeline's workdir is in `root`."""
  small = ('--tiny',) if tiny else ()
  pipeline: tuple[str, ...] = ('--config=digits:smoke',)
  attacked: tuple[str, ...] = (
    *('--network=convolutions', '--images=8', '--batch=8', '--queries=20'),
    '--epsilon_255=2',
  )
  if not tiny:
    pipeline = (
      '--config=cifar10:teacher=resnet18',
      '--config.teacher.bfloat16=accelerators',
      '--config.teacher.adversarial_training.name=fast',
      '--config.teacher.optimization.epochs=15',
      '--config.teacher.optimization.schedule=cyclic',
      '--config.teacher.optimization.learning_rate=0.2',
      '--config.teacher.optimization.checkpoint_every=5',
      '--config.search.optimization.epochs=10',
      '--config.search.temperature_decay=0.45',
      '--config.train.optimization.epochs=20',
      '--config.adversarial.optimization.epochs=5',
      '--config.evaluation.max_images=1000',
    )
    attacked = (
      *(f'--network={_TEACHER}', '--epsilon_255=8', '--torch_device=cuda'),
      *('--images=512', '--batch=512', '--repeats=1'),
    )
  epochs, slower = (4, 5) if tiny else (20, 1)
  return (
    Block(
      'precision',
      (f'{_BENCHMARKS}/precision.py', f'--reference={root}/precision.npz')
      + small,
      200 * slower,
      'correctness',
    ),
    Block(
      'resume',
      (
        f'{_BENCHMARKS}/resume.py',
        f'--workdir={root}/resume',
        f'--epochs={epochs}',
      ),
      150 * slower,
      'correctness',
    ),
    Block('steps', (f'{_BENCHMARKS}/training_steps.py', *small), 330 * slower),
    Block(
      'pytorch', (f'{_BENCHMARKS}/training_steps.py', '--torch', *small), 90
    ),
    Block('autoattack', (f'{_BENCHMARKS}/autoattack.py', *attacked), 240),
    Block(
      'pipeline',
      (*('-m', 'experiments.pipeline', f'--workdir={root}/run'), *pipeline),
      3600,
    ),
  )


def run(
  root: pathlib.Path, wanted: Sequence[Block], deadline: float
) -> list[dict]:
  """Runs the blocks that have no result yet, until the deadline.

  Args:
    root: folder of the results.
    wanted: blocks, in their order.
    deadline: of `time.monotonic`.

  Returns:
    A result for each block that ran, now or before.
  """
  path = root / 'results.json'
  saved = files.read_json(path, 'blocks') if path.exists() else {'blocks': []}
  results = [result for result in saved['blocks'] if result['complete']]
  known = {result['block'] for result in results}
  missing = [block for block in wanted if block.name not in known]
  for _, group in itertools.groupby(missing, lambda b: b.group or b.name):
    left = deadline - time.monotonic() - _GRACE_S
    if left <= 0:
      break
    with concurrent.futures.ThreadPoolExecutor() as pool:
      results += pool.map(lambda b, s=left: _measure(root, b, s), group)
    files.write_json(path, {'blocks': results})
    files.write_atomically(root / 'page.md', page(results))
  return results


def _measure(root: pathlib.Path, block: Block, left: float) -> dict:
  """Runs a block; what it printed is kept also if it fails or is ended."""
  begin, seconds = time.monotonic(), min(left, block.seconds)
  logging.info('%s: at most %.0f s', block.name, seconds)
  log = root / f'{block.name}.log'
  environment = os.environ | {
    'PYTHONPATH': os.pathsep.join(
      ['.', *filter(None, [os.environ.get('PYTHONPATH')])]
    ),
    'PYTHONUNBUFFERED': '1',
    'XLA_PYTHON_CLIENT_PREALLOCATE': str(not block.group).lower(),
  }
  with log.open('w', encoding='utf-8') as output:
    process = subprocess.Popen(
      [sys.executable, *block.command],
      stdout=subprocess.PIPE,
      stderr=output,
      encoding='utf-8',
      env=environment,
      start_new_session=True,
    )
    try:
      printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
      process.send_signal(signal.SIGTERM)
      try:
        printed, _ = process.communicate(timeout=_GRACE_S)
      except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
    finally:
      # Processes that it started keep the device otherwise.
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
  rows, text = _split(printed)
  return {
    'block': block.name,
    'command': ' '.join(['python', *block.command]),
    'seconds': round(time.monotonic() - begin, 1),
    'complete': process.returncode == 0,
    'rows': rows,
    'text': text,
  }


def _split(printed: str) -> tuple[list[dict], list[str]]:
  """Lines of JSON, and all others, such as one that was cut off."""
  rows, text = [], []
  for line in printed.splitlines():
    try:
      rows.append(dict(json.loads(line)))
    except (ValueError, TypeError):
      text.append(line)
  return rows, text


def page(results: list[dict]) -> str:
  """The results as Markdown: a table for rows with the same fields."""
  parts = ['# Measured on one device\n']
  for result in results:
    ended = '' if result['complete'] else ', ended before it was complete'
    parts.append(
      f'## {result["block"]}\n\n`{result["command"]}`, '
      f'{result["seconds"]:.0f} s{ended}\n'
    )
    kinds: dict[tuple[str, ...], list[dict]] = {}
    for row in result['rows']:
      kinds.setdefault(tuple(row), []).append(row)
    for heads, rows in kinds.items():
      cells = [[str(value) for value in row.values()] for row in rows]
      parts.append(tables.markdown([list(heads), *cells], left=1) + '\n')
    if result['text']:
      parts.append('\n'.join(['```', *result['text'], '```\n']))
  return '\n'.join(parts)


def _main() -> str:
  if not pathlib.Path('tests/benchmarks').is_dir():
    sys.exit(
      'error: this runs tests/benchmarks, which only a checkout has: start it '
      'from the root of one.'
    )
  root = paths.local(launcher.FLAGS.workdir, '--workdir').absolute()
  root.mkdir(parents=True, exist_ok=True)
  every = blocks(root, _TINY.value)
  unknown = set(_ONLY.value) - {block.name for block in every}
  if unknown:
    names = ', '.join(block.name for block in every)
    sys.exit(f'error: --only={",".join(sorted(unknown))}: one of {names}.')
  wanted = [b for b in every if not _ONLY.value or b.name in _ONLY.value]
  deadline = time.monotonic() + 60 * _MINUTES.value
  results = run(root, wanted, deadline)
  return page(results) + f'\nSaved as {root}/results.json and {root}/page.md'


if __name__ == '__main__':
  launcher.define_workdir()
  launcher.command(_main)
