"""Type aliases and the legend of shape letters used in every docstring.

| letter  | meaning                                                      |
| ------- | ------------------------------------------------------------ |
| B       | images of a batch                                            |
| H, W, C | height, width and channels of an image or an activation      |
| K       | classes                                                      |
| S       | student layers that are taught (the paper's n_s)             |
| T       | teacher layers that may teach (the paper's n_t)              |
| D       | cells of an attention map at the common size, flattened      |
| N       | filter choices of a block (the paper's m)                    |
| F       | widest filter choice of a block                              |

Images are float32 in [0, 1], channels last, outside of networks; a network
normalises its input itself, so a perturbation is always measured in pixels.
Labels are int32 in [0, K). Random keys are typed (`jax.random.key`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

Array = jax.Array
Key = jax.Array
# A nested container of arrays, for example the parameters of a network.
PyTree = Any
# Flax variables: {'params': ..., 'batch_stats': ...}.
Variables = Mapping[str, Any]
# A classifier in evaluation mode: images [B, H, W, C] -> logits [B, K].
LogitsFn = Callable[[Array], Array]
# A loss of one example each: logits [B, K], targets [B] or [B, K] -> [B].
LossFn = Callable[[Array, Array], Array]
# Activations of a network in forward order, each [B, H, W, C].
Taps = tuple[Array, ...]
