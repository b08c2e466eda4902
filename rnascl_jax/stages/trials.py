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


class Trial(NamedTuple):
  """An attack of the config.

  Attributes:
    key: short name in files and tables, such as 'pgd20'.
    label: 'PGD-20'.
    name: of the preset.
    preset: at the config's epsilon.
  """

  key: str
  label: str
  name: str
  preset: Preset


class Ensemble(NamedTuple):
  """AutoAttack, as the config has it.

  Attributes:
    key: short name in files and tables.
    label: 'AutoAttack'; with its members if they are of one's own choice.
    names: of ensembles and members, as in the config.
    members: in their order.
    epsilon: radius.
    origin: where the setting comes from.
  """

  key: str
  label: str
  names: tuple[str, ...]
  members: tuple[EnsembleMember, ...]
  epsilon: float
  origin: str


def ensemble(spec: settings.Evaluation) -> Ensemble | None:
  """The config's AutoAttack, if it has one."""
  names = spec.auto_attack
  members = resolve.ensemble(names)
  if not members:
    return None
  chosen = ', '.join(member.label for member in members)
  return Ensemble(
    key='autoattack',
    label=_VERSIONS.get(names, f'AutoAttack ({chosen})'),
    names=names,
    members=members,
    epsilon=spec.epsilon_255 / 255 or _PUBLISHED,
    origin='Croce and Hein (2020), '
    + ('as published' if names in _VERSIONS else f'only {chosen}'),
  )


def trials(names: tuple[str, ...], epsilon_255: float) -> list[Trial]:
  """The attacks of a config, with names that are short where they are unique.

  Args:
    names: of presets.
    epsilon_255: radius in 1/255; 0 leaves every preset as published.

  Returns:
    One trial for each name.
  """
  found: list[Trial] = []
  for name in names:
    preset = resolve.attack(name)
    if epsilon_255:
      preset = preset.scaled(epsilon_255 / 255)
    key, label = _short_name(preset)
    if any(key == other.key for other in found):
      key, label = name, f'{label} ({name})'
    found.append(Trial(key, label, name, preset))
  return found


def _short_name(preset: Preset) -> tuple[str, str]:
  steps = preset.num_steps
  if preset.loss is losses.cw_loss:
    return f'cw{steps}', f'CW∞-{steps}'
  if preset.decay is not None:
    return 'mi_fgsm', 'MI-FGSM'
  if steps == 1 and preset.start is None:
    return 'fgsm', 'FGSM'
  return f'pgd{steps}', f'PGD-{steps}'
