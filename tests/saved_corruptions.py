"""Writes invented results under common corruptions, for tests of reporting."""

import json
import pathlib

import numpy as np
from PIL import Image

IMAGES = 200
# Images that are right, of severities 1, 3 and 5; 0 is without a corruption.
COUNTS = {
  'rnas_cl': {'clean': (190,), 'fog': (180, 140, 90), 'snow': (160, 120, 80)},
  'ce': {'clean': (194,), 'fog': (176, 110, 40), 'snow': (150, 90, 30)},
}
_LABELS = {'rnas_cl': 'RNAS-CL student', 'ce': 'CE student'}
_SEVERITIES = ('1', '3', '5')


def write(
  workdir: pathlib.Path,
  name: str = 'made',
  *,
  baseline: dict | None = None,
  constants: int | None = 32,
) -> pathlib.Path:
  """Writes a set; its folder is returned."""
  folder = workdir / 'evaluation' / 'corruptions' / name
  (folder / 'examples').mkdir(parents=True)
  about = {
    'name': name,
    'dataset': 'digits',
    'images': IMAGES,
    'identity': {'constants': constants} if constants else {},
    'baseline': baseline,
  }
  (folder / 'set.json').write_text(json.dumps(about))
  for order, (model, counts) in enumerate(COUNTS.items()):
    results = {
      corruption: {
        severity: {'images': IMAGES, 'correct': correct, 'seconds': 0.1}
        for severity, correct in zip(
          ('0',) if corruption == 'clean' else _SEVERITIES, row, strict=True
        )
      }
      for corruption, row in counts.items()
    }
    saved = {
      'model': model,
      'label': _LABELS[model],
      'kind': 'student',
      'base': '',
      'order': order,
      'results': results,
      'key': {},
    }
    (folder / f'{model}.json').write_text(json.dumps(saved))
  random = np.random.default_rng(0)
  for cell in ('clean_0', 'fog_1', 'fog_3', 'fog_5', 'snow_1', 'snow_5'):
    pixels = random.integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(folder / 'examples' / f'{cell}.png')
  return folder
