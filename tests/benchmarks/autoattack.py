"""AutoAttack and PGD-20 against the official AutoAttack and PyTorch.

Times the same budgets on the same weights and images, in turn, and prints
medians of seconds, their ratio, and the limit: the passes through the network
that an attack needs, times the time of one in a full batch. PyTorch runs in the
layout in which its passes are faster. The last line is a JSON object.

  PYTHONPATH=. python tests/benchmarks/autoattack.py --network=student
  PYTHONPATH=. python tests/benchmarks/autoattack.py --network=convolutions
  PYTHONPATH=. python tests/benchmarks/autoattack.py --network=resnet18 \
    --images=16 --batch=16 --targets=3 --queries=500

On a GPU also --torch_device=cuda --images=512 --batch=512. These weights are
random, and scaled such that some images are broken and some are not. A trained
teacher is attacked on the first test images of CIFAR-10, with the labels that
it gives them:

  PYTHONPATH=. python tests/benchmarks/autoattack.py --epsilon_255=8 \
    --network=docs/results/cifar10_wrn_22_2.safetensors
"""

import functools
import json
import logging
import re
import statistics
import time
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import ensembles
from rnascl_jax.data import datasets
from rnascl_jax.interop import state_dicts, torch_import
from rnascl_jax.models import fixed, networks, student
from rnascl_jax.runtime import host_memory
from rnascl_jax.search import architecture, spaces
from tests import attack_networks as nets

_NETWORK = flags.DEFINE_string(
  'network',
  'student',
  "'student': RNAS-CL-S3 in its widest form; 'convolutions': six dense ones; "
  "'resnet18'; or the file of an exported teacher.",
)
_IMAGES = flags.DEFINE_integer('images', 64, 'Images of 32 x 32.')
_BATCH = flags.DEFINE_integer('batch', 64, 'Images at once.')
_EPSILON = flags.DEFINE_float('epsilon_255', 0.5, 'Radius in 1/255.')
_QUERIES = flags.DEFINE_integer('queries', 5000, "Square's budget.")
_TARGETS = flags.DEFINE_integer('targets', 9, 'Of APGD-T and FAB-T, each.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Timed runs; the median counts.')
_TORCH = flags.DEFINE_bool('torch', True, 'Whether PyTorch is timed too.')
_DEVICE = flags.DEFINE_string('torch_device', 'cpu', 'Of PyTorch.')


def _draw(path, leaf):
  """Random weights and statistics of a student."""
  rng = np.random.default_rng(abs(hash(leaf.shape)) % 2**31)
  name = path[-1].key
  if name in ('var', 'scale'):
    return np.float32(rng.uniform(0.5, 1.5, leaf.shape))
  if name in ('mean', 'bias'):
    return np.float32(rng.normal(size=leaf.shape) * 0.1)
  fan_in = np.prod(leaf.shape[:-1]) or 1
  return np.float32(rng.normal(size=leaf.shape) * (2 / fan_in) ** 0.5)


def _student():
  """Classifier (weights, images) -> logits, weights, and PyTorch's version."""
  space = spaces.CIFAR_SPACES['s3']
  net = student.Student(space, 10)
  shapes = jax.eval_shape(
    lambda: net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
  )
  weights = jax.tree_util.tree_map_with_path(_draw, shapes)

  def make(device):
    import torch

    from rnascl_jax.interop import student as exported

    widest = spaces.widest(space)
    widths = tuple(block.widest for block in widest.blocks)
    described = architecture.Architecture(widest, widths, (), (), ())
    module = exported.Student(
      architecture.to_dict(described), num_classes=10
    ).eval()
    state = state_dicts.from_variables(weights)
    module.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    return module.to(device)

  return lambda w, x: net.apply(w, x, train=False)[0], weights, make


