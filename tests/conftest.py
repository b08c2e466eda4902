"""Settings of all tests: two CPU devices, strict shapes, quick compilation."""

import fcntl
import gc
import importlib.metadata
import os
import pathlib
import shutil

# Before JAX is imported. More than two devices on two cores deadlock.
os.environ['JAX_PLATFORMS'] = 'cpu'
# Tests compile more than they compute. LLVM's slow passes are left out, here
# and in commands that tests start, and MLIR's emitters of fusions, which take
# half of the time of compilation, where XLA has others.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_force_host_platform_device_count=2'
  + ' --xla_cpu_use_fusion_emitters=false'
  * (importlib.metadata.version('jaxlib') < '0.12'),
)
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'

import jax
import pytest

from rnascl_jax import stages
from rnascl_jax.data import datasets
from tests import tiny

_MANY_MAPS = 25_000
# Begun first, so that no worker is left with one of them in the end.
_LONG = (
  'test_train_step',
  'test_autoattack',
  'test_loop',
  'test_processes',
  'test_student',
  'test_under_attack',
  'test_compare',
  'test_batch_slots',
  'test_torch_import',
  'test_stages',
  'test_fixed',
  'test_adversarial',
  'test_apgd',
  'test_fab',
)
_CACHE = pathlib.Path(__file__).parent.parent / '.jax_cache'


def pytest_configure(config):
  del config
  # Traces are many small objects, over which Python would go again and again.
  gc.set_threshold(20_000, 50, 100)
  jax.config.update('jax_numpy_rank_promotion', 'raise')
  jax.config.update('jax_compilation_cache_dir', str(_CACHE))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)


def pytest_collection_modifyitems(items):
  """Sorts modules, and leaves the order within them."""
  places = {name: place for place, name in enumerate(_LONG)}
  items.sort(
    key=lambda item: places.get(
      item.module.__name__.rsplit('.')[-1], len(_LONG)
    )
  )


@pytest.fixture(autouse=True, scope='module')
def compilation(request):
  """As users compile, where MLIR's emitters without it round otherwise.

  A module says that its tests compare rounding by `OPTIMIZED = True`.
  """
  mlir = 'fusion_emitters=false' not in os.environ['XLA_FLAGS']
  if not (mlir and getattr(request.module, 'OPTIMIZED', False)):
    yield
    return
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()
  yield
  jax.config.update('jax_disable_most_optimizations', True)
  jax.clear_caches()


@pytest.fixture(autouse=True, scope='module')
def few_memory_maps():
  """Forgets compiled programs before there are too many of them.

  Each maps several pieces of memory, and XLA crashes where Linux allows no
  more, at 65,530 of a process.
  """
  yield
  maps = pathlib.Path('/proc/self/maps')
  if maps.exists() and maps.read_bytes().count(b'\n') > _MANY_MAPS:
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory) -> pathlib.Path:
  """The workdir of a complete pipeline, of which each worker has a copy."""
  folder = tmp_path_factory.mktemp('tiny') / 'run'
  if 'PYTEST_XDIST_WORKER' not in os.environ:
    stages.pipeline(tiny.config(), str(folder))
    return folder
  shared = tmp_path_factory.getbasetemp().parent / 'tiny'
  with open(f'{shared}.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not shared.exists():
      stages.pipeline(tiny.config(), str(folder))
      folder.rename(shared)
  shutil.copytree(shared, folder)
  return folder


@pytest.fixture(scope='session')
def digits() -> datasets.Dataset:
  return datasets.load('digits', validation_size=128)
