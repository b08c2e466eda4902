"""Names of the common corruptions, and the constants of their severities.

`CONSTANTS[name][size]` has one entry for each severity from 1 to 5. The size is
that of the images of a published script of https://github.com/hendrycks/robustness,
ImageNet-C/create_c: 32 of make_cifar_c.py, 64 of make_tinyimagenet_c.py, 224 of
make_imagenet_c.py. What the numbers mean is said by the function of that name
in `noise`, `blur`, `weather` or `digital`.

Reference:
  Hendrycks and Dietterich, Benchmarking neural network robustness to common
  corruptions and perturbations, ICLR 2019, section 3 and appendix B.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rnascl_jax.runtime import spelling

SEVERITIES = (1, 2, 3, 4, 5)
# The kinds of the paper; `extra` is for validation and in no mean of the paper.
KINDS = {
  'noise': ('gaussian_noise', 'shot_noise', 'impulse_noise'),
  'blur': ('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
  'weather': ('snow', 'frost', 'fog', 'brightness'),
  'digital': ('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
  'extra': ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate'),
}
NAMES = tuple(name for names in KINDS.values() for name in names)
COMMON = tuple(name for name in NAMES if name not in KINDS['extra'])
# Words that stand for several of them.
_GROUPS = {**KINDS, 'common': COMMON, 'all': NAMES}

# Elastic transforms are in pixels of these sizes, and scaled to others.
CONSTANTS: dict[str, dict[int, tuple[Any, ...]]] = {
  'gaussian_noise': {
    32: (0.04, 0.06, 0.08, 0.09, 0.10),
    64: (0.04, 0.08, 0.12, 0.15, 0.18),
    224: (0.08, 0.12, 0.18, 0.26, 0.38),
  },
  'shot_noise': {
    32: (500, 250, 100, 75, 50),
    64: (250, 100, 50, 30, 15),
    224: (60, 25, 12, 5, 3),
  },
  'impulse_noise': {
    32: (0.01, 0.02, 0.03, 0.05, 0.07),
    64: (0.01, 0.02, 0.05, 0.08, 0.14),
    224: (0.03, 0.06, 0.09, 0.17, 0.27),
  },
  'speckle_noise': {
    32: (0.06, 0.1, 0.12, 0.16, 0.2),
    64: (0.15, 0.2, 0.25, 0.3, 0.35),
    224: (0.15, 0.2, 0.35, 0.45, 0.6),
  },
  'gaussian_blur': {
    32: (0.4, 0.6, 0.7, 0.8, 1),
    64: (0.5, 0.75, 1, 1.25, 1.5),
    224: (1, 2, 3, 4, 6),
  },
  'glass_blur': {
    32: ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    64: ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    224: ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
  },
  'defocus_blur': {
    32: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    64: ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    224: ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
  },
  'motion_blur': {
    32: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    64: ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    224: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
  },
  'zoom_blur': {
    32: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    64: ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    224: ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
  },
  'snow': {
    32: (
      (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
      (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
      (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
      (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
      (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    64: (
      (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
      (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
      (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
      (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
      (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    224: (
      (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
      (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
      (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
      (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
      (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
  },
  'fog': {
    32: ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    64: ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    224: ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
  },
  'brightness': {
    32: (0.05, 0.1, 0.15, 0.2, 0.3),
    64: (0.1, 0.2, 0.3, 0.4, 0.5),
    224: (0.1, 0.2, 0.3, 0.4, 0.5),
  },
  'contrast': {
    32: (0.75, 0.5, 0.4, 0.3, 0.15),
    64: (0.4, 0.3, 0.2, 0.1, 0.05),
    224: (0.4, 0.3, 0.2, 0.1, 0.05),
  },
  'saturate': {
    32: ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    64: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
    224: ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
  },
  'elastic_transform': {
    32: (
      (32 * 0, 32 * 0, 32 * 0.08),
      (32 * 0.05, 32 * 0.2, 32 * 0.07),
      (32 * 0.08, 32 * 0.06, 32 * 0.06),
      (32 * 0.1, 32 * 0.04, 32 * 0.05),
      (32 * 0.1, 32 * 0.03, 32 * 0.03),
    ),
    64: (
      (64 * 0, 64 * 0, 64 * 0.08),
      (64 * 0.05, 64 * 0.3, 64 * 0.06),
      (64 * 0.1, 64 * 0.08, 64 * 0.06),
      (64 * 0.1, 64 * 0.03, 64 * 0.03),
      (64 * 0.16, 64 * 0.03, 64 * 0.02),
    ),
    # 244 is what the script has.
    224: (
      (244 * 2, 244 * 0.7, 244 * 0.1),
      (244 * 2, 244 * 0.08, 244 * 0.2),
      (244 * 0.05, 244 * 0.01, 244 * 0.02),
      (244 * 0.07, 244 * 0.01, 244 * 0.02),
      (244 * 0.12, 244 * 0.01, 244 * 0.02),
    ),
  },
  'pixelate': {
    32: (0.95, 0.9, 0.85, 0.75, 0.65),
    64: (0.9, 0.8, 0.7, 0.6, 0.5),
    224: (0.6, 0.5, 0.4, 0.3, 0.25),
  },
  'jpeg_compression': {
    32: (80, 65, 58, 50, 40),
    64: (65, 58, 50, 40, 25),
    224: (25, 18, 15, 10, 7),
  },
}


def size_of_constants(height: int, width: int) -> int:
  """The size, 32, 64 or 224, whose constants images of another size have.

  It is the nearest by the ratio of the shorter sides.
  """
  side = min(height, width)
  return min((32, 64, 224), key=lambda size: abs(math.log(side / size)))


def expand(words: Iterable[str], available: Sequence[str]) -> tuple[str, ...]:
  """The corruptions that names and names of groups stand for.

  Args:
    words: corruptions, or noise, blur, weather, digital, extra, common, all.
    available: the corruptions that there are. A group stands for those of its
      corruptions that are among them.

  Returns:
    Corruptions in the order of `NAMES`, each once.

  Raises:
    ValueError: for an unknown word, a corruption that is not available, or a
      group of which none is.
  """
  wanted = set()
  for word in words:
    if word not in NAMES and word not in _GROUPS:
      hint = spelling.did_you_mean(word, (*NAMES, *_GROUPS))
      raise ValueError(
        f'there is no corruption {word!r}.{hint} Known are '
        f'{", ".join(NAMES)}, and the groups {", ".join(_GROUPS)}.'
      )
    those = set(_GROUPS.get(word, (word,))).intersection(available)
    if not those:
      raise ValueError(
        f'the corruption {word!r} is not there: there are '
        f'{", ".join(available)}.'
      )
    wanted |= those
  return tuple(name for name in NAMES if name in wanted)


def check_severities(severities: Iterable[int]) -> tuple[int, ...]:
  """Severities in ascending order, each once.

  Raises:
    ValueError: there is none, or one is outside [1, 5].
  """
  ordered = tuple(sorted(set(severities)))
  wrong = [severity for severity in ordered if severity not in SEVERITIES]
  if wrong or not ordered:
    raise ValueError(
      f'severities={list(ordered)} must be some of 1, 2, 3, 4 and 5, such as '
      '1,3,5.'
    )
  return ordered