def _convolutions():
  """The same of six dense convolutions, written with JAX's own."""
  rng = np.random.default_rng(0)
  widths = (3, 32, 32, 64, 64, 128, 128)
  kernels = [
    np.float32(rng.normal(size=(3, 3, c, d)) * (2 / 9 / c) ** 0.5)
    for c, d in zip(widths[:-1], widths[1:], strict=True)
  ]
  head = np.float32(rng.normal(size=(128, 10)))
  strides = (1, 1, 2, 1, 2, 1)

  def apply(weights, x):
    for kernel, stride in zip(weights[0], strides, strict=True):
      x = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((1, 1), (1, 1)),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      )
      x = jax.nn.relu(x)
    return x.mean((1, 2)) @ weights[1]

  def make(device):
    import torch
    from torch import nn

    module = nn.Sequential()
    for kernel, stride in zip(kernels, strides, strict=True):
      conv = nn.Conv2d(*kernel.shape[2:], 3, stride, padding=1, bias=False)
      conv.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
      module.extend([conv, nn.ReLU()])
    linear = nn.Linear(*head.shape, bias=False)
    linear.weight.data = torch.tensor(head.T.copy())
    module.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear])
    return module.to(device)

  return apply, (kernels, head), make


def _resnet18():
  """The same of a ResNet-18."""
  from tests import torch_fixed

  net = fixed.NETWORKS['resnet18'](num_classes=10)
  module = torch_fixed.randomise(torch_fixed.make('resnet18', 10), 0)
  variables = torch_fixed.flax_variables(module)
  return lambda w, x: networks.apply(net, w, x)[0], variables, module.to


def _teacher(path: str):
  """The same of an exported teacher."""
  from rnascl_jax.interop import student as exported
  from tests import torch_fixed

  state, metadata = exported.read(path)
  spec = metadata['network']
  net, variables, _ = torch_import.read(path, spec)
  shape = {k: v for k, v in spec.items() if k not in ('name', 'bfloat16')}

  def make(device):
    import torch
    from torch import nn

    class Normalize(nn.Module):
      def __init__(self):
        super().__init__()
        for name in ('mean', 'std'):
          numbers = torch.tensor(metadata[name]).view(3, 1, 1)
          self.register_buffer(name, numbers)

      def forward(self, x):
        return (x - self.mean) / self.std

    module = torch_fixed.make(spec['name'], net.num_classes, **shape)
    module.load_state_dict(state, strict=True)
    return nn.Sequential(Normalize(), module).to(device)

  return lambda w, x: networks.apply(net, w, x)[0], variables, make


_RANDOM = {
  'student': _student,
  'convolutions': _convolutions,
  'resnet18': _resnet18,
}


def _data(logits_fn):
  """Images, with what the classifier says of them as labels."""
  if _NETWORK.value not in _RANDOM:
    limit = datasets.Limit(1, _IMAGES.value)
    images = datasets.load('cifar10', limit=limit).test.images / 255
  else:
    rng = np.random.default_rng(1)
    images = np.floor(rng.uniform(size=(_IMAGES.value, 32, 32, 3)) * 256) / 255
  images = np.clip(images, 0, 1).astype(np.float32)
  return images, np.asarray(jax.jit(logits_fn)(images).argmax(-1))


def _seconds_of_passes(logits_fn, images, labels):
  """Seconds of a forward and of a backward pass for one image in a batch.

  The faster of a call and of an iteration of a loop: XLA compiles them
  differently, and which is faster depends on the network.
  """
  size = min(_BATCH.value, len(images))
  x, y = jnp.asarray(images[:size]), jnp.asarray(labels[:size])

  def forward(x, y):
    del y
    return x + 1e-12 * logits_fn(x).sum()

  def loss(x, y):
    return losses.cross_entropy(logits_fn(x), y).sum()

  def both(x, y):
    return x + 1e-12 * jax.grad(loss)(x, y)

  def least(function):
    def looped(x, y):
      return jax.lax.fori_loop(0, 10, lambda _, x: function(x, y), x)

    return min(
      _least_seconds(jax.jit(function), x, y),
      _least_seconds(jax.jit(looped), x, y) / 10,
    )

  once = least(forward) / size
  return once, max(least(both) / size - once, 0.0)


