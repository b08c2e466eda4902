"""Numbers of a row: what each seed gave, their mean and deviation.

Example:
  >>> from rnascl_jax.reporting.paper import measures
  >>> found = measures.Summary({0: 34.0, 1: 35.0, 2: 36.0})
  >>> measures.text(found, decimals=1)
  '35.0 ± 1.0'
  >>> measures.text(measures.Summary({0: 6.64}))
  '6.64'
"""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

from rnascl_jax.reporting.paper.sweep_results import Evaluated
from rnascl_jax.reporting.results import Json, ModelEvaluation, Run

# Images from which on an accuracy has two decimals, as the paper's have.
_MANY = 10_000
_SCALES = {
  'parameters': 1e6,
  'kiloparameters': 1e3,
  'macs': 1e6,
  'gigamacs': 1e9,
}


class Summary(NamedTuple):
  """One measure over seeds.

  Attributes:
    values: by seed, at least one.
  """

  values: Mapping[int, float]

  @property
  def mean(self) -> float:
    """Over seeds."""
    return statistics.mean(self.values.values())

  @property
  def deviation(self) -> float | None:
    """The sample's standard deviation; None of one seed."""
    if len(self.values) < 2:
      return None
    return statistics.stdev(self.values.values())


def summary(models: Mapping[int, Evaluated], key: str) -> Summary | None:
  """A measure of a row.

  Args:
    models: by seed.
    key: of a column, but 'devices'.

  Returns:
    Of the seeds that have it; None where none has.
  """
  values = {
    seed: value
    for seed, evaluated in models.items()
    if (value := _value(evaluated, key)) is not None
  }
  return Summary(values) if values else None


def _value(evaluated: Evaluated, key: str) -> float | None:
  """Accuracies in %, sizes in the unit of their column, hours."""
  run, found = evaluated
  if key == 'hours':
    return hours(run, found)
  if key in _SCALES:
    count = found.macs if key.endswith('macs') else found.parameters
    return None if count is None else count / _SCALES[key]
  outcome = found.under(key)
  return None if outcome is None else 100 * outcome.accuracy


def hours(run: Run, found: ModelEvaluation) -> float | None:
  """Device hours of search, training, and training on attacks.

  Args:
    run: with the seconds of its stages.
    found: a student.

  Returns:
    Summed over stages, times the devices of each; None unless all are known.
  """
  seconds = run.provenance.get('seconds', {})
  stages = _stages(found)
  if any(stage not in seconds for stage in stages):
    return None
  total = sum(
    seconds[stage] * sum(device['count'] for device in _devices(run, stage))
    for stage in stages
  )
  return total / 3600


def devices(run: Run, found: ModelEvaluation) -> tuple[str, ...]:
  """Kinds of the devices that a student was searched and trained on."""
  kinds = [
    device['kind']
    for stage in _stages(found)
    for device in _devices(run, stage)
  ]
  return tuple(dict.fromkeys(kinds))


def _stages(found: ModelEvaluation) -> tuple[str, ...]:
  """Names under which a run keeps the stages that made a student."""
  if found.base:
    return ('search', f'train/{found.base}', f'adversarial/{found.model}')
  return ('search', f'train/{found.model}')


def _devices(run: Run, stage: str) -> list[Json]:
  """Those of a stage; of the run where it does not say."""
  stages = run.provenance.get('stages', {})
  found = stages.get(stage, run.provenance).get('devices')
  return found or [{'kind': 'an unknown device', 'count': 1}]


def decimals(models: Mapping[int, Evaluated], attack: str) -> int:
  """Of accuracies in %: two where there are as many images as the paper has."""
  outcomes = [e.found.under(attack) for e in models.values()]
  images = [outcome.images for outcome in outcomes if outcome is not None]
  return 2 if max(images, default=0) >= _MANY else 1


def text(found: Summary, decimals: int | None = None) -> str:
  """'35.0 ± 1.0', of one seed '35.0'.

  Args:
    found: a measure.
    decimals: of both numbers; None for three significant digits of the mean.

  Returns:
    Text.
  """
  if decimals is None:
    decimals = significant(found.mean)
  written = f'{found.mean:,.{decimals}f}'
  if found.deviation is not None:
    written += f' ± {found.deviation:,.{decimals}f}'
  return written


def significant(value: float) -> int:
  """Decimals with which a number has three significant digits."""
  if not value:
    return 0
  return max(0, 2 - math.floor(math.log10(abs(value))))
