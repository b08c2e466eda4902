"""Whether a run that is stopped and goes on gives the bits of one that is not.

  PYTHONPATH=. python tests/benchmarks/resume.py --workdir=DIR

Trains a teacher on digits with PGD twice, the second time with SIGTERM once its
first epochs are done, and compares `metrics.jsonl` and the weights. Prints a
line of JSON. On a GPU some of XLA's programs add up in any order, unless
XLA_FLAGS=--xla_gpu_deterministic_ops=true says otherwise; the flags are those
of the environment, and are printed.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
from absl import app, flags

from rnascl_jax.stages import run as runs

_WORKDIR = flags.DEFINE_string('workdir', None, 'A new folder.', required=True)
_EPOCHS = flags.DEFINE_integer('epochs', 40, 'Epochs of training.')


def _start(folder: pathlib.Path) -> subprocess.Popen:
  return subprocess.Popen(
    [
      *(sys.executable, '-m', 'experiments.teacher'),
      '--config=teachers:data=digits',
      f'--config.teacher.optimization.epochs={_EPOCHS.value}',
      f'--workdir={folder}',
    ],
    # Processes beside one another, of which none takes the whole memory.
    env=os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'},
    stdout=subprocess.DEVNULL,
    stderr=(folder.parent / f'{folder.name}.log').open('ab'),
  )


def main(argv) -> None:
  """Prints what is the same."""
  del argv
  root = pathlib.Path(_WORKDIR.value).absolute()
  root.mkdir(parents=True)
  whole, stopped = root / 'whole', root / 'stopped'
  processes = [_start(whole), _start(stopped)]
  metrics = stopped / 'teacher' / 'metrics.jsonl'
  while processes[1].poll() is None:
    if metrics.exists() and metrics.read_text().count('\n') > 2:
      processes[1].send_signal(signal.SIGTERM)
      break
    time.sleep(0.02)
  codes = [processes[1].wait(), _start(stopped).wait(), processes[0].wait()]
  lines = [
    (folder / 'teacher' / 'metrics.jsonl').read_text()
    for folder in (whole, stopped)
  ]
  weights = [
    jax.tree.leaves(runs.load_variables(folder / 'teacher'))
    for folder in (whole, stopped)
  ]
  row = {
    'exit codes': codes,
    'the same metrics': lines[0] == lines[1],
    'the same weights': all(map(np.array_equal, *weights)),
    'XLA_FLAGS': os.environ.get('XLA_FLAGS', ''),
  }
  print(json.dumps(row), flush=True)


if __name__ == '__main__':
  app.run(main)