def _least_seconds(function, *arguments):
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(5):
    begin = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - begin)
  return min(times)


def _ours(logits_fn, images, labels):
  """Seconds of each member and in all, and the result."""
  members = (
    ensembles.apgd_ce(),
    ensembles.apgd_t(targets=_TARGETS.value),
    ensembles.fab_t(targets=_TARGETS.value),
    ensembles.square(num_steps=_QUERIES.value),
  )
  begin = time.perf_counter()
  result = attacks.auto_attack(
    logits_fn,
    images,
    labels,
    epsilon=_EPSILON.value / 255,
    attacks=members,
    batch_size=_BATCH.value,
    checks=False,
    verbose=False,
  )
  total = time.perf_counter() - begin
  return [*(m.seconds for m in result.members), total], result


def _torch_model(make):
  """PyTorch's network in its faster layout, and seconds of passes in each."""
  import torch

  seconds, models = {}, {}
  shape = min(_BATCH.value, _IMAGES.value), 3, 32, 32
  for layout in ('contiguous_format', 'channels_last'):
    form = getattr(torch, layout)
    module = make(_DEVICE.value).to(memory_format=form).requires_grad_(False)

    def model(x, module=module, form=form):
      return module(x.contiguous(memory_format=form))

    def passes(model=model):
      x = torch.rand(shape, device=_DEVICE.value, requires_grad=True)
      model(x).logsumexp(-1).sum().backward()
      return float(x.grad.sum())

    passes()
    times = []
    for _ in range(5):
      begin = time.perf_counter()
      passes()
      times.append(time.perf_counter() - begin)
    seconds[layout], models[layout] = min(times) / shape[0], model
  return models[min(seconds, key=seconds.get)], seconds


class _Clock(logging.Handler):
  """When each member of the official code was done."""

  def __init__(self):
    super().__init__()
    self.times = []

  def emit(self, record):
    if re.match('robust accuracy after', record.getMessage()):
      self.times.append(time.perf_counter())


def _theirs(model, images, labels):
  """Seconds of the official code, and its accuracy in percent."""
  import torch
  from pyautoattack import AutoAttack

  class Module(torch.nn.Module):
    def forward(self, x):
      return model(x)

  device = _DEVICE.value
  x, y = nets.to_torch(images, np.float32), torch.tensor(labels).long()
  attack = AutoAttack(Module(), eps=_EPSILON.value / 255, seed=0, device=device)
  attack.square.n_queries = _QUERIES.value
  attack.apgd_targeted.n_target_classes = _TARGETS.value
  attack.fab.n_target_classes = _TARGETS.value
  clock = _Clock()
  logger = logging.getLogger('auto-attack')
  logger.handlers = [clock]
  logger.setLevel(logging.DEBUG)
  logger.propagate = False
  begin = time.perf_counter()
  found, _ = attack.run_standard_evaluation(x, y, batch_size=_BATCH.value)
  total = time.perf_counter() - begin
  with torch.no_grad():
    logits = model(found.to(device)).cpu()
  accuracy = 100 * (logits.argmax(1) == y).float().mean().item()
  # A first run that nobody broke may have fewer members.
  members = np.diff([begin, *clock.times]).tolist()
  return [*members, total], accuracy


def _pgd(logits_fn, images, labels):
  """Seconds of PGD-20."""
  begin = time.perf_counter()
  attacks.perturb(
    attacks.PRESETS['pgd20_madry'],
    logits_fn,
    images,
    labels,
    epsilon=_EPSILON.value / 255,
    batch_size=_BATCH.value,
  )
  return time.perf_counter() - begin


