"""MART: adversarial training that looks at misclassified images more.

  BCE(p', y) + beta KL(p, p') (1 - p_y),
  x' = argmax_{x' in B(x, epsilon)} CE(p', y)

As in the authors' code, the attack sees the network in evaluation mode and
starts at x + 0.001 N(0, 1); then x and x' pass in training mode.

Reference:
  Wang et al., Improving adversarial robustness requires revisiting
  misclassified examples, ICLR 2020, algorithm 1, and their code
  (YisenWang/MART, mart.py).
"""

from typing import Any

from rnascl_jax import losses
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Predictions,
)
from rnascl_jax.training.adversarial.pgd import pgd_training


def mart(
  *, beta: float = 5.0, in_training_mode: bool = False, **attack: Any
) -> AdversarialMethod:
  """Misclassification-aware adversarial training.

  Args:
    beta: see `losses.mart`.
    in_training_mode: as of `pgd_training`.
    **attack: of `pgd_training`, but `start`; Wang et al. have epsilon = 0.031,
      a step of 0.007 and 10 of them.
  """

  def loss(of: Predictions) -> Array:
    views = of.student['clean'], of.student['adversarial']
    return losses.mart(*views, of.labels, beta=beta)

  method = pgd_training(
    start=Norm.gaussian_start, in_training_mode=in_training_mode, **attack
  )
  return method._replace(loss=loss, passes=('clean', 'adversarial'))
