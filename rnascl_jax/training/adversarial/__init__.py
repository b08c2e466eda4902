"""Training regimes: on which images, and with which extra terms, to train.

A regime turns an objective of clean training into a loss and its gradient, so
that any of them serves teachers, search, training from scratch and fine-tuning
alike. `regime.Regime` is the interface; the regimes are

  regime          x'                             the loss
  standard        none                           objective(x)
  pgd_training    k steps up the cross-entropy   objective(x')
  fast            1 step of 1.25 epsilon         objective(x')
  free            x + delta, made by the         objective(x')
                  replay before
  trades          k steps up KL(p, p')           objective(x) + beta KL(p, p')

and to each of the last four `robustness` may add the consistency of eq. (5);
`trades` with it is eq. (6). An objective with a teacher makes any of them
adversarial distillation: its terms, KL and attention, are computed on the image
that the objective sees, or with `lessons` on the other view of it; the teacher
itself always sees the image without perturbation.

**Which forward passes update BatchNorm's running statistics**, in this order
(x: images, x': adversarial images; where another pass is needed, it says so):

  standard       x
  pgd_training   every step of the attack, then x': the code of Rice et al.
                 attacks in training mode. (It passes x' twice, to choose among
                 restarts, and x after the update, to log its loss; both are
                 left out.) With `in_training_mode=False` x' alone.
  fast           x + start, then x': the code of Wong et al. is in training
                 mode throughout.
  free           x' of every replay: the code of Shafahi et al.
  trades         x, x', x: the attack of Zhang et al. is in evaluation mode, and
                 their code passes x a second time for the divergence. (The
                 compiler merges both passes of x.)

If a regime on x' alone also needs x, for `robustness` or `lessons`, x is passed
in training mode before x'.

Example:
  >>> from rnascl_jax.training import adversarial
  >>> regime = adversarial.pgd_training(
  ...   epsilon=8 / 255, step_size=2 / 255, num_steps=10)
  >>> regime.init((128, 32, 32, 3)), regime.replays
  ((), 1)

References:
  Madry et al., Towards deep learning models resistant to adversarial attacks,
  ICLR 2018.
  Zhang et al., Theoretically principled trade-off between robustness and
  accuracy, ICML 2019.
  Shafahi et al., Adversarial training for free!, NeurIPS 2019.
  Wong et al., Fast is better than free, ICLR 2020.
  Rice et al., Overfitting in adversarially robust deep learning, ICML 2020.
  Nath et al., RNAS-CL, IJCV 2024, section 3.5.
"""

from rnascl_jax.training.adversarial.fast import fast
from rnascl_jax.training.adversarial.free import free
from rnascl_jax.training.adversarial.pgd import pgd_training
from rnascl_jax.training.adversarial.regime import (
  Metrics,
  Network,
  Objective,
  Regime,
)
from rnascl_jax.training.adversarial.standard import standard
from rnascl_jax.training.adversarial.trades import trades

__all__ = [
  'Metrics',
  'Network',
  'Objective',
  'Regime',
  'fast',
  'free',
  'pgd_training',
  'standard',
  'trades',
]
