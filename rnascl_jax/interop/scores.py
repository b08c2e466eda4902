"""Weights that are pruned by scores, as HYDRA saves them.

A pruned layer has `popup_scores` beside its `weight`, one score for each
number. Of a layer's weights the share k with the largest absolute scores is
kept, and the others are 0. The share is not in the file: HYDRA's command line
has it.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.interop import scores
  >>> arrays = {
  ...   'fc.weight': np.array([[1., 2.], [3., 4.]]),
  ...   'fc.popup_scores': np.array([[.1, -.9], [.5, 0.]]),
  ... }
  >>> print(scores.merged(arrays, 0.5)['fc.weight'])
  [[0. 2.]
   [3. 0.]]

Reference:
  Sehwag et al., HYDRA: pruning adversarially robust neural networks, NeurIPS
  2020, and its code, inspire-group/hydra.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from rnascl_jax.training import pruning

_NAME = 'popup_scores'


def merged(
  arrays: Mapping[str, np.ndarray], kept: float | None
) -> dict[str, np.ndarray]:
  """The state dict of a pruned network, its scores merged into its weights.

  Args:
    arrays: by name; without scores they are returned.
    kept: share of each layer's weights that are kept, in (0, 1]; None where
      nothing is pruned.

  Returns:
    The arrays without scores.

  Raises:
    ValueError: there are scores and no share, or a share and no scores, or the
      share is out of its bounds, or a layer's scores have another shape.
  """
  scored = [key for key in arrays if key.rpartition('.')[2] == _NAME]
  if kept is None and not scored:
    return dict(arrays)
  if kept is None:
    raise ValueError(
      f'{len(scored)} layers have scores by which their weights are pruned '
      f'({scored[0]}, ...), and the file does not say how many are kept: give '
      'the share of them as --kept, such as 0.1 where 90 % are pruned.'
    )
  if not scored or not 0 < kept <= 1:
    raise ValueError(
      f'kept={kept} must lie in (0, 1], and is for files with scores; there '
      f'are {len(scored)} layers with {_NAME}.'
    )
  result = {key: arrays[key] for key in arrays if key not in scored}
  for key in scored:
    weight = key.removesuffix(_NAME) + 'weight'
    if weight not in result or result[weight].shape != arrays[key].shape:
      raise ValueError(
        f'{key} {list(arrays[key].shape)} needs {weight} of the same shape: '
        'the file is damaged, or of another code.'
      )
    mask = np.asarray(pruning.mask(jnp.asarray(arrays[key]), 1 - kept))
    result[weight] = result[weight] * mask
  return result
