"""The step size of APGD: when it is halved.

Reference:
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020, algorithm 1, conditions 1 and 2.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array


class StepSchedule(NamedTuple):
  """What the step size depends on, since the last checkpoint.

  Attributes:
    step_size: scalar.
    loss: of the step before; 0 before the first.
    rises: steps in which the loss rose.
    halved: whether the step size was halved at the last checkpoint.
    best: the largest loss at the last checkpoint.
  """

  step_size: Array
  loss: Array
  rises: Array
  halved: Array
  best: Array


def windows(num_steps: int) -> np.ndarray:
  """Where the checkpoints of N >= 1 steps are.

  Returns:
    [N] integers: at a step that ends in a checkpoint the number of steps since
    the last one, and 0 at all others.
  """
  length = max(int(0.22 * num_steps), 1)
  least, shorter = (max(int(s * num_steps), 1) for s in (0.06, 0.03))
  lengths, step = np.zeros(num_steps, np.int32), length - 1
  while step < num_steps:
    lengths[step] = length
    length = max(length - shorter, least)
    step += length
  return lengths


def next_schedule(
  schedule: StepSchedule, loss: Array, best: Array, window: Array, rho: float
) -> tuple[StepSchedule, Array]:
  """Halves the step size at a checkpoint where the loss did not rise enough.

  Args:
    schedule: before the step.
    loss: scalar, after the step.
    best: scalar, the largest loss, this step included.
    window: scalar, an entry of `windows`.
    rho: share of rising steps up to which the step is halved.

  Returns:
    The schedule after the step, and whether the step size was halved.
  """
  rises = schedule.rises + (loss > schedule.loss)
  is_checkpoint = window > 0
  oscillates = rises <= rho * window
  stuck = ~schedule.halved & (schedule.best >= best)
  halve = is_checkpoint & (oscillates | stuck)
  return StepSchedule(
    step_size=jnp.where(halve, schedule.step_size / 2, schedule.step_size),
    loss=loss,
    rises=jnp.where(is_checkpoint, 0, rises),
    halved=jnp.where(is_checkpoint, halve, schedule.halved),
    best=jnp.where(is_checkpoint, best, schedule.best),
  ), halve
