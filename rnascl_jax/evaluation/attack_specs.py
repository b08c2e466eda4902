"""The attacks of a config, at its epsilon and with short names."""

from collections.abc import Sequence
from typing import NamedTuple

from rnascl_jax import losses
from rnascl_jax.attacks import Preset, norms
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.config import resolve, settings

# The radii at which AutoAttack's accuracies are published for CIFAR-10.
_PUBLISHED = {'Linf': 8 / 255, 'L2': 0.5, 'L1': 12.0}
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

  @property
  def norm(self) -> Norm:
    return self.preset.norm


class AutoAttackSpec(NamedTuple):
  """AutoAttack, as the config has it.

  Attributes:
    key: short name in files and tables.
    label: 'AutoAttack'; with its members if the config chooses them.
    names: ensembles and members, as in the config.
    members: the attacks in their order.
    norm: the ball's.
    epsilon: radius.
    origin: where the setting comes from.
  """

  key: str
  label: str
  names: tuple[str, ...]
  members: tuple[EnsembleMember, ...]
  norm: Norm
  epsilon: float
  origin: str


def auto_attack_spec(spec: settings.EvaluationSettings) -> AutoAttackSpec:
  """The AutoAttack of a config that has one."""
  names = spec.auto_attack
  members = resolve.ensemble(names, spec.norm)
  labels = ', '.join(member.label for member in members)
  version = 'as published' if names in _VERSIONS else f'only {labels}'
  return AutoAttackSpec(
    key='autoattack',
    label=_VERSIONS.get(names, f'AutoAttack ({labels})'),
    names=names,
    members=members,
    norm=norms.by_name(spec.norm),
    epsilon=spec.radius or _PUBLISHED[spec.norm],
    origin=f'Croce and Hein (2020), {version}',
  )


def attack_specs(
  names: tuple[str, ...], norm: str, epsilon: float
) -> list[AttackSpec]:
  """The attacks of a config, with names that are short where they are unique.

  Args:
    names: names of presets.
    norm: of all of them.
    epsilon: radius; 0 leaves every preset as published.

  Returns:
    One specification for each name.

  Raises:
    ValueError: for a preset of another norm.
  """
  specs: list[AttackSpec] = []
  for name in names:
    preset = resolve.attack(name, norm)
    if epsilon:
      preset = preset.scaled(epsilon)
    key, label = _short_name(preset)
    if any(key == other.key for other in specs):
      key, label = name, f'{label} ({name})'
    specs.append(AttackSpec(key, label, name, preset))
  return specs


def _short_name(preset: Preset) -> tuple[str, str]:
  steps = preset.num_steps
  if preset.loss is losses.cw_loss:
    if preset.norm == norms.LINF:
      return f'cw{steps}', f'CW∞-{steps}'
    return f'pgd{steps}', f'PGD-{steps} on the margin'
  if preset.decay is not None:
    return 'mi_fgsm', 'MI-FGSM'
  if steps == 1 and preset.start is None:
    return 'fgsm', 'FGSM' if preset.norm == norms.LINF else 'FGM'
  return f'pgd{steps}', f'PGD-{steps}'


def first_pgd(specs: Sequence[AttackSpec]) -> AttackSpec:
  """The attack whose images are looked at: the first PGD, or else the first."""
  return max(specs, key=lambda spec: spec.key.startswith('pgd'))
