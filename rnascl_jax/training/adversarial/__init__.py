"""Adversarial training methods: the views of an image a network is trained on.

Any method serves teachers, the search, training from scratch and fine-tuning.
`method.AdversarialMethod` is the interface; the methods are

  method          x'                             the loss
  standard        x                              loss(x)
  pgd_training    k steps that raise the         loss(x')
                  cross-entropy
  fast            1 step of 1.25 epsilon         loss(x')
  free            x + delta, made by the         loss(x')
                  replay before
  trades          k steps that raise KL(p, p')   loss(x) + beta KL(p, p')
  mart            k steps that raise the         boosted cross-entropy(x')
                  cross-entropy                    + beta (1 - p_y) KL(p, p')

and, with a loss of their own in the place of the cross-entropy, which learns
from the predictions t of a teacher (here without their smaller terms)

  ard             k steps that raise the         KL(t(x), p'), softened
                  cross-entropy
  iad             k steps that raise the         KL(t(x), p') + KL(p, p') where
                  cross-entropy                  t(x') doubts the label
  rslad           k steps that raise             5/6 KL(t(x), p')
                  KL(t(x), p')                     + 1/6 KL(t(x), p)
  adaad           k steps that raise             KL(t(x'), p')
                  KL(t(x'), p')

`robust_term` may add the consistency of eq. (5) to each of them but `standard`;
`trades` with it is eq. (6). With a teacher any of them is adversarial
distillation: the student is compared with the teacher on the view that has the
cross-entropy, or on the other one (`distill_on`). In these terms of eq. (4) the
teacher always sees x. `awp` makes of any of them but `free` a method that takes
its update where the weights are at their worst.

**Which passes update BatchNorm's running statistics**, in this order (x:
images, x': adversarial images; where another pass is needed, it says so):

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
  mart           x, x': the attack of Wang et al. is in evaluation mode.
  ard, iad       every step of the attack, x', x: the code of Goldblum et al.,
                 and of Zhu et al., who pass x a second time.
  rslad          x', x: the attack of Zi et al. is in evaluation mode.
  adaad          x, x': so is that of Huang et al.

If a method that trains on x' alone also needs x, for `robust_term` or
distillation, x is passed in training mode before x'.

Example:
  >>> from rnascl_jax.training import adversarial
  >>> method = adversarial.pgd_training(
  ...   epsilon=8 / 255, step_size=2 / 255, num_steps=10)
  >>> method.init((128, 32, 32, 3)), method.replays
  ((), 1)

References:
  Madry et al., Towards deep learning models resistant to adversarial attacks,
  ICLR 2018.
  Zhang et al., Theoretically principled trade-off between robustness and
  accuracy, ICML 2019.
  Shafahi et al., Adversarial training for free!, NeurIPS 2019.
  Wong et al., Fast is better than free, ICLR 2020.
  Rice et al., Overfitting in adversarially robust deep learning, ICML 2020.
  Wang et al., Improving adversarial robustness requires revisiting
  misclassified examples, ICLR 2020.
  Wu et al., Adversarial weight perturbation helps robust generalization,
  NeurIPS 2020.
  Goldblum et al., Adversarially robust distillation, AAAI 2020.
  Zi et al., Revisiting adversarial robustness distillation, ICCV 2021.
  Zhu et al., Reliable adversarial distillation with unreliable teachers, ICLR
  2022.
  Huang et al., Boosting accuracy and robustness of student models via adaptive
  adversarial distillation, CVPR 2023.
  Nath et al., RNAS-CL, IJCV 2024, section 3.5.
"""

from rnascl_jax.training.adversarial.adaad import adaad
from rnascl_jax.training.adversarial.ard import ard
from rnascl_jax.training.adversarial.awp import awp
from rnascl_jax.training.adversarial.free import free
from rnascl_jax.training.adversarial.iad import iad
from rnascl_jax.training.adversarial.mart import mart
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Classifier,
  Perturbed,
  Predictions,
  RobustTerm,
)
from rnascl_jax.training.adversarial.pgd import fast, pgd_training, standard
from rnascl_jax.training.adversarial.rslad import rslad
from rnascl_jax.training.adversarial.trades import trades

__all__ = [
  'AdversarialMethod',
  'Classifier',
  'Perturbed',
  'Predictions',
  'RobustTerm',
  'adaad',
  'ard',
  'awp',
  'fast',
  'free',
  'iad',
  'mart',
  'pgd_training',
  'rslad',
  'standard',
  'trades',
]
