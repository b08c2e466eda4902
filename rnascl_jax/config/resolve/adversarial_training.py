"""The adversarial training methods of a config."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rnascl_jax import losses
from rnascl_jax.attacks import Preset, norms
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.runtime import parallel
from rnascl_jax.training import adversarial
from rnascl_jax.training.adversarial import AdversarialMethod, RobustTerm
from rnascl_jax.training.adversarial.method import View

# Published steps of attacks as shares of the radius in each norm, those of
# L-infinity. In L2 they are those of Rice et al. and, for 10 steps, of TRADES;
# in L1 that of SLIDE.
_SLIDE = 2 / (2000 / 255)
_PGD = {'Linf': 0.25, 'L2': 15 / 128, 'L1': _SLIDE}
_TRADES = {'Linf': 0.0078 / 0.031, 'L2': 0.2, 'L1': _SLIDE}
# Of RSLAD and AdaAD, which climb a divergence as TRADES does.
_SOFT = {**_TRADES, 'Linf': 0.25}
_DEFAULT = settings.AdversarialTraining()


class Kind(NamedTuple):
  """What a config needs to know of a method.

  Attributes:
    make: of `adversarial`.
    shares: its step as a share of the radius, by norm.
    own: fields of its own; an option is called as its field, without the
      method's name in front.
    attack_mode: published, of BatchNorm under the attack.
    distill_on: published.
  """

  make: Callable[..., AdversarialMethod]
  shares: Mapping[str, float]
  own: tuple[str, ...] = ('num_steps',)
  attack_mode: str = 'training'
  distill_on: View = 'adversarial'


# Methods by `adversarial_training.name`.
ADVERSARIAL_METHODS: Mapping[str, Kind] = {
  'standard': Kind(adversarial.standard, {}, ()),
  'pgd': Kind(adversarial.pgd_training, _PGD),
  'fast': Kind(adversarial.fast, dict.fromkeys(norms.NORMS, 1.25), ()),
  'free': Kind(adversarial.free, dict.fromkeys(norms.NORMS, 1.0), ('replays',)),
  'trades': Kind(
    adversarial.trades, _TRADES, attack_mode='evaluation', distill_on='clean'
  ),
  'mart': Kind(
    adversarial.mart,
    {**_TRADES, 'Linf': 7 / 31},
    ('num_steps', 'mart_beta'),
    attack_mode='evaluation',
  ),
  'ard': Kind(adversarial.ard, _PGD, ('num_steps', 'alpha', 'temperature')),
  'iad': Kind(
    adversarial.iad,
    _PGD,
    ('num_steps', 'alpha', 'temperature', 'iad_beta', 'iad_warmup'),
  ),
  'rslad': Kind(
    adversarial.rslad, _SOFT, ('num_steps', 'alpha'), attack_mode='evaluation'
  ),
  'adaad': Kind(
    adversarial.adaad, _SOFT, ('num_steps', 'alpha'), attack_mode='evaluation'
  ),
}
# Fields that are refused beside other methods, and those where 0 is published.
_OWN = ('mart_beta', 'alpha', 'temperature', 'iad_beta', 'iad_warmup')
_PUBLISHED_AT_0 = ('alpha', 'temperature')


# Methods that attack in a single step, and may overfit to it.
_SINGLE_STEP = ('fast', 'free')


# Steps of the attack under which checkpoints are compared, as that share.
_VALIDATION_STEP = 0.25


def adversarial_method(
  spec: settings.AdversarialTraining, where: str = 'train', steps: int = 0
) -> AdversarialMethod:
  """Makes the adversarial training method.

  Args:
    spec: its name and numbers.
    where: the config's section, for messages.
    steps: of the whole training, of which warm-ups are shares.

  Raises:
    ValueError: for an unknown name, and for settings that the method does not
      have.
  """
  field = f'{where}.adversarial_training'
  kind = pick(ADVERSARIAL_METHODS, spec.name, f'{field}.name')
  _check(spec, kind, field)
  method = _make(spec, kind, steps)
  if not spec.awp_gamma:
    return method
  warmup = round(spec.awp_warmup * steps)
  return adversarial.awp(method, gamma=spec.awp_gamma, warmup_steps=warmup)


def _check(spec: settings.AdversarialTraining, kind: Kind, field: str) -> None:
  """Raises for settings that the method does not have."""
  if spec.name == 'standard' and spec.cac_weight:
    raise ValueError(
      f'config.{field}.cac_weight={spec.cac_weight} compares an image with '
      "its adversarial view, and name='standard' has none: set it to 0, or "
      'choose another method.'
    )
  if spec.name == 'free' and spec.attack_mode == 'evaluation':
    raise ValueError(
      f"config.{field}.attack_mode='evaluation' is not possible with "
      "name='free': one pass serves the attack and the weights."
    )
  if spec.name == 'free' and spec.awp_gamma:
    raise ValueError(
      f'config.{field}.awp_gamma={spec.awp_gamma} is not possible with '
      "name='free': one pass serves the attack and the weights. Set it to 0, "
      "or choose another method, such as 'pgd'."
    )
  if spec.awp_warmup and not spec.awp_gamma:
    raise ValueError(
      f'config.{field}.awp_warmup={spec.awp_warmup} has no meaning beside '
      'awp_gamma=0: set it to 0, or awp_gamma to a share of the weights, such '
      'as 0.005.'
    )
  for name in _OWN:
    value, default = getattr(spec, name), getattr(_DEFAULT, name)
    if name not in kind.own and value != default:
      raise ValueError(
        f'config.{field}.{name}={value} has no meaning beside name='
        f'{spec.name!r}: leave it at {default}.'
      )


def _make(
  spec: settings.AdversarialTraining, kind: Kind, steps: int
) -> AdversarialMethod:
  """The method itself, without a perturbation of weights."""
  if spec.name == 'standard':
    return kind.make()
  attack_mode, distill_on = spec.attack_mode, spec.distill_on
  if attack_mode == 'published':
    attack_mode = kind.attack_mode
  if distill_on == 'published':
    distill_on = kind.distill_on
  share = kind.shares[spec.norm]
  step_size = spec.step_size or share * spec.epsilon
  if spec.norm == 'Linf':
    step_size = (spec.step_size_255 or share * spec.epsilon_255) / 255
  options = {
    name.removeprefix(f'{spec.name}_'): getattr(spec, name)
    for name in kind.own
    if getattr(spec, name) or name not in _PUBLISHED_AT_0
  }
  if 'warmup' in options:
    options['warmup_steps'] = round(options.pop('warmup') * steps)
  if spec.name != 'free':
    options['in_training_mode'] = attack_mode == 'training'
  return kind.make(
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