def _torch_pgd(model, images, labels):
  """Seconds of a plain loop of 20 steps in PyTorch."""
  import torch

  device, epsilon = _DEVICE.value, _EPSILON.value / 255
  x = nets.to_torch(images, np.float32).to(device)
  y = torch.tensor(labels).long().to(device)
  begin = time.perf_counter()
  for i in range(0, len(x), _BATCH.value):
    clean, target = x[i : i + _BATCH.value], y[i : i + _BATCH.value]
    noise = epsilon * (2 * torch.rand_like(clean) - 1)
    point = (clean + noise).clamp(0, 1)
    for _ in range(20):
      point.requires_grad_()
      loss = torch.nn.functional.cross_entropy(
        model(point), target, reduction='sum'
      )
      (gradient,) = torch.autograd.grad(loss, point)
      point = point.detach() + epsilon / 4 * gradient.sign()
      point = torch.min(torch.max(point, clean - epsilon), clean + epsilon)
      point = point.clamp(0, 1)
    point.cpu()
  return time.perf_counter() - begin


def _medians(rows):
  """The median of each column."""
  return [statistics.median(column) for column in zip(*rows, strict=True)]


def main(argv: Sequence[str]) -> None:
  """Prints a table, and the row."""
  del argv
  host_memory.keep()
  warnings.simplefilter('ignore')
  random = _RANDOM.get(_NETWORK.value)
  apply, weights, make = random() if random else _teacher(_NETWORK.value)
  logits_fn = jax.tree_util.Partial(apply, weights)
  images, labels = _data(logits_fn)
  forward, backward = _seconds_of_passes(logits_fn, images, labels)
  ours = functools.partial(_ours, logits_fn, images, labels)
  pgd = functools.partial(_pgd, logits_fn, images, labels)
  cold, _ = ours()
  pgd_cold = pgd()
  row = {
    **{f.name: f.value for f in (_NETWORK, _IMAGES, _BATCH, _EPSILON)},
    **{f.name: f.value for f in (_QUERIES, _TARGETS, _REPEATS)},
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
    'pass_us': {'here': round(1e6 * (forward + backward))},
  }
  model = None
  if _TORCH.value:
    import torch

    model, passes = _torch_model(make)
    row['pytorch'] = torch.__version__
    row['pass_us'] |= {k: round(1e6 * v) for k, v in passes.items()}
  times = {'ours': [], 'official': [], 'pgd': [], 'pytorch_pgd': []}
  for _ in range(_REPEATS.value):
    seconds, result = ours()
    times['ours'].append(seconds)
    times['pgd'].append((pgd(),))
    if model:
      seconds, row['official_accuracy'] = _theirs(model, images, labels)
      times['official'].append(seconds)
      times['pytorch_pgd'].append((_torch_pgd(model, images, labels),))
  medians = {name: _medians(rows) for name, rows in times.items() if rows}
  row['accuracy'] = 100 * result.robust_accuracy
  row['compile_s'] = round(cold[-1] - medians['ours'][-1], 2)
  row['pgd_compile_s'] = round(pgd_cold - medians['pgd'][0], 2)
  limits = [
    m.passes.forward * forward + m.passes.backward * backward
    for m in result.members
  ]
  names = [*(m.label for m in result.members), 'AutoAttack', 'PGD-20']
  columns = {
    'limit_s': [
      *limits,
      sum(limits),
      20 * _IMAGES.value * (forward + backward),
    ],
    'ours_s': medians['ours'] + medians['pgd'],
  }
  if model:
    columns['pytorch_s'] = medians['official'] + medians['pytorch_pgd']
  row['seconds'] = {
    name: dict(zip(columns, (round(v, 3) for v in values), strict=True))
    for name, values in zip(
      names, zip(*columns.values(), strict=True), strict=True
    )
  }
  for name, values in row['seconds'].items():
    if model:
      values['ratio'] = round(values['pytorch_s'] / values['ours_s'], 2)
    print(f'{name:10}', *(f'{k} {v:8.2f}' for k, v in values.items()))
  print(json.dumps(row))


if __name__ == '__main__':
  app.run(main)
