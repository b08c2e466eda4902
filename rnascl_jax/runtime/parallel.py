"""Mapping over devices: the only module that knows how many there are.

A step is written for one device and reduces over the axis `AXIS`; everything
given to a mapped function has a leading axis of one entry per device.

With several processes the devices are those of all of them, and every process
calls the same functions in the same order. A mapped function takes and returns
the entries of this process's devices alone; `share` cuts them out of arrays
that all processes have, and `fetch` brings those of all processes together.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax.runtime import parallel
  >>> devices = parallel.devices(1)
  >>> x = parallel.replicate(jnp.arange(3), devices)
  >>> print(parallel.unreplicate(parallel.pmap(lambda a: a + 1, devices)(x)))
  [1 2 3]
"""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxlib import xla_client

from rnascl_jax.base import Array, PyTree
from rnascl_jax.runtime import compilation, processes

# Name of the mapped axis in every step.
AXIS = 'devices'


class PerImage(NamedTuple):
  """Arrays with an entry for each image of a batch, in a state of others.

  `replicate` splits them over devices, as the batch is, where it copies all
  else, and `unreplicate` puts them together again.

  Attributes:
    arrays: any pytree, leaves [B, ...]; of one device its share of them.
  """

  arrays: PyTree


def devices(count: int = 0) -> list[jax.Device]:
  """The first devices of every process; all of them if the count is 0.

  Returns:
    Devices in the order of their processes.

  Raises:
    ValueError: if this process has fewer than asked for.
  """
  available = jax.local_devices()
  if count > len(available):
    raise ValueError(
      f'devices={count} were asked for, but this process has '
      f'{len(available)}: {available}. Use 0 for all of them.'
    )
  taken: list[jax.Device] = []
  for process in range(processes.count()):
    own = [d for d in jax.devices() if d.process_index == process]
    taken += sorted(own, key=lambda device: device.id)[: count or None]
  return taken


def here(devices: Sequence[jax.Device]) -> list[jax.Device]:
  """Those of the devices that this process drives."""
  return [d for d in devices if d.process_index == jax.process_index()]


def free_memory(device: jax.Device) -> int:
  """Bytes that are free on a device for JAX; 0 where nothing tells them.

  Of a CPU that is all memory of the machine.
  """
  stats = device.memory_stats() or {}
  if limit := stats.get('bytes_limit'):
    return limit - stats.get('bytes_in_use', 0)
  if device.platform == 'cpu' and hasattr(os, 'sysconf'):
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return 0


def pmap(
  function: Callable,
  devices: Sequence[jax.Device],
  *,
  donate: tuple = (),
  brief: bool = False,
) -> Callable:
  """Maps a function of one device's arrays over devices.

  Args:
    function: may reduce over `AXIS`.
    devices: the devices.
    donate: positions of arguments whose memory is reused for results.
    brief: whether it compiles with the options of `compilation.brief`, which
      training must not. With several processes it never does.

  Returns:
    The mapped function; arrays have a leading axis of one entry per device.
  """
  options = compilation.brief(devices[0].platform)
  if brief and options and len(here(devices)) == len(devices):
    return _mapped_briefly(function, devices, options)
  return jax.pmap(
    function, axis_name=AXIS, devices=list(devices), donate_argnums=donate
  )


def _mapped_briefly(
  function: Callable, devices: Sequence[jax.Device], options: dict[str, Any]
) -> Callable:
  """What `jax.pmap` makes, which takes no options, of this process's devices.

  Positional arguments only; nothing is donated.
  """
  mesh, spec = Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS)

  def mapped(*arguments: PyTree) -> PyTree:
    results = function(*jax.tree.map(lambda x: x[0], arguments))
    return jax.tree.map(lambda x: jnp.expand_dims(x, 0), results)

  return jax.jit(
    jax.shard_map(
      mapped, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    ),
    in_shardings=NamedSharding(mesh, spec),
    compiler_options=options,
  )


def split(function: Callable, devices: Sequence[jax.Device]) -> Callable:
  """Compiles a function whose arrays are split over devices.

  Unlike with `pmap`, arrays keep their shape; each device gets its part of the
  leading axis and runs by itself, at its own pace.

  Args:
    function: (shared, arrays) -> arrays, both any pytrees; `arrays` and all
      results have the leading axis that is split. It must not reduce over it.
    devices: the devices, whose number divides the axis.

  Returns:
    The compiled function; its arguments are to be `put`. The memory of `arrays`
    is not reused.
  """
  if len(devices) == 1:
    return jax.jit(function)
  mesh = Mesh(np.array(devices), (AXIS,))
  mapped = jax.shard_map(
    function,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
    out_specs=PartitionSpec(AXIS),
    check_vma=False,
  )
  return jax.jit(mapped)


def side_by_side(number: int) -> contextlib.AbstractContextManager[None]:
  """Where programs begin that do not wait for those begun with other numbers.

  On a CPU, JAX begins a program of a thread when the one before has ended,
  whether it needs its results or not, so that small programs leave cores idle.
  Programs with different numbers (1, 2, ...) wait for what they need alone.
  Where this jaxlib has no such numbers, nothing changes.
  """
  stream = getattr(xla_client, 'execution_stream_id', None)
  return stream(number) if stream else contextlib.nullcontext()


