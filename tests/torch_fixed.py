"""Fixed networks in PyTorch: made, randomised, run, and their state as Flax's.

Importing this module does not need PyTorch; calling it skips the test where
PyTorch is missing.

Example:
  net = torch_fixed.make('resnet18', 10, stage_sizes=(1, 1, 1, 1))
  torch_fixed.randomise(net, seed=0)
  logits, gradient, taps = torch_fixed.run(
    net, images, mean, std, ('conv1', 'layer1_0/conv1')
  )
"""

import copy
import functools
import re

import pytest
from flax import traverse_util


def _torch():
  return pytest.importorskip('torch')


def make(name, num_classes, *, device='cpu', **fields):
  """The network of a name of `fixed.NETWORKS`, in evaluation mode.

  Fields are those of the Flax network as far as they shape it, and `image_size`
  of a ViT (32 unless given). What decides a Flax `ResNet`'s `block` is `kind`,
  'basic', 'bottleneck' or 'wide'. The device 'meta' has shapes, but no arrays.
  """
  torch = _torch()
  from tests import torch_networks

  network, fixed = torch_networks.NETWORKS[name]
  with torch.device(device):
    return network(num_classes, **{**fixed, **fields}).eval()


def randomise(module, seed):
  """Draws all parameters and statistics such that each of them matters."""
  torch = _torch()
  generator = torch.Generator().manual_seed(seed)
  draw = {'generator': generator}
  with torch.no_grad():
    for name, value in module.state_dict().items():
      leaf = name.rsplit('.', 1)[-1]
      if leaf == 'num_batches_tracked':
        continue
      if leaf == 'running_var' or (leaf == 'weight' and value.ndim == 1):
        value.uniform_(0.5, 1.5, **draw)
      elif leaf == 'weight':
        fan_in = value[0].numel()
        value.normal_(0.0, fan_in**-0.5, **draw)
      else:
        value.normal_(0.0, 0.3, **draw)
  return module


def module_name(path):
  """PyTorch's name of the module at a path within Flax variables."""
  dotted = re.sub(r'(?<!_)_(?=layer|\d)', '.', path).replace('/', '.')
  return dotted.replace('__', '_')


def tapped_module(module, path):
  name = module_name(path)
  if getattr(module, 'post_activation', False):
    name = re.sub(r'conv(\d)$', r'bn\1', name)
    # VGG's BatchNorms stand behind their convolutions in one sequence.
    name = re.sub(
      r'(?<=features\.)\d+$', lambda number: str(int(number[0]) + 1), name
    )
  return module.get_submodule(name)


def _grid(maps, height, width):
  """[B, H, W, C] of maps [B, C, H, W], or of tokens with a class token."""
  if maps.ndim == 4:
    return maps.permute(0, 2, 3, 1)
  patches = maps[:, 1:]
  scale = (height * width / patches.shape[1]) ** 0.5
  shape = (round(height / scale), round(width / scale), maps.shape[-1])
  return patches.reshape(len(maps), *shape)


def _forward(module, pixels, tap_names):
  """Logits of [B, C, H, W], and taps with the channels last."""
  taps = {}

  def record(name, module, args, out):
    taps[name] = out.detach()

  handles = [
    tapped_module(module, name).register_forward_hook(
      functools.partial(record, name)
    )
    for name in tap_names
  ]
  logits = module(pixels)
  for handle in handles:
    handle.remove()
  assert tuple(taps) == tuple(tap_names), 'PyTorch has another order of layers'
  return logits, [_grid(tap, *pixels.shape[2:]) for tap in taps.values()]


def run(module, images, mean, std, tap_names):
  """One pass forward and one back.

  Args:
    module: the network.
    images: [B, H, W, C] float32 of NumPy.
    mean: C numbers, or one for all channels.
    std: the same.
    tap_names: paths within Flax variables of the layers to tap.

  Returns:
    Logits, the gradient of the sum of their logsumexp with respect to the
    images, and the taps, all of NumPy with the channels last.
  """
  torch = _torch()
  pixels = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
  logits, taps = _forward(module, _normalized(pixels, mean, std), tap_names)
  # By the images alone: on AVX2 oneDNN writes outside of its memory in the
  # gradient by the weights of some 1x1 convolutions (PyTorch 2.13).
  (gradient,) = torch.autograd.grad(torch.logsumexp(logits, -1).sum(), pixels)
  gradient = gradient.permute(0, 2, 3, 1).numpy()
  return logits.detach().numpy(), gradient, [tap.numpy() for tap in taps]


def _normalized(pixels, mean, std):
  mean, std = (
    pixels.new_tensor(numbers).reshape(1, -1, 1, 1) for numbers in (mean, std)
  )
  return (pixels - mean) / std


def parameter_gradients(module, images, mean, std):
  """Gradients of the sum of the logits' logsumexp by all parameters.

  Args:
    module: the network, in either mode; it is left as it is.
    images: [B, H, W, C] float32 of NumPy.
    mean: C numbers, or one for all channels.
    std: the same.

  Returns:
    Arrays of float64 with the names and axes of Flax's `params`.
  """
  torch = _torch()
  # In float64, which oneDNN does not compute: see `run`.
  module = copy.deepcopy(module).double()
  pixels = torch.tensor(images.transpose(0, 3, 1, 2)).double()
  logits = module(_normalized(pixels, mean, std))
  torch.logsumexp(logits, -1).sum().backward()
  with torch.no_grad():
    for parameter in module.parameters():
      parameter.copy_(parameter.grad)
  return flax_variables(module)['params']


def average_biased_variances(module):
  """Makes running variances like Flax's.

  PyTorch's running variance averages the batches' unbiased variances, Flax's
  the biased ones; the hooks take the difference off.
  """
  torch = _torch()

  def correct(module, args, out):
    if module.training:
      x = args[0].detach()
      unbiased, biased = (x.var((0, 2, 3), correction=c) for c in (1, 0))
      module.running_var = module.running_var - 0.1 * (unbiased - biased)

  for layer in module.modules():
    if isinstance(layer, torch.nn.BatchNorm2d):
      layer.register_forward_hook(correct)
  return module


def flax_variables(module):
  """A state dict as Flax variables: the renaming that the names promise."""
  leaves = {
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
  }
  flat = {}
  for key, value in module.state_dict().items():
    # An index joins the name before it; a block's layers are one level below.
    key = re.sub(r'_(?=\d)', '__', key)
    *path, leaf = re.sub(r'\.(layer|\d+)(?=\.)', r'_\1', key).split('.')
    if leaf == 'num_batches_tracked':
      continue
    value = value.numpy().copy()
    if leaf == 'weight':
      leaf = 'scale' if value.ndim == 1 else 'kernel'
      axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[value.ndim]
      value = value.transpose(axes)
    collection, leaf = leaves.get(leaf, ('params', leaf))
    flat[(collection, *path, leaf)] = value
  return traverse_util.unflatten_dict(flat)


def shapes(name, num_classes, side, tap_names, **fields):
  """Parameters and shapes of taps of one image, without computing them."""
  module = make(name, num_classes, device='meta', **fields)
  image = _torch().zeros((1, 3, side, side), device='meta')
  _, taps = _forward(module, image, tap_names)
  num_parameters = sum(p.numel() for p in module.parameters())
  return num_parameters, [tuple(tap.shape) for tap in taps]
