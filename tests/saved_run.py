"""Writes the files of an invented run, for the tests of figures and report."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np

EPSILON = 0.1
IMAGES = 517
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


def evaluation(
  model: str,
  counts: tuple[int, ...] | None = None,
  *,
  order: int = 0,
  images: int = IMAGES,
  epsilon: float = EPSILON,
  dataset: str = 'digits',
) -> dict:
  """What evaluation/<model>.json holds; `counts` by attack as in `LABELS`."""
  label, kind, parameters, default = MODELS[model]
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
      }
    )
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
    'curves': [curve(attacks[0], attacks[index], epsilon) for index in (2, 1)],
    'order': order,
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


def write_evaluation(
  workdir: pathlib.Path, saved: dict, *, per_image: bool = True
) -> None:
  """Writes an evaluation; the first `correct` images are the right ones."""
  folder = workdir / 'evaluation'
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f'{saved["model"]}.json'
  path.write_text(json.dumps(saved))
  if per_image:
    np.savez(
      path.with_suffix('.npz'),
      **{
        f'correct/{a["attack"]}': np.arange(a['images']) < a['correct']
        for a in saved['attacks']
      },
    )


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
  (workdir / 'config.json').write_text(json.dumps(config))
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
    _write_log(workdir / folder, 2.0 + 0.2 * order, random)
  architecture = _write_architecture(workdir, blocks, teacher_layers, random)
  _write_search(workdir, architecture, random)
  _write_attention(workdir, architecture, random)
  return workdir


def _write_log(
  folder: pathlib.Path, loss: float, random: np.random.Generator, **more
) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / 'metrics.jsonl', 'w') as log:
    for step in range(10, 401, 10):
      rest = np.exp(-step / 120)
      for split in ('train', 'validation'):
        if split == 'validation' and step % 40:
          continue
        record = {
          'step': step,
          'epoch': step / 20,
          'split': split,
          'loss': loss * rest + 0.05 * random.random(),
          'accuracy': 1 - 0.8 * rest - 0.03 * random.random(),
          'learning_rate': 0.1,
        }
        record |= {name: value(step / 20) for name, value in more.items()}
        log.write(json.dumps(record) + '\n')


def _write_architecture(
  workdir: pathlib.Path, blocks: int, teacher_layers: int, random
) -> dict:
  layers = ['stem'] + [
    f'block{block}/{part}'
    for block in range(blocks)
    for part in ('expand', 'depthwise', 'project')
  ]
  teacher = ['conv1'] + [
    f'layer{1 + i // 4}_{i % 4 // 2}/conv{1 + i % 2}'
    for i in range(teacher_layers - 1)
  ]
  favourites = random.integers(0, teacher_layers, 4)
  tutors = [int(random.choice(favourites)) for _ in layers]
  choices = [
    [16 * 2 ** (3 * b // blocks), 12 * 2 ** (3 * b // blocks)]
    for b in range(blocks)
  ]
  if blocks > 1:
    choices[1] = [*choices[1], 4]
  architecture = {
    'format': 1,
    'space': 's3',
    'stem': 16,
    'blocks': [
      {'features': c[i % len(c)], 'choices': c, 'stride': 1 + i % 2}
      for i, c in enumerate(choices)
    ],
    'tutors': [
      {'layer': layer, 'tutor': tutor, 'tutor_layer': teacher[tutor]}
      for layer, tutor in zip(layers, tutors, strict=True)
    ],
    'teacher': {'name': 'small_resnet', 'layers': teacher},
    'parameters': 6_512,
    'macs': 312_345,
  }
  (workdir / 'architecture.json').write_text(json.dumps(architecture))
  return architecture


def _write_search(workdir: pathlib.Path, architecture: dict, random) -> None:
  folder = workdir / 'search'
  _write_log(
    folder,
    3.0,
    random,
    temperature=lambda epoch: 5 * np.exp(-0.045 * epoch),
    channel_entropy=lambda epoch: np.exp(-epoch / 9),
    tutor_entropy=lambda epoch: np.exp(-epoch / 15),
    flops=lambda epoch: 3e5 + 2e5 * np.exp(-epoch / 6),
    cross_entropy=lambda epoch: 2 * np.exp(-epoch / 8) + 0.05,
    kl=lambda epoch: np.exp(-epoch / 10) + 0.1,
    attention=lambda epoch: 0.1 * np.exp(-epoch / 30),
  )
  epochs = np.arange(1.0, 21.0)
  blocks, tutors = architecture['blocks'], architecture['tutors']
  sharp = (epochs / 4)[:, None]  # [E, 1]
  channels = np.full(
    (len(epochs), len(blocks), max(len(b['choices']) for b in blocks)), np.nan
  )
  for index, block in enumerate(blocks):
    liked = np.asarray(block['choices']) == block['features']
    channels[:, index, : len(liked)] = _softmax(sharp * liked)
  liked = np.eye(len(architecture['teacher']['layers']))
  liked = liked[[t['tutor'] for t in tutors]]  # [S, T]
  noise = random.random(liked.shape)
  tutor = _softmax(sharp[:, :, None] * (liked + 0.7 * noise))  # [E, S, T]
  np.savez(
    folder / 'history.npz',
    epochs=epochs,
    channel_probabilities=channels,
    tutor_probabilities=tutor,
  )


def _softmax(logits: np.ndarray) -> np.ndarray:
  powers = np.exp(logits - logits.max(-1, keepdims=True))
  return powers / powers.sum(-1, keepdims=True)


def _write_attention(workdir: pathlib.Path, architecture: dict, random) -> None:
  images, size = 4, 8
  teacher = random.random(
    (images, len(architecture['teacher']['layers']), 4, 4)
  )
  own = teacher[:, [t['tutor'] for t in architecture['tutors']]]
  maps = {
    'teacher_maps': teacher,
    'maps/rnas_cl': own + 0.2 * random.random(own.shape),
    'maps/ce_kl': random.random(own.shape),
    'maps/ce': random.random(own.shape),
  }
  maps = {
    name: value / np.linalg.norm(value, axis=(-2, -1), keepdims=True)
    for name, value in maps.items()
  }
  np.savez(
    workdir / 'evaluation' / 'attention.npz',
    images=random.random((images, size, size, 1)).astype(np.float32),
    labels=np.arange(images),
    **maps,
  )
  scores = {
    'layers': architecture['teacher']['layers'],
    'scores': random.random(teacher.shape[1]).tolist(),
  }
  (workdir / 'evaluation' / 'robustness.json').write_text(json.dumps(scores))
