"""The official AutoAttack on a network of `attack_networks`, in float32.

  python -m tests.official_autoattack OUT.npz NETWORK IMAGES QUERIES DRAWS ORDER
    [NORM]

ORDER is `standard` or `reversed`, in which Square comes first. DRAWS is a seed,
or `tables` for the random numbers of `Tables`, which all images share, in
L-infinity only. NORM is `Linf`, `L2` or `L1`, the first if left out. This is
a process of its own because the official code calls `sys.settrace(None)`, which
switches coverage and debuggers off.
"""

import logging
import re
import sys
import warnings
from typing import NamedTuple

import numpy as np

from tests import attack_networks as nets

EPSILON = 8 / 256  # Exact in float32, like the images.
EPSILONS = {'Linf': EPSILON, 'L2': 0.25, 'L1': 1.0}


class Tables(NamedTuple):
  """Random numbers, multiples of 1 / 1024, so that float32 has them exactly.

  Attributes:
    noise: [H, W, C] in [-1, 1], of APGD's start.
    stripes: [W, C], signs of Square's first image.
    positions: [queries, 2] in [0, 1), of the squares.
    signs: [queries, C], their colours.
  """

  noise: np.ndarray
  stripes: np.ndarray
  positions: np.ndarray
  signs: np.ndarray


def tables(queries: int) -> Tables:
  """The same ones always; the first queries are those of a longer table."""
  rng = np.random.default_rng(7)
  noise = rng.integers(-1024, 1025, size=(nets.SIDE, nets.SIDE, 3)) / 1024
  stripes = rng.choice([-1.0, 1.0], size=(nets.SIDE, 3))
  rng = np.random.default_rng(8)
  positions = rng.integers(0, 1024, size=(5000, 2)) / 1024
  signs = np.random.default_rng(9).choice([-1.0, 1.0], size=(5000, 3))
  return Tables(noise, stripes, positions[:queries], signs[:queries])


def data(network, count: int):
  """8-bit images, and labels of which the last two are wrong."""
  images, labels = nets.data(count, network=network)
  return (np.floor(images * 255) / 256).astype(np.float32), labels


def run(
  network: str,
  count: int,
  queries: int,
  draws: str,
  order: str,
  norm: str = 'Linf',
):
  """Images left after each member, and which are left in the end."""
  import torch
  from pyautoattack import AutoAttack

  torch.set_num_threads(1)
  model = getattr(nets, f'torch_{network}')
  images, labels = data(getattr(nets, network), count)
  x, y = nets.to_torch(images, np.float32), torch.tensor(labels).long()
  seed = 0 if draws == 'tables' else int(draws)
  attack = AutoAttack(
    _as_module(model), norm=norm, eps=EPSILONS[norm], seed=seed
  )
  attack.square.n_queries = queries
  if order == 'reversed':
    attack.attacks_to_run = attack.attacks_to_run[::-1]
  if draws == 'tables':
    inject(tables(queries), attack.square)
  messages = []
  handler = logging.Handler()
  handler.emit = lambda record: messages.append(record.getMessage())
  logger = logging.getLogger('auto-attack')
  logger.addHandler(handler)
  logger.setLevel(logging.DEBUG)
  adversarial, _ = attack.run_standard_evaluation(x, y, batch_size=count)
  shares = [
    re.search(r'accuracy after .*: ([\d.]+)%', text) for text in messages
  ]
  left = [round(float(m[1]) * count / 100) for m in shares if m]
  robust = (model(adversarial).argmax(1) == y).numpy()
  return {'left': np.array(left), 'robust': robust}


def _as_module(function):
  import torch

  class Model(torch.nn.Module):
    def forward(self, images):
      return function(images)

  return Model()


def inject(numbers: Tables, square) -> None:
  """Replaces the random numbers of APGD and of Square."""
  import torch

  noise = torch.tensor(np.moveaxis(numbers.noise, -1, 0)).float().contiguous()
  drawn = torch.rand

  def rand(*shape, **options):
    size = tuple(shape[0]) if len(shape) == 1 else shape
    if len(size) == 4:  # 2 rand - 1 is the noise of every image.
      return ((noise + 1) / 2)[None].repeat(size[0], 1, 1, 1)
    return drawn(*shape, **options)

  torch.rand = rand
  query = [0, 0]

  def random_choice(shape):
    if len(shape) == 4:  # Stripes [B, C, 1, W].
      stripes = torch.tensor(numbers.stripes.T).float()
      return stripes[None, :, None].repeat(shape[0], 1, 1, 1)
    return torch.tensor(numbers.signs[query[0] // 2 - 1])[:, None, None].float()

  def random_int(low=0, high=1, shape=(1,)):
    place, axis = divmod(query[0], 2)
    query[0] += 1
    return torch.tensor(
      [int(low + (high - low) * numbers.positions[place, axis])]
    )

  square.random_choice, square.random_int = random_choice, random_int


if __name__ == '__main__':
  out, name, images, queries, *options = sys.argv[1:]
  warnings.simplefilter('ignore')
  np.savez(out, **run(name, int(images), int(queries), *options))
