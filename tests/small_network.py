"""A network with BatchNorm, the same in Flax and in PyTorch, to be trained.

A convolution, BatchNorm, ReLU and a linear layer on all of the map, which is
the only tap. Images are [B, H, W, C] here and [B, C, H, W] there.
"""

import flax.linen as nn
import jax
import numpy as np

from rnascl_jax.models import networks

FEATURES = 3


class Network(networks.Network):
  """The network; `axis_name` is what BatchNorm averages over."""

  num_classes: int = 3
  axis_name: str | None = None

  @nn.compact
  def represent(self, images, *, train):
    x = nn.Conv(FEATURES, (3, 3), padding=1, use_bias=False, name='conv')(
      images
    )
    x = nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      axis_name=self.axis_name if train else None,
      name='norm',
    )(x)
    x = nn.relu(x)
    flat = x.reshape(len(x), -1)
    logits = nn.Dense(self.num_classes, name='head')(flat)
    return networks.Outputs(logits, (x,), (x,), flat)


def variables(image_shape, num_classes: int = 3):
  """Random weights and statistics in float64.

  Args:
    image_shape: (H, W, C).
    num_classes: K.
  """
  height, width, channels = image_shape
  rng = np.random.default_rng(0)
  return {
    'params': {
      'conv': {'kernel': rng.normal(size=(3, 3, channels, FEATURES)) * 0.5},
      'norm': {
        'scale': rng.uniform(0.5, 1.5, FEATURES),
        'bias': rng.normal(size=FEATURES) * 0.3,
      },
      'head': {
        'kernel': rng.normal(size=(height * width * FEATURES, num_classes)) / 2,
        'bias': rng.normal(size=num_classes) * 0.3,
      },
    },
    'batch_stats': {
      'norm': {
        'mean': rng.normal(size=FEATURES) * 0.3,
        'var': rng.uniform(0.2, 0.8, FEATURES),
      }
    },
  }


def torch_network(given):
  """The network in PyTorch with given variables, in float64.

  Its BatchNorm has a momentum of 0.1, which is what Flax calls 0.9.
  """
  import torch

  class TorchNetwork(torch.nn.Module):
    def __init__(self):
      super().__init__()
      params, stats = given['params'], given['batch_stats']['norm']
      channels = params['conv']['kernel'].shape[2]
      classes = len(params['head']['bias'])
      self.conv = torch.nn.Conv2d(channels, FEATURES, 3, padding=1, bias=False)
      self.norm = torch.nn.BatchNorm2d(FEATURES)
      inputs = len(params['head']['kernel'])
      self.head = torch.nn.Linear(inputs, classes)
      self.double()
      with torch.no_grad():
        for name, value in _torch_names(params).items():
          self.get_parameter(name).copy_(torch.tensor(value))
        self.norm.running_mean.copy_(torch.tensor(stats['mean']))
        self.norm.running_var.copy_(torch.tensor(stats['var']))

    def forward(self, images):
      x = torch.relu(self.norm(self.conv(images)))
      flat = x.permute(0, 2, 3, 1).flatten(1)
      return self.head(flat), x

  return TorchNetwork()


def _torch_names(params):
  return {
    'conv.weight': np.moveaxis(params['conv']['kernel'], (3, 2), (0, 1)),
    'norm.weight': params['norm']['scale'],
    'norm.bias': params['norm']['bias'],
    'head.weight': params['head']['kernel'].T,
    'head.bias': params['head']['bias'],
  }


def parameters(params):
  """Parameters of Flax, or their gradients, by PyTorch's names and axes."""
  return _torch_names(jax.tree.map(np.asarray, params))


def torch_statistics(network, start, passes: int, size: int):
  """BatchNorm's running statistics as Flax computes them.

  PyTorch adds up variances with n - 1 below, and Flax with n.

  Args:
    network: of `torch_network`, after its passes.
    start: the statistics before them.
    passes: how many in training mode.
    size: n, the images of a batch times the pixels of a map.

  Returns:
    mean and variance.
  """
  old = 0.9**passes * start['norm']['var']
  added = network.norm.running_var.numpy() - old
  return {
    'norm': {
      'mean': network.norm.running_mean.numpy(),
      'var': old + added * (size - 1) / size,
    }
  }