def put(
  tree: PyTree, devices: Sequence[jax.Device], *, split: bool = False
) -> PyTree:
  """Copies arrays to all devices, or splits their leading axis over them.

  All processes have the same arrays.
  """
  if len(devices) == 1:
    return jax.device_put(tree, devices[0])
  spec = PartitionSpec(AXIS) if split else PartitionSpec()
  sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), spec)
  if len(here(devices)) == len(devices):
    return jax.device_put(tree, sharding)
  return jax.tree.map(lambda x: _put_own_parts(x, sharding), tree)


def _put_own_parts(x: Array, sharding: NamedSharding) -> Array:
  """This process's parts of an array over all processes."""
  if dtypes.issubdtype(x.dtype, dtypes.prng_key):
    data = _put_own_parts(jax.random.key_data(x), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  host = np.asarray(x)
  return jax.make_array_from_callback(
    host.shape, sharding, lambda index: host[index]
  )


def fetch(array: Array, devices: Sequence[jax.Device]) -> np.ndarray:
  """Results of all devices, on the host of every process that has some of them.

  Args:
    array: of a mapped function, [devices here, ...], or of one that was
      compiled by `split`, [N, ...].
    devices: the devices of that function.

  Returns:
    [devices, ...] or [N, ...].
  """
  if len(here(devices)) == len(devices):
    return np.asarray(array)
  if array.is_fully_addressable:
    return processes.gather(np.asarray(array))
  parts = sorted(array.addressable_shards, key=lambda part: part.index[0].start)
  return processes.gather(np.concatenate([np.asarray(p.data) for p in parts]))


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
  """Copies every array to every device, behind a new leading axis.

  Arrays in a `PerImage` are split instead. All processes have the same arrays.

  Raises:
    ValueError: if such an array cannot be split evenly.
  """

  def copy(x):
    return place([np.asarray(x)] * len(here(devices)), devices)

  def divide(x):
    return place([*share(np.asarray(x), devices)], devices)

  def distribute(node):
    if isinstance(node, PerImage):
      return jax.tree.map(divide, node)
    return copy(node)

  return jax.tree.map(distribute, tree, is_leaf=_is_per_image)


def unreplicate(
  tree: PyTree, devices: Sequence[jax.Device] | None = None
) -> PyTree:
  """The first device's copy of every array, on the host.

  Args:
    tree: replicated.
    devices: the devices, by default those of this process. Arrays in a
      `PerImage` are put together from all of them, and all processes are to
      call this.
  """
  devices_of_all = jax.local_devices() if devices is None else devices

  def first(x):
    return np.asarray(x.addressable_shards[0].data)[0]

  def collect(node):
    if not isinstance(node, PerImage):
      return first(node)
    return jax.tree.map(
      lambda x: np.concatenate(fetch(x, devices_of_all)), node
    )

  return jax.tree.map(collect, tree, is_leaf=_is_per_image)


def _is_per_image(node: PyTree) -> bool:
  return isinstance(node, PerImage)


def place(
  parts: Sequence[np.ndarray], devices: Sequence[jax.Device]
) -> jax.Array:
  """One array of parts, each on its device, behind a new leading axis.

  Args:
    parts: one for each device of this process.
    devices: all devices.
  """
  own = here(devices)
  shards = [
    jax.device_put(part[None], device)
    for part, device in zip(parts, own, strict=True)
  ]
  return jax.make_array_from_single_device_arrays(
    (len(own), *parts[0].shape),
    NamedSharding(Mesh(np.array(own), (AXIS,)), PartitionSpec(AXIS)),
    shards,
  )


def share(
  batch: np.ndarray, devices: Sequence[jax.Device], axis: int = 0
) -> np.ndarray:
  """Splits an axis evenly over devices, and takes the parts of those here.

  Args:
    batch: [..., B, ...], the same on all processes.
    devices: all devices.
    axis: the one to split.

  Returns:
    [devices here, ..., B / devices, ...].

  Raises:
    ValueError: if the axis is not a multiple of the number of devices.
  """
  if batch.shape[axis] % len(devices):
    raise ValueError(
      f'A batch of {batch.shape[axis]} images cannot be split evenly over '
      f'{len(devices)} devices; use a multiple of {len(devices)}.'
    )
  parts = np.split(batch, len(devices), axis=axis)
  own = jax.process_index()
  return np.stack(
    [
      part
      for part, device in zip(parts, devices, strict=True)
      if device.process_index == own
    ]
  )


def positions(local_size: int) -> Array:
  """Where this device's images stand in the global batch, [B]."""
  return lax.axis_index(AXIS) * local_size + jnp.arange(local_size)


psum = functools.partial(lax.psum, axis_name=AXIS)
pmean = functools.partial(lax.pmean, axis_name=AXIS)
# Leaves [B, ...] of each device -> [N B, ...] of all, on each.
all_gather = functools.partial(lax.all_gather, axis_name=AXIS, tiled=True)
