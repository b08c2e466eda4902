"""The attacks of the literature, with every setting spelled out.

"PGD-20 at 8/255" names at least five different attacks: papers differ in the
step, in the start, in whether the start is clamped to [0, 1] before the first
gradient is taken, and in which iterate they report. Accuracies under different
presets are not comparable; 0.031 instead of 8/255 alone moves them by about a
point. Each preset was read in the code that it cites, not in the paper.

Presets are of one norm each: L-infinity unless their name says `l2` or `l1`.
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
import math
from typing import Any

import jax
import jax.numpy as jnp

from rnascl_jax import losses
from rnascl_jax.attacks import arguments, gradient, norms
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LogitsFn

# The start of TRADES' evaluation and of all that descend from it: the first
# gradient is taken outside of [0, 1].
unclamped_start = functools.partial(Norm.uniform_start, clip=False)


def any_length_start(
  norm: Norm, key: Key, image: Array, epsilon: float | Array
) -> Array:
  """The start of Rice et al. in L2: in any direction, of any length to epsilon.

  All lengths are as likely, so that it is nearer to the image than a point
  drawn uniformly from the ball.

  Args:
    norm: the ball's.
    key: typed random key.
    image: [H, W, C] in [0, 1].
    epsilon: scalar, may be traced.

  Returns:
    [H, W, C], in [0, 1].
  """
  key, length_key = jax.random.split(key)
  share = jax.random.uniform(length_key, (), image.dtype)
  return norm.random_start(key, image, epsilon * share)


def laplace_start(
  norm: Norm, key: Key, image: Array, epsilon: float | Array
) -> Array:
  """The start of Tramer and Boneh in L1: a point on the ball's surface.

  It is Laplace noise, scaled to length epsilon. Arguments and result are those
  of `any_length_start`.
  """
  noise = jax.random.laplace(key, image.shape, image.dtype)
  start = noise * (jnp.asarray(epsilon, image.dtype) / norm.length(noise))
  return jnp.clip(image + start, 0.0, 1.0)


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
      ValueError: if epsilon, unless it is traced, is no length in the norm.
    """
    arguments.check_length('epsilon', epsilon, self.norm.longest(math.inf))
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


