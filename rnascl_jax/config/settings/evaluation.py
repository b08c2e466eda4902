"""Which attacks the results are put to."""

import dataclasses

from rnascl_jax.config import fields
from rnascl_jax.config.settings import inputs


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Attacks on trained models.

  Attributes:
    teachers: whether teachers are attacked too; several runs that take the same
      teacher need that once.
    attacks: presets, see `attacks.PRESETS`.
    auto_attack: ensembles of AutoAttack, 'standard' or 'plus', or members of
      it, see `resolve.ENSEMBLES` and `resolve.MEMBERS`; empty for none.
    auto_attack_models: which models it attacks: 'teacher',
      'vulnerable_teacher' and names of students; empty for all.
    auto_attack_images: most test images to attack with it; 0 means all.
    epsilon_255: radius of the L-infinity ball in 1/255; each preset keeps the
      ratio of its step to its radius. 0 leaves presets as published, and
      AutoAttack at 8.
    curve_attacks: presets whose accuracy is drawn against epsilon.
    curve_epsilons_255: radii of the curves, in 1/255.
    max_images: most test images to attack; 0 means all.
    curve_images: most test images for the curves; 0 means all.
    batch_size: images attacked at once, over all devices.
    save_images: whether adversarial images are kept, for each model and attack
      those that it broke, as float32: 12 kB an image of CIFAR-10. They are
      written and checked in any case.
    map_images: test images whose attention maps are saved.
    scored_images: test images over which the robustness scores of teacher
      layers are averaged.
  """

  teachers: bool = True
  attacks: tuple[str, ...] = (
    'fgsm',
    'pgd20_rnascl',
    'mi_fgsm20_rnascl',
    'cw20_rnascl',
  )
  auto_attack: tuple[str, ...] = ('standard',)
  auto_attack_models: tuple[str, ...] = ()
  auto_attack_images: int = fields.bounded(0, 0, inputs.MOST_IMAGES)
  epsilon_255: float = fields.bounded(0.0, 0, 255)
  curve_attacks: tuple[str, ...] = ('fgsm', 'pgd20_rnascl')
  curve_epsilons_255: tuple[float, ...] = fields.bounded(
    (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 0, 255
  )
  max_images: int = fields.bounded(0, 0, inputs.MOST_IMAGES)
  curve_images: int = fields.bounded(1000, 0, inputs.MOST_IMAGES)
  batch_size: int = fields.bounded(256, 1, 100_000)
  save_images: bool = True
  map_images: int = fields.bounded(6, 1, 10_000)
  scored_images: int = fields.bounded(128, 1, inputs.MOST_IMAGES)
