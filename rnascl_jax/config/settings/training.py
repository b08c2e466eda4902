"""How networks are trained: optimisers, methods, distillation."""

import dataclasses

from rnascl_jax.config import fields


@dataclasses.dataclass(frozen=True)
class Optimization:
  """Stochastic gradient descent and its schedule.

  Attributes:
    epochs: how long.
    batch_size: images of a step, over all devices.
    accumulate: parts of each device's share of a batch that go through the
      networks one after another, for want of memory; see `accumulation`.
    learning_rate: the highest.
    schedule: 'piecewise', 'cosine', 'cyclic' (up, then down) or 'constant'.
    milestones: 'piecewise' divides the rate by 10 after these shares of the
      training; the paper has 0.75 and 0.9.
    warmup: share of the training in which the rate rises linearly.
    momentum: of SGD.
    weight_decay: added to the gradient for every parameter, as in PyTorch.
    checkpoint_every: epochs between checkpoints and validations.
    select: which checkpoint is used afterwards: the 'last' or the 'best' on the
      validation images.
  """

  epochs: int = fields.bounded(100, 1, 100_000)
  batch_size: int = fields.bounded(128, 1, 1_000_000)
  accumulate: int = fields.bounded(1, 1, 1_000_000)
  learning_rate: float = fields.bounded(0.1, 0, 1e3)
  schedule: str = 'piecewise'
  milestones: tuple[float, ...] = fields.bounded((0.75, 0.9), 0, 1)
  warmup: float = fields.bounded(0.0, 0, 1)
  momentum: float = fields.bounded(0.9, 0, 1)
  weight_decay: float = fields.bounded(2e-4, 0, 1e3)
  checkpoint_every: int = fields.bounded(5, 1, 100_000)
  select: str = fields.one_of('last', 'best')


@dataclasses.dataclass(frozen=True)
class AdversarialTraining:
  """On which images to train, see `adversarial`.

  Attributes:
    name: 'standard', 'pgd', 'fast', 'free' or 'trades'.
    epsilon_255: radius of the L-infinity ball, in 1/255.
    step_size_255: step of the attack, in 1/255; 0 is the published share of the
      radius: 1/4 for 'pgd', 5/4 for 'fast', all of it for 'free', 0.0078/0.031
      for 'trades'.
    num_steps: of the attack of 'pgd' and 'trades'.
    attack_mode: of BatchNorm under the attack; 'published' is 'training' for
      all but 'trades'. 'free' has no other.
    replays: of 'free', updates of the weights on each batch. An epoch has that
      many times the updates; the authors divide the epochs by it.
    beta: weight of the divergence of 'trades'.
    cac_weight: of the consistency (eq. 5) in any method that attacks; eq. (6)
      is 'trades' with 1, Table 4's "CAC" has beta=0 besides.
    cac_temperature: tau of eq. (5).
    cac_threshold: gamma of eq. (5).
    cac_mean: over 'all' images (eq. 5), or over 'confident' ones alone; the
      authors' code has that and cac_weight=3.
    distill_on: the images whose predictions and maps are compared with a
      teacher's; 'published' is 'clean' for 'trades' (eq. 6), else
      'adversarial', as the cross-entropy.
    validation_steps: of PGD with steps of a quarter of the radius, under which
      checkpoints are compared on the validation images.
    max_drop: of 'fast' and 'free', which may overfit catastrophically: training
      ends, and its best checkpoint is used, where the accuracy under that PGD
      falls by more than this share below the best so far. Looked at with every
      checkpoint, never at the first. 0 never ends it.
  """

  name: str = 'standard'
  epsilon_255: float = fields.bounded(8.0, 0, 255)
  step_size_255: float = fields.bounded(0.0, 0, 255)
  num_steps: int = fields.bounded(10, 1, 10_000)
  attack_mode: str = fields.one_of('published', 'evaluation', 'training')
  replays: int = fields.bounded(8, 1, 10_000)
  beta: float = fields.bounded(6.0, 0, 1e6)
  cac_weight: float = fields.bounded(0.0, 0, 1e6)
  cac_temperature: float = fields.bounded(0.1, 1e-3, 1)
  cac_threshold: float = fields.bounded(0.2, 0, 1)
  cac_mean: str = fields.one_of('all', 'confident')
  distill_on: str = fields.one_of('published', 'clean', 'adversarial')
  validation_steps: int = fields.bounded(10, 1, 10_000)
  max_drop: float = fields.bounded(0.2, 0, 1)


@dataclasses.dataclass(frozen=True)
class Distillation:
  """What students take from a teacher's logits and maps.

  Attributes:
    direction: 'student_teacher' is the paper's KL(p, q) with p the student.
    temperature: divides the logits in the divergence.
    map_size: side of the common attention maps.
    crd_features: length of the embeddings that 'crd' compares.
    crd_negatives: images of other classes that 'crd' compares each image with,
      drawn with replacement; its authors have 16384. An image takes
      crd_negatives + min(training images, crd_negatives * crd_features) numbers
      of memory.
  """

  direction: str = 'student_teacher'
  temperature: float = fields.bounded(1.0, 1e-6, 1e6)
  map_size: int = fields.bounded(8, 1, 1024)
  crd_features: int = fields.bounded(128, 1, 65536)
  crd_negatives: int = fields.bounded(4096, 1, 1_000_000)
