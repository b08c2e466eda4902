"""Mixtures of two images and of their labels: mixup and CutMix.

  mixup    x = s x_i + (1 - s) x_j
  CutMix   x = x_i, but x_j inside of a random rectangle of (1 - s) of the area

with the label s y_i + (1 - s) y_j, and s drawn from Beta(alpha, alpha). Every
image has a draw of its own. The images of a batch are partners two by two, as
their order is random; so nothing crosses devices.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax.data import mixing
  >>> black, white = jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1))
  >>> key = jax.random.key(0)
  >>> mixed, share = mixing.cutmix(key, black, white, alpha=1.0)
  >>> bool(mixed.mean() == 1 - share)
  True

References:
  Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018.
  Yun et al., CutMix: regularization strategy to train strong classifiers with
  localizable features, ICCV 2019, and their code (clovaai/CutMix-PyTorch).
  Rebuffi et al., Data augmentation can improve robustness, NeurIPS 2021, for
  both in adversarial training.
"""

import dataclasses

import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, Key


@dataclasses.dataclass(frozen=True)
class Mixing:
  """How images are mixed.

  Attributes:
    num_classes: K.
    mixup: alpha of mixup; 0 for none.
    cutmix: alpha of CutMix; 0 for none. With both, an image takes one of them,
      each half of the time.
    probability: with which an image is mixed at all.
  """

  num_classes: int
  mixup: float = 0.0
  cutmix: float = 0.0
  probability: float = 1.0


def mixup(
  key: Key, image: Array, other: Array, *, alpha: float
) -> tuple[Array, Array]:
  """The weighted mean of two images.

  Args:
    key: a typed random key.
    image: [H, W, C], one image.
    other: its partner, of the same shape.
    alpha: of the weight's distribution, positive; Zhang et al. have 1 on
      CIFAR-10, 0.2 on ImageNet.

  Returns:
    [H, W, C], and the image's weight s in it.
  """
  share = _share(key, alpha, image.dtype)
  return share * image + (1 - share) * other, share


def cutmix(
  key: Key, image: Array, other: Array, *, alpha: float
) -> tuple[Array, Array]:
  """An image with a rectangle of another one, which keeps its place.

  The rectangle has the image's ratio of sides and (1 - s) of its area, before
  what is outside of the image is cut off; its centre is anywhere in it.

  Args:
    key: a typed random key.
    image: [H, W, C], one image.
    other: its partner, of the same shape.
    alpha: of the distribution of s, positive; Yun et al. have 1.

  Returns:
    [H, W, C], and the share of its pixels that are the image's own.
  """
  share_key, place_key = jax.random.split(key)
  sides = jnp.array(image.shape[:2])
  root = jnp.sqrt(1 - _share(share_key, alpha, image.dtype))
  half = (sides * root).astype(jnp.int32) // 2
  centre = jax.random.randint(place_key, (2,), 0, sides)
  low, high = jnp.maximum(centre - half, 0), jnp.minimum(centre + half, sides)
  rows, columns = (
    (jnp.arange(side) >= low[axis]) & (jnp.arange(side) < high[axis])
    for axis, side in enumerate(image.shape[:2])
  )
  inside = rows[:, None, None] & columns[None, :, None]
  cut = (high - low).prod() / sides.prod()
  return jnp.where(inside, other, image), 1 - cut.astype(image.dtype)


def mix(
  mixing: Mixing, keys: Key, images: Array, labels: Array
) -> tuple[Array, Array]:
  """Mixes the images of a batch: the first with the second, and so on.

  Args:
    mixing: how.
    keys: [B], random keys.
    images: [B, H, W, C], with B even.
    labels: [B], integers in [0, K).

  Returns:
    The mixed images [B, H, W, C], and their labels' shares [B, K].

  Raises:
    ValueError: if an image would have no partner.
  """
  if len(images) % 2:
    raise ValueError(
      f'{len(images)} images cannot be mixed two by two: their number must be '
      'even.'
    )

  def one(key: Key, image: Array, other: Array) -> tuple[Array, Array]:
    ways = [
      (function, alpha)
      for function, alpha in ((mixup, mixing.mixup), (cutmix, mixing.cutmix))
      if alpha
    ]
    way_key, choice_key, key = jax.random.split(key, 3)
    mixed = [way(key, image, other, alpha=alpha) for way, alpha in ways]
    first = jax.random.bernoulli(way_key)
    image_mixed, share = jax.tree.map(
      lambda *x: jnp.where(first, x[0], x[-1]), *mixed
    )
    chosen = jax.random.bernoulli(choice_key, mixing.probability)
    return (
      jnp.where(chosen, image_mixed, image),
      jnp.where(chosen, share, jnp.ones_like(share)),
    )

  images, shares = jax.vmap(one)(keys, images, _partners(images))
  own = jax.nn.one_hot(labels, mixing.num_classes, dtype=shares.dtype)
  shares = shares[:, None]
  return images, shares * own + (1 - shares) * _partners(own)


def _partners(x: Array) -> Array:
  """The partner of each image: [B, ...] in pairs, each of them reversed."""
  pairs = x.reshape(len(x) // 2, 2, *x.shape[1:])
  return pairs[:, ::-1].reshape(x.shape)


def _share(key: Key, alpha: float, dtype: jnp.dtype) -> Array:
  if alpha == 1:
    return jax.random.uniform(key, dtype=dtype)
  return jax.random.beta(key, alpha, alpha, dtype=dtype)
