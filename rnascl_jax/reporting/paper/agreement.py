"""Whether runs may be averaged: trained by one config, attacked alike.

The fields of a config that may differ are the seed, files of other runs of that
seed, and what changes no number. Evaluations are compared attack by attack, as
a run may have attacked more than another.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rnascl_jax.reporting.results import (
  AttackResult,
  Curve,
  ModelEvaluation,
  Run,
)

# Fields, and sections, that differ between runs that are averaged.
_FREE = (
  'seed',
  'devices',
  'data.data_dir',
  'data.workers',
  'evaluation.',
)
# The folder of a seed, in paths of what another row of the same seed has made.
_OF_SEED = re.compile(r'.*/seed\d+/')
_FIX = (
  'evaluate both alike, or leave the folder of one of them out of the sweep.'
)


def check(runs: Sequence[Run], model: str) -> None:
  """Refuses runs whose mean would mean nothing.

  Args:
    runs: of other seeds, all with an evaluation of the model.
    model: its key.

  Raises:
    ValueError: if they are of other data or another config, or an attack has
      other settings or images; it names the difference.
  """
  for run in runs[1:]:
    _check_config(runs[0], run)
    _check_evaluation(runs[0], run, model)


def _check_config(first: Run, second: Run) -> None:
  before, now = _flat(first.config), _flat(second.config)
  # A field that only one of them has came with another version of the code.
  differ = [
    f'{name} is {before[name]!r} there, {now[name]!r} here'
    for name in sorted(before.keys() & now.keys())
    if _alike(before[name]) != _alike(now[name]) and not name.startswith(_FREE)
  ]
  if differ:
    raise ValueError(
      f'{second.workdir} cannot be averaged with {first.workdir}, a run of '
      f'another config ({"; ".join(differ[:4])}): train both with the same, or '
      'leave the folder of one of them out of the sweep.'
    )


def _alike(value: Any) -> Any:
  """A field as it is compared."""
  return _OF_SEED.sub('', value) if isinstance(value, str) else value


def _check_evaluation(first: Run, second: Run, model: str) -> None:
  found, other = first.evaluation(model), second.evaluation(model)
  if found is None or other is None:
    return
  where = f'{model} of {second.workdir} cannot be averaged with that of '
  where += f'{first.workdir}'
  if found.dataset != other.dataset:
    raise ValueError(
      f'{where}: its data are {other.dataset!r}, not {found.dataset!r}; {_FIX}'
    )
  for attacked in other.attacks:
    same = found.under(attacked.attack)
    if same is not None and not is_alike(same, attacked):
      raise ValueError(
        f'{where}: it was attacked otherwise, by {_settings(attacked)}, not by '
        f'{_settings(same)}; {_FIX}'
      )
  _check_curves(found, other, where)


def _check_curves(
  found: ModelEvaluation, other: ModelEvaluation, where: str
) -> None:
  curves = {curve.attack: curve for curve in found.curves}
  for curve in other.curves:
    same = curves.get(curve.attack)
    if same is None:
      continue
    if _radii(same) != _radii(curve) or same.images != curve.images:
      raise ValueError(
        f'{where}: its curve of {curve.label} has ε = {_radii(curve)} on '
        f'{curve.images} images, not {_radii(same)} on {same.images}; {_FIX}'
      )


def is_alike(first: AttackResult, second: AttackResult) -> bool:
  """Whether two outcomes are of one attack on as many images."""
  return first.same_attack(second) and first.images == second.images


def _settings(outcome: AttackResult) -> str:
  text = f'{outcome.label} at ε = {outcome.epsilon:.6g}'
  if outcome.norm:
    text += f' ({outcome.norm})'
  if outcome.steps:
    text += f', {outcome.steps} steps'
  if outcome.step_size:
    text += f' of {outcome.step_size:.6g}'
  members = ', '.join(
    f'{m.label} with {m.num_trials} trials of {m.num_steps} steps'
    for m in outcome.members
  )
  return text + f' [{members}]' * bool(members) + f' on {outcome.images} images'


def _radii(curve: Curve) -> list[float]:
  return [round(float(epsilon), 6) for epsilon in curve.epsilons]


def _flat(fields: Any, prefix: str = '') -> dict[str, Any]:
  """Nested fields under dotted names."""
  if not isinstance(fields, Mapping):
    return {prefix[:-1]: fields}
  nested = [_flat(v, f'{prefix}{k}.') for k, v in fields.items()]
  return {name: value for part in nested for name, value in part.items()}
