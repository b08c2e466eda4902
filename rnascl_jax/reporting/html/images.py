"""Where networks look in images, and images under attack, for the page."""

from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.evaluations import Arrays
from rnascl_jax.reporting.figures import attention as maps
from rnascl_jax.reporting.html import pictures
from rnascl_jax.reporting.report import comparison
from rnascl_jax.reporting.results import SavedRun

# Of images with attention maps, as many as can be looked at.
_IMAGES = 8


class MapCell(NamedTuple):
  """An attention map: its picture, text for who cannot see it, and a note."""

  picture: str
  alt: str
  note: str


class MapRow(NamedTuple):
  """Maps of one student layer and of its tutor."""

  name: str
  cells: list[MapCell]


class MapImage(NamedTuple):
  """An image and what all networks look at in it."""

  name: str
  picture: str
  rows: list[MapRow]


def attention(run: SavedRun) -> tuple[list[str], list[MapImage]]:
  """Headings, and every image with the maps of all student layers.

  Both are empty where there is nothing to show. The maps of a layer share a
  scale; a student's map has its distance to that of the tutor.
  """
  saved, students = run.attention, maps.shown_students(run)
  if saved is None or not students:
    return [], []
  headings = [' '.join(label.split()) for label in students.values()]
  images = []
  for index, image in enumerate(saved['images'][:_IMAGES]):
    rows = []
    for layer, tutor in enumerate(run.tutors):
      shown = [saved[f'maps/{name}'][index, layer] for name in students]
      shown.append(saved['teacher_maps'][index, tutor['tutor']])
      largest = max(float(values.max()) for values in shown)
      name = f'{tutor["layer"]} ← {tutor["tutor_layer"]} ({tutor["tutor"]})'
      cells = [
        MapCell(
          pictures.attention_map(values, largest),
          f'{heading}, {tutor["layer"]}',
          f'{maps.map_distance(values, shown[-1]):.2f}',
        )
        for heading, values in zip(headings, shown, strict=False)
      ]
      alt = f'tutor {tutor["tutor_layer"]}'
      picture = pictures.attention_map(shown[-1], largest)
      rows.append(MapRow(name, [*cells, MapCell(picture, alt, '')]))
    label = f'image {index}, label {saved["labels"][index]}'
    images.append(MapImage(label, pictures.image(image), rows))
  return [*headings, 'Tutor'], images


class Attacked(NamedTuple):
  """What an attack made of an image for one model.

  Attributes:
    label: of the model.
    clean: how the model classifies the image.
    perturbation: picture of it, magnified; '' where it broke nothing.
    adversarial: picture; '' likewise.
    outcome: what became of it.
    is_broken: whether it is wrong, with or without the attack.
    factor: by which the perturbation is magnified.
  """

  label: str
  clean: str
  perturbation: str
  adversarial: str
  outcome: str
  is_broken: bool
  factor: str = ''


class Example(NamedTuple):
  """A test image under an attack on every model."""

  name: str
  picture: str
  models: list[Attacked]


def examples(run: SavedRun) -> tuple[str, list[Example]]:
  """What the examples are, and the examples; empty where none were saved."""
  models = [e for e in run.evaluations if e.model in run.examples]
  models.sort(key=lambda e: e.model != comparison.STUDENT)
  if not models:
    return '', []
  first = run.examples[models[0].model]
  attacks = dict.fromkeys(_attack(run, run.examples[e.model]) for e in models)
  count = min(len(run.examples[e.model]['labels']) for e in models)
  about = (
    f'The first {count} test images, chosen by nothing else, and what '
    f'{"; ".join(attacks)} makes of them on each model. The perturbation is '
    'shown around grey, magnified so that the largest change of a pixel is '
    'black or white. In brackets, how sure the model is of its class. An image '
    'that the attack did not break keeps no adversarial one.'
  )
  made = []
  for index in range(count):
    label = f'image {index}, label {first["labels"][index]}'
    of_models = [
      _attacked(e.label, run.examples[e.model], index) for e in models
    ]
    picture = pictures.image(first['images'][index])
    made.append(Example(label, picture, of_models))
  return about, made


def _attack(run: SavedRun, saved: Arrays) -> str:
  radius = tables.epsilon_text(
    float(saved['epsilon']), run.dataset, str(saved['norm'])
  )
  return f'{saved["attack"]} (ε = {radius})'


def _attacked(label: str, saved: Arrays, index: int) -> Attacked:
  right = saved['labels'][index]
  before, after = saved['clean_predictions'][index], saved['predictions'][index]
  clean = f'{before} ({100 * saved["clean_confidences"][index]:.0f} %)'
  if before != right:
    return Attacked(label, clean, '', '', 'wrong without an attack', True)
  original = saved['images'][index].astype(np.float32) / 255
  changed = saved['adversarial'][index].astype(np.float32)
  # The file has 16 bits: a pixel of an image that was not broken differs by it.
  if after == right:
    return Attacked(label, clean, '', '', 'withstands the attack', False)
  change = changed - original
  most = float(np.abs(change).max()) or 1.0
  outcome = f'taken for {after} ({100 * saved["confidences"][index]:.0f} %)'
  return Attacked(
    label,
    clean,
    pictures.image(0.5 + 0.5 * change / most),
    pictures.image(changed),
    outcome,
    True,
    f'{0.5 / most:.2g}',
  )
