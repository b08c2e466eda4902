"""Depths and filter choices as RNAS-CL prints them, in Tables 13 and 14.

`spaces` makes search spaces of them. Table 13 (CIFAR-10) leaves stem,
strides and expansion open, and Table 1's columns decide them nearly. M2 stands
in Table 1 only (5.6M parameters, 604M MACs); 1.4 times the widths of M is the
only scaling of M that reaches both numbers.

**Table 14 (ImageNet) underdetermines its networks**: it prints depths and
filter choices, and neither strides, expansion and squeeze-excite nor a head.
`i` is that of the authors' code: a stem of 16 filters with stride 2, a block of
16 filters with expansion 1, which has no convolution that expands, the stages
of Table 14 with strides 2, 2, 2, 1, 2, expansion 6 and 3x3 convolutions, no
squeeze-excite, and a pooled head of 1984 features. `is` and `im` are made by
the same pattern.

That pattern does not reach the 8.5M parameters and 0.35 GMACs of IL in Table 3,
and the code has no space IL. In a count of 1,728 families, which is not part of
this repository, 21 reached both columns of Table 3 and of Table 5 (I: 3.94M to
4.01M, 242M to 255M), all with expansion 6, squeeze-excite of a quarter and a
pooled head. `il` is one of them: as above, with squeeze-excite in every block,
a head of 1280 features, and no block of expansion 1. `is_se`, `im_se` and
`i_se` are made by that pattern. tests/search/test_imagenet_spaces.py has a
network for each printed row, as Table 1 counts: parameters without BatchNorm,
MACs with.

What it makes of Table 14, from all blocks at their narrowest to all at their
widest, at 224x224 pixels, in millions. Parameters leave BatchNorm out, and so
do MACs; the last column counts two for each element of it:

| space | classes | parameters     | MACs            | MACs with BatchNorm |
| ----- | ------- | -------------- | --------------- | ------------------- |
| is    | 100     | 0.900 - 1.748  | 107.54 - 234.06 | 117.35 - 247.74     |
| im    | 100     | 1.366 - 2.917  | 152.35 - 388.85 | 163.50 - 405.06     |
| i     | 100     | 2.397 - 6.132  | 180.03 - 496.09 | 191.70 - 513.36     |
| i     | 1000    | 4.183 - 7.918  | 181.81 - 497.88 | 193.49 - 515.14     |
| il    | 100     | 2.553 - 7.694  | 129.04 - 357.43 | 136.35 - 367.74     |
| il    | 1000    | 3.705 - 8.847  | 130.19 - 358.58 | 137.50 - 368.89     |
| is_se | 100     | 0.771 - 1.740  | 102.39 - 229.03 | 111.40 - 241.91     |
| im_se | 100     | 1.445 - 3.827  | 147.41 - 384.73 | 157.76 - 400.14     |
| i_se  | 100     | 3.024 - 9.491  | 175.63 - 494.42 | 186.50 - 510.88     |
| i_se  | 1000    | 4.177 - 10.644 | 176.78 - 495.57 | 187.66 - 512.03     |

Example:
  >>> from rnascl_jax.search import space_tables
  >>> space_tables.IMAGENET['is'].depths
  (3, 3, 3)
  >>> space_tables.IMAGENET['is'].choices[0]
  (28, 24, 20, 16)
"""

from typing import NamedTuple


class TableRow(NamedTuple):
  """A row of Table 13 or 14.

  Attributes:
    depths: blocks of each stage.
    choices: filter choices of the blocks of each stage.
  """

  depths: tuple[int, ...]
  choices: tuple[tuple[int, ...], ...]


_SMALL = ((16, 12), (32, 28, 24, 20), (64, 60, 56, 52))

CIFAR = {
  's3': TableRow((3, 3, 3), _SMALL),
  's5': TableRow((5, 5, 5), _SMALL),
  's7': TableRow((7, 7, 7), _SMALL),
  'm': TableRow(
    (9, 7, 1), ((80, 76), (160, 156, 152, 148), (128, 124, 120, 116))
  ),
  'm2': TableRow(
    (9, 7, 1), ((112, 108), (224, 220, 216, 212), (180, 176, 172, 168))
  ),
  'l': TableRow(
    (9, 7, 1), ((160, 156), (320, 316, 312, 308), (256, 252, 248, 244))
  ),
}

_STAGES = (
  (28, 24, 20, 16),
  (40, 36, 32, 28),
  (96, 88, 80, 72, 64, 56, 48),
  (128, 120, 108, 100, 92, 84, 76, 68),
  (216, 208, 200, 192, 184, 176, 168, 160, 152, 144, 136, 128, 120, 108),
)

IMAGENET = {
  'is': TableRow((3, 3, 3), _STAGES[:3]),
  'im': TableRow((3, 3, 3, 4), _STAGES[:4]),
  'i': TableRow((3, 3, 3, 4, 4), _STAGES),
  'il': TableRow((1, 2, 2, 4, 3), _STAGES),
}
