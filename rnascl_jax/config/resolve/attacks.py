"""Presets of attacks and the members of AutoAttack, from their names."""

from collections.abc import Sequence
from typing import Any

from rnascl_jax import attacks
from rnascl_jax.attacks import ensembles
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.config.resolve.names import pick

# What AutoAttack may consist of: whole ensembles, and single members.
ENSEMBLES = {
  'standard': ensembles.standard,
  'plus': ensembles.plus,
  'rand': ensembles.rand,
}
MEMBERS = {
  'apgd_ce': ensembles.apgd_ce,
  'apgd_dlr': ensembles.apgd_dlr,
  'apgd_t': ensembles.apgd_t,
  'fab': ensembles.fab,
  'fab_t': ensembles.fab_t,
  'square': ensembles.square,
}


def attack(name: str, where: str = 'evaluation.attacks') -> Any:
  """A preset of an attack."""
  return pick(attacks.PRESETS, name, where)


def ensemble(names: Sequence[str]) -> tuple[EnsembleMember, ...]:
  """The members of AutoAttack that ensembles, or they themselves, name.

  Args:
    names: keys of `ENSEMBLES` and `MEMBERS`.

  Returns:
    All members in order.

  Raises:
    ValueError: for an unknown name, and for a member that is named twice.
  """
  where = 'evaluation.auto_attack'
  found: list[EnsembleMember] = []
  for name in names:
    made = pick(ENSEMBLES | MEMBERS, name, where)()
    found += [made] if isinstance(made, EnsembleMember) else made
  members = [member.name for member in found]
  for member in members:
    if members.count(member) > 1:
      raise ValueError(
        f'config.{where}={tuple(names)} has {member} twice: name an ensemble, '
        'or members of your choice.'
      )
  return tuple(found)
