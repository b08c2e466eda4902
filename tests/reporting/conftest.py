"""The invented run that most tests of reporting look at."""

import pytest

from rnascl_jax.reporting import style
from tests import saved_run


@pytest.fixture
def workdir(tmp_path):
  return saved_run.write(tmp_path / 'run')


@pytest.fixture
def empty_figures(monkeypatch):
  """Figures are made, but not drawn as pixels, which takes longest."""

  def save(figure, path):
    del figure
    path.parent.mkdir(exist_ok=True)
    path.touch()

  monkeypatch.setattr(style, 'save', save)