_STOP = {'stop_when_fooled': True}
_CW = {'loss': losses.cw_loss}
_L1, _L2 = {'norm': norms.L1}, {'norm': norms.L2}
_BEST = {'keep_best': True}
# Epsilon, step size, steps, start, and further options of PGD.
_SETTINGS: dict[str, tuple[float, float, int, Any, dict[str, Any]]] = {
  # From the image itself. (RNAS-CL's own FGSM steps on normalised pixels and
  # clamps those to [0, 1]: no attack of a given epsilon.)
  'fgsm': (8 / 255, 8 / 255, 1, None, {}),
  'mi_fgsm10_dong': (16 / 255, 1.6 / 255, 10, None, {'decay': 1.0}),
  'mi_fgsm20': (8 / 255, 0.8 / 255, 20, None, {'decay': 1.0}),
  # A decay of 10 weighs the first gradient most: not far from FGSM, and weaker
  # than the usual decay of 1.
  'mi_fgsm20_rnascl': (8 / 255, 0.8 / 255, 20, None, {'decay': 10.0}),
  # CIFAR-10, start not clamped before the first gradient, last iterate.
  'pgd20_trades': (0.031, 0.003, 20, unclamped_start, {}),
  'pgd20_advrush': (0.031, 0.01, 20, unclamped_start, {}),
  'pgd20_rnascl': (8 / 255, 0.003, 20, unclamped_start, {}),
  'pgd20_robnet': (8 / 255, 2 / 255, 20, unclamped_start, {}),
  'pgd20_huang': (8 / 255, 0.8 / 255, 20, unclamped_start, {}),
  'cw20_rnascl': (8 / 255, 0.003, 20, unclamped_start, _CW),
  'cw20_huang': (8 / 255, 0.8 / 255, 20, unclamped_start, _CW),
  # CIFAR-10, clamped start.
  'pgd20_rnascl_clamped': (8 / 255, 0.8 / 255, 20, Norm.uniform_start, {}),
  'pgd10_madry': (8 / 255, 2 / 255, 10, Norm.uniform_start, {}),
  'pgd20_madry': (8 / 255, 2 / 255, 20, Norm.uniform_start, {}),
  'cw20_madry': (8 / 255, 2 / 255, 20, Norm.uniform_start, _CW),
  'pgd10_rice': (8 / 255, 2 / 255, 10, Norm.uniform_start, _STOP),
  'pgd50x10_fast': (
    8 / 255,
    2 / 255,
    50,
    Norm.uniform_start,
    _STOP | {'restarts': 10},
  ),
  # ImageNet, clamped start, last iterate.
  'pgd10_imagenet_free': (4 / 255, 1 / 255, 10, Norm.uniform_start, {}),
  'pgd50_imagenet_free': (4 / 255, 1 / 255, 50, Norm.uniform_start, {}),
  'pgd7_imagenet_rnascl': (1 / 255, 2 / 255, 7, Norm.uniform_start, {}),
  # CIFAR-10 in L2.
  'fgm_l2': (0.5, 0.5, 1, None, _L2),
  'pgd10_l2_rice': (128 / 255, 15 / 255, 10, any_length_start, _L2 | _STOP),
  'pgd20_l2_robustness': (0.5, 0.0625, 20, None, _L2 | _BEST),
  'pgd100_l2_robustness': (0.5, 0.0125, 100, None, _L2 | _BEST),
  # CIFAR-10 in L1: SLIDE, see `gradient.ascend`.
  'pgd10_l1_foolbox': (12.0, 2.4, 10, None, _L1),
  'pgd100_l1_tramer': (2000 / 255, 2.0, 100, laplace_start, _L1 | _CW),
}
_SLIDE = 'but projected onto the ball and [0, 1] at once'
_ROBUSTNESS = 'MadryLab/robustness, README.rst and defaults.py:'
_MADRY = 'MadryLab/cifar10_challenge'
_FREE = 'mahyarnajibi/FreeAdversarialTraining, configs.yml'
_ORIGINS = {
  'fgsm': 'Goodfellow et al., ICLR 2015, at 8/255',
  'mi_fgsm10_dong': 'dongyp13/Non-Targeted-Adversarial-Attacks '
  '(ImageNet, 16/255)',
  'mi_fgsm20': 'Dong et al., CVPR 2018, with the 20 steps and the size of '
  'RNAS-CL',
  'mi_fgsm20_rnascl': 'RNAS-CL, test.py: torchattacks.MIFGSM with decay=10.0',
  'pgd20_trades': 'yaodongyu/TRADES, pgd_attack_cifar10.py with --random, its '
  'default',
  'pgd20_advrush': 'nutellamok/advrush, eval/pgd_attack.py',
  'pgd20_rnascl': 'RNAS-CL, myattack.py called with num_steps=20 by test.py',
  'pgd20_robnet': 'gmh14/RobNets, attack.py and experiments/*/config.py',
  'pgd20_huang': 'HanxunH/RobustWRN, main.py and evaluator.py',
  'cw20_rnascl': 'RNAS-CL, myattack.py, but with a margin per image '
  '(gradient.cw)',
  'cw20_huang': 'HanxunH/RobustWRN, evaluator.py, but with a margin per image',
  'pgd20_rnascl_clamped': 'RNAS-CL, test.py: '
  'torchattacks.PGD(8/255, 0.8/255, 20)',
  'pgd10_madry': f'{_MADRY}, config.json',
  'pgd20_madry': f'{_MADRY} in 20 steps; ashafahi/free_adv_train',
  'cw20_madry': f'{_MADRY}, loss_func cw, in 20 steps',
  'pgd10_rice': 'locuslab/robust_overfitting, train_cifar.py --eval',
  'pgd50x10_fast': 'locuslab/fast_adversarial, CIFAR10/utils.py',
  'pgd10_imagenet_free': _FREE,
  'pgd50_imagenet_free': _FREE,
  'pgd7_imagenet_rnascl': 'RNAS-CL, evaluate_imagenet_models.py: '
  'torchattacks.PGD',
  'fgm_l2': 'Foolbox, L2FastGradientAttack, at the radius of RobustBench',
  'pgd10_l2_rice': 'locuslab/robust_overfitting, train_cifar.py --eval --norm '
  'l_2 --epsilon 128 --pgd-alpha 15',
  'pgd20_l2_robustness': f'{_ROBUSTNESS} 20 steps of 2.5 epsilon / 20',
  'pgd10_l1_foolbox': 'Foolbox, SparseL1DescentAttack, at the radius of Croce '
  f'and Hein (ICML 2021), {_SLIDE}',
  'pgd100_l1_tramer': 'ftramer/MultiRobustness, config_cifar10.json and '
  f'pgd_attack.py, {_SLIDE}',
  'pgd100_l2_robustness': f'{_ROBUSTNESS} 100 steps of 2.5 epsilon / 100',
}
# Attacks of the literature by their names, each with its settings and source.
PRESETS = {
  name: Preset(
    origin=_ORIGINS[name],
    epsilon=epsilon,
    step_size=step_size,
    num_steps=num_steps,
    start=start,
    **options,
  )
  for name, (epsilon, step_size, num_steps, start, options) in (
    _SETTINGS.items()
  )
}
