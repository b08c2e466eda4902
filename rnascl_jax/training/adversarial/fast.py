"""FastAT: adversarial training with one step from a random start.

  delta ~ U(-epsilon, epsilon),  delta <- clip(delta + alpha sign(g), -epsilon,
  epsilon),  g = grad CE(x + delta),  alpha = 1.25 epsilon

Two passes through the network a step. It can overfit catastrophically: from one
epoch to the next the network withstands this one step and nothing else, and its
accuracy under PGD falls to nothing. Watch it (`driver.Stage.max_drop` does).

Reference:
  Wong et al., Fast is better than free: revisiting adversarial training, ICLR
  2020, algorithm 3.
"""

from rnascl_jax.attacks import linf
from rnascl_jax.attacks.gradient import StartFn
from rnascl_jax.training.adversarial.pgd import pgd_training
from rnascl_jax.training.adversarial.regime import Regime, Robustness

# Step over radius for CIFAR-10 at 8 / 255; not universal, larger radii and more
# classes need a smaller one.
STEP = 1.25


def fast(
  *,
  epsilon: float,
  step_size: float | None = None,
  start: StartFn | None = linf.uniform_start,
  in_training_mode: bool = True,
  lessons_on_adversarial: bool = True,
  robustness: Robustness | None = None,
) -> Regime:
  """Training on the images of a single step of size 1.25 epsilon.

  Args:
    epsilon: radius of the L-infinity ball, in [0, 1].
    step_size: alpha, in [0, 1]; None for 1.25 epsilon.
    start: of the step; None for the images, which is FGSM training where
      step_size >= epsilon.
    in_training_mode: whether the step sees, and moves, the statistics of
      BatchNorm in training mode, as in the authors' code.
    lessons_on_adversarial: as in `pgd_training`.
    robustness: compares both views, see `losses.cac`; None for no such term.

  Returns:
    The regime.
  """
  return pgd_training(
    epsilon=epsilon,
    step_size=STEP * epsilon if step_size is None else step_size,
    num_steps=1,
    start=start,
    in_training_mode=in_training_mode,
    lessons_on_adversarial=lessons_on_adversarial,
    robustness=robustness,
  )
