"""The optimisers, schedules and the search of a config."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from rnascl_jax import losses
from rnascl_jax.config import settings
from rnascl_jax.config.resolve import costs
from rnascl_jax.config.resolve.adversarial_training import adversarial_method
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.search import cost_tables, gumbel
from rnascl_jax.search.space import SearchSpace
from rnascl_jax.training import (
  adversarial,
  averaging,
  optimizers,
  search_step,
)


def _piecewise(spec: settings.Optimization, total: int) -> optax.Schedule:
  bounds = {int(share * total): 0.1 for share in spec.milestones}
  return optax.piecewise_constant_schedule(spec.learning_rate, bounds)


def _cyclic(spec: settings.Optimization, total: int) -> optax.Schedule:
  peak = max(2 * total // 5, 1)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, spec.learning_rate, peak),
      optax.linear_schedule(spec.learning_rate, 0.0, max(total - peak, 1)),
    ],
    [peak],
  )


# Learning rates by `schedule`.
SCHEDULES: Mapping[
  str, Callable[[settings.Optimization, int], optax.Schedule]
] = {
  'piecewise': _piecewise,
  'cosine': lambda spec, total: optax.cosine_decay_schedule(
    spec.learning_rate,
    total,
    # A floor of 0 is one of any rate, also of 0.
    spec.min_learning_rate and spec.min_learning_rate / spec.learning_rate,
  ),
  'cyclic': _cyclic,
  'one_cycle': lambda spec, total: optimizers.one_cycle(
    spec.learning_rate, total
  ),
  'constant': lambda spec, _: optax.constant_schedule(spec.learning_rate),
}


# Noise of the search by `noise`.
NOISES = {'gumbel': jax.random.gumbel, 'normal': jax.random.normal}


# Each optimiser, and the fields that it alone has.
OPTIMIZERS: Mapping[
  str, tuple[Callable[..., optax.GradientTransformation], tuple[str, ...]]
] = {
  'sgd': (optimizers.sgd, ('momentum',)),
  'adam': (optimizers.adam, ('betas',)),
  'adamw': (optimizers.adamw, ('betas',)),
}


# Factors of the search's cost by `penalty`.
PENALTIES = {
  'power': losses.search_objective,
  'log': losses.log_search_objective,
}


def schedule(
  spec: settings.Optimization, steps_per_epoch: int, where: str = 'train'
) -> optax.Schedule:
  """Step -> learning rate."""
  total = spec.epochs * steps_per_epoch
  make = pick(SCHEDULES, spec.schedule, f'{where}.optimization.schedule')
  rate = make(spec, total)
  rising = int(spec.warmup * total)
  if not rising:
    return rate
  return lambda step: rate(step) * jnp.minimum((step + 1) / rising, 1.0)


def optimizer(
  spec: settings.Optimization, steps_per_epoch: int, where: str = 'train'
) -> optax.GradientTransformation:
  """The optimiser of a network's weights.

  Args:
    spec: its name and numbers.
    steps_per_epoch: updates of the weights in an epoch.
    where: the config's section, for messages.

  Raises:
    ValueError: for an unknown name.
  """
  field = f'{where}.optimization.optimizer'
  make, own = pick(OPTIMIZERS, spec.optimizer, field)
  made = make(
    schedule(spec, steps_per_epoch, where),
    weight_decay=spec.weight_decay,
    mask=optimizers.kernels if spec.decayed == 'kernels' else None,
    **{name: getattr(spec, name) for name in own},
  )
  if not spec.gradient_clip:
    return made
  return optax.chain(optax.clip_by_global_norm(spec.gradient_clip), made)


def average(
  spec: settings.Optimization, epoch_steps: int
) -> averaging.Average | None:
  """The average of weights, if one is kept."""
  if spec.average_from:
    return functools.partial(
      averaging.equal,
      first=spec.average_from * epoch_steps,
      every=epoch_steps,
    )
  if spec.average_decay:
    return functools.partial(averaging.exponential, decay=spec.average_decay)
  return None


def arch_optimizer(
  spec: settings.SearchSettings,
) -> optax.GradientTransformation:
  """The optimiser of the architecture parameters."""
  make, own = pick(OPTIMIZERS, spec.arch_optimizer, 'search.arch_optimizer')
  betas = {'betas': spec.arch_betas} if 'betas' in own else {}
  return make(
    spec.arch_learning_rate, weight_decay=spec.arch_weight_decay, **betas
  )


def search(
  spec: settings.SearchSettings,
  data: Dataset,
  blocks: SearchSpace,
  epoch_steps: int,
) -> search_step.Search:
  """How filters and tutors are searched."""
  shape, classes = data.image_shape, data.num_classes
  charged = costs.search_cost(spec, blocks, shape, classes)
  penalty = pick(PENALTIES, spec.penalty, 'search.penalty')
  absolute = spec.penalty == 'log'
  extra = {'alpha': spec.log_alpha} if absolute else {}
  by_epochs = spec.split == 'epochs'
  return search_step.Search(
    space=blocks,
    tables=charged.tables,
    measures=charged.measures,
    optimizer=arch_optimizer(spec),
    steps_per_epoch=epoch_steps,
    reference=1.0 if absolute else cost_tables.uniform(charged.tables),
    temperature=functools.partial(
      gumbel.temperature,
      initial=spec.temperature,
      decay=spec.temperature_decay,
    ),
    objective=functools.partial(penalty, exponent=spec.flops_exponent, **extra),
    noise=pick(NOISES, spec.noise, 'search.noise'),
    hard=spec.hard,
    warmup_epochs=spec.arch_warmup_epochs,
    weigh_cost=spec.weigh_cost,
    accumulate=spec.optimization.accumulate
    if by_epochs
    else search_step.arch_parts(spec.optimization.accumulate, spec.arch_share),
    weight_steps=search_weight_steps(spec, epoch_steps) if by_epochs else None,
    adversarial=adversarial_method(
      spec.adversarial_training,
      'search',
      spec.optimization.epochs * epoch_steps,
    )
    if spec.arch_adversarial
    else adversarial.standard(),
  )


def search_weight_steps(spec: settings.SearchSettings, epoch_steps: int) -> int:
  """Steps of an epoch of a search that move weights: the first ones, or all."""
  if spec.split == 'batches':
    return epoch_steps
  return epoch_steps - round(epoch_steps * spec.arch_share)
