"""The attacks of the literature, with every setting spelled out.

"PGD-20 at 8/255" names at least five different attacks: papers differ in the
step, in the start, in whether the start is clamped to [0, 1] before the first
gradient is taken, and in which iterate they report. Accuracies under different
presets are not comparable; 0.031 instead of 8/255 alone moves them by about a
point. Each preset was read in the code that it cites, not in the paper.

A preset is an attack, `preset(logits_fn, key, image, label)`, to be lifted
with `attacks.batched` or handed to `attacks.perturb`. At another epsilon it
keeps the ratio of step to epsilon: `preset.scaled(4 / 255)`, or per call
`preset(..., epsilon=4 / 255)`. Both are traced: an epsilon curve compiles once.

Example:
  >>> from rnascl_jax.attacks import presets
  >>> preset = presets.by_name('pgd20_rnascl')
  >>> print(preset.num_steps, preset.step_size)
  20 0.003
  >>> print(round(preset.scaled(2 * preset.epsilon).step_size, 6))
  0.006
"""

import dataclasses
import functools
from typing import Any

import jax

from rnascl_jax import losses
from rnascl_jax.attacks import arguments, gradient, linf
from rnascl_jax.base import Array, Key, LogitsFn

# The start of TRADES' evaluation and of all that descend from it: the first
# gradient is taken outside of [0, 1].
unclamped_start = functools.partial(linf.uniform_start, clip=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset(gradient.PGD):
  """An attack of the literature.

  A pytree whose leaves are epsilon and the step, so that a preset can be an
  argument of a jitted function.

  Attributes:
    origin: the code or the paper that has these settings.
  """

  origin: str

  def scaled(self, epsilon: float | Array) -> 'Preset':
    """The same attack at another epsilon, with the same step / epsilon.

    Raises:
      ValueError: if epsilon, unless it is traced, is not in [0, 1].
    """
    arguments.check_length('epsilon', epsilon)
    # In this order the step is unchanged, to the bit, at the same epsilon.
    step_size = self.step_size * (epsilon / self.epsilon)
    return dataclasses.replace(self, epsilon=epsilon, step_size=step_size)

  def __call__(
    self,
    logits_fn: LogitsFn,
    key: Key,
    image: Array,
    target: int | Array,
    *,
    epsilon: float | Array | None = None,
    **options: Any,
  ) -> Array:
    """Attacks one image, as PGD does.

    Args:
      logits_fn: [1, H, W, C] -> [1, K], in evaluation mode.
      key: typed random key.
      image: [H, W, C] in [0, 1].
      target: the label in [0, K), or the class to reach if `targeted`.
      epsilon: another radius, to which the step is scaled.
      **options: fields in place of the preset's.

    Returns:
      [H, W, C], in the ball and in [0, 1].
    """
    preset = self if epsilon is None else self.scaled(epsilon)
    attack = dataclasses.replace(preset, **options)
    return gradient.PGD.__call__(attack, logits_fn, key, image, target)


_TRACED = ['epsilon', 'step_size']
jax.tree_util.register_dataclass(
  Preset,
  data_fields=_TRACED,
  meta_fields=[
    field.name
    for field in dataclasses.fields(Preset)
    if field.name not in _TRACED
  ],
)


def by_name(name: str) -> Preset:
  """The preset of this name, a key of `PRESETS`.

  Raises:
    ValueError: if there is none; the message lists the names.
  """
  if name not in PRESETS:
    raise ValueError(
      f'no attack is called {name!r}; there are {", ".join(sorted(PRESETS))}.'
    )
  return PRESETS[name]


PRESETS = {
  # One step, or momentum, from the image itself. (RNAS-CL's own FGSM steps on
  # normalised pixels and clamps those to [0, 1]: no attack of a given epsilon.)
  'fgsm': Preset(
    origin='Goodfellow et al., ICLR 2015, at 8/255',
    epsilon=8 / 255,
    step_size=8 / 255,
    num_steps=1,
    start=None,
  ),
  'mi_fgsm10_dong': Preset(
    origin='dongyp13/Non-Targeted-Adversarial-Attacks (ImageNet, 16/255)',
    epsilon=16 / 255,
    step_size=1.6 / 255,
    num_steps=10,
    start=None,
    decay=1.0,
  ),
  'mi_fgsm20': Preset(
    origin='Dong et al., CVPR 2018, with the 20 steps and the size of RNAS-CL',
    epsilon=8 / 255,
    step_size=0.8 / 255,
    num_steps=20,
    start=None,
    decay=1.0,
  ),
  # A decay of 10 weighs the first gradient most: not far from FGSM, and weaker
  # than the usual decay of 1.
  'mi_fgsm20_rnascl': Preset(
    origin='RNAS-CL, test.py: torchattacks.MIFGSM with decay=10.0',
    epsilon=8 / 255,
    step_size=0.8 / 255,
    num_steps=20,
    start=None,
    decay=10.0,
  ),
  # CIFAR-10, start not clamped before the first gradient, last iterate.
  'pgd20_trades': Preset(
    origin='yaodongyu/TRADES, pgd_attack_cifar10.py with --random, its default',
    epsilon=0.031,
    step_size=0.003,
    num_steps=20,
    start=unclamped_start,
  ),
  'pgd20_advrush': Preset(
    origin='nutellamok/advrush, eval/pgd_attack.py',
    epsilon=0.031,
    step_size=0.01,
    num_steps=20,
    start=unclamped_start,
  ),
  'pgd20_rnascl': Preset(
    origin='RNAS-CL, myattack.py called with num_steps=20 by test.py',
    epsilon=8 / 255,
    step_size=0.003,
    num_steps=20,
    start=unclamped_start,
  ),
  'pgd20_robnet': Preset(
    origin='gmh14/RobNets, attack.py and experiments/*/config.py',
    epsilon=8 / 255,
    step_size=2 / 255,
    num_steps=20,
    start=unclamped_start,
  ),
  'pgd20_huang': Preset(
    origin='HanxunH/RobustWRN, main.py and evaluator.py',
    epsilon=8 / 255,
    step_size=0.8 / 255,
    num_steps=20,
    start=unclamped_start,
  ),
  'cw20_rnascl': Preset(
    origin='RNAS-CL, myattack.py, but with a margin per image (gradient.cw)',
    epsilon=8 / 255,
    step_size=0.003,
    num_steps=20,
    start=unclamped_start,
    loss=losses.cw_loss,
  ),
  'cw20_huang': Preset(
    origin='HanxunH/RobustWRN, evaluator.py, but with a margin per image',
    epsilon=8 / 255,
    step_size=0.8 / 255,
    num_steps=20,
    start=unclamped_start,
    loss=losses.cw_loss,
  ),
  # CIFAR-10, clamped start.
  'pgd20_rnascl_clamped': Preset(
    origin='RNAS-CL, test.py: torchattacks.PGD(8/255, 0.8/255, 20)',
    epsilon=8 / 255,
    step_size=0.8 / 255,
    num_steps=20,
    start=linf.uniform_start,
  ),
  'pgd10_madry': Preset(
    origin='MadryLab/cifar10_challenge, config.json',
    epsilon=8 / 255,
    step_size=2 / 255,
    num_steps=10,
    start=linf.uniform_start,
  ),
  'pgd20_madry': Preset(
    origin='MadryLab/cifar10_challenge in 20 steps; ashafahi/free_adv_train',
    epsilon=8 / 255,
    step_size=2 / 255,
    num_steps=20,
    start=linf.uniform_start,
  ),
  'cw20_madry': Preset(
    origin='MadryLab/cifar10_challenge, loss_func cw, in 20 steps',
    epsilon=8 / 255,
    step_size=2 / 255,
    num_steps=20,
    start=linf.uniform_start,
    loss=losses.cw_loss,
  ),
  'pgd10_rice': Preset(
    origin='locuslab/robust_overfitting, train_cifar.py --eval',
    epsilon=8 / 255,
    step_size=2 / 255,
    num_steps=10,
    start=linf.uniform_start,
    stop_when_fooled=True,
  ),
  'pgd50x10_fast': Preset(
    origin='locuslab/fast_adversarial, CIFAR10/utils.py',
    epsilon=8 / 255,
    step_size=2 / 255,
    num_steps=50,
    start=linf.uniform_start,
    restarts=10,
    stop_when_fooled=True,
  ),
  # ImageNet, clamped start, last iterate.
  'pgd10_imagenet_free': Preset(
    origin='mahyarnajibi/FreeAdversarialTraining, configs.yml',
    epsilon=4 / 255,
    step_size=1 / 255,
    num_steps=10,
    start=linf.uniform_start,
  ),
  'pgd50_imagenet_free': Preset(
    origin='mahyarnajibi/FreeAdversarialTraining, configs.yml',
    epsilon=4 / 255,
    step_size=1 / 255,
    num_steps=50,
    start=linf.uniform_start,
  ),
  'pgd7_imagenet_rnascl': Preset(
    origin='RNAS-CL, evaluate_imagenet_models.py: torchattacks.PGD',
    epsilon=1 / 255,
    step_size=2 / 255,
    num_steps=7,
    start=linf.uniform_start,
  ),
}
