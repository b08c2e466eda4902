"""Mapping over devices: the only module that knows how many there are.

A step is written for one device and reduces over the axis `AXIS`; everything
given to a mapped function has a leading axis of one entry per device.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax import parallel
  >>> devices = parallel.devices(1)
  >>> x = parallel.replicate(jnp.arange(3), devices)
  >>> print(parallel.unreplicate(parallel.pmap(lambda a: a + 1, devices)(x)))
  [1 2 3]
"""

import functools
from collections.abc import Callable, Sequence

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rnascl_jax.base import Array, PyTree

# Name of the mapped axis in every step.
AXIS = 'devices'


class PerImage(flax.struct.PyTreeNode):
  """Arrays with an entry for each image of a batch, in a state of others.

  `replicate` splits them over devices, as the batch is, where it copies all
  else, and `unreplicate` puts them together again.

  Attributes:
    arrays: any pytree, leaves [B, ...]; of one device its share of them.
  """

  arrays: PyTree


def devices(count: int = 0) -> list[jax.Device]:
  """The first devices of this process; all of them if the count is 0.

  Raises:
    ValueError: if there are fewer than asked for.
  """
  available = jax.local_devices()
  if count > len(available):
    raise ValueError(
      f'devices={count} were asked for, but this process has '
      f'{len(available)}: {available}. Use 0 for all of them.'
    )
  return available[: count or None]


def is_main_process() -> bool:
  """Whether this process writes files and prints progress."""
  return jax.process_index() == 0


def pmap(
  function: Callable, over: Sequence[jax.Device], *, donate: tuple = ()
) -> Callable:
  """Maps a function of one device's arrays over devices.

  Args:
    function: may reduce over `AXIS`.
    over: the devices.
    donate: positions of arguments whose memory is reused for results.

  Returns:
    The mapped function; arrays have a leading axis of one entry per device.
  """
  return jax.pmap(
    function, axis_name=AXIS, devices=list(over), donate_argnums=donate
  )


def split(function: Callable, over: Sequence[jax.Device]) -> Callable:
  """Compiles a function whose arrays are split over devices.

  Unlike with `pmap`, arrays keep their shape; each device gets its part of the
  leading axis and runs by itself, at its own pace.

  Args:
    function: (shared, arrays) -> arrays, both any pytrees; `arrays` and all
      results have the leading axis that is split. It must not reduce over it.
    over: the devices, whose number divides the axis.

  Returns:
    The compiled function; its arguments are to be `put`. The memory of `arrays`
    is not reused.
  """
  if len(over) == 1:
    return jax.jit(function)
  mesh = Mesh(np.array(over), (AXIS,))
  mapped = jax.shard_map(
    function,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
    out_specs=PartitionSpec(AXIS),
    check_vma=False,
  )
  return jax.jit(mapped)


def put(
  tree: PyTree, over: Sequence[jax.Device], *, split: bool = False
) -> PyTree:
  """Copies arrays to all devices, or splits their leading axis over them."""
  if len(over) == 1:
    return jax.device_put(tree, over[0])
  mesh = Mesh(np.array(over), (AXIS,))
  spec = PartitionSpec(AXIS) if split else PartitionSpec()
  return jax.device_put(tree, NamedSharding(mesh, spec))


def _sharding(over: Sequence[jax.Device]) -> NamedSharding:
  return NamedSharding(Mesh(np.array(over), (AXIS,)), PartitionSpec(AXIS))


def replicate(tree: PyTree, over: Sequence[jax.Device]) -> PyTree:
  """Copies every array to every device, behind a new leading axis.

  Arrays in a `PerImage` are split instead.

  Raises:
    ValueError: if such an array cannot be split evenly.
  """

  def copy(x):
    return _place([np.asarray(x)] * len(over), over)

  def divide(x):
    return _place([*shard(np.asarray(x), len(over))], over)

  def distribute(node):
    if isinstance(node, PerImage):
      return jax.tree.map(divide, node)
    return copy(node)

  return jax.tree.map(distribute, tree, is_leaf=_is_per_image)


def unreplicate(tree: PyTree) -> PyTree:
  """The first device's copy of every array, on the host.

  Arrays in a `PerImage` are put together from all devices.
  """

  def fetch(x):
    return np.asarray(x.addressable_shards[0].data)[0]

  def collect(node):
    if not isinstance(node, PerImage):
      return fetch(node)
    return jax.tree.map(lambda x: np.concatenate(np.asarray(x)), node)

  return jax.tree.map(collect, tree, is_leaf=_is_per_image)


def _is_per_image(node: PyTree) -> bool:
  return isinstance(node, PerImage)


def _place(
  parts: Sequence[np.ndarray], over: Sequence[jax.Device]
) -> jax.Array:
  """One array of parts, each on its device, behind a new leading axis."""
  shards = [
    jax.device_put(part[None], device)
    for part, device in zip(parts, over, strict=True)
  ]
  shape = (len(over), *parts[0].shape)
  return jax.make_array_from_single_device_arrays(
    shape, _sharding(over), shards
  )


def shard(batch: np.ndarray, count: int, axis: int = 0) -> np.ndarray:
  """Splits an axis evenly: [..., B, ...] -> [devices, ..., B / devices, ...].

  Raises:
    ValueError: if the axis is not a multiple of the number of devices.
  """
  if batch.shape[axis] % count:
    raise ValueError(
      f'A batch of {batch.shape[axis]} images cannot be split evenly over '
      f'{count} devices; use a multiple of {count}.'
    )
  return np.stack(np.split(batch, count, axis=axis))


def positions(local_size: int) -> Array:
  """Where this device's images stand in the global batch, [B]."""
  return lax.axis_index(AXIS) * local_size + jnp.arange(local_size)


psum = functools.partial(lax.psum, axis_name=AXIS)
pmean = functools.partial(lax.pmean, axis_name=AXIS)
