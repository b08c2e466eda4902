r"""Networks of a fixed architecture, which are teachers or students.

Every one of `NETWORKS` is a `flax.linen.Module` that also returns what its
layers computed:

  `logits, taps = net.apply(variables, images, train=False)`

| argument or result | what it is                                           |
| ------------------ | ---------------------------------------------------- |
| images             | [B, H, W, C], floating point, in [0, 1]              |
| train              | batch statistics (True) or running averages (False)  |
| logits             | [B, K], float32 whatever the compute dtype           |
| taps               | tuple of T activations [B, H, W, C] in forward order |
| tap_names          | T names: each tapped layer's path within `params`    |

The taps of a convolutional network are all convolutions but those of the
shortcuts, the layers that may teach a student layer in eq. (1) of Nath et al.,
RNAS-CL, IJCV 2024; a teacher is used with `train=False` there, under
`lax.stop_gradient`. The tap is the convolution's raw output in a pre-activation
network (`wide_resnet`, `preact_resnet`) and the output of the BatchNorm that
belongs to it, before the addition and the ReLU, in a post-activation one
(`resnet`, `mobilenet_v2`, `vgg`). The taps of a transformer (`vit`) are its
blocks' patch tokens, as a grid; those of networks of `cells` are the outputs of
the stem and of the cells.

All have the keyword fields `num_classes`, `mean` and `std` (input
normalisation is the first layer), `dtype` (of computation; parameters, running
averages and logits are float32) and `axis_name` (the mapped axis over which
BatchNorm is synchronised in training). Transformers need `patch_size` too, and
have no `batch_stats`.

A path within the variables is the path in the well-known PyTorch networks with
`.` written as `_` or `/`: `layer1.0.conv1` is `layer1_0/conv1`. Back it goes by
`re.sub(r'_(?=layer|\d)', '.', path).replace('/', '.')`.

Example:
  >>> import jax
  >>> from rnascl_jax.models import fixed
  >>> net = fixed.NETWORKS['small_resnet'](num_classes=10)
  >>> images = jax.numpy.zeros((2, 8, 8, 1))
  >>> variables = net.init(jax.random.key(0), images, train=False)
  >>> logits, taps = net.apply(variables, images, train=False)
  >>> logits.shape, [tap.shape for tap in taps[-2:]]
  ((2, 10), [(2, 2, 2, 64), (2, 2, 2, 64)])
  >>> net.tap_names[:3]
  ('conv1', 'layer1_0/conv1', 'layer1_0/conv2')
"""

import types
from collections.abc import Callable, Mapping

from rnascl_jax.models.fixed import (
  darts,
  densenet,
  mobilenet_v2,
  preact_resnet,
  resnet,
  robnet,
  vgg,
  vit,
  wide_resnet,
)
from rnascl_jax.models.networks import Network

# What a config's name of a network stands for: a function of the fields.
NETWORKS: Mapping[str, Callable[..., Network]] = types.MappingProxyType(
  {
    'resnet18': resnet.resnet18,
    'resnet34': resnet.resnet34,
    'resnet50': resnet.resnet50,
    'wide_resnet34_10': wide_resnet.wide_resnet34_10,
    'wide_resnet': wide_resnet.WideResNet,
    'small_resnet': resnet.small_resnet,
    'preact_resnet18': preact_resnet.preact_resnet18,
    'imagenet_resnet18': resnet.imagenet_resnet18,
    'imagenet_resnet50': resnet.imagenet_resnet50,
    'imagenet_wide_resnet50_2': resnet.imagenet_wide_resnet50_2,
    'vit': vit.ViT,
    'vit_small': vit.vit_small,
    'vit_small_8': vit.vit_small_8,
    'vit_base': vit.vit_base,
    'deit_tiny': vit.deit_tiny,
    'mobilenet_v2': mobilenet_v2.MobileNetV2,
    'vgg11': vgg.VGG,
    'vgg11_r': vgg.vgg11_r,
    'densenet121': densenet.DenseNet,
    'densenet121_r': densenet.densenet121_r,
    'darts': darts.DartsNetwork,
    'robnet_large': robnet.RobNet,
    'robnet_free': robnet.robnet_free,
    'msrobnet_1000': robnet.MSRobNet,
  }
)
