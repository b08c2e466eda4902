"""The trainings of a run's students, in their order.

Those of 'train' begin from new weights. Those of 'adversarial' begin as a
trained student; before one that HYDRA prunes stands the training of its scores.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from rnascl_jax.config import settings
from rnascl_jax.stages import workdir
from rnascl_jax.stages.run import Run


class Training(NamedTuple):
  """One training of a student.

  Attributes:
    place: its folder in the workdir.
    student: its teacher and loss.
    method: on which images.
    spec: how long and how fast.
    start: the folder of the student from which it starts; '' for new weights.
    sparsity: share of each layer's weights that are 0 in it.
    learns_scores: whether it learns which weights these are.
    metadata: what is exported besides.
  """

  place: str
  student: settings.StudentSettings
  method: settings.AdversarialTraining
  spec: settings.Optimization
  start: str = ''
  sparsity: float = 0.0
  learns_scores: bool = False
  metadata: Mapping[str, Any] = MappingProxyType({})


def plan(run: Run, stage: str) -> list[Training]:
  """Lists a stage's trainings, each behind the one from which it starts.

  Args:
    run: the run.
    stage: 'train' or 'adversarial'.

  Raises:
    MissingStageError: if a student, which is to be fine-tuned, was not trained.
  """
  config, students = run.settings, run.settings.students
  if stage == 'train':
    method, spec = config.train.adversarial_training, config.train.optimization
    return [
      Training(f'train/{name}', student, method, spec)
      for name, student in students.items()
    ]
  return [
    training
    for name in config.adversarial.students
    for training in _fine_tunings(run, name)
  ]


def _fine_tunings(run: Run, name: str) -> list[Training]:
  """The training of a fine-tuned student, behind that of its scores if any."""
  config = run.settings.adversarial
  entry = config.students[name]
  start = f'train/{entry.student}'
  workdir.summary(run.folder / start)
  method = entry.adversarial_training
  metadata: dict[str, Any] = {
    'student': entry.student,
    'adversarial_training': dataclasses.asdict(method),
  }
  if entry.prune:
    metadata |= {'prune': entry.prune, 'sparsity': entry.sparsity}
  tuning = Training(
    f'adversarial/{name}',
    run.settings.students[entry.student],
    method,
    config.optimization,
    start,
    entry.sparsity,
    metadata=metadata,
  )
  if entry.prune != 'hydra' or workdir.is_done(run.folder / tuning.place):
    return [tuning]
  scoring = tuning._replace(
    place=f'{tuning.place}/pruning',
    spec=config.pruning.optimization,
    learns_scores=True,
  )
  return [scoring, tuning._replace(start=scoring.place)]
