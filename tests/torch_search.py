"""A search step in eager PyTorch, written from eqs. (1) to (3) of the paper.

The masked supernet of FBNetV2, a teacher, the attention maps of all layers, and
the two halves of a step: one moves weights by SGD, the other the architecture
by Adam. For parity tests and to time ours against.
"""

import torch
from torch.nn import functional

from rnascl_jax.interop import student as exported
from rnascl_jax.search import architecture, spaces


class Search:
  """A supernet with its teacher, and one step of a search on them.

  Attributes:
    net: the supernet in its widest form.
    channel_logits: for each block [N].
    tutor_logits: [S, T].
  """

  def __init__(self, space, tables, teacher, tapped, map_size=8):
    """Builds it, with the optimizers of `step`.

    Args:
      space: the search space; shortcuts are padded, and all blocks expand.
      tables: `flops.costs` of it.
      teacher: a module in evaluation mode.
      tapped: its modules whose outputs are compared.
      map_size: the side of the common maps, at most that of the smallest.
    """
    widest = spaces.widest(space)
    widths = tuple(block.widest for block in widest.blocks)
    described = architecture.Architecture(widest, widths, (), (), ())
    self.net = exported.Student(architecture.to_dict(described), num_classes=10)
    self._map_size = map_size
    self._space, self._teacher, self._taps = space, teacher, []
    for module in tapped:
      module.register_forward_hook(
        lambda module, args, output: self._taps.append(output)
      )
    self._tables = [torch.tensor(t, dtype=torch.float32) for t in tables.blocks]
    self._stem, self._head = tables.stem, torch.tensor(tables.head).float()
    self.channel_logits = [
      torch.zeros(len(block.choices), requires_grad=True)
      for block in space.blocks
    ]
    self.tutor_logits = torch.zeros(
      len(self.net.tap_names), len(tapped), requires_grad=True
    )
    self._prefixes = [
      (
        torch.arange(block.widest) < torch.tensor(block.choices)[:, None]
      ).float()
      for block in space.blocks
    ]
    uniform = [logits.detach().softmax(-1) for logits in self.channel_logits]
    self._reference = self._macs(uniform).item()
    self.weights = torch.optim.SGD(self.net.parameters(), 0.1, momentum=0.9)
    self.arch = torch.optim.Adam(
      [*self.channel_logits, self.tutor_logits], 0.01
    )

  def _macs(self, channels):
    """n_f(G), expected over this block's and the previous block's choices."""
    total, entering = self._stem, torch.ones(1)
    for table, weights in zip(self._tables, channels, strict=True):
      total = total + entering @ table @ weights
      entering = weights
    return total + entering @ self._head

  def _draw(self, temperature, noise):
    """Gumbel weights of filters and tutors, one-hot as temperature -> 0."""
    draws = []
    for logits in (*self.channel_logits, self.tutor_logits):
      drawn = torch.zeros_like(logits)
      if noise:
        drawn = -torch.log(-torch.log(torch.rand_like(logits)))
      draws.append(((logits + drawn) / temperature).softmax(-1))
    return draws[:-1], draws[-1]

  def _forward(self, x, channels):
    """Logits, and the taps after their masks."""
    net, swish = self.net, functional.hardswish
    x = swish(net._run('stem', (x - net.mean) / net.std))
    taps, entering = [x], torch.ones(x.shape[1])
    for index, block in enumerate(self._space.blocks):
      part = net.get_submodule(f'block{index}')
      mask = channels[index] @ self._prefixes[index].float()
      inner = entering.repeat_interleave(self._space.expansion_of(block))
      inner, outer = inner[:, None, None], mask[:, None, None]
      expanded = swish(part._run('expand', x))
      filtered = swish(part._run('depthwise', expanded)) * inner
      projected = part._run('project', filtered) * outer
      taps += [expanded * inner, filtered, projected]
      entering = mask
      if block.residual:
        missing = block.widest - x.shape[1]
        projected = (
          projected + functional.pad(x, (0, 0, 0, 0, 0, missing)) * outer
        )
      x = projected
    return net.classifier(x.mean((2, 3))), taps

  def _maps(self, taps):
    """Attention maps [B, L, D] of norm 1."""
    maps = [tap.square().sum(1, keepdim=True) for tap in taps]
    maps = [
      functional.adaptive_avg_pool2d(m, self._map_size).flatten(1) for m in maps
    ]
    return functional.normalize(torch.stack(maps, 1), dim=-1)

  def _loss(self, images, labels, draw):
    """Eq. (2) at a draw: a mean over images, times the relative cost."""
    channels, tutors = draw
    self._taps.clear()
    with torch.no_grad():
      guide = self._teacher(images)
      teacher = self._maps(self._taps)
    logits, taps = self._forward(images, channels)
    student = self._maps(taps)
    squares = 2 - 2 * student @ teacher.transpose(1, 2)
    distances = squares.clamp_min(1e-12).sqrt()  # [B, S, T]
    attention = (tutors * distances).mean((1, 2))
    log_student, log_teacher = logits.log_softmax(-1), guide.log_softmax(-1)
    kl = (log_student.exp() * (log_student - log_teacher)).sum(-1)
    terms = functional.cross_entropy(logits, labels, reduction='none')
    terms = terms + kl + attention
    return terms.mean() * self._macs(channels) / self._reference

  def step(self, weights_half, arch_half, *, temperature=5.0, noise=True):
    """Moves weights on one half of a batch, then the architecture on the other.

    Args:
      weights_half: images [B, 3, H, W] in [0, 1] and labels [B].
      arch_half: the same.
      temperature: of the draw.
      noise: whether the draw is one; else it is the softmax.

    Returns:
      The losses of both.
    """
    self.net.train()
    channels, tutors = self._draw(temperature, noise)
    fixed = [c.detach() for c in channels], tutors.detach()
    first = self._loss(*weights_half, fixed)
    self.weights.zero_grad(set_to_none=True)
    first.backward()
    self.weights.step()
    second = self._loss(*arch_half, (channels, tutors))
    self.arch.zero_grad(set_to_none=True)
    # BatchNorm's averages are of no use before the next step, as ours.
    second.backward(inputs=[*self.channel_logits, self.tutor_logits])
    self.arch.step()
    return first.item(), second.item()
