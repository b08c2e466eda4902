"""The stages of a run: teacher, search, training, adversarial fine-tuning."""

import dataclasses
from collections.abc import Mapping

from rnascl_jax.config import fields
from rnascl_jax.config.settings.inputs import Network
from rnascl_jax.config.settings.training import (
  AdversarialTraining,
  Optimization,
)


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A teacher and how it is trained.

  Attributes:
    network: its architecture.
    adversarial_training: on which images it is trained.
    optimization: how long and how fast.
    label: what tables call it.
    checkpoint: folder of a trained teacher (`teacher/` of another workdir, or
      what `experiments.import_teacher` wrote) to use instead of training one;
      empty to train.
    classes: of a checkpoint with more classes than the data set, the indices of
      the data set's classes in it, in their order; empty if they are the same.
  """

  network: Network = Network()
  adversarial_training: AdversarialTraining = AdversarialTraining('pgd')
  optimization: Optimization = Optimization(
    epochs=200,
    milestones=(0.5, 0.75),
    weight_decay=5e-4,
    select='best',
  )
  label: str = 'Robust teacher'
  checkpoint: str = ''
  classes: tuple[int, ...] = fields.bounded((), 0, 1_000_000)


@dataclasses.dataclass(frozen=True)
class Search:
  """The search of filters and tutors (section 4.1).

  Attributes:
    architecture: an `architecture.json` of another run to take instead of
      searching: of the same space, and of a teacher with the same layers. Empty
      to search.
    optimization: of the supernet's weights.
    adversarial_training: on which images the weights are trained.
    kl_weight: of the divergence from the teacher, 1 in eq. (2).
    gamma: gamma_s of eq. (2).
    method: what stands in the place of KL in eq. (2), see `Student`; not 'vid',
      which can be negative.
    layer_loss: what compares layers, see `Student`.
    arch_optimizer: of the architecture parameters: 'adam' or 'sgd'.
    arch_learning_rate: of the architecture parameters.
    arch_share: share of each batch that moves the architecture parameters.
    arch_warmup_epochs: epochs before they move.
    temperature: of the Gumbel-Softmax at the start.
    temperature_decay: rate at which it falls per epoch.
    noise: 'gumbel' or 'normal'.
    hard: whether draws are one-hot, with the gradient of soft ones.
    penalty: how the cost enters: 'power' multiplies the loss by
      (n_f / n_ref)^exponent, 'log' by alpha log(n_f)^exponent (FBNet).
    flops_exponent: the exponent; FBNet's log penalty has 0.6.
    log_alpha: alpha of the 'log' penalty.
    weigh_cost: whether the weights' step has the cost as a constant factor.
  """

  architecture: str = ''
  optimization: Optimization = Optimization()
  adversarial_training: AdversarialTraining = AdversarialTraining()
  kl_weight: float = fields.bounded(1.0, 0, 1e6)
  gamma: float = fields.bounded(1.0, 0, 1e6)
  method: str = 'kl'
  layer_loss: str = 'attention'
  arch_optimizer: str = 'adam'
  arch_learning_rate: float = fields.bounded(0.01, 0, 1e3)
  arch_share: float = fields.bounded(0.2, 0, 1)
  arch_warmup_epochs: int = fields.bounded(0, 0, 100_000)
  temperature: float = fields.bounded(5.0, 1e-6, 1e6)
  temperature_decay: float = fields.bounded(0.045, 0, 1e3)
  noise: str = 'gumbel'
  hard: bool = False
  penalty: str = 'power'
  flops_exponent: float = fields.bounded(1.0, -10, 10)
  log_alpha: float = fields.bounded(0.2, 0, 1e6)
  weigh_cost: bool = True


@dataclasses.dataclass(frozen=True)
class Student:
  """One training of the derived architecture.

  Attributes:
    label: what tables call it.
    teacher: 'teacher', 'vulnerable_teacher' or '' to learn from labels alone.
    kl_weight: of the divergence, 1 in eq. (4); of another method it multiplies
      the method's published weight.
    gamma: gamma_t of eq. (4).
    method: what stands in the place of KL in eq. (4): 'kl' itself, or 'at',
      'sp', 'vid', 'rkd', 'pkt' or 'crd' (section 4.11, Table 9, Fig. 3).
    layer_loss: what compares a layer with its tutor: 'attention', the loss of
      eq. (1), or 'layerwise_kl' (section 4.10, Table 8).
  """

  label: str = 'RNAS-CL'
  teacher: str = 'teacher'
  kl_weight: float = fields.bounded(1.0, 0, 1e6)
  gamma: float = fields.bounded(1.0, 0, 1e6)
  method: str = 'kl'
  layer_loss: str = 'attention'


@dataclasses.dataclass(frozen=True)
class Train:
  """Training of the derived architecture from scratch.

  Attributes:
    optimization: how long and how fast.
    adversarial_training: on which images.
  """

  optimization: Optimization = Optimization()
  adversarial_training: AdversarialTraining = AdversarialTraining()


@dataclasses.dataclass(frozen=True)
class FineTuning:
  """Further training of a student with an adversarial method.

  It learns from the same teacher as before, with the same weights of the terms.

  Attributes:
    label: what tables call it.
    student: the name of the trained student to start from.
    adversarial_training: on which images; eq. (6) by default, with the radius
      and the step of the authors' code.
  """

  label: str = 'RNAS-CL + eq. (6)'
  student: str = 'rnas_cl'
  adversarial_training: AdversarialTraining = AdversarialTraining(
    'trades', epsilon_255=0.031 * 255, cac_weight=1.0
  )


@dataclasses.dataclass(frozen=True)
class Adversarial:
  """Adversarial fine-tuning of trained students (section 3.5).

  Attributes:
    optimization: how long and how fast: 20 epochs (section 4.2) at the learning
      rate of the authors' config.
    students: trainings of it, by name; none leaves the stage out.
  """

  optimization: Optimization = Optimization(epochs=20, learning_rate=0.004)
  students: Mapping[str, FineTuning] = dataclasses.field(
    default_factory=lambda: {'rnas_cl_eq6': FineTuning()}
  )
