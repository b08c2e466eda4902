"""The layers of a space's network: their names, and the sizes of their maps.

Example:
  >>> from rnascl_jax.search import space_layers, spaces
  >>> space = spaces.from_stages([1], [(4, 2)], [1])
  >>> space_layers.maps(space, (8, 8, 3))
  [(4, 4), (4, 4)]
  >>> space_layers.layer_names(space)
  ('stem', 'block0/expand', 'block0/depthwise', 'block0/project')
"""

from collections.abc import Sequence

from rnascl_jax.search.space import SearchSpace


def check_image(space: SearchSpace, image_shape: Sequence[int]) -> None:
  """Raises unless the space fits images of this shape.

  Args:
    space: the search space.
    image_shape: (H, W, C).

  Raises:
    ValueError: if a side is not a multiple of the product of all strides.
  """
  step = space.reduction
  for side in image_shape[:2]:
    if side % step or side < step:
      near = side // step * step
      fits = f'{near} or {near + step}' if near else str(step)
      raise ValueError(
        f'Images of {image_shape[0]}x{image_shape[1]} pixels do not fit a '
        f'search space whose strides multiply to {step}: each side must be a '
        f'multiple of {step}, such as {fits}. Resize the images, or lower '
        'stem_stride or the stage strides.'
      )


def maps(
  space: SearchSpace, image_shape: Sequence[int]
) -> list[tuple[int, int]]:
  """Height and width of the stem's output and of every block's output.

  Args:
    space: the search space.
    image_shape: (H, W, C).

  Raises:
    ValueError: as `check_image`.
  """
  check_image(space, image_shape)
  height, width = (side // space.stem_stride for side in image_shape[:2])
  sizes = [(height, width)]
  for block in space.blocks:
    height, width = height // block.stride, width // block.stride
    sizes.append((height, width))
  return sizes


def stage_ends(space: SearchSpace) -> tuple[int, ...]:
  """Indices of the blocks that end a stage: before each stride, and the last.

  Args:
    space: the search space.

  Returns:
    In forward order.
  """
  following = [block.stride for block in space.blocks[1:]]
  ends = [index for index, stride in enumerate(following) if stride > 1]
  return (*ends, len(space.blocks) - 1)


def layer_names(
  space: SearchSpace, *, blocks_only: bool = False
) -> tuple[str, ...]:
  """Names of the layers that can be taught, in forward order.

  Args:
    space: the search space.
    blocks_only: False names every convolution, after BatchNorm and activation
      (stem, then expand, if there is one, depthwise and project of each block);
      True names the output of every block.

  Returns:
    A tuple of S names, the order of the student's taps.
  """
  if blocks_only:
    return tuple(f'block{index}' for index in range(len(space.blocks)))
  names = ['stem']
  for index, block in enumerate(space.blocks):
    expands = space.expansion_of(block) > 1
    parts = ('expand', 'depthwise', 'project')[not expands :]
    names += [f'block{index}/{part}' for part in parts]
  return tuple(names)
