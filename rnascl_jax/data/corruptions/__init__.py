"""Common corruptions: read from CIFAR-10-C and ImageNet-C, or made.

`corrupt` makes all of ImageNet-C's corruptions but frost and spatter by the
published formulas, with NumPy, SciPy and Pillow. They are not the published
images to the bit, as the random draws are others. `sets` reads those.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.data import corruptions
  >>> images = np.full((2, 32, 32, 3), 100, np.uint8)
  >>> brighter = corruptions.corrupt(images, 'brightness', severity=3)
  >>> brighter.shape, int(brighter.max())
  ((2, 32, 32, 3), 138)

Reference:
  Hendrycks and Dietterich, Benchmarking neural network robustness to common
  corruptions and perturbations, ICLR 2019.
"""

from rnascl_jax.data.corruptions.made import CorruptedImages as CorruptedImages
from rnascl_jax.data.corruptions.made import corrupt as corrupt
from rnascl_jax.data.corruptions.names import COMMON as COMMON
from rnascl_jax.data.corruptions.names import KINDS as KINDS
from rnascl_jax.data.corruptions.names import NAMES as NAMES
from rnascl_jax.data.corruptions.names import SEVERITIES as SEVERITIES
