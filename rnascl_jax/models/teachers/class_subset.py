"""A teacher of many classes for a student of some of them.

ImageNet-100 students learn from teachers of all 1,000 classes of ImageNet: from
the logits of their hundred, whose softmax is the teacher's distribution given
that the image shows one of them.

Example:
  >>> import jax
  >>> from rnascl_jax.models import fixed
  >>> from rnascl_jax.models.teachers.class_subset import ClassSubset
  >>> net = fixed.NETWORKS['small_resnet'](num_classes=1000)
  >>> images = jax.numpy.zeros((2, 8, 8, 3))
  >>> variables = net.init(jax.random.key(0), images, train=False)
  >>> hundred = ClassSubset(net, 1000, tuple(range(0, 1000, 10)))
  >>> hundred.apply(variables, images, train=False)[0].shape
  (2, 100)
"""

import jax.numpy as jnp
from flax import linen as nn

from rnascl_jax.base import Array
from rnascl_jax.models import networks
from rnascl_jax.models.networks import Network, Outputs


class ClassSubset(networks.Network):
  """A network that returns the logits of some of its classes.

  Its variables are those of the network within.

  Attributes:
    net: a teacher.
    num_net_classes: K of the network.
    classes: [k] indices in [0, K), each once, in the order of the logits.

  Raises:
    ValueError: an index is not in [0, K), or there twice.
  """

  net: Network
  num_net_classes: int
  classes: tuple[int, ...]

  def __post_init__(self) -> None:
    wrong = [c for c in self.classes if not 0 <= c < self.num_net_classes]
    twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
    if wrong or twice:
      raise ValueError(
        f'classes has {(wrong or twice)[:5]} '
        f'{"twice" if twice and not wrong else "in it"}: it must name classes '
        f'of the teacher, 0 to {self.num_net_classes - 1}, each once.'
      )
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Those of the network."""
    return self.net.tap_names

  def setup(self) -> None:
    nn.share_scope(self, self.net)

  def represent(self, images: Array, *, train: bool) -> Outputs:
    outputs = self.net.represent(images, train=train)
    return outputs._replace(logits=outputs.logits[:, jnp.asarray(self.classes)])
