"""Training regimes, from their names."""

import functools

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import Preset
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.runtime import parallel
from rnascl_jax.training import adversarial
from rnascl_jax.training.adversarial.regime import Robustness

# Published steps of attacks, as shares of the radius.
_STEPS = {'pgd': 0.25, 'fast': 1.25, 'free': 1.0, 'trades': 0.0078 / 0.031}
# Steps of the attack under which checkpoints are compared, as that share.
_VALIDATION_STEP = 0.25


def _standard(spec: settings.Regime) -> adversarial.Regime:
  del spec
  return adversarial.standard()


def _pgd(spec: settings.Regime) -> adversarial.Regime:
  return adversarial.pgd_training(
    epsilon=spec.epsilon_255 / 255,
    step_size=_step_size(spec),
    num_steps=spec.num_steps,
    in_training_mode=spec.attack_mode != 'evaluation',
    lessons_on_adversarial=spec.lessons != 'clean',
    robustness=_consistency(spec),
  )


def _fast(spec: settings.Regime) -> adversarial.Regime:
  return adversarial.fast(
    epsilon=spec.epsilon_255 / 255,
    step_size=_step_size(spec),
    in_training_mode=spec.attack_mode != 'evaluation',
    lessons_on_adversarial=spec.lessons != 'clean',
    robustness=_consistency(spec),
  )


def _free(spec: settings.Regime) -> adversarial.Regime:
  return adversarial.free(
    epsilon=spec.epsilon_255 / 255,
    step_size=_step_size(spec),
    replays=spec.replays,
    lessons_on_adversarial=spec.lessons != 'clean',
    robustness=_consistency(spec),
  )


def _trades(spec: settings.Regime) -> adversarial.Regime:
  return adversarial.trades(
    epsilon=spec.epsilon_255 / 255,
    step_size=_step_size(spec),
    num_steps=spec.num_steps,
    robustness=_robustness(spec, spec.beta),
    in_training_mode=spec.attack_mode == 'training',
    lessons_on_adversarial=spec.lessons == 'adversarial',
  )


REGIMES = {
  'standard': _standard,
  'pgd': _pgd,
  'fast': _fast,
  'free': _free,
  'trades': _trades,
}
# Regimes that attack in a single step, and may overfit to it.
_SINGLE_STEP = ('fast', 'free')


def regime(spec: settings.Regime, where: str = 'train') -> adversarial.Regime:
  """The training regime.

  Args:
    spec: its name and numbers.
    where: the config's section, for messages.

  Returns:
    The regime.

  Raises:
    ValueError: for an unknown name, and for settings that the regime does not
      have.
  """
  make = pick(REGIMES, spec.name, f'{where}.regime.name')
  if spec.name == 'standard' and spec.cac_weight:
    raise ValueError(
      f'config.{where}.regime.cac_weight={spec.cac_weight} compares an image '
      "with its adversarial view, and name='standard' has none: set it to 0, "
      'or choose another regime.'
    )
  if spec.name == 'free' and spec.attack_mode == 'evaluation':
    raise ValueError(
      f"config.{where}.regime.attack_mode='evaluation' is not possible with "
      "name='free': one pass serves the attack and the weights."
    )
  return make(spec)


def validation_attack(spec: settings.Regime) -> Preset | None:
  """The attack under which checkpoints of a regime are compared, if any."""
  if spec.name == 'standard':
    return None
  epsilon = spec.epsilon_255 / 255
  return Preset(
    origin='the validation of a training regime',
    epsilon=epsilon,
    step_size=_VALIDATION_STEP * epsilon,
    num_steps=spec.validation_steps,
    start=attacks.linf.uniform_start,
  )


def max_drop(spec: settings.Regime) -> float:
  """The drop of robust accuracy that ends a training; 0 for none."""
  return spec.max_drop if spec.name in _SINGLE_STEP else 0.0


def replays(spec: settings.Regime) -> int:
  """Updates of the weights on each batch."""
  return spec.replays if spec.name == 'free' else 1


def _step_size(spec: settings.Regime) -> float:
  if spec.step_size_255:
    return spec.step_size_255 / 255
  return _STEPS[spec.name] * spec.epsilon_255 / 255


def _consistency(spec: settings.Regime) -> Robustness | None:
  """CAC for regimes without another term of both views."""
  return _robustness(spec, 0.0) if spec.cac_weight else None


def _robustness(spec: settings.Regime, beta: float) -> Robustness:
  return functools.partial(
    losses.robustness,
    beta=beta,
    cac_weight=spec.cac_weight,
    temperature=spec.cac_temperature,
    threshold=spec.cac_threshold,
    only_confident=spec.cac_mean == 'confident',
    axis_name=parallel.AXIS,
  )
