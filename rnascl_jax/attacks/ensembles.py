"""The attacks of AutoAttack: `standard`, `plus`, `rand`, or your own choice.

Budgets, order and names are those of the official code. In L1, APGD has other
steps (`apgd_l1`); in `standard` it has large radii, and 5 restarts without a
target and 5 target classes instead of 1 and 9. The functions below make members
of other budgets, such as `square(num_steps=1000)`; any attack in steps can be
one.

Example:
  >>> from rnascl_jax.attacks import ensembles
  >>> [member.label for member in ensembles.resolve()]
  ['APGD-CE', 'APGD-T', 'FAB-T', 'Square']
  >>> short = ensembles.square(num_steps=1000)
  >>> [member.label for member in ensembles.resolve(['apgd-ce', short])]
  ['APGD-CE', 'Square']

Reference:
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020, section 6.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from rnascl_jax import losses
from rnascl_jax.attacks import norms, randomized
from rnascl_jax.attacks.apgd import APGD
from rnascl_jax.attacks.apgd_l1 import APGDL1
from rnascl_jax.attacks.ascent import GradientAscent
from rnascl_jax.attacks.fab import FAB
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.attacks.square import SquareLinf
from rnascl_jax.attacks.square_l1 import SquareL1
from rnascl_jax.attacks.square_l2 import SquareL2
from rnascl_jax.attacks.stepwise import Stepwise
from rnascl_jax.base import LogitsFn
from rnascl_jax.runtime import spelling

# The most target classes of the members with a target.
_TARGETS = 9


class EnsembleMember(NamedTuple):
  """An attack of the ensemble.

  Attributes:
    name: the name in files; the random draws of the member depend on it.
    label: the name in tables.
    attack: in steps.
    black_box: whether it uses no gradients.
  """

  name: str
  label: str
  attack: Stepwise
  black_box: bool = False


def standard(norm: Norm = norms.LINF) -> tuple[EnsembleMember, ...]:
  """The ensemble whose accuracies papers report."""
  ce: dict[str, Any] = {}
  targeted: dict[str, Any] = {}
  if norm is norms.L1:
    # 100 steps, and two that begin a stage.
    stages = {'large_radii': True, 'num_steps': 102}
    ce, targeted = stages | {'restarts': 5}, stages | {'targets': 5}
  return (
    apgd_ce(norm, **ce),
    apgd_t(norm, **targeted),
    fab_t(norm),
    square(norm),
  )


def plus(norm: Norm = norms.LINF) -> tuple[EnsembleMember, ...]:
  """`standard` with restarts, and APGD and FAB without a target."""
  return (
    apgd_ce(norm, restarts=5),
    apgd_dlr(norm, restarts=5),
    fab(norm, restarts=5),
    square(norm),
    apgd_t(norm),
    fab_t(norm),
  )


def rand(norm: Norm = norms.LINF) -> tuple[EnsembleMember, ...]:
  """For `Randomized` classifiers: gradients are means of 20 draws."""
  return apgd_ce(norm, draws=20), apgd_dlr(norm, draws=20)


VERSIONS = {'standard': standard, 'plus': plus, 'rand': rand}


def resolve(
  attacks: Sequence[str | EnsembleMember] | None = None,
  *,
  norm: str | Norm = 'Linf',
  version: str = 'standard',
) -> tuple[EnsembleMember, ...]:
  """Returns the members that `auto_attack` is asked for.

  Args:
    attacks: names, which are the keys of `MEMBERS`, and members; None for all
      of the version. What a name stands for has the budget of the version.
    norm: the ball's norm, or a key of `norms.NORMS`.
    version: a key of `VERSIONS`.

  Raises:
    ValueError: for unknown names, for members of another norm, and for attacks
      that are no sequence of one or more.
  """
  norm = norms.by_name(norm)
  if version not in VERSIONS:
    raise ValueError(
      f'version={version!r} must be one of {", ".join(VERSIONS)}; a choice of '
      "your own is attacks=('apgd-ce', 'square')."
      f'{spelling.did_you_mean(version, VERSIONS)}'
    )
  if attacks is None:
    return VERSIONS[version](norm)
  if isinstance(attacks, str | EnsembleMember) or not isinstance(
    attacks, Sequence
  ):
    raise ValueError(
      f'attacks={attacks!r} must be a sequence of names or members, such as '
      "('apgd-ce', 'square')."
    )
  members = tuple(_one(attack, norm, version) for attack in attacks)
  others = {m.attack.norm.name for m in members if m.attack.norm != norm}
  if others or not members:
    raise ValueError(
      f'attacks must be one or more attacks in {norm.name}, but are in: '
      f'{", ".join(sorted(others)) or "none"}. Give norm= the norm of all.'
    )
  return members


def for_classes(
  members: Sequence[EnsembleMember], logits_fn: LogitsFn, num_classes: int
) -> tuple[EnsembleMember, ...]:
  """The ensemble for a classifier of K classes, in the same order.

  The targeted DLR loss needs 4 logits and the DLR loss 3: with 3 classes
  APGD-DLR takes the place of APGD-T, unless it is in the ensemble already, with
  a start for each target that APGD-T would have had.

  Raises:
    ValueError: if two members have the same name, none is defined for so few
      classes, or one averages over draws of a classifier that is not random.
  """
  if num_classes == 3 and all(m.name != 'apgd_dlr' for m in members):
    members = tuple(map(_without_targets, members))
  names = [member.name for member in members]
  if len(set(names)) < len(names):
    raise ValueError(
      f'two attacks have the same name: {", ".join(names)}. Results and random '
      "draws go by the name: rename one with member._replace(name='...')."
    )
  if not any(member.attack.num_trials(num_classes) for member in members):
    raise ValueError(
      f'none of {", ".join(names)} is defined for {num_classes} classes.'
    )
  draws = max(getattr(member.attack, 'draws', 1) for member in members)
  if draws > 1 and not isinstance(logits_fn, randomized.Randomized):
    raise ValueError(
      f'{draws} draws a step are for random classifiers, but logits_fn is a '
      'function of images alone: give a Randomized(function of images and '
      "key), or use version='standard'."
    )
  return tuple(members)


def _one(attack: Any, norm: Norm, version: str) -> EnsembleMember:
  """The member that an attack is, or that has this name in the version."""
  if isinstance(attack, EnsembleMember):
    return attack
  if attack not in MEMBERS:
    raise ValueError(
      f'attacks has {attack!r}: give names, of {", ".join(MEMBERS)}, or what '
      f'ensembles.apgd_ce(...) and the like make.'
      f'{spelling.did_you_mean(attack, MEMBERS)}'
    )
  member = MEMBERS[attack](norm)
  budgets = {other.name: other for other in VERSIONS[version](norm)}
  return budgets.get(member.name, member)


def _without_targets(member: EnsembleMember) -> EnsembleMember:
  attack = member.attack
  if not isinstance(attack, GradientAscent):
    return member
  if attack.loss is not losses.targeted_dlr:
    return member
  untargeted = dataclasses.replace(
    attack,
    loss=losses.dlr,
    least_classes=3,
    restarts=attack.restarts * min(attack.targets, 2),
    targets=0,
  )
  return EnsembleMember('apgd_dlr', 'APGD-DLR', untargeted)


def _apgd(norm: Norm, **options: Any) -> GradientAscent:
  if norm is norms.L1:
    return APGDL1(**options)
  return APGD(norm=norm, **options)


def apgd_ce(norm: Norm = norms.LINF, **options: Any) -> EnsembleMember:
  """APGD on cross-entropy; options are those of `APGD`, in L1 of `APGDL1`."""
  return EnsembleMember('apgd_ce', 'APGD-CE', _apgd(norm, **options))


def apgd_dlr(norm: Norm = norms.LINF, **options: Any) -> EnsembleMember:
  """APGD on the DLR loss, for 3 classes or more."""
  attack = _apgd(norm, loss=losses.dlr, least_classes=3, **options)
  return EnsembleMember('apgd_dlr', 'APGD-DLR', attack)


def apgd_t(norm: Norm = norms.LINF, **options: Any) -> EnsembleMember:
  """APGD on the targeted DLR loss, for 4 classes or more; see `for_classes`.

  Raises:
    ValueError: for `targets=0`; the loss needs one.
  """
  if options.get('targets') == 0:
    raise ValueError('targets=0: the targeted DLR loss needs at least 1.')
  attack = _apgd(
    norm,
    loss=losses.targeted_dlr,
    least_classes=4,
    **{'targets': _TARGETS} | options,
  )
  return EnsembleMember('apgd_t', 'APGD-T', attack)


def fab(norm: Norm = norms.LINF, **options: Any) -> EnsembleMember:
  """FAB without a target; options are those of `FAB`."""
  return EnsembleMember(
    'fab', 'FAB', FAB(norm=norm, **{'targets': 0} | options)
  )


def fab_t(norm: Norm = norms.LINF, **options: Any) -> EnsembleMember:
  """FAB with targets."""
  attack = FAB(norm=norm, **{'targets': _TARGETS} | options)
  return EnsembleMember('fab_t', 'FAB-T', attack)


def square(norm: Norm = norms.LINF, **options: Any) -> EnsembleMember:
  """The Square attack; options are those of `RandomSearch`.

  Raises:
    ValueError: for another norm than those of `norms`.
  """
  searches = {
    norms.LINF: SquareLinf,
    norms.L2: SquareL2,
    norms.L1: SquareL1,
  }
  if norm not in searches:
    known = ', '.join(norm.name for norm in searches)
    raise ValueError(
      f'there is no Square attack in {norm.name}, only in {known}.'
    )
  attack = searches[norm](**options)
  return EnsembleMember('square', 'Square', attack, black_box=True)


MEMBERS = {
  'apgd-ce': apgd_ce,
  'apgd-dlr': apgd_dlr,
  'apgd-t': apgd_t,
  'fab': fab,
  'fab-t': fab_t,
  'square': square,
}
