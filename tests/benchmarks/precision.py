"""Compares a device, in each of its precisions, with float32 on the CPU.

  P="python tests/benchmarks/precision.py --reference=FILE.npz"
  JAX_PLATFORMS=cpu PYTHONPATH=. $P  # writes FILE, in minutes on two cores
  PYTHONPATH=. $P  # a GPU

A student in its widest form and a teacher, with random weights in which every
parameter matters, see 64 random images. Each line is a JSON object of relative
errors |x - y| / |y|, where y was computed on the CPU in float32 with the
highest precision of products: of both networks' logits and gradients by images,
of the attention loss, and of the weights' gradient of the TRADES loss. Then the
images that APGD-CE breaks on the device and on the CPU, with one key. FILE has
what the CPU found; without it, it is computed first. The precisions are
`highest`, `default` (TF32 where the device has it) and `bfloat16`, in which the
networks compute.
"""

import contextlib
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import apgd
from rnascl_jax.models import fixed, networks, student
from rnascl_jax.search import spaces

# Breaks some of the images and not all.
_EPSILON = 0.25 / 255

_REFERENCE = flags.DEFINE_string('reference', None, 'File.', required=True)
_TINY = flags.DEFINE_bool('tiny', False, 'A small teacher, few images.')


def _draw(path, leaf):
  """Weights and statistics that all matter."""
  rng = np.random.default_rng(sum(map(ord, jax.tree_util.keystr(path))))
  name = path[-1].key
  if name in ('var', 'scale'):
    return np.float32(rng.uniform(0.5, 1.5, leaf.shape))
  if name in ('mean', 'bias'):
    return np.float32(rng.normal(size=leaf.shape) * 0.1)
  fan_in = np.prod(leaf.shape[:-1]) or 1
  return np.float32(rng.normal(size=leaf.shape) * (2 / fan_in) ** 0.5)


def _networks(dtype):
  space = spaces.widest(spaces.CIFAR_SPACES['s3'])
  name = 'small_resnet' if _TINY.value else 'resnet18'
  make = fixed.NETWORKS[name]
  return student.Student(space, 10, dtype=dtype), make(
    num_classes=10, dtype=dtype
  )


def _variables(net):
  images = jnp.zeros((1, 32, 32, 3))
  shapes = jax.eval_shape(
    lambda: net.init(jax.random.key(0), images, train=False)
  )
  return jax.tree_util.tree_map_with_path(_draw, shapes)


def _outputs(dtype, variables, images, labels, adversarial):
  """What is compared, by name."""
  nets = dict(zip(('student', 'teacher'), _networks(dtype), strict=True))
  found, maps = {}, {}
  for name, net in nets.items():

    def loss(x, net=net, name=name):
      logits, taps = networks.apply(net, variables[name], x)
      return losses.cross_entropy(logits, labels).sum(), (logits, taps)

    gradient, (logits, taps) = jax.grad(loss, has_aux=True)(images)
    found[f'{name} logits'] = logits
    found[f'{name} gradient'] = gradient
    maps[name] = losses.attention_vectors(taps, (8, 8))
  layers = [len(net.tap_names) for net in nets.values()]
  tutors = jnp.full(layers, 1 / layers[1])
  found['attention loss'] = losses.attention_loss(
    maps['student'], maps['teacher'], tutors
  )

  def trades(params):
    values = {**variables['student'], 'params': params}
    both = [
      networks.apply(nets['student'], values, x)[0]
      for x in (images, adversarial)
    ]
    divergence = losses.kl_teacher_student(both[1], both[0])
    return jnp.mean(losses.cross_entropy(both[0], labels) + 6 * divergence)

  slopes = jax.grad(trades)(variables['student']['params'])
  found['TRADES gradient'] = jnp.concatenate(
    [x.ravel() for x in jax.tree.leaves(slopes)]
  )
  return found


def _broken(dtype, variables, images, labels):
  """Which images APGD-CE breaks; the network's own precision decides."""
  net, _ = _networks(dtype)

  def logits_fn(x):
    return networks.apply(net, variables['student'], x)[0]

  adversarial = attacks.perturb(
    apgd.APGD(),
    logits_fn,
    images,
    labels,
    epsilon=_EPSILON,
    checks=False,
  )
  return jax.jit(logits_fn)(adversarial).argmax(-1) != labels


def _error(x, y) -> float:
  x, y = (np.asarray(a, np.float64) for a in (x, y))
  return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def main(argv) -> None:
  """Prints a line of JSON for each precision."""
  del argv
  count = 8 if _TINY.value else 64
  rng = np.random.default_rng(0)
  images = np.float32(rng.uniform(size=(count, 32, 32, 3)))
  adversarial = np.clip(
    images + rng.uniform(-0.03, 0.03, images.shape), 0, 1
  ).astype(np.float32)
  variables = dict(
    zip(('student', 'teacher'), map(_variables, _networks(None)), strict=True)
  )
  net = _networks(None)[0]
  with jax.default_device(jax.devices('cpu')[0]):
    logits = jax.jit(lambda x: networks.apply(net, variables['student'], x)[0])(
      images
    )
  labels = np.asarray(logits.argmax(-1))

  def measure(device, precision):
    dtype = jnp.bfloat16 if precision == 'bfloat16' else None
    context = (
      jax.default_matmul_precision('highest')
      if precision == 'highest'
      else contextlib.nullcontext()
    )
    with jax.default_device(device), context:
      found = jax.jit(functools.partial(_outputs, dtype))(
        variables, images, labels, adversarial
      )
      return jax.tree.map(np.asarray, found), np.asarray(
        _broken(dtype, variables, images, labels)
      )

  path = pathlib.Path(_REFERENCE.value)
  if not path.exists():
    found, broken = measure(jax.devices('cpu')[0], 'highest')
    np.savez_compressed(path, **found, broken=broken)
  with np.load(path) as file:
    wanted = dict(file)
  broken = wanted.pop('broken')
  for precision in ('highest', 'default', 'bfloat16'):
    found, flags_here = measure(jax.devices()[0], precision)
    row = {'precision': precision} | {
      name: float(f'{_error(found[name], y):.2g}') for name, y in wanted.items()
    }
    row['images'] = count
    row['broken on the CPU'] = int(broken.sum())
    row['broken here'] = int(flags_here.sum())
    row['other verdicts'] = int((flags_here != broken).sum())
    print(json.dumps(row), flush=True)


if __name__ == '__main__':
  app.run(main)
