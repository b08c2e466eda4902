"""Says which operations the time of a step on a CPU goes to, by XLA's traces.

  PYTHONPATH=. python tests/benchmarks/step_profile.py --cpu --only=s3

Prints shares of the time of all threads in five steps, forward and backward.
An operation belongs to the first group whose pattern is in its name.
"""

import collections
import gzip
import json
import pathlib
import re
import tempfile

import jax
from absl import app

from rnascl_jax.runtime import host_memory
from tests.benchmarks import training_steps

_STEPS = 5
# A loop's body, `closed_call`, is that of the depthwise kernels' gradients.
_GROUPS = (
  ('BatchNorm', r'norm'),
  ('depthwise convolutions', r'depthwise|closed_call/(add|mul)'),
  ('hard-swish', r'hard_silu'),
  ('pointwise convolutions', r'expand|project'),
  ('the rest', r''),
)


def _group(name: str) -> str:
  return next(group for group, part in _GROUPS if re.search(part, name))


def main(argv) -> None:
  """Prints a line for each group of operations."""
  del argv
  host_memory.keep()
  prepared = training_steps.prepare(training_steps.chosen()[0])
  run, (state, context, data) = prepared['run'], prepared['held']
  named = re.finditer(r'%?([\w.\-]+) = [^\n]*?op_name="([^"]*)"', run.as_text())
  names = {match[1]: match[2] for match in named}
  for _ in range(3):
    state, sums = run(state, context, data, prepared['rows'])
  jax.block_until_ready(sums)
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(_STEPS):
        state, sums = run(state, context, data, prepared['rows'])
        jax.block_until_ready(sums)
    (trace,) = pathlib.Path(folder).rglob('*.trace.json.gz')
    events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
  times: collections.Counter[str] = collections.Counter()
  for event in events:
    operation = event.get('args', {}).get('hlo_op')
    if operation and event.get('ph') == 'X':
      times[_group(names.get(operation, ''))] += event['dur']
  for group, duration in times.most_common():
    print(f'{100 * duration / times.total():5.1f} %  {group}')


if __name__ == '__main__':
  app.run(main)
