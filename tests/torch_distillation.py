"""Losses of distillation from their papers, image by image, in PyTorch.

Plain loops over images, pairs and positions, for gradients by autograd. Where a
length is 0 it is a constant: its derivative is not defined, and the losses call
it 0.

Importing this module does not need PyTorch; calling it skips the test where
PyTorch is missing.

Example:
  values, slopes = torch_distillation.run(
    torch_distillation.pkt, (student, teacher), weights
  )
"""

import jax
import numpy as np
import pytest


def _torch():
  return pytest.importorskip('torch')


def run(loss, arguments, weights):
  """Values [B], and the gradients of their weighted sum by all arguments."""
  torch = _torch()
  given = jax.tree.map(
    lambda x: torch.tensor(np.asarray(x, np.float64), requires_grad=True),
    arguments,
  )
  values = loss(*given)
  (values * torch.tensor(weights)).sum().backward()
  slopes = jax.tree.map(
    lambda x: (torch.zeros_like(x) if x.grad is None else x.grad).numpy(), given
  )
  return values.detach().numpy(), slopes


def _unit(row):
  """Of length 1, and zeros of zeros."""
  if not bool((row != 0).any()):
    return row * 0
  return row / (row * row).sum().sqrt()


def _pooled(stage, size):
  """[B, H, W, C] as [B, C, h, w]."""
  pool = _torch().nn.functional.adaptive_avg_pool2d
  return pool(stage.permute(0, 3, 1, 2), size)


def _pairs(student, teacher):
  """Stages from the last to the first, at the smaller size of both."""
  for s, t in zip(reversed(student), reversed(teacher), strict=False):
    size = [min(one, two) for one, two in zip(s.shape, t.shape, strict=True)]
    yield _pooled(s, size[1:3]), _pooled(t, size[1:3])


def attention_transfer(student, teacher):
  """Zagoruyko and Komodakis, squared and averaged over positions."""
  values = 0
  for pair in _pairs(student, teacher):
    maps = [
      [_unit((image**2).mean(0).flatten()) for image in stage] for stage in pair
    ]
    values = values + _torch().stack(
      [((s - t) ** 2).mean() for s, t in zip(*maps, strict=True)]
    )
  return values


def similarity(student, teacher):
  """Tung and Mori, row by row."""
  torch = _torch()

  def similarities(x):
    flat = x.reshape(len(x), -1)
    return [_unit(torch.stack([(a * b).sum() for b in flat])) for a in flat]

  both = zip(similarities(student), similarities(teacher), strict=True)
  return torch.stack([((s - t) ** 2).sum() / len(student) for s, t in both])


def vid(mean, teacher, rho):
  """Ahn et al.: minus the log-likelihood of a Gaussian, but a constant."""
  torch = _torch()
  target = _pooled(teacher, mean.shape[1:3])
  values = []
  for image in range(len(mean)):
    total = 0
    for channel, r in enumerate(rho):
      variance = torch.log(1 + torch.exp(r)) + 1e-5
      misses = mean[image, ..., channel] - target[image, channel]
      total = total + (misses**2 / variance + torch.log(variance)).sum() / 2
    values.append(total / target[0].numel())
  return torch.stack(values)


def _distance(a, b):
  if bool((a == b).all()):
    return ((a - b) * 0).sum()
  return ((a - b) ** 2).sum().sqrt()


def _huber(x):
  return x**2 / 2 if abs(x) <= 1 else abs(x) - 0.5


def rkd_distance(student, teacher):
  """Park et al., distances, anchor by anchor."""
  torch = _torch()

  def potentials(x):
    found = [[_distance(a, b) for b in x] for a in x]
    positive = [d for row in found for d in row if d > 0]
    scale = sum(positive) / len(positive) if positive else 1
    return [[d / scale for d in row] for row in found]

  return torch.stack(
    [
      sum(_huber(s - t) for s, t in zip(*two, strict=True)) / len(student)
      for two in zip(potentials(student), potentials(teacher), strict=True)
    ]
  )


def rkd_angle(student, teacher):
  """Park et al., angles, vertex by vertex."""
  torch = _torch()

  def cosines(x, vertex):
    sides = [_unit(other - x[vertex]) for other in x]
    return [(a * b).sum() for a in sides for b in sides]

  values = []
  for vertex in range(len(student)):
    both = (cosines(student, vertex), cosines(teacher, vertex))
    losses = [_huber(s - t) for s, t in zip(*both, strict=True)]
    values.append(sum(losses) / len(losses))
  return torch.stack(values)


def rkd(student, teacher):
  distances = rkd_distance(student, teacher)
  return 25 * distances + 50 * rkd_angle(student, teacher)


def pkt(student, teacher):
  """Passalis and Tefas with the cosine kernel, row by row."""
  torch = _torch()

  def conditional(x, i):
    kernel = [((_unit(x[i]) * _unit(row)).sum() + 1) / 2 for row in x]
    return [k / sum(kernel) for k in kernel]

  values = []
  for i in range(len(student)):
    both = zip(conditional(student, i), conditional(teacher, i), strict=True)
    terms = [t * torch.log((t + 1e-7) / (s + 1e-7)) for s, t in both]
    values.append(sum(terms) / len(terms))
  return torch.stack(values)


def crd(memories, normalisers, indices, others, *, temperature=0.07):
  """Tian et al., as a function of both embeddings.

  `memories` are the student's and the teacher's, `normalisers` a pair, or None
  for those of a first batch.
  """
  torch = _torch()

  def side(embeddings, memory, normaliser):
    memory = torch.tensor(np.asarray(memory, np.float64))
    images, negatives = len(memory), np.shape(others)[1]
    exponentials = [
      [
        torch.exp((memory[int(j)] * z).sum() / temperature)
        for j in (indices[i], *others[i])
      ]
      for i, z in enumerate(embeddings)
    ]
    if normaliser is None:
      every = [e.detach() for row in exponentials for e in row]
      normaliser = sum(every) / len(every) * images
    noise = negatives / images
    values = []
    for row in exponentials:
      positive, *rest = (e / normaliser for e in row)
      value = -torch.log(positive / (positive + noise + 1e-7))
      for one in rest:
        value = value - torch.log(noise / (one + noise + 1e-7))
      values.append(value)
    return torch.stack(values)

  first, second = normalisers or (None, None)
  return lambda student, teacher: (
    side(student, memories[1], first) + side(teacher, memories[0], second)
  )


def layerwise_kl(student, teacher, weights, *, size):
  """Section 4.10 as we read it: KL of softmax(F / mean F), pair by pair."""
  torch = _torch()

  def log_probabilities(tap):
    found = []
    for image in tap:
      where = (image**2).sum(-1)
      resized = torch.nn.functional.interpolate(
        where[None, None], size, mode='bilinear'
      )
      if size[0] < where.shape[0]:
        resized = torch.nn.functional.adaptive_avg_pool2d(where[None], size)
      flat = resized.flatten()
      relative = flat / flat.mean() if bool((flat != 0).any()) else flat
      found.append(torch.log(torch.exp(relative) / torch.exp(relative).sum()))
    return found

  values = 0
  for i, one in enumerate(student):
    for j, two in enumerate(teacher):
      both = zip(log_probabilities(one), log_probabilities(two), strict=True)
      divergences = [(torch.exp(p) * (p - q)).sum() for p, q in both]
      values = values + weights[i, j] * torch.stack(divergences)
  return values / (len(student) * len(teacher))
