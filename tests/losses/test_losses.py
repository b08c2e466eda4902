"""Losses and divergences: values, gradients, bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from rnascl_jax import losses

LABELS = (0, 2, 3, 1)


def make_logits(seed, dtype=np.float64, scale=1.0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(scale * rng.normal(size=(4, 5)), dtype)


def make_terms(seed=0):
  rng = np.random.default_rng(seed)
  return losses.Terms(*jnp.asarray(rng.random((3, 4))))


def check_gradients(function, *arguments):
  test_util.check_grads(
    jax.jit(function), arguments, 1, ['rev'], 1e-7, 1e-6, 1e-6
  )


# Gradients of every loss against finite differences, in float64.


@pytest.mark.parametrize(
  'loss', (losses.cross_entropy, losses.margin, losses.cw_loss)
)
def test_gradients_of_losses_of_labels_agree_with_differences(loss):
  with jax.enable_x64(True):
    labels = jnp.array(LABELS)
    check_gradients(lambda z: loss(z, labels), make_logits(0))


@pytest.mark.parametrize('temperature', (0.5, 1.0, 4.0))
@pytest.mark.parametrize(
  'kl', (losses.kl_student_teacher, losses.kl_teacher_student)
)
def test_gradients_of_both_divergences_agree_with_differences(kl, temperature):
  with jax.enable_x64(True):
    check_gradients(
      lambda s, t: kl(s, t, temperature=temperature),
      make_logits(0),
      make_logits(1),
    )


@pytest.mark.parametrize(
  'objective',
  (
    lambda terms, cost: losses.training_objective(
      terms, kl_weight=0.7, gamma=cost
    ),
    lambda terms, cost: losses.search_objective(
      terms, cost, kl_weight=cost, gamma=3.0, exponent=0.6
    ),
    lambda terms, cost: losses.log_search_objective(
      terms, cost, kl_weight=0.7, gamma=cost
    ),
  ),
)
def test_gradients_of_the_objectives_agree_with_differences(objective):
  with jax.enable_x64(True):
    check_gradients(objective, make_terms(), jnp.asarray(1.7))


# Cross-entropy.


@pytest.mark.parametrize('smoothing', [0.0, 0.1, 1.0])
def test_cross_entropy_is_that_of_pytorch(smoothing):
  torch = pytest.importorskip('torch')
  logits = make_logits(0, np.float32, scale=5.0)

  found = losses.cross_entropy(logits, jnp.array(LABELS), smoothing=smoothing)

  expected = torch.nn.functional.cross_entropy(
    torch.from_numpy(np.array(logits)),
    torch.tensor(LABELS),
    reduction='none',
    label_smoothing=smoothing,
  )
  np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_of_shares_of_classes_is_that_of_pytorch(smoothing):
  torch = pytest.importorskip('torch')
  logits = make_logits(0, np.float32, scale=5.0)
  shares = np.random.default_rng(0).dirichlet(np.ones(5), len(logits))

  found = losses.cross_entropy(logits, jnp.array(shares), smoothing=smoothing)

  expected = torch.nn.functional.cross_entropy(
    torch.tensor(np.array(logits, np.float64)),
    torch.tensor(shares),
    reduction='none',
    label_smoothing=smoothing,
  )
  np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_cross_entropy_by_hand():
  logits = jnp.log(jnp.array([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]))

  found = losses.cross_entropy(logits, jnp.array([2, 0]))

  np.testing.assert_allclose(found, -np.log([5 / 8, 3 / 8]), rtol=1e-6)


@pytest.mark.parametrize('label', (-6, -5, -1, 5, 100))
def test_cross_entropy_of_a_label_that_is_no_class_is_nan(label):
  labels = jnp.array([0, label, 4, 1])

  found = losses.cross_entropy(make_logits(0, np.float32), labels)

  np.testing.assert_array_equal(np.isnan(found), [False, True, False, False])


def test_cross_entropy_of_extreme_logits_is_finite():
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])

  found = losses.cross_entropy(logits, jnp.array([0, 1]))

  np.testing.assert_allclose(found, [0, 2e4])


@pytest.mark.parametrize(
  'loss', (losses.cross_entropy, losses.margin, losses.cw_loss)
)
def test_labels_of_another_shape_are_refused(loss):
  for labels in (jnp.zeros((4, 1), int), jnp.zeros(3, int)):
    with pytest.raises(AssertionError):
      loss(make_logits(0, np.float32), labels)


# Margins.


def test_margin_is_the_distance_to_the_best_other_logit():
  logits = jnp.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-5.0, -7.0, -6.0]])

  found = losses.margin(logits, jnp.array([0, 1, 1]))

  np.testing.assert_array_equal(found, [1.0, -2.0, -2.0])


def test_margin_is_positive_exactly_where_the_label_wins():
  logits = make_logits(0, np.float32)

  for label in range(5):
    found = losses.margin(logits, jnp.full(4, label))
    np.testing.assert_array_equal(found > 0, logits.argmax(-1) == label)


def test_cw_loss_of_an_image_does_not_depend_on_its_batch():
  logits = make_logits(0, np.float32)
  labels = jnp.array(LABELS)
  # An image broken by a wide margin would silence a hinge over the batch.
  spoilt = logits.at[0, 1].set(1e3)

  def total(logits):
    return losses.cw_loss(logits, labels).sum()

  before, after = jax.grad(total)(logits), jax.grad(total)(spoilt)

  np.testing.assert_array_equal(after[1:], before[1:])
  assert np.abs(after[1:]).sum(-1).min() == 2
  np.testing.assert_array_equal(
    losses.cw_loss(logits, labels), -losses.margin(logits, labels)
  )


# Objectives.


def test_training_objective_is_equation_4():
  terms = make_terms()

  found = losses.training_objective(terms, kl_weight=2.0, gamma=30.0)

  ce, kl, attention = map(np.asarray, terms[:3])
  np.testing.assert_allclose(found, ce + 2 * kl + 30 * attention, rtol=1e-6)
  np.testing.assert_allclose(
    losses.training_objective(terms), ce + kl + attention, rtol=1e-6
  )


@pytest.mark.parametrize('exponent', (1.0, 0.6))
def test_search_objective_is_equation_2(exponent):
  terms, cost = make_terms(), jnp.asarray(1.3)

  found = losses.search_objective(
    terms, cost, kl_weight=2.0, gamma=30.0, exponent=exponent
  )

  ce, kl, attention = map(np.asarray, terms[:3])
  expected = (ce + 2 * kl + 30 * attention) * 1.3**exponent
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_search_objective_at_cost_one_is_the_training_objective():
  terms = make_terms()

  found = losses.search_objective(terms, jnp.ones(()), gamma=3.0)

  expected = losses.training_objective(terms, gamma=3.0)
  np.testing.assert_array_equal(found, expected)


def test_log_search_objective_is_fbnet_s():
  terms, cost = make_terms(), jnp.asarray(1e7)

  found = losses.log_search_objective(terms, cost, gamma=3.0)

  expected = losses.training_objective(terms, gamma=3.0)
  expected *= 0.2 * np.log(1e7) ** 0.6
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'objective', (losses.search_objective, losses.log_search_objective)
)
def test_a_cost_for_each_image_is_refused(objective):
  with pytest.raises(AssertionError):
    objective(make_terms(), jnp.ones(4))


def test_terms_of_different_shapes_are_refused():
  terms = make_terms()._replace(kl=jnp.ones((4, 1)))
  with pytest.raises(AssertionError):
    losses.training_objective(terms)


# Divergences.


def test_student_teacher_divergence_is_equation_2_s():
  student, teacher = make_logits(0, np.float32), make_logits(1, np.float32)

  found = losses.kl_student_teacher(student, teacher)

  p, q = map(np.asarray, map(jax.nn.softmax, (student, teacher)))
  np.testing.assert_allclose(found, (p * np.log(p / q)).sum(-1), rtol=1e-5)


def test_teacher_student_is_the_other_direction():
  student, teacher = make_logits(0, np.float32), make_logits(1, np.float32)

  found = losses.kl_teacher_student(student, teacher)

  p, q = map(np.asarray, map(jax.nn.softmax, (teacher, student)))
  np.testing.assert_allclose(found, (p * np.log(p / q)).sum(-1), rtol=1e-5)
  other = losses.kl_student_teacher(student, teacher)
  assert np.abs(found - other).min() > 1e-3


@pytest.mark.parametrize('temperature', (1.0, 4.0))
def test_divergence_is_that_of_pytorch(temperature):
  torch = pytest.importorskip('torch')
  p, q = make_logits(0, np.float32), make_logits(1, np.float32)

  found = losses.kl_divergence(p, q, temperature=temperature)

  log_p, log_q = (
    torch.log_softmax(torch.from_numpy(np.array(x)) / temperature, -1)
    for x in (p, q)
  )
  # PyTorch's first argument is the second of KL(p, q).
  expected = torch.nn.functional.kl_div(
    log_q, log_p, reduction='none', log_target=True
  ).sum(-1)
  np.testing.assert_allclose(
    found, temperature**2 * expected.numpy(), rtol=1e-5
  )


def test_divergence_is_zero_exactly_where_the_predictions_are_equal():
  p = make_logits(0, np.float32)
  # A constant added to all logits changes no prediction.
  q = p.at[0].add(1.5).at[2, 0].add(0.1).at[3].set(-p[3])

  found = losses.kl_divergence(p, q)

  np.testing.assert_allclose(found[:2], 0, atol=1e-6)
  assert found[2:].min() > 1e-4


def test_divergences_are_not_negative():
  found = losses.kl_divergence(
    make_logits(0, np.float32, 5.0), make_logits(1, np.float32, 5.0)
  )

  assert found.min() > 0


def test_the_factor_of_the_temperature_keeps_the_size_of_gradients():
  with jax.enable_x64(True):
    student, teacher = make_logits(0), make_logits(1)

    def gradient(temperature):
      return jax.jit(
        jax.grad(
          lambda s: losses.kl_teacher_student(
            s, teacher, temperature=temperature
          ).sum()
        )
      )(student)

    # Hinton et al., eq. (4): (z - v) / K for centred logits as T grows.
    centred = [x - x.mean(-1, keepdims=True) for x in (student, teacher)]
    expected = (centred[0] - centred[1]) / 5
    np.testing.assert_allclose(gradient(1e4), expected, atol=1e-3)


def test_divergences_of_extreme_logits_are_finite():
  student = jnp.array([[1e4, 0.0, -1e4]])
  teacher = jnp.array([[-1e4, 0.0, 1e4]])

  value, slopes = jax.jit(
    jax.value_and_grad(
      lambda s, t: losses.kl_divergence(s, t).sum(), argnums=(0, 1)
    )
  )(student, teacher)

  np.testing.assert_allclose(value, 2e4)
  assert np.isfinite(np.asarray(slopes)).all()


def test_logits_of_another_shape_are_refused():
  with pytest.raises(AssertionError):
    losses.kl_divergence(jnp.ones((4, 5)), jnp.ones((1, 5)))
