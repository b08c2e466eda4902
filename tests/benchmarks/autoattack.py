"""AutoAttack and PGD-20 against the official AutoAttack and PyTorch.

Times the same budgets on the same weights and images, one after the other, and
prints seconds, their ratio, and the share of them that the ideal is: the passes
through the network that an attack needs, times the time of one in a full batch.

  PYTHONPATH=. python tests/benchmarks/autoattack.py --network=student
  PYTHONPATH=. python tests/benchmarks/autoattack.py --network=convolutions

On a GPU also --torch_device=cuda --images=512 --batch=512. These weights are
random, and scaled such that some images are broken and some are not. A trained
teacher is attacked on the first test images of CIFAR-10, with the labels that
it gives them:

  PYTHONPATH=. python tests/benchmarks/autoattack.py --epsilon_255=8 \
    --network=docs/results/cifar10_wrn_22_2.safetensors
"""

import logging
import re
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
from rnascl_jax.interop import torch_import
from rnascl_jax.models import networks, student
from rnascl_jax.runtime import host_memory
from rnascl_jax.search import spaces
from tests import attack_networks as nets

_NETWORK = flags.DEFINE_string(
  'network',
  'student',
  "'student': RNAS-CL-S3 in its widest form; 'convolutions': six dense ones; "
  'or the file of an exported teacher.',
)
_IMAGES = flags.DEFINE_integer('images', 64, 'Images of 32 x 32.')
_BATCH = flags.DEFINE_integer('batch', 64, 'Images at once.')
_EPSILON = flags.DEFINE_float('epsilon_255', 0.5, 'Radius in 1/255.')
_QUERIES = flags.DEFINE_integer('queries', 5000, "Square's budget.")
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

    tensors = jax.tree.map(lambda x: torch.tensor(x, device=device), weights)
    return lambda x: nets.torch_student(space, tensors, x)

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

    moved = [torch.tensor(k).permute(3, 2, 0, 1).to(device) for k in kernels]
    last = torch.tensor(head, device=device)

    def run(x):
      for kernel, stride in zip(moved, strides, strict=True):
        x = torch.nn.functional.conv2d(x, kernel, stride=stride, padding=1)
        x = torch.relu(x)
      return x.mean((2, 3)) @ last

    return run

  return apply, (kernels, head), make


def _teacher(path: str):
  """The same of an exported teacher."""
  from rnascl_jax.interop import student as exported
  from tests import torch_teachers

  state, metadata = exported.read(path)
  spec = metadata['network']
  net, variables, _ = torch_import.read(path, spec)
  shape = {k: v for k, v in spec.items() if k not in ('name', 'bfloat16')}

  def make(device):
    import torch

    module = torch_teachers.make(spec['name'], net.num_classes, **shape)
    module.load_state_dict(state, strict=True)
    module = module.to(device)
    mean, std = (
      torch.tensor(metadata[k], device=device).view(3, 1, 1)
      for k in ('mean', 'std')
    )
    return lambda x: module((x - mean) / std)

  return lambda w, x: networks.apply(net, w, x)[0], variables, make


_RANDOM = {'student': _student, 'convolutions': _convolutions}


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
  """Seconds with and without compilation, and the result."""
  members = (
    *ensembles.standard()[:3],
    ensembles.square(num_steps=_QUERIES.value),
  )
  seconds = []
  for _ in range(2):
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
    seconds.append(time.perf_counter() - begin)
  return seconds, result


