"""Trained students that come with the package.

  model = rnascl_jax.load('cifar10_s3_eq6')
  logits = model.logits_fn(images)  # [B, 32, 32, 3] in [0, 1] -> [B, 10]

Each is what `rnascl export` writes, in the folder `released`: a file
.safetensors, which PyTorch reads too (`interop.student.load`), and its model
card, which has its accuracy and how it was trained.

Example:
  >>> from rnascl_jax.interop import released
  >>> released.load('cifar10_s3_eq6').net.num_classes
  10
"""

import functools
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from rnascl_jax.interop import files, state_dicts
from rnascl_jax.models import pretrained
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.runtime import paths, spelling

_FOLDER = pathlib.Path(__file__).with_name('released')


def cards() -> dict[str, dict[str, Any]]:
  """The model cards of the students that come with the package, by name."""
  return {
    path.name.removesuffix('.card.json'): json.loads(path.read_text('utf-8'))
    for path in sorted(_FOLDER.glob('*.card.json'))
  }


def path(name: str) -> pathlib.Path:
  """The file .safetensors of a student that comes with the package."""
  return _FOLDER / f'{name}.safetensors'


def load(workdir: str | os.PathLike[str], model: str = 'rnas_cl') -> Pretrained:
  """Loads a trained model: one of a run, or one that comes with the package.

  Args:
    workdir: of a run; or the name of a student that comes with the package,
      such as 'cifar10_s3_eq6', see `cards`. A folder of such a name is
      './cifar10_s3_eq6'.
    model: of a run: a student's name ('rnas_cl', 'ce', ...), one that was
      trained further on attacks ('rnas_cl_eq6'), or a teacher's ('teacher').

  Returns:
    The model.

  Raises:
    FileNotFoundError: if there is no such folder and no such name, or if the
      model was not trained in the run; it lists those that are there.
  """
  name = os.fspath(workdir)
  known = [*cards()]
  if name in known:
    return _read(name)
  if os.path.basename(name) != name or paths.local(name, 'workdir').is_dir():
    return pretrained.load(workdir, model)
  raise FileNotFoundError(
    f'{name!r} is neither the folder of a run nor a student that comes with '
    f'the package: {", ".join(known)}.{spelling.did_you_mean(name, known)}'
  )


def _read(name: str) -> Pretrained:
  held = files.read(path(name))
  net, _ = pretrained.network(held.metadata)
  image = jnp.zeros((1, *held.metadata['image_shape']))
  init = functools.partial(net.init, train=False)
  template = jax.eval_shape(init, jax.random.key(0), image)
  variables = state_dicts.into_variables(template, held.arrays)
  return pretrained.build(variables, held.metadata)
