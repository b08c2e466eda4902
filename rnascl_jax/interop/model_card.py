"""The model card of a trained model: what it is, what it reached, its limits.

Reference:
  Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from collections.abc import Sequence
from typing import Any

from rnascl_jax.config import settings
from rnascl_jax.data import cifar10
from rnascl_jax.interop.attacked_images import AttackedImages
from rnascl_jax.interop.runtimes import Measured
from rnascl_jax.models import networks
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.reporting import tables
from rnascl_jax.reporting.report import model_table, run_facts
from rnascl_jax.reporting.results import SavedRun, read_json
from rnascl_jax.runtime import files

# Of the JSON.
FORMAT = 1
# Names of classes on the page.
_SHOWN = 20
# Of data sets of which runs keep no names.
_CLASS_NAMES = {
  'digits': tuple('0123456789'),
  'cifar10': cifar10.CLASS_NAMES,
}
# Fields of a student that was pruned.
_PRUNED = ('prune', 'sparsity')
_LIMITS = (
  'Accuracy under an attack is an upper bound: a stronger attack may break '
  'more images.',
  'Nothing is known of images from other sources, of perturbations in other '
  'norms or of larger radii than those above.',
  'It always answers with one of its classes, also for images of none of them.',
)


def class_names(run: SavedRun, model: Pretrained) -> list[str] | None:
  """The names of a model's logits, None if the run does not say them.

  Args:
    run: the run that trained it.
    model: the model. A teacher taken from elsewhere may have logits of more
      classes than the run.
  """
  names = (
    (read_json(run.workdir / 'data.json') or {}).get('classes')
    or (run.config.get('data') or {}).get('classes')
    or _CLASS_NAMES.get(run.dataset, ())
  )
  return list(names) if len(names) == model.metadata['num_classes'] else None


def make(run: SavedRun, name: str, model: Pretrained) -> dict[str, Any]:
  """Says what is known of a model, as JSON.

  Args:
    run: the run that trained it.
    name: the model's name there, 'rnas_cl'.
    model: the model.

  Returns:
    Name and label; data set, classes and shape of images; parameters, MACs and
    architecture; settings of the training; accuracy under each attack with its
    95 % interval, radius and norm; warnings; limits; provenance. What the run
    did not save is None or empty.
  """
  evaluation = run.evaluation(name)
  metadata = model.metadata
  attacks = evaluation.attacks if evaluation else ()
  warnings = evaluation.warnings if evaluation else ()
  return files.to_json(
    {
      'format': FORMAT,
      'name': name,
      'label': run.label(name),
      'kind': metadata['kind'],
      'dataset': metadata.get('dataset', run.dataset),
      'class_names': class_names(run, model),
      'num_classes': metadata['num_classes'],
      'image_shape': metadata['image_shape'],
      'parameters': networks.count_parameters(model.variables, batch_norm=True),
      'macs': evaluation and evaluation.macs,
      'architecture': metadata.get('architecture'),
      'network': metadata.get('network'),
      'training': {
        **_training(run, name),
        'seconds': evaluation and evaluation.seconds,
      },
      'accuracy': [
        {
          'attack': attack.attack,
          'label': attack.label,
          'epsilon': attack.epsilon,
          'norm': attack.norm,
          'images': attack.images,
          'correct': attack.correct,
          'accuracy': attack.accuracy,
          'interval_95': attack.interval,
        }
        for attack in attacks
      ],
      'int8': None,
      'warnings': [warning.message for warning in warnings],
      'limits': _LIMITS,
      'provenance': run.provenance,
    }
  )


def int8(
  results: Sequence[Measured], attacked: AttackedImages, calibration: int
) -> dict[str, Any]:
  """The entry `int8` of a card whose model was quantised too, as JSON.

  Args:
    results: of the float32 and the int8 file in ONNX.
    attacked: the images that they classified.
    calibration: how many training images gave the ranges of activations.
  """
  return {
    'calibration_images': calibration,
    'images': len(attacked.labels),
    'attack': attacked.attack.key,
    'label': attacked.attack_text,
    'epsilon': attacked.attack.epsilon,
    'norm': attacked.attack.norm.name,
    'files': {
      result.path.name: {
        'bytes': result.path.stat().st_size,
        'clean': result.accuracies[0],
        'attacked': result.accuracies[1],
      }
      for result in results
    },
  }


def markdown(run: SavedRun, card: dict[str, Any]) -> str:
  """The same as a page of Markdown.

  Args:
    run: the run.
    card: of `make`.
  """
  height, width, channels = card['image_shape']
  names = card['class_names'] or range(card['num_classes'])
  shown = ', '.join(map(str, names[:_SHOWN])) + ', ...' * (len(names) > _SHOWN)
  macs = card['macs']
  parts = [
    f'# {card["label"]}',
    f'A {card["kind"]} of {tables.count(card["parameters"])} parameters'
    f'{macs and f" and {tables.count(macs)} multiply-adds an image" or ""}. It '
    'sorts images of '
    f'{height}×{width}×{channels} numbers in [0, 1] into '
    f'{card["num_classes"]} classes ({shown}), and was trained on '
    f'{card["dataset"]}{_trained(run, card["training"])}.',
    '## Intended use',
    'Research on robust and compact networks, and the classification of images '
    f'like those of {card["dataset"]}, scaled to [0, 1].',
    '## Accuracy',
    _accuracy(run, card),
    *(f'- Warning: {text}' for text in card['warnings']),
    _int8(card['int8']),
    '## Limits',
    '\n'.join(f'- {text}' for text in card['limits']),
  ]
  if card['architecture']:
    parts.append('## Architecture')
    parts.append(
      tables.markdown(model_table.architecture(card['architecture']))
    )
  parts.append(run_facts.section(run))
  return '\n\n'.join(part for part in parts if part) + '\n'


def _accuracy(run: SavedRun, card: dict[str, Any]) -> str:
  if not card['accuracy']:
    return 'Not evaluated.'
  rows = [['Attack', 'Radius', 'Images', 'Accuracy (%)', '95 % interval']]
  for attack in card['accuracy']:
    low, high = attack['interval_95']
    radius = attack['epsilon'], run.dataset, attack['norm']
    rows.append(
      [
        attack['label'],
        tables.epsilon_text(*radius) if attack['epsilon'] else tables.NOTHING,
        f'{attack["images"]:,}',
        f'{100 * attack["accuracy"]:.1f}',
        f'{100 * low:.1f} to {100 * high:.1f}',
      ]
    )
  return tables.markdown(rows)


def _int8(facts: dict[str, Any] | None) -> str:
  """The section on the quantised file, '' if there is none."""
  if facts is None:
    return ''
  rows = [['File', 'KiB', 'Clean (%)', f'{facts["label"]} (%)']]
  for name, file in facts['files'].items():
    shares = (f'{100 * file[kind]:.1f}' for kind in ('clean', 'attacked'))
    rows.append([f'`{name}`', f'{file["bytes"] / 1024:,.1f}', *shares])
  return (
    '## In 8-bit integers\n\n'
    f'Quantised with {facts["calibration_images"]:,} training images. Both '
    f'files on the first {facts["images"]:,} test images; adversarial ones are '
    'made with the gradients of the model in float32, so that under attack the '
    'int8 file may have less than this:\n\n'
    f'{tables.markdown(rows)}'
  )


def _training(run: SavedRun, name: str) -> dict[str, Any]:
  """What the run says of a model's training; None or '' where it does not."""
  tuned = (run.config.get('adversarial') or {}).get('students') or {}
  entry = tuned.get(name, {})
  base = entry.get('student', '')
  student = (run.config.get('students') or {}).get(base or name, {})
  stage = next(
    (s for s in run.stages if s.model == name and s.group != 'pruning'), None
  )
  group = 'adversarial' if name in tuned else 'train'
  if name.endswith('teacher'):
    group = 'teacher'
  method = run.adversarial_method(name, group)
  is_taught = (
    student.get('kl_weight', 1) > 0
    or student.get('gamma', 1) > 0
    or settings.AdversarialTraining(method).needs_teacher
  )
  return {
    'seed': run.seed,
    'epochs': stage and stage.summary.get('epochs'),
    'method': '' if method == 'standard' and not base else method,
    'teacher': student.get('teacher', '') if is_taught else '',
    'base': base,
    **({k: entry[k] for k in _PRUNED} if entry.get('prune') else {}),
  }


def _trained(run: SavedRun, training: dict[str, Any]) -> str:
  """The same as the end of a sentence."""
  text = ''
  if training['epochs']:
    text += f' for {training["epochs"]} epochs'
  if training['method']:
    text += f' by the adversarial method {training["method"]!r}'
  if training['base']:
    text += f', beginning with the weights of “{run.label(training["base"])}”'
  if 'prune' in training:
    text += (
      f', of which {100 * training["sparsity"]:.3g} % of each layer were '
      f'set to 0 by {training["prune"]!r}'
    )
  if training['teacher'] and not training['base']:
    text += f', taught by “{run.label(training["teacher"])}”'
  return text
