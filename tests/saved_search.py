"""Writes what an invented search and its trainings left, for `saved_run`."""

import json
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

_SCALES = {'teacher': 0.15, 'vulnerable_teacher': 0.45}


def write_log(
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


def write_architecture(
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


def write_search(workdir: pathlib.Path, architecture: dict, random) -> None:
  folder = workdir / 'search'
  write_log(
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


def write_attention(
  workdir: pathlib.Path,
  architecture: dict,
  random,
  students: Iterable[str] = ('rnas_cl', 'ce_kl', 'ce'),
) -> None:
  """Maps of images that all runs share; RNAS-CL is near its tutors."""
  images, size = 4, 8
  teacher = random.random(
    (images, len(architecture['teacher']['layers']), 4, 4)
  )
  own = teacher[:, [t['tutor'] for t in architecture['tutors']]]
  maps = {'teacher_maps': teacher}
  for student in students:
    noise = random.random(own.shape)
    is_taught = student == 'rnas_cl'
    maps[f'maps/{student}'] = own + 0.2 * noise if is_taught else noise
  maps = {
    name: value / np.linalg.norm(value, axis=(-2, -1), keepdims=True)
    for name, value in maps.items()
  }
  np.savez(
    workdir / 'evaluation' / 'attention.npz',
    images=np.linspace(0, 1, images * size**2, dtype=np.float32).reshape(
      images, size, size, 1
    ),
    labels=np.arange(images),
    **maps,
  )


def write_robustness(
  workdir: pathlib.Path,
  architecture: dict,
  epsilon: float,
  random,
  scales: Mapping[str, float] = _SCALES,
) -> None:
  """Scores of teachers of equal layers, about as large as their scales."""
  layers = architecture['teacher']['layers']
  teachers = {
    model: {
      'layers': layers,
      'scores': (scale * (0.5 + random.random(len(layers)))).tolist(),
      'errors': (0.02 * scale * random.random(len(layers))).tolist(),
    }
    for model, scale in scales.items()
  }
  saved = {
    'teachers': teachers,
    'attack': 'PGD-20',
    'epsilon': epsilon,
    'images': 128,
  }
  (workdir / 'evaluation' / 'robustness.json').write_text(json.dumps(saved))


def write_examples(
  workdir: pathlib.Path, models: Iterable[str], epsilon: float, random
) -> None:
  """The first of three images is broken, the next withstands, one is wrong."""
  folder = workdir / 'evaluation' / 'examples'
  folder.mkdir(parents=True, exist_ok=True)
  for model in models:
    images = random.integers(30, 220, (3, 8, 8, 1)).astype(np.uint8)
    adversarial = images / np.float32(255)
    adversarial[0] += epsilon * np.sign(random.random((8, 8, 1)) - 0.5)
    np.savez(
      folder / f'{model}.npz',
      images=images,
      adversarial=adversarial.astype(np.float16),
      labels=[3, 5, 7],
      clean_predictions=[3, 5, 1],
      predictions=[8, 5, 1],
      clean_confidences=[0.99, 0.98, 0.6],
      confidences=[0.75, 0.98, 0.6],
      attack='PGD-20',
      epsilon=epsilon,
      norm='L∞',
    )
