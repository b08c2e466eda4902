"""Schedules, optimisers and the search, from their names."""

import functools

import jax
import jax.numpy as jnp
import optax

from rnascl_jax import losses
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.search import flops, gumbel
from rnascl_jax.search.spaces import SearchSpace
from rnascl_jax.training import search_step


def _piecewise(spec: settings.Optimization, total: int) -> optax.Schedule:
  bounds = {int(share * total): 0.1 for share in spec.milestones}
  return optax.piecewise_constant_schedule(spec.learning_rate, bounds)


def _cosine(spec: settings.Optimization, total: int) -> optax.Schedule:
  return optax.cosine_decay_schedule(spec.learning_rate, total)


def _cyclic(spec: settings.Optimization, total: int) -> optax.Schedule:
  peak = max(2 * total // 5, 1)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, spec.learning_rate, peak),
      optax.linear_schedule(spec.learning_rate, 0.0, max(total - peak, 1)),
    ],
    [peak],
  )


def _constant(spec: settings.Optimization, total: int) -> optax.Schedule:
  del total
  return optax.constant_schedule(spec.learning_rate)


SCHEDULES = {
  'piecewise': _piecewise,
  'cosine': _cosine,
  'cyclic': _cyclic,
  'constant': _constant,
}
NOISES = {'gumbel': jax.random.gumbel, 'normal': jax.random.normal}
ARCH_OPTIMIZERS = {'adam': optax.adam, 'sgd': optax.sgd}
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
  spec: settings.Optimization, steps_per_epoch: int
) -> optax.GradientTransformation:
  """SGD with momentum and L2 regularisation of all parameters."""
  return optax.chain(
    optax.add_decayed_weights(spec.weight_decay),
    optax.sgd(schedule(spec, steps_per_epoch), momentum=spec.momentum),
  )


def search(
  spec: settings.Search, data: Dataset, blocks: SearchSpace, epoch_steps: int
) -> search_step.Search:
  """How filters and tutors are searched."""
  tables = flops.costs(blocks, data.image_shape, data.num_classes)
  make = pick(ARCH_OPTIMIZERS, spec.arch_optimizer, 'search.arch_optimizer')
  penalty = pick(PENALTIES, spec.penalty, 'search.penalty')
  absolute = spec.penalty == 'log'
  extra = {'alpha': spec.log_alpha} if absolute else {}
  uniform = search_step.uniform_macs(blocks, tables)
  return search_step.Search(
    space=blocks,
    tables=tables,
    optimizer=make(spec.arch_learning_rate),
    steps_per_epoch=epoch_steps,
    reference=1.0 if absolute else uniform,
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
    accumulate=search_step.arch_parts(
      spec.optimization.accumulate, spec.arch_share
    ),
  )
