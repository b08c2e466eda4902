"""Numbers of a row of a table: what each seed gave, and their mean as text.

Example:
  >>> from rnascl_jax.reporting.paper import measures
  >>> measures.text({0: 6.64})
  '6.64'
"""

import itertools
import math
import operator
from collections.abc import Mapping

import numpy as np

from rnascl_jax.reporting import statistics, tables
from rnascl_jax.reporting.evaluations import Json, ModelEvaluation
from rnascl_jax.reporting.paper import definition
from rnascl_jax.reporting.paper.sweep_runs import EvaluatedModel, Models
from rnascl_jax.reporting.results import SavedRun

# Images from which on an accuracy has two decimals, as the paper's have.
_MANY = 10_000
_SCALES = {
  'parameters': 1e6,
  'kiloparameters': 1e3,
  'macs': 1e6,
  'gigamacs': 1e9,
}


def values(models: Models, key: str) -> dict[int, float]:
  """A measure of a row, by seed, of the seeds that have it.

  Args:
    models: the row.
    key: that of a column, but 'devices': accuracies and shares are in %, sizes
      in the unit of their column, or it is hours or filters.
  """
  by_seed = {seed: _value(models[seed], key) for seed in models}
  return {seed: value for seed, value in by_seed.items() if value is not None}


def _value(model: EvaluatedModel, key: str) -> float | None:
  if key == 'hours':
    return _hours(*model)
  if key in definition.WIDTHS:
    return _width(model.run, key)
  evaluation = model.evaluation
  if key in _SCALES:
    macs = key.endswith('macs')
    count = evaluation.macs if macs else evaluation.parameters
    return None if count is None else count / _SCALES[key]
  result = evaluation.under(key)
  return None if result is None else 100 * result.accuracy


def _width(run: SavedRun, key: str) -> float | None:
  """Mean filters of a stage's blocks, or the share of narrow blocks in %.

  A stage is as many blocks in a row as have the same choices. Blocks of the
  last stage are narrow that have one of its two smallest choices.
  """
  blocks = (run.architecture or {}).get('blocks', [])
  by_choices = itertools.groupby(blocks, operator.itemgetter('choices'))
  stages = [
    (sorted(choices), [block['features'] for block in stage])
    for choices, stage in by_choices
  ]
  place = len(stages) if key == 'narrow' else int(key[-1])
  if not 0 < place <= len(stages):
    return None
  choices, filters = stages[place - 1]
  if key == 'narrow':
    return 100 * float(np.mean(np.isin(filters, choices[:2])))
  return float(np.mean(filters))


def _hours(run: SavedRun, evaluation: ModelEvaluation) -> float | None:
  """Device hours of search, training, and training on attacks of a student.

  They are the hours of each stage times its devices; None unless all are known.
  """
  seconds = run.provenance.get('seconds', {})
  stages = _stages(run, evaluation)
  if any(stage not in seconds for stage in stages):
    return None
  total = sum(
    seconds[stage] * sum(device['count'] for device in _devices(run, stage))
    for stage in stages
  )
  return total / 3600


def devices(models: Models) -> list[str]:
  """Kinds of the devices that students were searched and trained on."""
  kinds = [
    device['kind']
    for run, evaluation in models.values()
    for stage in _stages(run, evaluation)
    for device in _devices(run, stage)
  ]
  return list(dict.fromkeys(kinds))


def _stages(run: SavedRun, evaluation: ModelEvaluation) -> tuple[str, ...]:
  """Names under which a run keeps the stages that made a student."""
  model, base = evaluation.model, evaluation.base
  if not base:
    return ('search', f'train/{model}')
  stages = ('search', f'train/{base}', f'adversarial/{model}')
  scores = f'adversarial/{model}/pruning'
  known = run.provenance.get('stages', {})
  return (*stages, scores) if scores in known else stages


def _devices(run: SavedRun, stage: str) -> list[Json]:
  """Those of a stage; of the run where it does not say."""
  stages = run.provenance.get('stages', {})
  saved = stages.get(stage, run.provenance).get('devices')
  return saved or [{'kind': 'an unknown device', 'count': 1}]


def decimals(models: Models, attack: str) -> int:
  """Of accuracies in %: two where there are as many images as the paper has."""
  results = [model.evaluation.under(attack) for model in models.values()]
  images = [result.images for result in results if result is not None]
  return 2 if max(images, default=0) >= _MANY else 1


def text(by_seed: Mapping[int, float], decimals: int | None = None) -> str:
  """'35.0 ± 1.0', of one seed '35.0', with at least one seed.

  Both numbers have so many decimals; None: three significant digits of the
  mean.
  """
  numbers = list(by_seed.values())
  if decimals is None:
    mean, _ = statistics.mean_and_deviation(numbers)
    decimals = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean else 0
  return tables.mean(numbers, decimals=decimals)
