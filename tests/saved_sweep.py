"""Writes the folder of an invented sweep, for the tests of the paper's tables.

Numbers of correct images are invented too, but differ between seeds.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from rnascl_jax.runtime import files
from tests import saved_auto_attack, saved_run, saved_search

# Images classified correctly, clean and under the attacks of `saved_run`.
COUNTS = (500, 300, 200, 220, 190)
COMMIT = 'f00dfeed'


def write_row(
  root: pathlib.Path,
  seed: int,
  row: str,
  models: Mapping[str, tuple[int, ...]] | Iterable[str],
  *,
  images: int = saved_run.IMAGES,
  epsilon: float = saved_run.EPSILON,
  dataset: str = 'digits',
  parameters: int = 6_512,
  teacher_layers: int = 7,
  blocks: int = 2,
  auto_attack: tuple[int, ...] | None = None,
  marker: bool = True,
  is_analyzed: bool = False,
) -> pathlib.Path:
  """Writes the workdir of a row that is finished.

  Args:
    root: of the sweep.
    seed: of the run.
    row: its name.
    models: keys, with counts of correct images by attack.
    images: attacked.
    epsilon: radius.
    dataset: its name.
    parameters: of the models.
    teacher_layers: T.
    blocks: of the students.
    auto_attack: as in `saved_auto_attack.record`; None for none.
    marker: whether the sweep says that the row is finished.
    is_analyzed: whether it has what it believed during the search, attention
      maps, and the scores of its teacher if it attacked one.

  Returns:
    The workdir.
  """
  folder = root / f'seed{seed}' / row
  folder.mkdir(parents=True, exist_ok=True)
  if not isinstance(models, Mapping):
    models = {model: tuple(n + seed for n in COUNTS) for model in models}
  for order, (model, counts) in enumerate(models.items()):
    base = model.rsplit('_', 1)[0] if model.endswith(('_eq6', 'trades')) else ''
    kind = 'teacher' if model == 'teacher' else 'student'
    saved = saved_run.evaluation(
      model,
      counts,
      about=(model, kind, parameters, None),
      order=order,
      images=images,
      epsilon=epsilon,
      dataset=dataset,
    )
    saved['base'] = base
    if kind == 'teacher' or row.startswith('teacher'):
      saved['curves'] = []
    saved['attacks'] = [
      a for a in saved['attacks'] if a['attack'] != 'autoattack'
    ]
    if auto_attack is not None:
      saved['attacks'].append(
        saved_auto_attack.record(auto_attack, epsilon=epsilon)
      )
    saved_run.write_evaluation(folder, saved, per_image=False)
  random = np.random.default_rng([seed, len(row)])
  architecture = saved_search.write_architecture(
    folder, blocks, teacher_layers, random
  )
  if is_analyzed:
    students = set(models) - {'teacher'}
    saved_search.write_search(folder, architecture, random)
    saved_search.write_attention(folder, architecture, random, students)
    scales = {model: 0.15 for model in models if model == 'teacher'}
    saved_search.write_robustness(folder, architecture, epsilon, random, scales)
  if row.startswith('teacher'):
    (folder / 'architecture.json').unlink()
  _write_facts(folder, seed, row, list(models), dataset)
  if marker:
    command = f'python -m experiments.pipeline --config.seed={seed}'
    command += f' --workdir=ROOT/seed{seed}/{row}'
    (folder / 'sweep.json').write_text(
      json.dumps({'commands': [command.split()], 'seconds': 3.0})
    )
  return folder


def _write_facts(
  folder: pathlib.Path, seed: int, row: str, models: list[str], dataset: str
) -> None:
  config = {
    'seed': seed,
    'data': {'name': dataset, 'max_train': 0},
    'search': {'optimization': {'epochs': 10}, 'architecture': ''},
    'teacher': {'checkpoint': f'/root/seed{seed}/teacher'},
  }
  files.write_config(folder, config)
  seconds = {'search': 3600.0, 'evaluation': 99_999.0}
  for model in models:
    seconds[f'train/{model}'] = 1800.0 + 360 * seed
    seconds[f'adversarial/{model}'] = 900.0
  devices = [{'kind': 'NVIDIA H100', 'count': 2}]
  provenance = {
    'commit': COMMIT,
    'devices': devices,
    'seed': seed,
    'seconds': seconds,
    'stages': {name: {'devices': devices} for name in seconds},
    'command': f'python -m experiments.pipeline --config={row}',
  }
  (folder / 'provenance.json').write_text(json.dumps(provenance))
