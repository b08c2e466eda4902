"""What tests of several stages share."""

import pytest

from rnascl_jax.training import loop


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
