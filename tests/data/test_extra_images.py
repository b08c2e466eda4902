"""Extra training images: what is taken, in which batches, and what is not."""

import dataclasses

import numpy as np
import pytest

from rnascl_jax.config import checks, settings
from rnascl_jax.data import batches, datasets, extra_images
from rnascl_jax.data.datasets import Split, StoredImages
from rnascl_jax.stages import run as runs
from tests import tiny, tiny_sources

_SHAPE = (8, 12, 3)


def test_batches_have_their_share_of_extra_images_and_of_no_image_twice():
  """Batches of 10 with 7 of 30 extra images, of 44 others: 4 an epoch."""
  epochs = [
    batches.order_with_extra(3, epoch, 44, 10, num_extra=30, of_extra=7)
    for epoch in range(30)
  ]
  for rows in epochs:
    assert rows.shape == (4, 10) and rows.dtype == np.int32
    assert ((rows >= 44).sum(1) == 7).all()
    own = rows[rows < 44]
    assert len(set(own)) == 12
  assert {*np.concatenate(epochs)[np.concatenate(epochs) < 44]} == {*range(44)}
  # 28 of an epoch, in the order in which they come; passes of 30 of them.
  places = [rows[0] >= 44 for rows in epochs]
  assert len({place.tobytes() for place in places}) > 20
  extra = []
  for epoch, rows in enumerate(epochs):
    back = np.argsort(batches.random_order(3, 2**41 + epoch, 10))
    extra.extend(rows[:, back][:, 3:].reshape(-1) - 44)
  passes = np.reshape(extra, (28, 30))
  assert (np.sort(passes, axis=1) == np.arange(30)).all()
  assert len({order.tobytes() for order in passes}) == 28


def _data(**fields) -> datasets.Dataset:
  images, labels = tiny_sources.pictures(4, _SHAPE)
  part = Split(images, labels)
  data = datasets.Dataset(
    *('own', tiny_sources.NAMES, part, part, part, (0.5,) * 3, (0.2,) * 3)
  )
  return dataclasses.replace(data, **fields)


def test_extra_images_of_a_folder_have_labels_by_the_names_of_classes(tmp_path):
  """Of two of three classes, whose numbers are others there."""
  images, labels = tiny_sources.pictures(3, _SHAPE, classes=2, seed=1)
  root = tmp_path / 'made'
  tiny_sources.write_folder(root, images, labels, ('cat', 'dog'))
  before = _data()
  data = extra_images.add(before, f'folder:{root}')
  np.testing.assert_array_equal(data.extra.labels, labels + 1)
  np.testing.assert_array_equal(data.extra.images, images)
  assert (data.mean, data.train) == (before.mean, before.train)
  both = data.training
  np.testing.assert_array_equal(both.images[12:], images)
  np.testing.assert_array_equal(both.labels[:12], before.train.labels)
  assert before.training is before.train


_X, _Y = tiny_sources.pictures(2, _SHAPE)


@pytest.mark.parametrize(
  ('arrays', 'fields', 'message'),
  [
    ({'image': _X[:, :4], 'label': _Y}, {}, r'\(4, 12, 3\), and must have'),
    ({'image': _X, 'label': _Y + 1}, {}, 'labels are from 1 to 3, and .* 0 to'),
    (
      {'image': _X, 'label': _Y, 'class_names': ['cat', 'dog', 'cow']},
      {},
      "class 'cow' is none of the 3 classes of own, such as 'bird'",
    ),
    ({'image': _X, 'label': _Y}, {'limit': 1000}, '6 images take 0 MiB'),
  ],
)
def test_extra_images_that_do_not_fit_are_refused(
  tmp_path, arrays, fields, message
):
  np.savez(tmp_path / 'a.npz', **arrays)
  limit = fields.get('limit', 2**31)
  with pytest.raises(ValueError, match=rf'config.data.extra=.*{message}'):
    extra_images.add(_data(), f'npz:{tmp_path}/a.npz', memory_limit=limit)


def test_extra_images_that_are_not_there_or_of_streamed_ones_are_refused():
  with pytest.raises(FileNotFoundError, match=r'config.data.extra=.*not exist'):
    extra_images.add(_data(), 'npz:/none.npz')
  stored = StoredImages(None, np.arange(2), 8, name='own')
  data = _data(train=Split(stored, np.zeros(2, np.int32)))
  with pytest.raises(ValueError, match='needs training images in memory'):
    extra_images.add(data, 'npz:/none.npz')


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'extra_share': 0.5}, 'extra_share=0.5 has no meaning'),
    ({'extra': 'cifar10'}, "extra='cifar10' names no place"),
  ],
)
def test_fields_of_extra_images_that_mean_nothing_are_refused(fields, message):
  config = tiny.config()
  config.data.update(fields)
  with pytest.raises(ValueError, match=message):
    settings.parse(config)


def test_a_share_of_no_extra_image_or_of_no_other_is_refused():
  spec = settings.Optimization(batch_size=12)
  data = _data(extra=_data().train)
  with pytest.raises(ValueError, match='0.04 of .*batch_size=12 is no image'):
    checks._check_batch(spec, data, 1, 'train', 0.04)
  checks._check_batch(spec, data, 1, 'train', 1.0)
  with pytest.raises(ValueError, match='0.96 of .* leaves no place'):
    checks._check_batch(spec, data, 1, 'train', 0.96)


def _save(path, value):
  """50 images of one value, of digits' size, as generated ones are saved."""
  images = np.full((50, 8, 8, 1), value, np.uint8)
  np.savez(path, image=images, label=np.arange(50) % 10)


def test_a_run_trains_on_extra_images_and_goes_on_with_no_others(tmp_path):
  _save(tmp_path / 'made.npz', 255)
  config = tiny.config()
  config.data.extra = f'npz:{tmp_path}/made.npz'
  config.data.extra_share = 0.75
  run = tiny.opened(config, str(tmp_path / 'run'))
  teacher = run.settings.teacher
  stage = runs.make_stage(
    run,
    'teacher',
    teacher.optimization,
    teacher.adversarial_training,
    lambda: None,
    parts=(32,),
    validate=lambda state: {},
  )
  rows = stage.schedule.order(0)
  assert rows.shape == (4, 32) == (stage.schedule.steps_per_epoch, 32)
  made = (stage.data_loader.data.images[rows] == 255).all((2, 3, 4))
  assert (made.sum(1) == 24).all()
  labels = stage.data_loader.data.labels[rows]
  np.testing.assert_array_equal(labels[made], (rows[made] - 128) % 50 % 10)
  _save(tmp_path / 'made.npz', 254)
  with pytest.raises(ValueError, match='holds a run on other images'):
    tiny.opened(config, str(tmp_path / 'run'))
