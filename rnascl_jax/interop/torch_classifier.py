"""A PyTorch model as a classifier that black-box attacks of JAX can query.

JAX calls PyTorch on the host for every batch of images. There is no gradient,
so that only the Square attack can be run, and every query goes through the
memory of the host: attack a model of yours this way to compare, and import it
(`rnascl import-teacher`) or write it in JAX to attack it fully.

Example:
  logits_fn = torch_classifier.classifier(model, num_classes=10)
  result = attacks.auto_attack(
    logits_fn, images, labels, epsilon=8 / 255, attacks=('square',))
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array, LogitsFn
from rnascl_jax.runtime import extras


def classifier(module: Any, num_classes: int) -> LogitsFn:
  """Wraps a PyTorch model for black-box attacks.

  Args:
    module: a `torch.nn.Module` in evaluation mode, from images [B, C, H, W] in
      [0, 1] to logits [B, K]; it normalises images itself.
    num_classes: K.

  Returns:
    Images [B, H, W, C] -> logits [B, K] of their type, without a gradient.

  Raises:
    MissingPackageError: without PyTorch.
    ValueError: if the model is in training mode.
  """
  extras.require('torch', 'a PyTorch model')
  import torch

  if module.training:
    raise ValueError(
      'The PyTorch model is in training mode: call model.eval() before.'
    )
  weight = next(module.parameters(), torch.zeros(()))

  def call(images: Array) -> np.ndarray:
    batch = np.asarray(images)  # [..., H, W, C], lifted or not.
    flat = np.moveaxis(batch.reshape(-1, *batch.shape[-3:]), -1, 1)
    with torch.no_grad():
      logits = module(torch.tensor(flat).to(weight))
    shape = (*batch.shape[:-3], num_classes)
    return logits.cpu().numpy().astype(batch.dtype).reshape(shape)

  def logits_fn(images: Array) -> Array:
    shape = jax.ShapeDtypeStruct((len(images), num_classes), images.dtype)
    return jax.pure_callback(
      call, shape, jnp.asarray(images), vmap_method='expand_dims'
    )

  return logits_fn
