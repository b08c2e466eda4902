"""Where a number comes from: command, commit, versions and device."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

from rnascl_jax.runtime import commands

_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'chex',
  'numpy',
  'tensorflow-datasets',
)
_CPU_INFO = pathlib.Path('/proc/cpuinfo')


def describe(devices: int) -> dict[str, Any]:
  """What this process is: command, commit, versions, devices.

  Args:
    devices: how many it uses, of all processes.
  """
  return {
    'command': commands.line(),
    'commit': _commit(),
    'versions': {'python': platform.python_version(), **_versions()},
    'devices': [{'kind': _kind(), 'count': devices}],
  }


def device_name(platform_name: str | None = None) -> str:
  """The device by the name that its maker gives it, such as 'NVIDIA H100'.

  Args:
    platform_name: 'cpu', or None for JAX's default back end.

  Returns:
    Of a CPU its model and how many cores this process sees, as the operating
    system has them: 'AMD EPYC (2 cores)'.
  """
  if (platform_name or jax.default_backend()) != 'cpu':
    return jax.devices()[0].device_kind
  model = platform.processor() or platform.machine()
  if _CPU_INFO.exists():
    lines = _CPU_INFO.read_text(encoding='utf-8', errors='replace').splitlines()
    names = [line.partition(':')[2] for line in lines if 'model name' in line]
    model = ' '.join(names[0].split()) if names else model
  return f'{model} ({os.cpu_count()} cores)'


def _kind() -> str:
  """The device; of a CPU also how many cores."""
  kind = jax.devices()[0].device_kind
  return f'{kind} ({os.cpu_count()} cores)' if kind == 'cpu' else kind


def _versions() -> dict[str, str]:
  versions = {}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return versions


def _commit() -> str | None:
  """The commit of the source tree, if it is one, and whether it was changed."""
  commit, changes = _git('rev-parse', 'HEAD'), _git('status', '--porcelain')
  return f'{commit} with uncommitted changes' if commit and changes else commit


def _git(*arguments: str) -> str | None:
  try:
    result = subprocess.run(
      ['git', *arguments],
      cwd=pathlib.Path(__file__).parent,
      capture_output=True,
      encoding='utf-8',
      errors='replace',
      check=True,
      timeout=10,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return result.stdout.strip()
