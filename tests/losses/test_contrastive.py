"""CRD against its paper, its memory and its negatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses
from rnascl_jax.losses import negatives
from rnascl_jax.runtime import checkpoints, parallel
from tests import torch_distillation

FEATURES = 3
# Of classes 0 to 4, of which class 3 has no image.
LABELS = np.array([1, 0, 4, 1, 2, 1, 0, 0, 2, 4, 1, 2, 0, 1, 1, 2, 4, 0])
BATCH = np.array([3, 1, 9, 16])


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


def _memory(seed=0):
  return losses.init_memory(jax.random.key(seed), LABELS, features=FEATURES)


def _embeddings(seed=0, dtype=np.float64):
  found = np.random.default_rng(seed).normal(size=(2, len(BATCH), FEATURES))
  unit = found / np.linalg.norm(found, axis=-1, keepdims=True)
  return tuple(unit.astype(dtype))


def _others(count, seed=0):
  keys = jax.random.split(jax.random.key(seed), len(BATCH))
  return losses.draw_negatives(
    keys, jnp.asarray(LABELS)[BATCH], _memory().table, count=count
  )


_crd = jax.jit(losses.crd)
_remember = jax.jit(losses.remember)


def _notes(memory, seed=0, dtype=np.float32):
  return _crd(memory, *_embeddings(seed, dtype), BATCH, _others(4))[1]


@functools.partial(jax.jit, static_argnames='axis_name')
def _run(weights, memory, student, teacher, indices, others, axis_name=None):
  def total(student, teacher):
    values, memory_update = losses.crd(
      memory, student, teacher, indices, others, axis_name=axis_name
    )
    return (weights * values).sum(), (values, memory_update)

  return jax.grad(total, (0, 1), has_aux=True)(student, teacher)


def _assert_close(found, expected, tolerance):
  size = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


# The loss.


@pytest.mark.parametrize('count', (4, 20))
@pytest.mark.parametrize('normalisers', (None, (11.0, 300.0)))
def test_values_and_gradients_are_those_of_the_paper(
  float64, count, normalisers
):
  """With few negatives, whose rows are copied, and with many."""
  memory, others = _memory(), _others(count)
  if normalisers:
    memory = memory._replace(normalisers=jnp.asarray(normalisers))
  weights = 1 + np.arange(len(BATCH)) / 3
  paper = torch_distillation.crd(
    (memory.student, memory.teacher), normalisers, BATCH, others
  )
  student, teacher = _embeddings()
  for given in (
    (student, teacher),
    (student, student),
    (0 * student, teacher),
    (0 * student, 0 * teacher),
    # As near as can be to a row of the other memory.
    (np.asarray(memory.teacher[BATCH], np.float64), teacher),
  ):
    slopes, (values, _) = _run(weights, memory, *given, BATCH, others)

    expected, expected_slopes = torch_distillation.run(paper, given, weights)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    for found, slope in zip(slopes, expected_slopes, strict=True):
      _assert_close(found, slope, 1e-9)


def test_an_embedding_is_sought_in_the_memory_of_the_other_network(float64):
  memory, others = _memory(), _others(4)
  weights = np.ones(len(BATCH))
  student, teacher = _embeddings()
  right = memory.teacher[BATCH] / jnp.linalg.norm(
    memory.teacher[BATCH], axis=-1, keepdims=True
  )

  def loss(student):
    return _run(weights, memory, student, teacher, BATCH, others)[1][0].mean()

  assert loss(right) < min(loss(student), loss(-right))


def test_float32_keeps_its_digits_at_the_largest_score():
  others = _others(4)
  student, teacher = _embeddings(dtype=np.float32)
  unit = np.tile(student[:1], (len(LABELS), 1))
  memory = _memory()._replace(student=unit, teacher=unit)
  memory = memory._replace(normalisers=jnp.array([1e-2, 1e8]))
  weights = np.ones(len(BATCH), np.float32)

  slopes, (values, _) = _run(weights, memory, student, teacher, BATCH, others)

  expected, wide = torch_distillation.run(
    torch_distillation.crd((unit, unit), (1e-2, 1e8), BATCH, others),
    (student, teacher),
    np.float64(weights),
  )
  np.testing.assert_allclose(values, expected, rtol=1e-5)
  for found, slope in zip(slopes, wide, strict=True):
    _assert_close(found, slope, 1e-5)


def test_the_memory_is_constant_in_the_loss():
  memory, others = _memory(), _others(4)
  student, teacher = _embeddings(dtype=np.float32)

  def total(student_rows, normalisers):
    state = memory._replace(student=student_rows, normalisers=normalisers)
    values, memory_update = _crd(state, student, teacher, BATCH, others)
    return values.sum() + sum(x.sum() for x in memory_update)

  slopes = jax.grad(total, (0, 1))(memory.student, jnp.ones(2))

  for slope in slopes:
    np.testing.assert_array_equal(slope, 0)


def test_the_first_normalisers_are_those_of_the_global_batch(float64):
  """Values, gradients and memory_update of two devices are those of one."""
  memory, others = _memory(), _others(4)
  student, teacher = _embeddings()
  weights = np.ones(len(BATCH))
  slopes, (values, memory_update) = _run(
    weights, memory, student, teacher, BATCH, others
  )
  devices = parallel.devices(2)
  mapped = parallel.pmap(
    functools.partial(_run.__wrapped__, axis_name=parallel.AXIS), devices
  )

  two = mapped(
    weights.reshape(2, 2),
    parallel.replicate(memory, devices),
    *(
      np.asarray(x).reshape(2, 2, *np.shape(x)[1:])
      for x in (student, teacher, BATCH, others)
    ),
  )

  for found, expected in zip(
    jax.tree.leaves(two),
    jax.tree.leaves((slopes, (values, memory_update))),
    strict=True,
  ):
    np.testing.assert_allclose(
      found.reshape(expected.shape), expected, rtol=1e-10
    )


# The memory.


def test_first_embeddings_are_of_length_one_on_average():
  memory = losses.init_memory(
    jax.random.key(0), np.arange(4000) % 2, features=128
  )

  for rows in (memory.student, memory.teacher):
    np.testing.assert_allclose(np.square(rows).sum(-1).mean(), 1, atol=5e-3)
    np.testing.assert_allclose(np.abs(rows).max(), np.sqrt(3 / 128), rtol=1e-4)
  assert np.abs(memory.student - memory.teacher).mean() > 0.05


def test_remembering_moves_the_rows_of_the_batch_alone():
  memory = _memory()
  student, teacher = _embeddings(dtype=np.float32)

  new = _remember(memory, _notes(memory), BATCH)

  rest = np.setdiff1d(np.arange(len(LABELS)), BATCH)
  for old, now, own in (
    (memory.student, new.student, student),
    (memory.teacher, new.teacher, teacher),
  ):
    np.testing.assert_array_equal(now[rest], old[rest])
    moved = (np.asarray(old)[BATCH] + own) / 2
    moved /= np.linalg.norm(moved, axis=-1, keepdims=True)
    np.testing.assert_allclose(now[BATCH], moved, rtol=1e-5)
    np.testing.assert_allclose(
      np.linalg.norm(now[BATCH], axis=-1), 1, rtol=1e-6
    )
  for old, now in zip(memory.table, new.table, strict=True):
    np.testing.assert_array_equal(old, now)


def test_rows_stay_of_length_one_and_momentum_holds_them_back():
  memory = _memory()
  student, teacher = _embeddings(dtype=np.float32)
  memory_update = losses.MemoryUpdate(
    student, teacher, jnp.ones((len(BATCH), 2))
  )
  turned = memory_update._replace(student=-student, teacher=teacher)
  settled = _remember(memory, memory_update, BATCH, momentum=0.0)

  held = _remember(settled, turned, BATCH, momentum=0.9)

  np.testing.assert_allclose(held.student[BATCH], student, rtol=1e-5)
  np.testing.assert_allclose(held.teacher[BATCH], teacher, rtol=1e-5)


def test_normalisers_are_set_once_by_the_first_batch():
  memory = _memory()
  first, again = _notes(memory), _notes(memory, seed=1)

  once = _remember(memory, first, BATCH)
  twice = _remember(once, again, BATCH)

  expected = np.mean(first.means, axis=0) * len(LABELS)
  np.testing.assert_allclose(once.normalisers, expected, rtol=1e-6)
  np.testing.assert_array_equal(twice.normalisers, once.normalisers)
  assert np.abs(np.mean(again.means, 0) - np.mean(first.means, 0)).min() > 1


def test_a_memory_keeps_its_types_whatever_the_precision_of_a_step(float64):
  memory = _memory()
  memory_update = _notes(memory, dtype=np.float64)

  new = _remember(memory, memory_update, BATCH)

  assert memory_update.student.dtype == np.float64
  assert [x.dtype for x in jax.tree.leaves(new)] == [
    x.dtype for x in jax.tree.leaves(memory)
  ]
  assert memory.student.dtype == np.float32


def test_a_memory_round_trips_through_a_checkpoint(tmp_path):
  memory = _memory()
  memory = _remember(memory, _notes(memory), BATCH)
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(1, {'memory': memory}, metric=0.0, extra={})
    found = saved.restore_best({'memory': _memory(seed=1)}).state['memory']

  assert isinstance(found, losses.Memory)
  for one, two in zip(
    jax.tree.leaves(found), jax.tree.leaves(memory), strict=True
  ):
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(one, two)


# Negatives.


def test_negatives_are_all_images_of_other_classes_equally_often():
  table = negatives.by_class(LABELS)
  classes = np.array([0, 1, 2, 4])
  keys = jax.random.split(jax.random.key(0), len(classes))

  drawn = np.asarray(negatives.draw(keys, classes, table, count=20_000))

  for label, row in zip(classes, drawn, strict=True):
    counts = np.bincount(row, minlength=len(LABELS))
    np.testing.assert_array_equal(counts > 0, LABELS != label)
    allowed = counts[LABELS != label]
    expected = 20_000 / len(allowed)
    # Six standard deviations.
    assert np.abs(allowed - expected).max() < 6 * np.sqrt(expected)


def test_negatives_of_an_image_depend_on_its_key_and_class_alone():
  table = negatives.by_class(LABELS)
  keys = jax.random.split(jax.random.key(0), 3)
  labels = jnp.array([1, 1, 4])

  drawn = negatives.draw(keys, labels, table, count=50)
  turned = negatives.draw(keys[::-1], labels[::-1], table, count=50)

  np.testing.assert_array_equal(drawn, turned[::-1])
  assert (drawn[0] != drawn[1]).mean() > 0.5
  assert drawn.dtype == jnp.int32


@pytest.mark.parametrize(
  'labels, message',
  (
    ([2, 2, 2], r'the labels are all of \[2\]'),
    ([], r'the labels are all of \[\]'),
    ([0, -1, 1], 'label=-1 must not be negative'),
  ),
)
def test_labels_that_leave_no_negatives_are_refused(labels, message):
  with pytest.raises(ValueError, match=message):
    losses.init_memory(jax.random.key(0), np.array(labels, int), features=2)
