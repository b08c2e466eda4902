"""Adversarial training methods, from their names."""

import functools

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import Preset
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.runtime import parallel
from rnascl_jax.training import adversarial
from rnascl_jax.training.adversarial import AdversarialMethod, RobustTerm

# Each method, and the published step of its attack as a share of the radius.
ADVERSARIAL_METHODS = {
  'standard': (adversarial.standard, 0.0),
  'pgd': (adversarial.pgd_training, 0.25),
  'fast': (adversarial.fast, 1.25),
  'free': (adversarial.free, 1.0),
  'trades': (adversarial.trades, 0.0078 / 0.031),
}
# Methods that attack in a single step, and may overfit to it.
_SINGLE_STEP = ('fast', 'free')
# Steps of the attack under which checkpoints are compared, as that share.
_VALIDATION_STEP = 0.25


def adversarial_method(
  spec: settings.AdversarialTraining, where: str = 'train'
) -> AdversarialMethod:
  """Makes the adversarial training method.

  Args:
    spec: its name and numbers.
    where: the config's section, for messages.

  Raises:
    ValueError: for an unknown name, and for settings that the method does not
      have.
  """
  field = f'{where}.adversarial_training'
  make, share = pick(ADVERSARIAL_METHODS, spec.name, f'{field}.name')
  if spec.name == 'standard':
    if spec.cac_weight:
      raise ValueError(
        f'config.{field}.cac_weight={spec.cac_weight} compares an image with '
        "its adversarial view, and name='standard' has none: set it to 0, or "
        'choose another method.'
      )
    return make()
  if spec.name == 'free' and spec.attack_mode == 'evaluation':
    raise ValueError(
      f"config.{field}.attack_mode='evaluation' is not possible with "
      "name='free': one pass serves the attack and the weights."
    )
  trades = spec.name == 'trades'
  distill_on = spec.distill_on
  if distill_on == 'published':
    distill_on = 'clean' if trades else 'adversarial'
  options = {
    'epsilon': spec.epsilon_255 / 255,
    'step_size': (
      spec.step_size_255 / 255
      if spec.step_size_255
      else share * spec.epsilon_255 / 255
    ),
    'distill_on': distill_on,
    'robust_term': _robust_term(spec),
  }
  if spec.name == 'free':
    return make(replays=spec.replays, **options)
  if spec.name != 'fast':
    options['num_steps'] = spec.num_steps
  attack_mode = spec.attack_mode
  if attack_mode == 'published':
    attack_mode = 'evaluation' if trades else 'training'
  return make(in_training_mode=attack_mode == 'training', **options)


def validation_attack(spec: settings.AdversarialTraining) -> Preset | None:
  """The attack under which checkpoints are compared, if any."""
  if spec.name == 'standard':
    return None
  epsilon = spec.epsilon_255 / 255
  return Preset(
    origin='the validation of an adversarial training method',
    epsilon=epsilon,
    step_size=_VALIDATION_STEP * epsilon,
    num_steps=spec.validation_steps,
    start=attacks.linf.uniform_start,
  )


def max_drop(spec: settings.AdversarialTraining) -> float:
  """The drop of robust accuracy that ends a training; 0 for none."""
  return spec.max_drop if spec.name in _SINGLE_STEP else 0.0


def replays(spec: settings.AdversarialTraining) -> int:
  """Updates of the weights on each batch."""
  return spec.replays if spec.name == 'free' else 1


def _robust_term(spec: settings.AdversarialTraining) -> RobustTerm | None:
  """TRADES' divergence and CAC; None where neither has a part."""
  beta = spec.beta if spec.name == 'trades' else 0.0
  if spec.name != 'trades' and not spec.cac_weight:
    return None
  return functools.partial(
    losses.robust_term,
    beta=beta,
    cac_weight=spec.cac_weight,
    temperature=spec.cac_temperature,
    threshold=spec.cac_threshold,
    only_confident=spec.cac_mean == 'confident',
    axis_name=parallel.AXIS,
  )
