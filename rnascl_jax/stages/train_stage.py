"""Trains the derived architecture from scratch (eq. 4), with its controls."""

from collections.abc import Mapping
from typing import Any

import jax

from rnascl_jax.stages import run as runs
from rnascl_jax.stages.students import Trainings
from rnascl_jax.training import train_state


def train(config: Mapping[str, Any], path: str) -> None:
  """Trains every student of the config in the architecture that was found.

  All start from the same weights and see images in the same order; they differ
  in teacher and loss alone.

  Args:
    config: see `settings`.
    path: the workdir, with a complete search; students are left in
      `train/<name>/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
    FileNotFoundError: if the search is not complete.
  """
  with runs.open_run(config, path) as run:
    chosen = run.settings.train
    trainings = Trainings(run, 'train', chosen.optimization)

    def start(recipe: train_state.Recipe) -> train_state.TrainState:
      key = jax.random.key(runs.stage_seed(run.settings.seed, 'train'))
      size = chosen.optimization.batch_size
      return train_state.init_state(
        recipe, key, run.data.image_shape, size, run.data.train.labels
      )

    for name, student in run.settings.students.items():
      trainings.train(name, student, chosen.adversarial_training, start)