def _theirs(model, images, labels):
  """Seconds of the official code for each member, and its accuracy."""
  import torch
  from pyautoattack import AutoAttack

  class Module(torch.nn.Module):
    def forward(self, x):
      return model(x)

  device = _DEVICE.value
  x, y = nets.to_torch(images, np.float32), torch.tensor(labels).long()
  attack = AutoAttack(Module(), eps=_EPSILON.value / 255, seed=0, device=device)
  attack.square.n_queries = _QUERIES.value
  clock = []

  class Clock(logging.Handler):
    def emit(self, record):
      if re.match('robust accuracy after', record.getMessage()):
        clock.append(time.perf_counter())

  logger = logging.getLogger('auto-attack')
  logger.addHandler(Clock())
  logger.setLevel(logging.DEBUG)
  logger.propagate = False
  begin = time.perf_counter()
  found, _ = attack.run_standard_evaluation(x, y, batch_size=_BATCH.value)
  total = time.perf_counter() - begin
  with torch.no_grad():
    logits = model(found.to(device)).cpu()
  return total, np.diff([begin, *clock]), (logits.argmax(1) == y).float().mean()


def _pgd(logits_fn, images, labels):
  """Seconds of PGD-20."""
  attack = attacks.PRESETS['pgd20_madry']
  seconds = []
  for _ in range(3):
    begin = time.perf_counter()
    attacks.perturb(
      attack,
      logits_fn,
      images,
      labels,
      epsilon=_EPSILON.value / 255,
      batch_size=_BATCH.value,
    )
    seconds.append(time.perf_counter() - begin)
  return seconds[0], min(seconds[1:])


def _torch_pgd(model, images, labels):
  """Seconds of a plain loop of 20 steps in PyTorch."""
  import torch

  device, epsilon = _DEVICE.value, _EPSILON.value / 255
  x = nets.to_torch(images, np.float32).to(device)
  y = torch.tensor(labels).long().to(device)
  seconds = []
  for _ in range(2):
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
    seconds.append(time.perf_counter() - begin)
  return min(seconds)


def main(argv: Sequence[str]) -> None:
  """Prints the tables."""
  del argv
  host_memory.keep()
  warnings.simplefilter('ignore')
  if _NETWORK.value in _RANDOM:
    apply, weights, torch_model = _RANDOM[_NETWORK.value]()
  else:
    apply, weights, torch_model = _teacher(_NETWORK.value)
  logits_fn = jax.tree_util.Partial(apply, weights)
  images, labels = _data(logits_fn)
  kind = jax.devices()[0].device_kind
  print(
    f'{_NETWORK.value}, {_IMAGES.value} images, batches of {_BATCH.value}, '
    f'{kind}, JAX {jax.__version__}'
  )
  forward, backward = _seconds_of_passes(logits_fn, images, labels)
  print(
    f'one image, forward {1e6 * forward:.0f} us, backward '
    f'{1e6 * backward:.0f} us'
  )
  (cold, warm), result = _ours(logits_fn, images, labels)
  print(result)
  print('member      passes F/B         seconds    ideal  ideal/seconds')
  ideals = 0.0
  for member in result.members:
    ideal = member.passes.forward * forward + member.passes.backward * backward
    ideals += ideal
    print(
      f'{member.label:9} {member.passes.forward:9} {member.passes.backward:8} '
      f'{member.seconds:9.2f} {ideal:9.2f} {ideal / member.seconds:8.2f}'
    )
  print(
    f'ours: {warm:.2f} s, {cold - warm:.2f} s more with compilation; '
    f'ideal {ideals:.2f} s, {ideals / warm:.2f} of it'
  )
  pgd_cold, pgd = _pgd(logits_fn, images, labels)
  print(f'PGD-20, ours: {pgd:.3f} s, {pgd_cold - pgd:.2f} s more compiling')
  if not _TORCH.value:
    return
  model = torch_model(_DEVICE.value)
  torch_pgd = _torch_pgd(model, images, labels)
  print(f'PGD-20, PyTorch: {torch_pgd:.3f} s, {torch_pgd / pgd:.2f} times ours')
  total, parts, accuracy = _theirs(model, images, labels)
  print(
    f'official: {total:.2f} s ({", ".join(f"{s:.1f}" for s in parts)}), '
    f'accuracy {100 * accuracy:.2f}%: {total / warm:.2f} times ours'
  )


if __name__ == '__main__':
  app.run(main)
