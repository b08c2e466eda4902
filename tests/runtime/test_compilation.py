"""Compilation of commands: what is kept, and which passes are left out."""

import gc
import os

import jax
import pytest

from rnascl_jax.runtime import compilation


@pytest.fixture
def own_config():
  """Puts JAX and Python back as they were."""
  names = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
  )
  before, thresholds = (
    [getattr(jax.config, n) for n in names],
    gc.get_threshold(),
  )
  yield
  for name, value in zip(names, before, strict=True):
    jax.config.update(name, value)
  gc.set_threshold(*thresholds)
  gc.unfreeze()


def test_only_programs_for_a_cpu_leave_passes_out(monkeypatch):
  monkeypatch.setattr(jax.config, 'read', lambda name: False)
  assert compilation.brief('cpu')
  assert compilation.brief('gpu') is None


def test_programs_keep_the_fewest_passes_if_jax_was_told_so(monkeypatch):
  monkeypatch.setattr(jax.config, 'read', lambda name: True)
  assert compilation.brief('cpu') is None


def test_a_command_keeps_every_program(tmp_path, monkeypatch, own_config):
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  compilation.prepare()
  folder = tmp_path / 'rnascl_jax'
  assert jax.config.jax_compilation_cache_dir == str(folder)
  assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


def test_a_place_that_the_user_chose_is_left_alone(
  tmp_path, monkeypatch, own_config
):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path / 'own'))
  before = jax.config.jax_compilation_cache_dir
  compilation.prepare()
  assert jax.config.jax_compilation_cache_dir == before


def test_the_oldest_programs_are_deleted_when_there_are_too_many(tmp_path):
  for age, name in enumerate(('new', 'old', 'oldest')):
    file = tmp_path / f'{name}-cache'
    file.write_bytes(bytes(1000))
    os.utime(file, (1000 - age, 1000 - age))
  (tmp_path / 'other').write_bytes(bytes(5000))
  compilation.delete_oldest(tmp_path, 2000)
  left = {file.name for file in tmp_path.iterdir()}
  assert left == {'new-cache', 'old-cache', 'other'}
  compilation.delete_oldest(tmp_path / 'none', 0)
