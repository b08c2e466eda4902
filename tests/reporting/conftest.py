"""The invented run that most tests of reporting look at."""

import pytest

from rnascl_jax.reporting import style
from tests import saved_run


@pytest.fixture
def workdir(tmp_path):
  return saved_run.write(tmp_path / 'run')


@pytest.fixture
def unsaved_figures(monkeypatch):
  """Figures are made, but not drawn as pixels, which takes longest."""
  monkeypatch.setattr(style, 'save', lambda figure, path: None)
