"""PyTorch definitions of fixed networks, written from their descriptions.

Modules have the names of the published code: RobustBench and MadryLab for
CIFAR's residual networks, TRADES for wide ones, torchvision for ImageNet's,
timm for Vision Transformers, ARD's authors for MobileNetV2, Huang et al. for
VGG and DenseNet, DARTS and RobNets for cells. `tests.torch_fixed` makes and
runs them.

All but the last five were compared once with timm 1.0.31, torchvision 0.29.2
and RobustBench 1.1.1: every state dict had the same keys, in the same order,
and with random arrays in it the logits agreed to 1e-6 of the largest.
"""

import torch
from torch import nn
from torch.nn import functional as F

from rnascl_jax.models.fixed import genotypes, robnet

CHANNELS = 3


def _conv(c_in, c_out, size, stride=1):
  return nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)


def _stages(make_block, c_in, sizes, widths, strides):
  """nn.Sequential of blocks for each stage; the last width."""
  stages = []
  for size, width, first_stride in zip(sizes, widths, strides, strict=True):
    stage = []
    for index in range(size):
      stage.append(make_block(c_in, width, first_stride if index == 0 else 1))
      c_in = stage[-1].c_out
    stages.append(nn.Sequential(*stage))
  return stages, c_in


class PreActBlock(nn.Module):
  """Of PreAct-ResNets and, with the name `convShortcut`, of wide ones."""

  def __init__(self, c_in, c_out, stride, *, activated, wide=False):
    super().__init__()
    self.c_out, self.activated, self.wide = c_out, activated, wide
    self.bn1, self.conv1 = nn.BatchNorm2d(c_in), _conv(c_in, c_out, 3, stride)
    self.bn2, self.conv2 = nn.BatchNorm2d(c_out), _conv(c_out, c_out, 3)
    self.projects = stride != 1 or c_in != c_out
    if self.projects and wide:
      self.convShortcut = _conv(c_in, c_out, 1, stride)
    elif self.projects:
      self.shortcut = nn.Sequential(_conv(c_in, c_out, 1, stride))

  def forward(self, x):
    active = torch.relu(self.bn1(x))
    skip = x
    if self.projects:
      project = self.convShortcut if self.wide else self.shortcut
      skip = project(active if self.activated else x)
    return skip + self.conv2(torch.relu(self.bn2(self.conv1(active))))


