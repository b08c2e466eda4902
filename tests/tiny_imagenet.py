"""A data set in the layout of TFDS's imagenet2012, small and made up."""

import io
import json
import pathlib

import numpy as np
from array_record.python import array_record_module
from PIL import Image

NAMES = ('n01440764', 'n01443537', 'n01484850', 'n01491361', 'n01494475')


class Encoded:
  """A source of encoded images, which can be pickled and counts its reads."""

  def __init__(self, images):
    self.images = list(images)
    self.reads = []

  def __getitems__(self, records):
    self.reads += records
    return [
      {'image': self.images[i], 'file_name': f'{NAMES[0]}_{i}.JPEG'.encode()}
      for i in records
    ]


def photograph(width, height, seed=0, mode='RGB', kind='JPEG'):
  """An encoded image, smooth like a photograph, each seed another."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (7, 9, 3), np.uint8)
  image = Image.fromarray(coarse).resize((width, height)).convert(mode)
  file = io.BytesIO()
  image.save(file, kind)
  return file.getvalue()


def photographs(count):
  """Encoded images of several sizes."""
  sizes = ((80, 60), (60, 80), (64, 64), (90, 50))
  return [
    photograph(*sizes[seed % len(sizes)], seed=seed) for seed in range(count)
  ]


def write(folder, labels, *, shards=1, split='train'):
  """Writes a split as TFDS would have prepared it; labels are of `NAMES`."""
  images = [photograph(12, 8, seed=record) for record in range(len(labels))]
  write_prepared(
    folder, images, labels, classes=len(NAMES), shards=shards, split=split
  )


def write_prepared(
  folder,
  images,
  labels,
  *,
  classes,
  name='imagenet2012',
  version='5.1.0',
  shape=(-1, -1, 3),
  shards=1,
  split='train',
):
  """Writes a split of encoded images as TFDS would have prepared it."""
  place = pathlib.Path(folder) / name / version
  place.mkdir(parents=True, exist_ok=True)
  parts = np.array_split(np.arange(len(labels)), shards)
  for number, part in enumerate(parts):
    file = f'{name}-{split}.array_record-{number:05}-of-{shards:05}'
    writer = array_record_module.ArrayRecordWriter(
      str(place / file), 'group_size:1'
    )
    for record in part:
      label = int(labels[record])
      file = f'{NAMES[label % len(NAMES)]}_{record}.JPEG'.encode()
      writer.write(_example(images[record], label, file))
    writer.close()
  info = place / 'dataset_info.json'
  known = json.loads(info.read_text())['splits'] if info.exists() else []
  info.write_text(
    json.dumps(
      {
        'fileFormat': 'array_record',
        'moduleName': '__main__',
        'name': name,
        'splits': [
          *(s for s in known if s['name'] != split),
          {
            'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
            'name': split,
            'numBytes': '1',
            'shardLengths': [str(len(part)) for part in parts],
          },
        ],
        'version': version,
      }
    )
  )
  features = _features(shape, classes)
  (place / 'features.json').write_text(json.dumps(features))


def _example(image, label, file_name):
  """A tf.train.Example, byte by byte: no TensorFlow is needed to test."""
  values = {
    b'image': _field(1, _field(1, image)),
    b'label': _field(3, _field(1, bytes([label]))),
    b'file_name': _field(1, _field(1, file_name)),
  }
  features = b''.join(
    _field(1, _field(1, name) + _field(2, value))
    for name, value in values.items()
  )
  return _field(1, features)


def _field(number, content):
  """A field of a protocol buffer that has a length."""
  length, size = [], len(content)
  while size > 127:
    length.append(128 | (size & 127))
    size >>= 7
  return bytes([8 * number + 2, *length, size]) + content


def _features(shape, classes):
  prefix = 'tensorflow_datasets.core.features'
  return {
    'pythonClassName': f'{prefix}.features_dict.FeaturesDict',
    'featuresDict': {
      'features': {
        'file_name': {
          'pythonClassName': f'{prefix}.text_feature.Text',
          'text': {},
        },
        'image': {
          'pythonClassName': f'{prefix}.image_feature.Image',
          'image': {
            'dtype': 'uint8',
            'encodingFormat': 'jpeg',
            'shape': {'dimensions': list(map(str, shape))},
          },
        },
        'label': {
          'pythonClassName': f'{prefix}.class_label_feature.ClassLabel',
          'classLabel': {'numClasses': str(classes)},
        },
      }
    },
  }
