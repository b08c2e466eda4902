"""Robust distillation and MART against their papers, in PyTorch and float64."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses

torch = pytest.importorskip('torch')
F = torch.nn.functional

IMAGES, CLASSES = 7, 5
LABELS = np.arange(IMAGES) % CLASSES


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


@functools.cache
def _logits() -> list[np.ndarray]:
  """Student's and teacher's logits of images and of views, in this order."""
  rng = np.random.default_rng(0)
  return [2 * rng.normal(size=(IMAGES, CLASSES)) for _ in range(4)]


# Probabilities, not logarithms of them, so that nothing is shared.


def _kl(p, q):
  return (p * torch.log(p / q)).sum(dim=1)


def _soft(logits, temperature=1.0):
  weights = torch.exp(logits / temperature)
  return weights / weights.sum(dim=1, keepdim=True)


def _own(p):
  return p[torch.arange(IMAGES), torch.tensor(LABELS)]


def _ard(clean, adv, teacher, _, *, alpha, temperature):
  distilled = _kl(_soft(teacher, temperature), _soft(adv, temperature))
  natural = -torch.log(_own(_soft(clean)))
  return alpha * temperature**2 * distilled + (1 - alpha) * natural


def _rslad(clean, adv, teacher, _, *, alpha):
  robust, natural = (_kl(_soft(teacher), _soft(z)) for z in (adv, clean))
  return alpha * robust + (1 - alpha) * natural


def _adaad(clean, adv, teacher, teacher_adv, *, alpha):
  robust = _kl(_soft(teacher_adv), _soft(adv))
  return alpha * robust + (1 - alpha) * _kl(_soft(teacher), _soft(clean))


def _iad(
  clean, adv, teacher, teacher_adv, *, alpha, temperature, beta, introspects
):
  weight = 1 - _own(_soft(teacher_adv)) ** beta
  own = weight * _kl(_soft(clean), _soft(adv)) * introspects
  distilled = _ard(
    clean, adv, teacher, None, alpha=alpha, temperature=temperature
  )
  return distilled + alpha * own


def _mart(clean, adv, *_, beta):
  p, q = _soft(clean), _soft(adv)
  wrong = q.clone()
  wrong[torch.arange(IMAGES), torch.tensor(LABELS)] = 0
  boosted = -torch.log(_own(q)) - torch.log(1 - wrong.max(dim=1).values)
  return boosted + beta * _kl(p, q) * (1 - _own(p))


class Case(NamedTuple):
  """A loss, that of its paper, what it takes, and its options.

  Attributes:
    loss: of `losses`.
    paper: (four logits, options) -> [B], in PyTorch.
    logits: how many of the four it takes, the first ones.
    labelled: whether it takes labels after them.
    published: options that it has by default.
    options: others.
  """

  loss: Any
  paper: Any
  logits: int
  labelled: bool
  published: dict[str, Any]
  options: dict[str, Any]

  def value(self, *logits, **options):
    labels = (jnp.asarray(LABELS),) if self.labelled else ()
    return self.loss(*logits[: self.logits], *labels, **options)


CASES = {
  'ard': Case(
    losses.ard,
    _ard,
    3,
    True,
    {'alpha': 1.0, 'temperature': 30.0},
    {'alpha': 0.7, 'temperature': 2.0},
  ),
  'rslad': Case(
    losses.rslad, _rslad, 3, False, {'alpha': 5 / 6}, {'alpha': 1.0}
  ),
  'iad': Case(
    losses.iad,
    _iad,
    4,
    True,
    {'alpha': 1.0, 'temperature': 1.0, 'beta': 0.1, 'introspects': True},
    {'alpha': 0.6, 'temperature': 3.0, 'beta': 2.0, 'introspects': True},
  ),
  'iad, before it introspects': Case(
    functools.partial(losses.iad, introspects=False),
    functools.partial(_iad, introspects=False),
    4,
    True,
    {'alpha': 1.0, 'temperature': 1.0, 'beta': 0.1},
    {'alpha': 0.6, 'temperature': 3.0, 'beta': 2.0},
  ),
  'adaad': Case(losses.adaad, _adaad, 4, False, {'alpha': 1.0}, {'alpha': 0.3}),
  'mart': Case(losses.mart, _mart, 2, True, {'beta': 5.0}, {'beta': 2.0}),
}
every_case = pytest.mark.parametrize('case', CASES.values(), ids=CASES)


@every_case
@pytest.mark.parametrize('published', [True, False])
def test_values_and_gradients_are_those_of_the_paper(case, published):
  given = [torch.tensor(z, requires_grad=True) for z in _logits()]
  options = case.published if published else case.options
  expected = case.paper(*given, **options)
  expected.mean().backward()
  # What is published needs not be said.
  said = {} if published else options

  def mean(student):
    return case.value(*student, *_logits()[2:], **said).mean()

  found = case.value(*_logits(), **said)
  slopes = jax.grad(mean)(_logits()[:2])

  assert found.shape == (IMAGES,)
  assert (np.asarray(found) > 0).all()
  np.testing.assert_allclose(found, expected.detach(), rtol=1e-10)
  for slope, z in zip(slopes, given[:2], strict=True):
    wanted = np.zeros(z.shape) if z.grad is None else z.grad.numpy()
    np.testing.assert_allclose(slope, wanted, rtol=1e-8, atol=1e-12)


def test_a_student_that_is_its_teacher_has_no_loss_of_distillation():
  clean, adv, *_ = _logits()
  labels = jnp.asarray(LABELS)
  for value in (
    losses.ard(clean, adv, adv, labels),
    losses.rslad(adv, adv, adv),
    losses.adaad(clean, adv, clean, adv, alpha=0.5),
    losses.iad(adv, adv, adv, clean, labels),
  ):
    np.testing.assert_allclose(value, 0, atol=1e-12)


def test_iad_introspects_as_much_as_the_teacher_doubts_the_label():
  clean, adv, teacher, _ = _logits()
  labels = jnp.asarray(LABELS)
  certain = 50 * jax.nn.one_hot(labels, CLASSES)
  without = losses.iad(clean, adv, teacher, certain, labels, introspects=False)
  trusted, doubted = (
    losses.iad(clean, adv, teacher, sign * certain, labels)
    for sign in (1.0, -1.0)
  )
  np.testing.assert_allclose(trusted, without, rtol=1e-12)
  own = losses.kl_divergence(clean, adv)
  # The label has a probability of exp(-50) / (exp(-50) + K - 1).
  share = 1 - (np.exp(-50) / (np.exp(-50) + CLASSES - 1)) ** 0.1
  np.testing.assert_allclose(doubted - without, share * own, rtol=1e-8)


def test_boosted_cross_entropy_of_certain_mistakes_is_finite():
  """Probabilities of 1 - 1e-87, which float64 cannot tell from 1."""
  logits = jnp.array([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]])
  labels = jnp.array([0, 0])
  value = losses.boosted_cross_entropy(logits, labels)
  slope = jax.grad(lambda z: losses.boosted_cross_entropy(z, labels).sum())(
    logits
  )
  np.testing.assert_allclose(value, [0, 400 - np.log(2)], atol=1e-9)
  np.testing.assert_allclose(slope[1], [-1 - 0.5, 2, -0.5], atol=1e-9)


@pytest.mark.parametrize('name', ['ard', 'rslad', 'iad', 'adaad', 'mart'])
def test_logits_of_other_shapes_are_refused(name):
  case, logits = CASES[name], list(_logits())
  logits[1] = logits[1][:1]
  with pytest.raises(AssertionError):
    case.value(*logits)
