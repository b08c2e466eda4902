"""Memory that is kept is not asked of the system again."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp, numpy as np
from rnascl_jax.runtime import host_memory

if sys.argv[1] == 'kept':
  assert host_memory.keep()
# Its temporary array is larger than any that glibc keeps by itself.
program = jax.jit(lambda x: jnp.sin(x) @ x[:, :2])
x = np.ones((4096, 4096), np.float32)
for _ in range(2):
  program(x).block_until_ready()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(2):
  program(x).block_until_ready()
print(faults() - before, float(program(x).sum()))
"""


@pytest.mark.skipif(
  platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc'
)
def test_a_program_that_runs_again_takes_no_new_pages_and_computes_the_same():
  faults, sums = {}, set()
  for name in ('kept', 'given back'):
    words = subprocess.run(
      [sys.executable, '-c', _PROGRAM, name],
      check=True,
      stdout=subprocess.PIPE,
      text=True,
    ).stdout.split()
    faults[name] = int(words[0])
    sums.add(words[1])
  assert faults['kept'] < 0.05 * faults['given back']
  assert len(sums) == 1


def test_other_c_libraries_are_left_as_they_are(monkeypatch):
  from rnascl_jax.runtime import host_memory

  monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
  assert not host_memory.keep()
