"""Writes the files of an invented run, for the tests of figures and report."""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from rnascl_jax.runtime import files
from tests import saved_auto_attack, saved_corruptions, saved_search

EPSILON = 0.1
IMAGES = 517
# Every attack breaks the images of the highest ranks.
RANKS = np.random.default_rng(1).permutation(IMAGES)
LABELS = {
  'clean': 'Clean',
  'fgsm': 'FGSM',
  'pgd20': 'PGD-20',
  'mi_fgsm': 'MI-FGSM',
  'cw20': 'CW-20',
}
# Model: label, kind, parameters, images classified correctly by attack.
MODELS = {
  'teacher': ('Robust teacher', 'teacher', 78_000, (512, 470, 464, 466, 463)),
  'vulnerable_teacher': (
    'Vulnerable teacher',
    'teacher',
    78_000,
    (514, 330, 262, 290, 258),
  ),
  'rnas_cl': ('RNAS-CL student', 'student', 6_512, (509, 280, 226, 230, 221)),
  'ce': ('CE student', 'student', 6_512, (509, 180, 80, 96, 72)),
  'ce_kl': ('CE + KL student', 'student', 6_512, (513, 250, 191, 199, 190)),
  'control_rnas_cl': ('Control', 'student', 6_512, (507, 240, 171, 180, 168)),
}


# What RNAS-CL is after its fine-tuning on attacks.
FINE_TUNED = ('RNAS-CL + eq. (6)', 'student', 6_512, (503, 450, 440, 442, 438))


def evaluation(
  model: str,
  counts: tuple[int, ...] | None = None,
  *,
  about: tuple | None = None,
  order: int = 0,
  images: int = IMAGES,
  epsilon: float = EPSILON,
  dataset: str = 'digits',
  warnings: tuple[dict, ...] = (),
) -> dict:
  """What evaluation/<model>.json holds; `counts` by attack as in `LABELS`.

  Some models are also under AutoAttack, on fewer images.
  """
  label, kind, parameters, default = about or MODELS[model]
  attacks = []
  for attack, correct in zip(LABELS, counts or default, strict=True):
    steps = {'clean': 0, 'fgsm': 1, 'mi_fgsm': 10}.get(attack, 20)
    attacks.append(
      {
        'attack': attack,
        'label': LABELS[attack],
        'epsilon': 0.0 if attack == 'clean' else epsilon,
        'steps': steps,
        'step_size': epsilon / 4 if steps > 1 else None,
        'images': images,
        'accuracy': correct / images,
        'correct': correct,
        'seconds': 1.2,
        'rejected': 0,
        'adversarial': None,
      }
    )
  curves = [curve(attacks[0], attacks[index], epsilon) for index in (2, 1)]
  if model in saved_auto_attack.LEFT:
    left = saved_auto_attack.LEFT[model]
    attacks.append(saved_auto_attack.record(left, epsilon=epsilon))
  return {
    'model': model,
    'label': label,
    'kind': kind,
    'dataset': dataset,
    'images': images,
    'parameters': parameters,
    'macs': 48 * parameters,
    'seconds': 12.3,
    'attacks': attacks,
    'curves': curves,
    'order': order,
    'warnings': list(warnings),
  }


def curve(clean: dict, attacked: dict, epsilon: float) -> dict:
  """A curve through the two accuracies, at 0 and epsilon, that ends near 0."""
  ratio = max(attacked['accuracy'] / clean['accuracy'], 1e-9)
  points = [
    {
      'epsilon': epsilon * step / 2,
      'accuracy': clean['accuracy'] * ratio ** ((step / 2) ** 3),
    }
    for step in range(9)
  ]
  return {
    'attack': attacked['attack'],
    'label': attacked['label'],
    'points': points,
  }


@contextlib.contextmanager
def edited(path: pathlib.Path) -> Iterator[dict]:
  """Gives the object in a JSON file, and writes what it has become."""
  saved = json.loads(path.read_text())
  yield saved
  path.write_text(json.dumps(saved))


