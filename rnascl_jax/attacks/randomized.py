"""Classifiers that draw random numbers when they classify.

A pure function has no hidden state: a classifier that is random takes a key.
`Randomized(function)` wraps function(images, key) -> logits, and APGD then
draws anew in every step and averages over `draws` (expectation over
transformation). Called without a key, its draw is always the same one.

Reference:
  Athalye, Engstrom, Ilyas and Kwok, Synthesizing robust adversarial examples,
  ICML 2018.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax

from rnascl_jax.base import Array, Key, LogitsFn


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=['function'], meta_fields=[]
)
@dataclasses.dataclass(frozen=True)
class Randomized:
  """A random classifier.

  Attributes:
    function: (images [B, H, W, C], key) -> logits [B, K], pure.
  """

  function: Callable[[Array, Key], Array]

  def __call__(self, images: Array, key: Key | None = None) -> Array:
    key = jax.random.key(0) if key is None else key
    return self.function(images, key)


def call(logits_fn: LogitsFn, key: Key, images: Array) -> Array:
  """Logits [B, K] of a classifier, drawn with the key if it is random."""
  if isinstance(logits_fn, Randomized):
    return logits_fn(images, key)
  return logits_fn(images)
