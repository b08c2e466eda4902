"""The counted work is what the steps of training compute."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import optax
import pytest

from configs import cifar10, imagenet
from experiments import costs as command
from rnascl_jax.config import resolve, settings
from rnascl_jax.distillation import compare
from rnascl_jax.models import networks, student
from rnascl_jax.models.fixed import resnet
from rnascl_jax.runtime import parallel
from rnascl_jax.search import arch_params, flops, spaces
from rnascl_jax.stages import costs
from rnascl_jax.training import search_step, train_state, train_step

_SHAPE = (8, 8, 1)
_BATCH = 8


def _resnet(features: int, axis_name: str | None = None):
  """Without strides, of whose gradients `trace_macs` counts zeros too."""
  return resnet.small_resnet(
    num_classes=10,
    features=(features,),
    stage_sizes=(1,),
    strides=(1,),
    axis_name=axis_name,
  )


@pytest.fixture
def countable(monkeypatch):
  """Traces JAX's own convolutions, and every iteration of a loop.

  Those for the CPU have gradients that nobody may ask for, and are left to XLA
  to drop.
  """

  def scan(function, carry, xs=None, length=None, unroll=1):
    del unroll
    length = length or len(jax.tree.leaves(xs)[0])
    results = []
    for index in range(length):
      own = jax.tree.map(lambda x, i=index: x[i], xs)
      carry, result = function(carry, own)
      results.append(result)
    return carry, jax.tree.map(lambda *x: jnp.stack(x), *results)

  monkeypatch.setattr(jax.lax, 'scan', scan)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')


def _recipe(
  net, method: settings.AdversarialTraining, accumulate: int
) -> train_state.Recipe:
  return train_state.Recipe(
    net=net,
    optimizer=optax.sgd(0.1),
    adversarial=resolve.adversarial_method(method),
    distillation=compare.Distillation(_resnet(48), attends=False),
    augment=lambda key, image: image,
    accumulate=accumulate,
  )


def _variables(net):
  """Their shapes alone."""
  images = jnp.zeros((1, *_SHAPE))
  init = functools.partial(net.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), images)


def _forward(net) -> float:
  """MACs of a forward pass of an image."""
  images = jax.ShapeDtypeStruct((1, *_SHAPE), jnp.float32)
  apply = functools.partial(networks.apply, net)
  return flops.trace_macs(lambda v, x: apply(v, x)[0], _variables(net), images)


def _state(recipe: train_state.Recipe, size: int) -> train_state.TrainState:
  start = functools.partial(
    train_state.start_from, recipe, image_shape=_SHAPE, batch_size=size
  )
  return jax.eval_shape(start, _variables(recipe.net))


def _context(recipe: train_state.Recipe) -> train_state.Context:
  zero = jnp.float32(0)
  teacher = _variables(recipe.distillation.teacher)
  return train_state.Context(jnp.uint32(0), teacher, (), zero, zero)


def _batch(size: int) -> train_state.Batch:
  return train_state.Batch(
    jnp.zeros((size, *_SHAPE), jnp.uint8),
    jnp.zeros(size, jnp.int32),
    jnp.arange(size),
  )


def _traced(step, *arguments) -> int:
  """MACs of a whole step, on one device; nothing is computed."""

  def of_device(x):
    return jax.ShapeDtypeStruct((1, *x.shape), x.dtype)

  mapped = parallel.pmap(step, parallel.devices(1))
  return flops.trace_macs(mapped, *jax.tree.map(of_device, arguments))


_method = functools.partial(
  settings.AdversarialTraining, num_steps=3, replays=3
)


@pytest.mark.parametrize(
  ('method', 'accumulate', 'merged'),
  [
    (_method(), 1, 0),
    (_method(), 2, 0),
    (_method('pgd'), 1, 0),
    (_method('pgd', attack_mode='evaluation', distill_on='clean'), 1, 0),
    (_method('fast'), 1, 0),
    (_method('fast', cac_weight=1.0), 1, 0),
    (_method('free'), 1, 0),
    (_method('free', cac_weight=1.0), 1, 0),
    # The images' second pass, which the compiler merges with the first.
    (_method('trades', cac_weight=1.0), 1, 1),
    (_method('trades', attack_mode='training'), 1, 1),
    (_method('mart'), 1, 0),
    (_method('ard'), 1, 0),
    (_method('ard', alpha=0.5), 1, 0),
    (_method('iad', awp_gamma=0.01), 1, 0),
    (_method('rslad'), 1, 0),
    (_method('adaad', attack_mode='training'), 1, 0),
    (_method('pgd', awp_gamma=0.01), 1, 0),
  ],
)
def test_the_passes_of_a_method_are_those_of_its_step(
  method, accumulate, merged, countable
):
  del countable
  recipe = _recipe(_resnet(64, parallel.AXIS), method, accumulate)
  state = _state(recipe, _BATCH)
  step = train_step.make_train_step(recipe)
  macs = _traced(step, state, _context(recipe), _batch(_BATCH)) / _BATCH
  passes = costs.training(method) + merged
  expected = passes * _forward(_resnet(64))
  expected += costs.asking(method) * _forward(_resnet(48))
  # But for the stem's gradient by the images.
  assert macs == pytest.approx(expected, rel=0.02)


def test_the_passes_of_a_search_are_those_of_its_step(countable):
  """Its cost is that of the widest network.

  Nothing asks for the gradient of what is before the first mask, which with few
  blocks shows.
  """
  del countable
  space = spaces.from_stages(
    (4,), ((12, 6),), (1,), stem_features=12, stem_stride=1
  )
  grey = {'mean': (0.5,), 'std': (0.5,)}
  net = student.Student(space, 10, axis_name=parallel.AXIS, **grey)
  method = _method('fast')
  recipe = _recipe(net, method, 1)
  search = search_step.Search(
    space=space,
    tables=flops.costs(space, _SHAPE, 10),
    optimizer=optax.adam(0.1),
    steps_per_epoch=1,
    reference=1.0,
  )
  arch = arch_params.init_arch_params(space, len(net.tap_names), 5)
  state = search_step.init_search_state(
    _state(recipe, 6),
    arch,
    search.optimizer,
  )
  step = search_step.make_search_step(recipe, search)
  macs = _traced(step, state, _context(recipe), _batch(6), _batch(2)) / 8
  widest = student.Student(spaces.widest(space), 10, **grey)
  passes = costs.searching(
    settings.SearchSettings(adversarial_training=method, arch_share=0.25)
  )
  expected = passes * _forward(widest) + _forward(_resnet(48))
  assert macs == pytest.approx(expected, rel=0.02)


def test_recomputed_blocks_add_a_forward_pass_to_every_gradient():
  method = _method('trades')
  again = costs.training(method, remat=True) - costs.training(method)
  assert again == 3 + 2
  search = settings.SearchSettings(adversarial_training=method, arch_share=0.25)
  again = costs.searching(search, remat=True) - costs.searching(search)
  assert again == 0.75 * (3 + 2) + 0.25


def test_stages_are_those_of_the_config():
  """CIFAR-10: 49,000 images, of which each epoch drops 104."""
  parsed = settings.parse(cifar10.get_config('space=m'))
  stages = costs.stages(parsed, command.CIFAR10)
  assert [stage.name for stage in stages] == ['search', 'train', 'adversarial']
  epoch = 382 * 128
  assert [s.images for s in stages] == [100 * epoch] * 2 + [20 * epoch]
  search, train, adversarial = stages
  assert search.student > train.student == adversarial.student
  # 46.2 million parameters; RobustBench's network.
  teacher = search.teacher
  assert teacher == pytest.approx(6.66e9, rel=0.01)
  assert train.teacher == adversarial.teacher == teacher
  assert train.flops == 2 * train.images * (3 * train.student + teacher)


def test_a_student_without_a_teacher_is_trained_without_its_passes():
  parsed = settings.parse(cifar10.get_config('teacher=small'))
  search, train = costs.stages(parsed, command.CIFAR10, 'ce')
  assert search.teacher > 0 == train.teacher
  assert train.macs == 3 * train.student


def test_an_architecture_from_elsewhere_is_not_searched():
  parsed = settings.parse(imagenet.get_config('objective=free'))
  (train,) = costs.stages(parsed, command.IMAGENET)
  assert train.passes == 4 * 3
  assert train.images == 50 * (1_271_167 // 256) * 256


def test_the_docs_have_what_the_command_prints():
  """With a row for each stage of each run."""
  docs = pathlib.Path(__file__).parents[2] / 'docs' / 'costs.md'
  printed = command.table()
  assert printed in docs.read_text()
  names = [run[0] for run in command.RUNS]
  for name in set(names):
    stages = 2 if names.count(name) == 2 else 3
    assert printed.count(f'| {name} |') == stages
