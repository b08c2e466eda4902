"""What tests of several stages share."""

import shutil

import pytest

from rnascl_jax.training import loop


@pytest.fixture
def trained(tiny_run, tmp_path):
  """A copy of the complete run, as it was before the stage."""
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  shutil.rmtree(folder / 'adversarial')
  shutil.rmtree(folder / 'evaluation')
  (folder / 'config.json').unlink()
  return folder


@pytest.fixture
def trainings(monkeypatch):
  """Stage, state and context of every training; none is carried out."""
  recorded = {}

  def run(stage, state, context, devices):
    del devices
    recorded[stage.directory.name] = (stage, state, context)
    return state, {'seconds': 0.0}

  monkeypatch.setattr(loop, 'run', run)
  return recorded
