"""The attacks of a config, at its epsilon and with short names."""

from typing import NamedTuple

from rnascl_jax import losses
from rnascl_jax.attacks import Preset
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.config import resolve, settings

# The radius at which AutoAttack's accuracies are published for CIFAR-10.
_PUBLISHED = 8 / 255
_VERSIONS: dict[tuple[str, ...], str] = {
  ('standard',): 'AutoAttack',
  ('plus',): 'AutoAttack+',
}


class AttackSpec(NamedTuple):
  """An attack of the config.

  Attributes:
    key: short name in files and tables, such as 'pgd20'.
    label: name that people read, such as 'PGD-20'.
    name: the preset's name in the config.
    preset: the attack at the config's epsilon.
  """

  key: str
  label: str
  name: str
  preset: Preset

  @property
  def epsilon(self) -> float:
    return float(self.preset.epsilon)


class AutoAttackSpec(NamedTuple):
  """AutoAttack, as the config has it.

  Attributes:
    key: short name in files and tables.
    label: 'AutoAttack'; with its members if the config chooses them.
    names: ensembles and members, as in the config.
    members: the attacks in their order.
    epsilon: radius.
    origin: where the setting comes from.
  """

  key: str
  label: str
  names: tuple[str, ...]
  members: tuple[EnsembleMember, ...]
  epsilon: float
  origin: str


def auto_attack_spec(spec: settings.EvaluationSettings) -> AutoAttackSpec:
  """The AutoAttack of a config that has one."""
  names = spec.auto_attack
  members = resolve.ensemble(names)
  labels = ', '.join(member.label for member in members)
  version = 'as published' if names in _VERSIONS else f'only {labels}'
  return AutoAttackSpec(
    key='autoattack',
    label=_VERSIONS.get(names, f'AutoAttack ({labels})'),
    names=names,
    members=members,
    epsilon=spec.epsilon_255 / 255 or _PUBLISHED,
    origin=f'Croce and Hein (2020), {version}',
  )


def attack_specs(
  names: tuple[str, ...], epsilon_255: float
) -> list[AttackSpec]:
  """The attacks of a config, with names that are short where they are unique.

  Args:
    names: names of presets.
    epsilon_255: radius in 1/255; 0 leaves every preset as published.

  Returns:
    One specification for each name.
  """
  specs: list[AttackSpec] = []
  for name in names:
    preset = resolve.attack(name)
    if epsilon_255:
      preset = preset.scaled(epsilon_255 / 255)
    key, label = _short_name(preset)
    if any(key == other.key for other in specs):
      key, label = name, f'{label} ({name})'
    specs.append(AttackSpec(key, label, name, preset))
  return specs


def _short_name(preset: Preset) -> tuple[str, str]:
  steps = preset.num_steps
  if preset.loss is losses.cw_loss:
    return f'cw{steps}', f'CW∞-{steps}'
  if preset.decay is not None:
    return 'mi_fgsm', 'MI-FGSM'
  if steps == 1 and preset.start is None:
    return 'fgsm', 'FGSM'
  return f'pgd{steps}', f'PGD-{steps}'
