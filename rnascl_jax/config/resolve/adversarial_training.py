"""The adversarial training methods of a config."""

import functools
from collections.abc import Callable, Mapping

from rnascl_jax import losses
from rnascl_jax.attacks import Preset, norms
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.runtime import parallel
from rnascl_jax.training import (
  adversarial,
)
from rnascl_jax.training.adversarial import AdversarialMethod, RobustTerm

# Each method, the step of its attack as a share of the radius in each norm, and
# the settings that it alone has. Published are those of L-infinity; in L2 that
# of Rice et al. and, for 10 steps, of TRADES; in L1 that of SLIDE.
_SLIDE = 2 / (2000 / 255)


# Methods by `adversarial_training.name`.
ADVERSARIAL_METHODS: Mapping[
  str,
  tuple[Callable[..., AdversarialMethod], dict[str, float], tuple[str, ...]],
] = {
  'standard': (adversarial.standard, {}, ()),
  'pgd': (
    adversarial.pgd_training,
    {'Linf': 0.25, 'L2': 15 / 128, 'L1': _SLIDE},
    ('num_steps',),
  ),
  'fast': (adversarial.fast, dict.fromkeys(norms.NORMS, 1.25), ()),
  'free': (adversarial.free, dict.fromkeys(norms.NORMS, 1.0), ('replays',)),
  'trades': (
    adversarial.trades,
    {'Linf': 0.0078 / 0.031, 'L2': 0.2, 'L1': _SLIDE},
    ('num_steps',),
  ),
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
  make, shares, own = pick(ADVERSARIAL_METHODS, spec.name, f'{field}.name')
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
  attack_mode, distill_on = spec.attack_mode, spec.distill_on
  if attack_mode == 'published':
    attack_mode = 'evaluation' if trades else 'training'
  if distill_on == 'published':
    distill_on = 'clean' if trades else 'adversarial'
  share = shares[spec.norm]
  step_size = spec.step_size or share * spec.epsilon
  if spec.norm == 'Linf':
    step_size = (spec.step_size_255 or share * spec.epsilon_255) / 255
  options = {name: getattr(spec, name) for name in own}
  if spec.name != 'free':
    options['in_training_mode'] = attack_mode == 'training'
  return make(
    epsilon=spec.radius,
    step_size=step_size,
    norm=norms.by_name(spec.norm),
    distill_on=distill_on,
    robust_term=_robust_term(spec),
    **options,
  )


def validation_attack(spec: settings.AdversarialTraining) -> Preset | None:
  """The attack under which checkpoints are compared, if any."""
  if spec.name == 'standard':
    return None
  return Preset(
    origin='the validation of an adversarial training method',
    epsilon=spec.radius,
    step_size=_VALIDATION_STEP * spec.radius,
    num_steps=spec.validation_steps,
    norm=norms.by_name(spec.norm),
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
