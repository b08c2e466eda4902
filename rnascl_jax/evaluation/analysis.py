"""Where trained models look, and how far attacks move a teacher's layers.

The attention maps of Figs. 2, 5, 9 and 11 of RNAS-CL, and the robustness score
of a network's layers (section 5.1, Fig. 7).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import attacks
from rnascl_jax.base import Array, Variables
from rnascl_jax.config import resolve
from rnascl_jax.data import batches
from rnascl_jax.evaluation import attack_specs, results
from rnascl_jax.evaluation.classification import NetworkOnDevices
from rnascl_jax.evaluation.target import EvaluationTarget
from rnascl_jax.losses import attention
from rnascl_jax.models import networks
from rnascl_jax.runtime import files, parallel, processes

# Fields of `config.evaluation` on which maps and scores depend.
_FIELDS = ('attacks', 'epsilon_255', 'map_images', 'scored_images', 'teachers')


def analyze(targets: Sequence[EvaluationTarget]) -> bool:
  """Saves attention maps of some test images, and robustness scores.

  They go to `attention.npz` and `robustness.json`, which has an entry for each
  teacher that is attacked.

  Args:
    targets: all trained models of a run, at least one.

  Returns:
    Whether there was something to do: a teacher, and no results of these models
    under these settings.
  """
  target, wanted = targets[0], _key(targets)
  path = target.folder / 'robustness.json'
  has_teacher = any(t.model.name == 'teacher' for t in targets)
  if not has_teacher or results.is_saved(path, wanted):
    return False
  maps_path = target.folder / 'attention.npz'
  processes.on_main(files.write_npz, maps_path, _all_maps(targets))
  processes.on_main(
    files.write_json, path, {**_robustness(targets), 'key': wanted}
  )
  return True


def _key(targets: Sequence[EvaluationTarget]) -> Any:
  """What the maps and the scores depend on, as JSON."""
  spec = targets[0].settings.evaluation
  fields = [*_FIELDS]
  if spec.norm != 'Linf':
    fields += ['norm', 'epsilon']
  return files.to_json(
    {
      'evaluation': {name: getattr(spec, name) for name in fields},
      'stages': {t.model.name: t.model.summary for t in targets},
    }
  )


def _all_maps(targets: Sequence[EvaluationTarget]) -> dict[str, np.ndarray]:
  """Some test images, and what the teacher and all students attend to."""
  config, test = targets[0].settings, targets[0].data.test
  side, count = config.distillation.map_size, config.evaluation.map_images
  bilinear = config.distillation.map_resize == 'bilinear'
  images = batches.to_float(np.asarray(test.images[:count]))
  arrays = {'images': np.asarray(images), 'labels': test.labels[:count]}
  for model in (target.model for target in targets):
    if model.kind == 'student' or model.name == 'teacher':
      is_teacher = model.name == 'teacher'
      name = 'teacher_maps' if is_teacher else f'maps/{model.name}'
      arrays[name] = maps(
        model.net, model.variables, images, (side, side), bilinear=bilinear
      )
  return arrays


def _robustness(targets: Sequence[EvaluationTarget]) -> dict[str, Any]:
  """Scores of all layers of each teacher under an attack on this teacher.

  The attack is the first PGD of the config, or else its first one.
  """
  config, data = targets[0].settings.evaluation, targets[0].data
  specs = attack_specs.attack_specs(config.attacks, config.norm, config.radius)
  spec = attack_specs.first_pgd(specs)
  images = np.asarray(data.test.images[: config.scored_images])
  teachers: dict[str, Any] = {}
  for target in targets:
    model = target.model
    if model.kind != 'teacher' or not config.teachers:
      continue
    scores = robustness_scores(
      target.network._replace(batch_size=min(config.batch_size, len(images))),
      images,
      data.test.labels[: config.scored_images],
      # Not the spec's preset: programs are shared between values of epsilon.
      resolve.attack(spec.name, config.norm),
      epsilon=spec.epsilon,
      seed=target.settings.seed,
    )
    layers = list(model.net.tap_names)
    teachers[model.name] = {'layers': layers, **scores._asdict()}
  return {
    'teachers': teachers,
    'attack': spec.label,
    'norm': spec.norm.name,
    'epsilon': spec.epsilon,
    'images': len(images),
  }


class RobustnessScores(NamedTuple):
  """Robustness scores of a network's layers; a lower one is more robust.

  Attributes:
    scores: [T], non-negative, means over images.
    errors: [T], their standard errors, s / sqrt(images) with the sample
      deviation s; NaN for a single image.
  """

  scores: np.ndarray
  errors: np.ndarray


def robustness_scores(
  network: NetworkOnDevices,
  images: np.ndarray,
  labels: np.ndarray,
  attack: Callable[..., Array],
  *,
  epsilon: float,
  seed: int,
) -> RobustnessScores:
  """How far an attack on a network moves each of its layers (section 5.1).

  Images are attacked, and their activations compared, batch by batch in one
  program, which is compiled once; of a batch only [B, T] numbers are kept. The
  random draws of an image come from its index, so neither the batch size nor
  the number of devices changes them.

  Args:
    network: any network with taps.
    images: [N, H, W, C], uint8, or float32 in [0, 1]; N >= 1.
    labels: [N], integers in [0, K).
    attack: for one image, taking `epsilon`, as a preset does.
    epsilon: radius in [0, 1].
    seed: seed of the attack's random draws.

  Returns:
    Means over images, and their standard errors.

  Raises:
    ValueError: if there is no image, or not one label for each.

  Reference:
    Nath et al., RNAS-CL, IJCV 2024, section 5.1 and Fig. 7.
  """
  count = len(images)
  if not count or len(labels) != count:
    raise ValueError(
      f'{count} images and {len(labels)} labels: at least one image, and one '
      'label for each, are needed.'
    )
  devices = network.devices
  function = _program(network.net, attack, devices)
  constants = parallel.replicate(
    (np.uint32(seed), np.float32(epsilon)), devices
  )

  def compute(rows: np.ndarray) -> Array:
    own = parallel.share(rows.astype(np.int32), devices)
    floats = network.share_floats(images, rows)
    return function(network.variables, *constants, floats, labels[own], own)

  changes = network.gather(count, compute).astype(np.float64)  # [N, T]
  errors = np.full(changes.shape[1], np.nan)
  if count > 1:
    errors = changes.std(0, ddof=1) / np.sqrt(count)
  return RobustnessScores(changes.mean(0), errors)


@functools.lru_cache(maxsize=4)
def _program(
  net: nn.Module, attack: Callable[..., Array], devices: tuple[jax.Device, ...]
) -> Callable:
  """Maps over devices: attacks images, and compares their activations."""

  def compare(
    variables: Variables,
    seed: Array,
    epsilon: Array,
    images: Array,
    labels: Array,
    indices: Array,
  ) -> Array:
    keys = attacks.image_keys(jax.random.key(seed), indices)
    logits_fn = networks.logits_fn(net, variables)
    perturbed = attacks.batched(attack)(
      logits_fn, keys, images, labels, epsilon=epsilon
    )
    return layer_changes(net, variables, images, perturbed)

  return parallel.pmap(compare, devices, brief=True)


def layer_changes(
  net: nn.Module, variables: Variables, images: Array, perturbed: Array
) -> Array:
  """How far each image moves each layer, |CO_j - AO_j| / |CO_j|.

  Norms are l2 over a whole activation, in full float32. A layer that is 0
  without an attack and stays 0 does not move; one that leaves 0 moves by more
  than 1e6 times what it was, and shows in its standard error.

  Args:
    net: any network with taps.
    variables: its variables.
    images: [B, H, W, C] in [0, 1].
    perturbed: [B, H, W, C], the images after an attack on the network.

  Returns:
    [B, T], non-negative; its mean over images is the score of section 5.1.
  """
  chex.assert_equal_shape([images, perturbed])
  with jax.default_matmul_precision('highest'):
    _, clean = networks.apply(net, variables, images)
    _, moved = networks.apply(net, variables, perturbed)
  changes = [
    _norms(a - b) / jnp.maximum(_norms(a), 1e-12)
    for a, b in zip(clean, moved, strict=True)
  ]
  return jnp.stack(changes, axis=-1)


def _norms(activation: Array) -> Array:
  flat = activation.reshape(activation.shape[0], -1).astype(jnp.float32)
  return jnp.sqrt(jnp.sum(jnp.square(flat), axis=-1))


def maps(
  net: nn.Module,
  variables: Variables,
  images: Array,
  size: tuple[int, int],
  *,
  bilinear: bool = False,
) -> np.ndarray:
  """Attention maps [B, layers, h, w] at the common size (h, w), l2-normalised.

  The images are [B, H, W, C] in [0, 1]; `bilinear` says how larger maps shrink,
  see `attention.resize_maps`.
  """
  flat = np.asarray(_vectors(net, variables, images, size, bilinear))
  return flat.reshape(*flat.shape[:2], *size)


@functools.partial(jax.jit, static_argnames=('net', 'size', 'bilinear'))
def _vectors(
  net: nn.Module,
  variables: Variables,
  images: Array,
  size: tuple[int, int],
  bilinear: bool,
) -> Array:
  _, taps = networks.apply(net, variables, images)
  return attention.attention_vectors(taps, size, bilinear=bilinear)
