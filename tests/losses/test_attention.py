"""Attention maps, their distances and eq. (1), against plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from rnascl_jax.losses import attention

# Layers above, at and below the common size of 4x4, and one of both.
STUDENT_SHAPES = ((8, 8, 3), (4, 4, 2), (2, 2, 5))
TEACHER_SHAPES = ((4, 4, 7), (8, 2, 2), (1, 1, 4), (16, 16, 1))
SIZE = (4, 4)


def make_taps(seed, shapes, dtype=np.float64):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(rng.normal(size=(2, *s)), dtype) for s in shapes]


def resized(row, side):
  """One row of numbers at another length, written out."""
  have = len(row)
  if have >= side:
    ratio = have // side
    return [sum(row[i * ratio : (i + 1) * ratio]) / ratio for i in range(side)]
  found = []
  for i in range(side):
    # Centres of cells are at half integers, and edges are repeated.
    place = min(max((i + 0.5) * have / side - 0.5, 0), have - 1)
    low = int(place)
    high = min(low + 1, have - 1)
    found.append((low + 1 - place) * row[low] + (place - low) * row[high])
  return found


def plain_map(activation):
  """The map of one layer of one image at the common size, by loops."""
  height, width, channels = activation.shape
  rows = [
    resized(
      [
        sum(activation[h, w, c] ** 2 for c in range(channels))
        for w in range(width)
      ],
      SIZE[1],
    )
    for h in range(height)
  ]
  columns = [resized([row[w] for row in rows], SIZE[0]) for w in range(SIZE[1])]
  return np.array(
    [columns[w][h] for h in range(SIZE[0]) for w in range(SIZE[1])]
  )


def plain_vectors(tap, *, norm_over_batch):
  """The normalised maps of one layer of all images, by loops."""
  maps = [plain_map(image) for image in np.asarray(tap)]
  norms = [np.sqrt(np.sum(m**2)) for m in maps]
  if norm_over_batch:
    norms = [np.sqrt(sum(n**2 for n in norms) / len(norms))] * len(norms)
  return [m / n for m, n in zip(maps, norms, strict=True)]


def plain_loss(student, teacher, weights, divisor, *, norm_over_batch=False):
  """Eq. (1) for all images, by loops, with another divisor."""
  student, teacher = (
    [plain_vectors(tap, norm_over_batch=norm_over_batch) for tap in taps]
    for taps in (student, teacher)
  )
  losses = []
  for image in range(len(student[0])):
    total = 0.0
    for i, a in enumerate(student):
      for j, b in enumerate(teacher):
        difference = a[image] - b[image]
        total += float(weights[i, j]) * np.sqrt(np.sum(difference**2))
    losses.append(total / divisor)
  return losses


def make_weights():
  logits = np.random.default_rng(2).normal(size=(3, 4))
  return jax.nn.softmax(jnp.asarray(logits))


@jax.jit
def vectors_of(taps):
  return attention.attention_vectors(taps, SIZE)


@functools.partial(jax.jit, static_argnames='reduction')
def loss_of(student, teacher, weights, reduction='literal'):
  return attention.attention_loss(
    vectors_of(student), vectors_of(teacher), weights, reduction=reduction
  )


# Value and gradient with respect to the student's taps, over all images.
loss_and_gradient = jax.jit(
  jax.value_and_grad(lambda *arguments: loss_of(*arguments).sum())
)
distances_of = jax.jit(attention.pairwise_distances)


@pytest.mark.parametrize(
  'reduction, divisor', (('literal', 3 * 4), ('mean', 3), ('sum', 1))
)
def test_attention_loss_equals_equation_1_by_loops(reduction, divisor):
  with jax.enable_x64(True):
    student = make_taps(0, STUDENT_SHAPES)
    teacher = make_taps(1, TEACHER_SHAPES)
    weights = make_weights()

    loss = loss_of(student, teacher, weights, reduction)

  expected = plain_loss(student, teacher, weights, divisor)
  np.testing.assert_allclose(loss, expected, rtol=1e-10)


def test_equation_1_is_literal_where_nothing_else_is_asked_for():
  arguments = [
    make_taps(0, STUDENT_SHAPES, np.float32),
    make_taps(1, TEACHER_SHAPES, np.float32),
    make_weights(),
  ]
  vectors = vectors_of(arguments[0]), vectors_of(arguments[1])

  loss = attention.attention_loss(*vectors, arguments[2])

  expected = loss_of(*arguments, 'literal')
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_the_sum_is_the_literal_loss_times_all_pairs_of_layers():
  """Value and gradient; so gamma = 1 acts as gamma = n_s n_t."""
  with jax.enable_x64(True):
    arguments = (
      make_taps(0, STUDENT_SHAPES),
      make_taps(1, TEACHER_SHAPES),
      make_weights(),
    )

    def total(student, reduction, gamma):
      return gamma * loss_of(student, *arguments[1:], reduction).sum()

    summed, literal = (
      jax.value_and_grad(total)(arguments[0], *options)
      for options in (('sum', 1.0), ('literal', 12.0))
    )

  for one, two in zip(*map(jax.tree.leaves, (summed, literal)), strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_an_unknown_reduction_is_refused_with_those_that_there_are():
  vectors = jnp.ones((1, 2, 4))
  with pytest.raises(ValueError, match=r"'max' .*'literal', 'mean', 'sum'"):
    attention.attention_loss(
      vectors, vectors, jnp.ones((2, 2)), reduction='max'
    )


def test_maps_can_be_normalised_over_the_batch():
  with jax.enable_x64(True):
    student = make_taps(0, STUDENT_SHAPES)
    # A teacher's layer that says more of one image than of the other.
    teacher = make_taps(1, TEACHER_SHAPES)
    teacher[0] = teacher[0] * jnp.array([1.0, 3.0])[:, None, None, None]
    weights = make_weights()
    vectors = [
      attention.attention_vectors(taps, SIZE, norm_over_batch=True)
      for taps in (student, teacher)
    ]

    loss = attention.attention_loss(*vectors, weights, reduction='sum')

  expected = plain_loss(student, teacher, weights, 1, norm_over_batch=True)
  np.testing.assert_allclose(loss, expected, rtol=1e-10)
  norms = np.linalg.norm(vectors[1], axis=-1)  # [B, T]
  np.testing.assert_allclose(np.mean(norms**2, axis=0), 1, rtol=1e-10)
  assert norms[1, 0] > 2 * norms[0, 0]


def test_zero_maps_stay_zero_in_a_norm_over_the_batch():
  zero = jnp.zeros((2, 4, 4, 3))

  def total(tap):
    return attention.attention_vectors([tap], SIZE, norm_over_batch=True).sum()

  value, gradient = jax.value_and_grad(total)(zero)
  assert value == 0 and not gradient.any()


def test_float32_loss_agrees_with_float64():
  with jax.enable_x64(True):
    exact = loss_of(
      make_taps(0, STUDENT_SHAPES), make_taps(1, TEACHER_SHAPES), make_weights()
    )
  found = loss_of(
    make_taps(0, STUDENT_SHAPES, np.float32),
    make_taps(1, TEACHER_SHAPES, np.float32),
    make_weights(),
  )

  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_gradients_of_the_loss_agree_with_finite_differences():
  with jax.enable_x64(True):
    arguments = (
      make_taps(0, STUDENT_SHAPES),
      make_taps(1, TEACHER_SHAPES),
      make_weights(),
    )
    test_util.check_grads(loss_of, arguments, 1, ['rev'], 1e-7, 1e-6, 1e-6)


def test_a_map_is_the_sum_of_squares_over_channels_in_float32():
  activation = jnp.array([[[[1.0, -2.0], [3.0, 0.5]]]], jnp.bfloat16)

  found = attention.attention_map(activation)

  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, [[[5.0, 9.25]]])


def test_vectors_keep_the_order_of_more_than_ten_layers():
  taps = make_taps(0, [(4, 4, 1 + i % 3) for i in range(12)], np.float32)

  found = vectors_of(taps)

  assert found.shape == (2, 12, 16)
  for index, tap in enumerate(taps):
    alone = vectors_of([tap])[:, 0]
    np.testing.assert_allclose(found[:, index], alone, rtol=1e-6)


def test_entry_i_j_is_the_distance_of_student_i_and_teacher_j():
  taps = make_taps(0, [(4, 4, 2)] * 12, np.float32)
  vectors = vectors_of(taps)

  found = distances_of(vectors[:, :2], vectors)

  assert found.shape == (2, 2, 12)
  # A layer is nearest to itself, the second to the second.
  np.testing.assert_array_equal(found.argmin(-1), [[0, 1], [0, 1]])


def test_weights_pick_the_tutor_of_each_student_layer():
  student = vectors_of(make_taps(0, STUDENT_SHAPES, np.float32))
  teacher = vectors_of(make_taps(1, [(4, 4, 2)] * 11, np.float32))
  tutors = (10, 2, 9)
  weights = jax.nn.one_hot(jnp.array(tutors), 11)

  found = jax.jit(attention.attention_loss)(student, teacher, weights)

  chosen = teacher[:, np.array(tutors)]
  expected = np.linalg.norm(student - chosen, axis=-1).sum(-1) / (3 * 11)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pairwise_distances_are_norms_of_differences():
  with jax.enable_x64(True):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 9)), rng.normal(size=(2, 5, 9))

    found = distances_of(jnp.asarray(a), jnp.asarray(b))

    expected = np.linalg.norm(a[:, :, None] - b[:, None], axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_all_distances_are_one_matrix_product_in_the_highest_precision():
  a, b = jnp.ones((2, 3, 9)), jnp.ones((2, 5, 9))

  jaxpr = jax.make_jaxpr(attention.pairwise_distances)(a, b)

  text = str(jaxpr)
  assert text.count('dot_general') == 1
  assert text.count('HIGHEST') >= 1


@pytest.mark.parametrize('distance', (1.0, 0.1, 0.01, 1e-3))
def test_small_distances_are_accurate_to_rounding_in_float32(distance):
  rng = np.random.default_rng(0)
  a = np.abs(rng.normal(size=(2, 3, 64)))
  b = a + rng.normal(size=a.shape)
  a /= np.linalg.norm(a, axis=-1, keepdims=True)
  b = a + distance * (b - a) / np.linalg.norm(b - a, axis=-1, keepdims=True)

  found = distances_of(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))

  own = np.asarray(found)[:, np.arange(3), np.arange(3)]
  # |a|^2 + |b|^2 - 2ab is of order 1 and is rounded by a few 1e-7.
  np.testing.assert_allclose(own**2, distance**2, atol=6e-7)


def test_distance_of_equal_maps_is_zero_up_to_rounding():
  vectors = vectors_of(make_taps(0, STUDENT_SHAPES, np.float32))

  found = distances_of(vectors, vectors)

  own = np.asarray(found)[:, np.arange(3), np.arange(3)]
  np.testing.assert_allclose(own, 0, atol=8e-4)


def test_gradients_are_finite_where_maps_coincide():
  tap = jnp.ones((1, 4, 4, 2))
  weights = jnp.ones((1, 1))

  value, gradient = loss_and_gradient([tap], [jnp.ones((1, 2, 2, 3))], weights)

  np.testing.assert_allclose(value, 0, atol=1e-6)
  assert np.isfinite(gradient[0]).all()


def test_zero_maps_stay_zero_with_finite_gradients():
  zero = jnp.zeros((1, 8, 8, 3))
  other = make_taps(0, [(4, 4, 2)], np.float32)[0][:1]
  weights = jnp.ones((2, 1)) / 2

  vectors = vectors_of([zero, other])
  value, gradient = loss_and_gradient([zero, other], [other], weights)

  np.testing.assert_array_equal(vectors[:, 0], np.zeros((1, 16)))
  # The other map has norm 1, so the zero map is at distance 1 from it.
  np.testing.assert_allclose(value, 1 / 4, atol=1e-3)
  for slope in jax.tree.leaves(gradient):
    assert np.isfinite(slope).all()
  np.testing.assert_array_equal(gradient[0], jnp.zeros_like(zero))


def test_two_zero_maps_have_distance_zero_and_finite_gradients():
  zero = jnp.zeros((1, 4, 4, 2))

  value, gradient = loss_and_gradient([zero], [zero], jnp.ones((1, 1)))

  np.testing.assert_allclose(value, 0, atol=2e-6)
  assert np.isfinite(gradient[0]).all()


@pytest.mark.parametrize('scale', (1e-6, 1e-3, 1e4))
def test_vectors_do_not_depend_on_the_scale_of_a_layer(scale):
  taps = make_taps(0, STUDENT_SHAPES, np.float32)

  found = vectors_of([scale * tap for tap in taps])

  expected = vectors_of(taps)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(jnp.linalg.norm(found, axis=-1), 1, rtol=1e-6)


def test_loss_is_at_most_root_two_over_the_number_of_teacher_layers():
  # Maps that nowhere look at the same cell are at distance sqrt(2).
  left = jnp.zeros((1, 4, 4, 1)).at[:, :, :2].set(1.0)
  right = jnp.zeros((1, 4, 4, 1)).at[:, :, 2:].set(1.0)
  weights = jnp.full((2, 3), 1 / 3)

  found = loss_of([left, left], [right, right, right], weights)

  np.testing.assert_allclose(found, [np.sqrt(2) / 3], rtol=1e-6)


@pytest.mark.parametrize(
  'shape, size',
  (
    ((8, 8), (4, 4)),
    ((12, 6), (4, 3)),
    ((2, 2), (8, 8)),
    ((3, 5), (7, 8)),
    ((1, 1), (4, 4)),
    ((8, 2), (4, 5)),
    ((4, 4), (4, 4)),
    ((5, 5), (4, 4)),
    ((32, 16), (14, 14)),
    ((7, 32), (14, 14)),
  ),
)
@pytest.mark.parametrize('bilinear', (False, True))
def test_resizing_is_that_of_pytorch(shape, size, bilinear):
  torch = pytest.importorskip('torch')
  maps = np.random.default_rng(0).random((2, *shape))
  expected = torch.from_numpy(maps)[:, None]
  functional = torch.nn.functional
  if not bilinear:
    down = tuple(map(min, shape, size))
    expected = functional.adaptive_avg_pool2d(expected, down)
  expected = functional.interpolate(
    expected, size, mode='bilinear', align_corners=False
  )

  with jax.enable_x64(True):
    resize = jax.jit(
      attention.resize_maps, static_argnames=('size', 'bilinear')
    )
    found = resize(jnp.asarray(maps), size=size, bilinear=bilinear)

  np.testing.assert_allclose(found, expected[:, 0].numpy(), rtol=1e-12)


def test_weights_of_another_shape_are_refused():
  vectors = jnp.ones((1, 2, 4))
  with pytest.raises(AssertionError):
    attention.attention_loss(vectors, jnp.ones((1, 3, 4)), jnp.ones((3, 2)))
