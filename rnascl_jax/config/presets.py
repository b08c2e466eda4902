"""The paper as printed and as released, beside this project's own settings.

`preset=paper` and `preset=authors` of configs/cifar10.py and
configs/imagenet100.py. docs/paper_and_code.md says what is printed, what the
released code does, and what each of them takes from it.
"""

import ml_collections

# 'ours' leaves a config as it is.
NAMES = ('ours', 'paper', 'authors')


def apply(config: ml_collections.ConfigDict, name: str) -> None:
  """Changes a config of the paper's setting.

  Args:
    config: to be changed; all of its students and fine-tunings are there.
    name: one of `NAMES`.
  """
  if name == 'paper':
    _as_printed(config)
  elif name == 'authors':
    _as_released(config)


def _as_printed(config: ml_collections.ConfigDict) -> None:
  # Eq. (1) with its factor 1 / (n_s n_t) and gamma = 1.
  for compared in _attending(config):
    compared.reduction = 'literal'
  # Section 4.1 names SGD and a schedule; section 4.2 has no other for eq. (6).
  tuning = config.adversarial.optimization
  own = {'epochs': tuning.epochs, 'batch_size': tuning.batch_size}
  tuning.update(config.train.optimization.to_dict(), **own)


def _as_released(config: ml_collections.ConfigDict) -> None:
  search = config.search
  for compared in _attending(config):
    compared.reduction = 'sum'
  for compared in (search, *config.students.values()):
    if compared.kl_weight:
      compared.kl_direction = 'teacher_student'
  # Its training phase draws tutors from uniform logits at every pass.
  for student in config.students.values():
    if student.gamma:
      student.tutors = 'resampled'
  config.distillation.map_size = 14
  config.distillation.map_resize = 'bilinear'
  config.distillation.map_norm = 'batch'
  search.split = 'epochs'
  search.optimization.optimizer = 'adam'
  search.optimization.learning_rate = 0.004
  search.optimization.schedule = 'cosine'
  search.optimization.weight_decay = 2e-4
  search.arch_learning_rate = 0.1
  search.arch_weight_decay = 1e-4
  # 0.2 L log(cost^0.5) is 0.1 L log(cost).
  search.penalty = 'log'
  search.log_alpha = 0.1
  search.flops_exponent = 1.0
  for tuned in config.adversarial.students.values():
    method = tuned.adversarial_training
    if method.cac_weight:
      # beta = 6 times a tenth of half of CAC, over confident images.
      method.cac_weight = 0.3
      method.cac_mean = 'confident'


def _attending(
  config: ml_collections.ConfigDict,
) -> list[ml_collections.ConfigDict]:
  """The sections of the search and of students that attend to tutors."""
  sections = (config.search, *config.students.values())
  return [section for section in sections if section.gamma]
