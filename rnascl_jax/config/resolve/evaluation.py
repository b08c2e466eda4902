"""The attacks of a config's evaluation."""

import collections
from collections.abc import Sequence

from rnascl_jax import attacks
from rnascl_jax.attacks import Preset, ensembles, norms
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.config.resolve.names import pick

# Members of AutoAttack as configs name them.
_MEMBERS = {
  name.replace('-', '_'): make for name, make in ensembles.MEMBERS.items()
}


def attack(
  name: str, norm: str = 'Linf', where: str = 'evaluation.attacks'
) -> Preset:
  """A preset of an attack in a norm.

  Raises:
    ValueError: if there is none of this name, or if it is of another norm; the
      message lists those of the norm.
  """
  preset = pick(attacks.PRESETS, name, where)
  wanted = norms.by_name(norm)
  if preset.norm != wanted:
    others = [n for n, p in attacks.PRESETS.items() if p.norm == wanted]
    raise ValueError(
      f'config.{where} has {name!r}, an attack in {preset.norm.name}, but '
      f'config.evaluation.norm={norm!r}. Presets in {wanted.name} are '
      f'{", ".join(map(repr, others))}.'
    )
  return preset


def ensemble(
  names: Sequence[str], norm: str = 'Linf'
) -> tuple[EnsembleMember, ...]:
  """All members of AutoAttack that `names` stand for, in order.

  Args:
    names: keys of `ensembles.VERSIONS`, and members with underscores.
    norm: key of `norms.NORMS`.

  Raises:
    ValueError: for an unknown name, and for a member that is named twice.
  """
  where = 'evaluation.auto_attack'
  members: list[EnsembleMember] = []
  for name in names:
    made = pick(ensembles.VERSIONS | _MEMBERS, name, where)(norms.by_name(norm))
    members += [made] if isinstance(made, EnsembleMember) else made
  counts = collections.Counter(member.name for member in members)
  for member, count in counts.items():
    if count > 1:
      raise ValueError(
        f'config.{where}={tuple(names)} has {member} twice: name an ensemble, '
        'or members of your choice.'
      )
  return tuple(members)