def write_evaluation(
  workdir: pathlib.Path, saved: dict, *, per_image: bool = True
) -> None:
  """Writes an evaluation; the images of the lowest ranks are the right ones."""
  folder = workdir / 'evaluation'
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f'{saved["model"]}.json'
  path.write_text(json.dumps(saved))
  if per_image:
    arrays = {}
    for attacked in saved['attacks']:
      arrays |= saved_auto_attack.arrays(attacked, RANKS)
    np.savez(path.with_suffix('.npz'), **arrays)


def write_fine_tuned(
  workdir: pathlib.Path,
  model: str = 'rnas_cl_eq6',
  counts: tuple[int, ...] | None = None,
  *,
  label: str = FINE_TUNED[0],
  base: str = 'rnas_cl',
  method: str = 'trades',
  left: tuple[int, ...] | None = None,
) -> None:
  """Adds a student that was fine-tuned on attacks to a written run."""
  path = workdir / 'config.json'
  config = json.loads(path.read_text())
  section = config.setdefault(
    'adversarial', {'optimization': {'epochs': 20}, 'students': {}}
  )
  section['students'][model] = {
    'student': base,
    'adversarial_training': {'name': method},
  }
  path.write_text(json.dumps(config))
  about = (label, *FINE_TUNED[1:])
  order = list(section['students']).index(model)
  saved = evaluation(model, counts, about=about, order=order) | {'base': base}
  if left is not None:
    saved['attacks'].append(saved_auto_attack.record(left))
  write_evaluation(workdir, saved)
  saved_search.write_log(
    workdir / 'adversarial' / model,
    2.5,
    np.random.default_rng(len(section['students'])),
    adversarial_accuracy=lambda epoch: 0.8 - 0.5 * np.exp(-epoch / 8),
  )


def write_auto_attack(
  workdir: pathlib.Path,
  model: str,
  left: tuple[int, ...] | None = None,
  *,
  per_image: bool = True,
  warnings: tuple[dict, ...] = (),
  **options,
) -> None:
  """Writes an evaluation again, with another AutoAttack; None for none."""
  order = list(MODELS).index(model)
  saved = evaluation(model, order=order, warnings=warnings)
  saved['attacks'] = [
    a for a in saved['attacks'] if a['attack'] != 'autoattack'
  ]
  if left is not None:
    saved['attacks'].append(saved_auto_attack.record(left, **options))
  (workdir / 'evaluation' / f'{model}.npz').unlink(missing_ok=True)
  write_evaluation(workdir, saved, per_image=per_image)


def write(
  workdir: pathlib.Path,
  *,
  blocks: int = 2,
  teacher_layers: int = 7,
  counts: Mapping[str, tuple[int, ...]] | None = None,
  per_image: bool = True,
  dataset: str = 'digits',
  epsilon: float = EPSILON,
) -> pathlib.Path:
  """Writes a complete run with 1 + 3 * blocks student layers."""
  random = np.random.default_rng(0)
  workdir.mkdir(parents=True, exist_ok=True)
  config = {
    'data': {'name': dataset},
    'seed': 0,
  }
  provenance = {
    'versions': {'jax': '0.10.2', 'rnascl_jax': '0.1.0'},
    'commit': 'f00dfeed',
    'devices': [{'kind': 'cpu', 'count': 1}],
    'seed': 0,
    'seconds': {'teacher': 31.2, 'search': 75.0, 'train': 3725.0},
    'command': 'python -m experiments.pipeline --config=configs/digits.py',
  }
  files.write_config(workdir, config)
  (workdir / 'provenance.json').write_text(json.dumps(provenance))
  for order, model in enumerate(MODELS):
    saved = evaluation(
      model,
      (counts or {}).get(model),
      order=order,
      dataset=dataset,
      epsilon=epsilon,
    )
    write_evaluation(workdir, saved, per_image=per_image)
    folder = 'train/' * (saved['kind'] == 'student') + model
    saved_search.write_log(workdir / folder, 2.0 + 0.2 * order, random)
  architecture = saved_search.write_architecture(
    workdir, blocks, teacher_layers, random
  )
  saved_search.write_search(workdir, architecture, random)
  saved_search.write_attention(workdir, architecture, random)
  saved_search.write_robustness(workdir, architecture, epsilon, random)
  saved_search.write_examples(workdir, MODELS, epsilon, random)
  saved_corruptions.write(workdir)
  return workdir