class WideResNet(nn.Module):
  def __init__(self, num_classes, depth, width):
    super().__init__()
    self.conv1 = _conv(CHANNELS, 16, 3)

    def block(c_in, c_out, stride):
      return PreActBlock(c_in, c_out, stride, activated=True, wide=True)

    widths = [16 * width, 32 * width, 64 * width]
    stages, c_out = _stages(
      block, 16, [(depth - 4) // 6] * 3, widths, (1, 2, 2)
    )
    for number, stage in enumerate(stages, start=1):
      setattr(self, f'block{number}', nn.ModuleDict({'layer': stage}))
    self.bn1, self.fc = nn.BatchNorm2d(c_out), nn.Linear(c_out, num_classes)

  def forward(self, x):
    x = self.conv1(x)
    for stage in (self.block1, self.block2, self.block3):
      x = stage['layer'](x)
    return self.fc(torch.relu(self.bn1(x)).mean((2, 3)))


class PreActResNet(nn.Module):
  def __init__(
    self,
    num_classes,
    stage_sizes=(2, 2, 2, 2),
    features=(64, 128, 256, 512),
    strides=(1, 2, 2, 2),
    shortcut_activated=False,
    final_norm=False,
  ):
    super().__init__()
    self.conv1 = _conv(CHANNELS, features[0], 3)

    def block(c_in, c_out, stride):
      return PreActBlock(c_in, c_out, stride, activated=shortcut_activated)

    stages, c_out = _stages(block, features[0], stage_sizes, features, strides)
    for number, stage in enumerate(stages, start=1):
      setattr(self, f'layer{number}', stage)
    self.num_stages = len(stages)
    if final_norm:
      self.bn = nn.BatchNorm2d(c_out)
    self.linear = nn.Linear(c_out, num_classes)

  def forward(self, x):
    x = self.conv1(x)
    for number in range(1, self.num_stages + 1):
      x = getattr(self, f'layer{number}')(x)
    if hasattr(self, 'bn'):
      x = torch.relu(self.bn(x))
    return self.linear(x.mean((2, 3)))


class PostActBlock(nn.Module):
  def __init__(self, c_in, c, stride, *, kind, torchvision):
    super().__init__()
    sizes = {
      'basic': [(c_in, c, 3, stride), (c, c, 3)],
      'bottleneck': [(c_in, c, 1), (c, c, 3, stride), (c, 4 * c, 1)],
      'wide': [(c_in, 2 * c, 1), (2 * c, 2 * c, 3, stride), (2 * c, 4 * c, 1)],
    }[kind]
    self.depth, self.c_out = len(sizes), sizes[-1][1]
    for i, size in enumerate(sizes, start=1):
      setattr(self, f'conv{i}', _conv(*size))
      setattr(self, f'bn{i}', nn.BatchNorm2d(size[1]))
    self.name = 'downsample' if torchvision else 'shortcut'
    shortcut = nn.Sequential()
    if stride != 1 or c_in != self.c_out:
      shortcut = nn.Sequential(
        _conv(c_in, self.c_out, 1, stride), nn.BatchNorm2d(self.c_out)
      )
    setattr(self, self.name, shortcut)

  def forward(self, x):
    y = x
    for i in range(1, self.depth + 1):
      y = getattr(self, f'bn{i}')(getattr(self, f'conv{i}')(y))
      y = torch.relu(y) if i < self.depth else y
    return torch.relu(y + getattr(self, self.name)(x))


class ResNet(nn.Module):
  post_activation = True

  def __init__(
    self,
    num_classes,
    kind='basic',
    stage_sizes=(2, 2, 2, 2),
    features=(64, 128, 256, 512),
    strides=(1, 2, 2, 2),
    torchvision=False,
  ):
    super().__init__()
    c_in = features[0]
    self.conv1 = _conv(CHANNELS, c_in, *((7, 2) if torchvision else (3,)))
    self.bn1, self.pools = nn.BatchNorm2d(c_in), torchvision

    def block(c_in, c, stride):
      return PostActBlock(c_in, c, stride, kind=kind, torchvision=torchvision)

    stages, c_out = _stages(block, c_in, stage_sizes, features, strides)
    for number, stage in enumerate(stages, start=1):
      setattr(self, f'layer{number}', stage)
    self.num_stages = len(stages)
    self.head = 'fc' if torchvision else 'linear'
    setattr(self, self.head, nn.Linear(c_out, num_classes))

  def forward(self, x):
    x = torch.relu(self.bn1(self.conv1(x)))
    if self.pools:
      x = F.max_pool2d(x, 3, stride=2, padding=1)
    for number in range(1, self.num_stages + 1):
      x = getattr(self, f'layer{number}')(x)
    return getattr(self, self.head)(x.mean((2, 3)))


class Attention(nn.Module):
  def __init__(self, width, heads, scale, bias):
    super().__init__()
    self.heads, self.scale = heads, scale
    self.qkv = nn.Linear(width, 3 * width, bias=bias)
    self.proj = nn.Linear(width, width)

  def forward(self, x):
    b, n, d = x.shape
    qkv = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # Each [B, heads, N, d].
    mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
    return self.proj(mixed.transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
  def __init__(self, width, hidden):
    super().__init__()
    self.fc1, self.act = nn.Linear(width, hidden), nn.GELU()
    self.fc2 = nn.Linear(hidden, width)

  def forward(self, x):
    return self.fc2(self.act(self.fc1(x)))


class TransformerBlock(nn.Module):
  def __init__(self, width, heads, scale, bias, hidden, epsilon):
    super().__init__()
    self.norm1 = nn.LayerNorm(width, eps=epsilon)
    self.attn = Attention(width, heads, scale, bias)
    self.norm2 = nn.LayerNorm(width, eps=epsilon)
    self.mlp = Mlp(width, hidden)

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
  def __init__(
    self,
    num_classes,
    patch_size,
    width,
    depth,
    heads,
    mlp_ratio=4.0,
    qkv_bias=True,
    attention_scale=None,
    norm_epsilon=1e-6,
    image_size=32,
  ):
    super().__init__()
    patches = (image_size // patch_size) ** 2
    proj = nn.Conv2d(CHANNELS, width, patch_size, patch_size)
    self.patch_embed = nn.ModuleDict({'proj': proj})
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
    shape = (
      heads,
      attention_scale or (width // heads) ** -0.5,
      qkv_bias,
      int(width * mlp_ratio),
      norm_epsilon,
    )
    self.blocks = nn.Sequential(
      *(TransformerBlock(width, *shape) for _ in range(depth))
    )
    self.norm = nn.LayerNorm(width, eps=norm_epsilon)
    self.head = nn.Linear(width, num_classes)

  def forward(self, x):
    x = self.patch_embed['proj'](x).flatten(2).transpose(1, 2)
    x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
    x = self.blocks(x + self.pos_embed)
    return self.head(self.norm(x)[:, 0])


class InvertedResidual(nn.Module):
  def __init__(self, c_in, c_out, expansion, stride):
    super().__init__()
    c = expansion * c_in
    self.conv1, self.bn1 = _conv(c_in, c, 1), nn.BatchNorm2d(c)
    self.conv2 = nn.Conv2d(c, c, 3, stride, 1, groups=c, bias=False)
    self.bn2 = nn.BatchNorm2d(c)
    self.conv3, self.bn3 = _conv(c, c_out, 1), nn.BatchNorm2d(c_out)
    self.stride, self.shortcut = stride, nn.Sequential()
    if stride == 1 and c_in != c_out:
      self.shortcut = nn.Sequential(
        _conv(c_in, c_out, 1), nn.BatchNorm2d(c_out)
      )

  def forward(self, x):
    y = torch.relu(self.bn1(self.conv1(x)))
    y = torch.relu(self.bn2(self.conv2(y)))
    y = self.bn3(self.conv3(y))
    return y + self.shortcut(x) if self.stride == 1 else y


class MobileNetV2(nn.Module):
  post_activation = True

  def __init__(
    self,
    num_classes,
    features=(16, 24, 32, 64, 96, 160, 320),
    stage_sizes=(1, 2, 3, 4, 3, 3, 1),
    strides=(1, 1, 2, 2, 1, 2, 1),
  ):
    super().__init__()
    c_in = 2 * features[0]
    self.conv1, self.bn1 = _conv(CHANNELS, c_in, 3), nn.BatchNorm2d(c_in)
    layers, plan = [], zip(features, stage_sizes, strides, strict=True)
    for stage, (c, size, first_stride) in enumerate(plan):
      for index in range(size):
        stride, expansion = 1 if index else first_stride, 6 if stage else 1
        layers.append(InvertedResidual(c_in, c, expansion, stride))
        c_in = c
    self.layers, c_out = nn.Sequential(*layers), 4 * c_in
    self.conv2, self.bn2 = _conv(c_in, c_out, 1), nn.BatchNorm2d(c_out)
    self.linear = nn.Linear(c_out, num_classes)

  def forward(self, x):
    x = self.layers(torch.relu(self.bn1(self.conv1(x))))
    x = torch.relu(self.bn2(self.conv2(x)))
    return self.linear(x.mean((2, 3)))


class VGG(nn.Module):
  post_activation = True

  def __init__(
    self,
    num_classes,
    features=(64, 128, 256, 512, 512),
    stage_sizes=(1, 1, 2, 2, 2),
  ):
    super().__init__()
    layers, c_in = [], CHANNELS
    for c, size in zip(features, stage_sizes, strict=True):
      for _ in range(size):
        layers += [nn.Conv2d(c_in, c, 3, padding=1), nn.BatchNorm2d(c)]
        layers.append(nn.ReLU())
        c_in = c
      layers.append(nn.MaxPool2d(2))
    self.features = nn.Sequential(*layers)
    self.classifier = nn.Linear(c_in, num_classes)

  def forward(self, x):
    return self.classifier(self.features(x).mean((2, 3)))


class DenseLayer(nn.Module):
  def __init__(self, c_in, growth):
    super().__init__()
    self.bn1, self.conv1 = nn.BatchNorm2d(c_in), _conv(c_in, 4 * growth, 1)
    self.bn2 = nn.BatchNorm2d(4 * growth)
    self.conv2 = _conv(4 * growth, growth, 3)

  def forward(self, x):
    y = self.conv1(torch.relu(self.bn1(x)))
    return torch.cat([self.conv2(torch.relu(self.bn2(y))), x], 1)


class Transition(nn.Module):
  def __init__(self, c_in, c_out):
    super().__init__()
    self.bn, self.conv = nn.BatchNorm2d(c_in), _conv(c_in, c_out, 1)

  def forward(self, x):
    return F.avg_pool2d(self.conv(torch.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
  def __init__(
    self,
    num_classes,
    features=(64, 128, 256, 512),
    stage_sizes=(6, 12, 24, 16),
    width=32,
  ):
    super().__init__()
    self.conv1, stages = _conv(CHANNELS, features[0], 3), []
    for stage, (c, size) in enumerate(zip(features, stage_sizes, strict=True)):
      layers = [DenseLayer(c + i * width, width) for i in range(size)]
      c_out = c + size * width
      parts = [nn.Sequential(*layers)]
      if stage < len(features) - 1:
        parts.append(Transition(c_out, features[stage + 1]))
      stages.append(nn.Sequential(*parts))
    self.stages, self.bn = nn.Sequential(*stages), nn.BatchNorm2d(c_out)
    self.linear = nn.Linear(c_out, num_classes)

  def forward(self, x):
    x = torch.relu(self.bn(self.stages(self.conv1(x))))
    return self.linear(x.mean((2, 3)))


class _Operations(nn.Module):
  """What DARTS's code calls `op`: its layers in one sequence."""

  def __init__(self, *layers):
    super().__init__()
    self.op = nn.Sequential(*layers)

  def forward(self, x):
    return self.op(x)


def _relu_conv_norm(c_in, c, affine=True):
  norm = nn.BatchNorm2d(c, affine=affine)
  return _Operations(nn.ReLU(), _conv(c_in, c, 1), norm)


def _separated(c, size, stride, dilation=1, affine=True):
  pad = dilation * (size // 2)
  depthwise = nn.Conv2d(
    c, c, size, stride, pad, dilation=dilation, groups=c, bias=False
  )
  norm = nn.BatchNorm2d(c, affine=affine)
  return [nn.ReLU(), depthwise, _conv(c, c, 1), norm]


class FactorizedReduction(nn.Module):
  def __init__(self, c_in, c, affine=True):
    super().__init__()
    self.conv_1 = nn.Conv2d(c_in, c // 2, 1, 2, bias=False)
    self.conv_2 = nn.Conv2d(c_in, c // 2, 1, 2, bias=False)
    self.bn = nn.BatchNorm2d(c, affine=affine)

  def forward(self, x):
    x = torch.relu(x)
    return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


class Zero(nn.Module):
  def __init__(self, stride):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return 0 * x[:, :, :: self.stride, :: self.stride]


def _cell_operation(name, c, stride):
  if name == 'none':
    return Zero(stride)
  if name == 'skip_connect':
    return nn.Identity() if stride == 1 else FactorizedReduction(c, c)
  if name == 'max_pool_3x3':
    return nn.MaxPool2d(3, stride, 1)
  if name == 'avg_pool_3x3':
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
  if name == 'conv_7x1_1x7':
    return nn.Sequential(
      nn.ReLU(),
      nn.Conv2d(c, c, (1, 7), (1, stride), (0, 3), bias=False),
      nn.Conv2d(c, c, (7, 1), (stride, 1), (3, 0), bias=False),
      nn.BatchNorm2d(c),
    )
  size = int(name[-1])
  if name.startswith('dil'):
    return _Operations(*_separated(c, size, stride, dilation=2))
  return _Operations(*_separated(c, size, stride), *_separated(c, size, 1))


class Cell(nn.Module):
  def __init__(self, edges, concat, before, c_in, c, reduces, after_reduction):
    super().__init__()
    enter = FactorizedReduction if after_reduction else _relu_conv_norm
    self.preprocess0 = enter(before, c)
    self.preprocess1 = _relu_conv_norm(c_in, c)
    self.edges, self.concat = edges, concat
    self._ops = nn.ModuleList(
      _cell_operation(name, c, 2 if reduces and node < 2 else 1)
      for name, node in edges
    )

  def forward(self, before, x):
    nodes = [self.preprocess0(before), self.preprocess1(x)]
    results = zip(self._ops, self.edges, strict=True)
    for (op1, (_, i)), (op2, (_, j)) in zip(results, results, strict=True):
      nodes.append(op1(nodes[i]) + op2(nodes[j]))
    return torch.cat([nodes[node] for node in self.concat], 1)


class ResidualSeparable(nn.Module):
  def __init__(self, c, stride):
    super().__init__()
    self.conv = _separable(c, stride)
    self.res = nn.Identity()
    if stride == 2:
      self.res = FactorizedReduction(c, c, affine=False)

  def forward(self, x):
    return self.conv(x) + self.res(x)


def _separable(c, stride):
  first, second = (_separated(c, 3, s, affine=False) for s in (stride, 1))
  return _Operations(*first, *second)


def _robnet_operation(bits, c, stride):
  if bits == '00':
    return Zero(stride)
  if bits == '01':
    return _separable(c, stride)
  if bits == '11':
    return ResidualSeparable(c, stride)
  return nn.Identity() if stride == 1 else FactorizedReduction(c, c, False)


def _affine(module):
  """All BatchNorms of a module with a scale and a shift."""
  for name, child in module.named_children():
    if isinstance(child, nn.BatchNorm2d):
      setattr(module, name, nn.BatchNorm2d(child.num_features))
    else:
      _affine(child)
  return module


class _Chosen(nn.Module):
  def __init__(self, op):
    super().__init__()
    self.op = op

  def forward(self, x):
    return self.op(x)


class DenseCell(nn.Module):
  def __init__(self, code, before, c_in, c, reduces, after_reduction):
    super().__init__()
    enter = FactorizedReduction if after_reduction else _relu_conv_norm
    self.preprocess0 = enter(before, c, affine=False)
    self.preprocess1 = _relu_conv_norm(c_in, c, affine=False)
    code, self._ops = code.replace(' ', ''), nn.ModuleList()
    for node in (2, 3, 4, 5):
      for entering in range(node):
        place = 2 * len(self._ops)
        stride = 2 if reduces and entering < 2 else 1
        op = _robnet_operation(code[place : place + 2], c, stride)
        self._ops.append(_Chosen(op))

  def forward(self, before, x):
    nodes = [self.preprocess0(before), self.preprocess1(x)]
    ops = iter(self._ops)
    for _ in range(4):
      # All of those before, as they are now.
      nodes.append(sum(next(ops)(x) for x in tuple(nodes)))
    return torch.cat(nodes[2:], 1)


class _Chain(nn.Module):
  """Cells of `_cell(index, reduces, ...)`, which gives a cell, its width."""

  def __init__(self, num_classes, depth=20, features=(36, 72, 144)):
    super().__init__()
    c_in = 3 * features[0]
    self.stem = nn.Sequential(_conv(CHANNELS, c_in, 3), nn.BatchNorm2d(c_in))
    before, after_reduction, self.cells = c_in, False, nn.ModuleList()
    for index in range(depth):
      reduces = index in (depth // 3, 2 * depth // 3)
      c = features[(index >= depth // 3) + (index >= 2 * depth // 3)]
      cell, width = self._cell(
        index, reduces, before, c_in, c, reduces, after_reduction
      )
      self.cells.append(cell)
      before, c_in, after_reduction = c_in, width * c, reduces
    self.classifier = nn.Linear(c_in, num_classes)

  def forward(self, x):
    before = x = self.stem(x)
    for cell in self.cells:
      before, x = x, cell(before, x)
    return self.classifier(x.mean((2, 3)))


class DartsNetwork(_Chain):
  """Takes a genotype of `models.fixed.genotypes`, or its text."""

  def __init__(self, num_classes, genotype='darts_v2', **fields):
    self.genotype = genotypes.by_name(genotype)
    super().__init__(num_classes, **fields)

  def _cell(self, index, reduces, *shape):
    edges, concat = self.genotype[2:] if reduces else self.genotype[:2]
    return Cell(edges, concat, *shape), len(concat)


class RobNet(_Chain):
  def __init__(self, num_classes, codes=robnet.LARGE, affine=False, **fields):
    self.codes, self.affine = codes, affine
    super().__init__(num_classes, **fields)

  def _cell(self, index, reduces, *shape):
    cell = DenseCell(self.codes[index % len(self.codes)], *shape)
    if self.affine:  # All but those of single operations.
      _affine(cell.preprocess0)
      _affine(cell.preprocess1)
      for edge in cell._ops:
        if isinstance(edge.op, ResidualSeparable):
          _affine(edge.op)
    return cell, 4


_DEEP, _EARLY = (
  {'stage_sizes': (3, 4, 6, 3)},
  {
    'mlp_ratio': 3.0,
    'qkv_bias': False,
    'attention_scale': 768**-0.5,
    'norm_epsilon': 1e-5,
  },
)
# The class and its fields, for every name of `fixed.NETWORKS`.
NETWORKS = {
  'resnet18': (ResNet, {}),
  'resnet34': (ResNet, _DEEP),
  'resnet50': (ResNet, {'kind': 'bottleneck', **_DEEP}),
  'wide_resnet34_10': (WideResNet, {'depth': 34, 'width': 10}),
  'wide_resnet': (WideResNet, {}),
  'small_resnet': (
    ResNet,
    {'stage_sizes': (1, 1, 1), 'features': (16, 32, 64), 'strides': (1, 2, 2)},
  ),
  'preact_resnet18': (PreActResNet, {}),
  'imagenet_resnet18': (ResNet, {'torchvision': True}),
  'imagenet_resnet50': (
    ResNet,
    {'kind': 'bottleneck', 'torchvision': True, **_DEEP},
  ),
  'imagenet_wide_resnet50_2': (
    ResNet,
    {'kind': 'wide', 'torchvision': True, **_DEEP},
  ),
  'vit': (ViT, {}),
  'vit_small': (ViT, {'width': 384, 'depth': 12, 'heads': 6}),
  'vit_small_8': (ViT, {'width': 768, 'depth': 8, 'heads': 8, **_EARLY}),
  'vit_base': (ViT, {'width': 768, 'depth': 12, 'heads': 12}),
  'deit_tiny': (ViT, {'width': 192, 'depth': 12, 'heads': 3}),
  'mobilenet_v2': (MobileNetV2, {}),
  'vgg11': (VGG, {}),
  'vgg11_r': (VGG, {'features': (64, 128, 256, 512, 205)}),
  'densenet121': (DenseNet, {}),
  'densenet121_r': (DenseNet, {'features': (64, 128, 256, 205)}),
  'darts': (DartsNetwork, {}),
  'robnet_large': (RobNet, {}),
  'robnet_free': (RobNet, {'codes': robnet.FREE}),
  'msrobnet_1000': (
    RobNet,
    {
      'codes': robnet.MULTI_SHOT,
      'affine': True,
      'depth': 8,
      'features': (51, 102, 204),
    },
  ),
}
