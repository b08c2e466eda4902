"""All settings of a run."""

import dataclasses
from collections.abc import Mapping

from rnascl_jax.config import fields
from rnascl_jax.config.settings.evaluation import Evaluation
from rnascl_jax.config.settings.inputs import Data, Space
from rnascl_jax.config.settings.stages import (
  Adversarial,
  Search,
  Student,
  Teacher,
  Train,
)
from rnascl_jax.config.settings.training import (
  AdversarialTraining,
  Distillation,
)


@dataclasses.dataclass(frozen=True)
class Settings:
  """All settings of a run.

  Attributes:
    seed: decides every random draw.
    devices: how many to use of each process; 0 means all.
    steps_per_dispatch: training steps in one program; 0 picks 1 on a CPU and 10
      elsewhere, where starting a program costs as much as a small step.
    data: images.
    space: filter choices.
    distillation: what is taken from teachers.
    teacher: the robust one.
    vulnerable_teacher: a control, trained without attacks (Table 11).
    controls: whether the control is trained, with the students it teaches.
    search: of filters and tutors.
    train: of the derived architecture.
    students: trainings of the derived architecture, by name.
    adversarial: further training of students on attacks.
    evaluation: attacks on the results.
  """

  seed: int = fields.bounded(0, 0, 2**32 - 1)
  devices: int = fields.bounded(0, 0, 65536)
  steps_per_dispatch: int = fields.bounded(0, 0, 10_000)
  data: Data = Data()
  space: Space = Space()
  distillation: Distillation = Distillation()
  teacher: Teacher = Teacher()
  vulnerable_teacher: Teacher = Teacher(
    adversarial_training=AdversarialTraining('standard'),
    label='Teacher without attacks',
  )
  controls: bool = False
  search: Search = Search()
  train: Train = Train()
  students: Mapping[str, Student] = dataclasses.field(
    default_factory=lambda: {
      'rnas_cl': Student(),
      'ce_kl': Student('CE + KL', gamma=0.0),
      'ce': Student('CE', '', 0.0, 0.0),
    }
  )
  adversarial: Adversarial = Adversarial()
  evaluation: Evaluation = Evaluation()
