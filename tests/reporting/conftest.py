"""The invented run that most tests of reporting look at."""

import pytest

from tests import saved_run


@pytest.fixture
def workdir(tmp_path):
  return saved_run.write(tmp_path / 'run')
