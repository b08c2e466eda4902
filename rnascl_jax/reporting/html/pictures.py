"""Pictures inside a page: arrays as PNG files in data URIs."""

import base64
import io
import pathlib

import matplotlib
import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure
from PIL import Image

from rnascl_jax.reporting import style

# Larger pictures are shrunk to this side, so that pages stay small.
_LARGEST = 96
_DPI = 110


def image(pixels: np.ndarray) -> str:
  """The data URI of an image, [H, W, 1 or 3] in [0, 1] or uint8."""
  if pixels.dtype != np.uint8:
    pixels = (255 * np.clip(pixels.astype(float), 0, 1)).round()
  pixels = pixels.astype(np.uint8)
  picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  picture.thumbnail((_LARGEST, _LARGEST))
  return _png(picture)


def of_file(path: pathlib.Path) -> str:
  """The data URI of a picture that was saved; large ones are shrunk."""
  with Image.open(path) as picture:
    shrunk = picture.convert('RGB')
  shrunk.thumbnail((_LARGEST, _LARGEST))
  return _png(shrunk)


def figure(drawn: Figure) -> str:
  """The data URI of a figure of matplotlib, as small as it can be read."""
  file = io.BytesIO()
  with matplotlib.rc_context(style.SETTINGS):
    drawn.savefig(file, format='png', dpi=_DPI)
  return _uri(file.getvalue())


def attention_map(values: np.ndarray, largest: float) -> str:
  """The data URI of a map [h, w], in colours from 0 (dark) to `largest`."""
  shares = values / largest if largest > 0 else values
  rgb = matplotlib.colormaps['viridis'](shares)[..., :3]
  return _png(Image.fromarray((255 * rgb).round().astype(np.uint8)))


def heat(shares: np.ndarray) -> str:
  """The data URI of shares [rows, columns] in [0, 1], as opacities of blue.

  It can be seen on light and on dark paper.
  """
  rgba = np.empty((*shares.shape, 4))
  rgba[..., :3] = colors.to_rgb(style.BLUE)
  rgba[..., 3] = np.clip(shares, 0, 1)
  return _png(Image.fromarray((255 * rgba).round().astype(np.uint8)))


def _png(picture: Image.Image) -> str:
  file = io.BytesIO()
  picture.save(file, 'png', optimize=True)
  return _uri(file.getvalue())


def _uri(content: bytes) -> str:
  return f'data:image/png;base64,{base64.b64encode(content).decode()}'
