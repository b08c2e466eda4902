"""The records of an invented AutoAttack, for the tests of figures and report.

Images are ranked; an attack breaks those of the highest ranks. So whatever one
attack leaves, a stronger one leaves a part of.
"""

from collections.abc import Mapping

import numpy as np

IMAGES = 64
# Name: label, whether it is a black box, steps, trials.
MEMBERS = {
  'apgd_ce': ('APGD-CE', False, 100, 1),
  'apgd_t': ('APGD-T', False, 100, 9),
  'fab_t': ('FAB-T', False, 100, 9),
  'square': ('Square', True, 5000, 1),
}
# Images classified correctly without an attack, and after each member.
LEFT = {'rnas_cl': (63, 26, 24, 23, 23), 'ce': (63, 9, 8, 8, 8)}


def record(
  left: tuple[int, ...],
  *,
  images: int = IMAGES,
  epsilon: float = 0.1,
  rejected: int = 0,
  classes: int = 10,
  trials: Mapping[str, int] | None = None,
  warnings: tuple[dict, ...] = (),
) -> dict:
  """What `attacks` of evaluation/<model>.json holds of AutoAttack.

  Args:
    left: images right without an attack, and after each member; for one that
      is not defined, as many as before it.
    images: attacked.
    epsilon: radius.
    rejected: images that Square claimed and nothing confirmed.
    classes: that there are.
    trials: of members, in place of their own; 0 for one that is not defined.
    warnings: of AutoAttack.
  """
  members = [
    {
      'name': name,
      'label': label,
      'black_box': black_box,
      'num_steps': steps,
      'num_trials': (trials or {}).get(name, num_trials),
      'attacked': before,
      'broken': before - after,
      'rejected': rejected if name == 'square' else 0,
      'robust': after,
      'seconds': 1.5,
      'forward': 100 * before * num_trials,
      'backward': 0 if black_box else 100 * before * num_trials,
    }
    for (name, (label, black_box, steps, num_trials)), before, after in zip(
      MEMBERS.items(), left[:-1], left[1:], strict=True
    )
  ]
  return {
    'attack': 'autoattack',
    'label': 'AutoAttack',
    'preset': ['standard'],
    'origin': 'Croce and Hein 2020',
    'epsilon': epsilon,
    'steps': None,
    'step_size': None,
    'images': images,
    'correct': left[-1],
    'accuracy': left[-1] / images,
    'seconds': 6.0,
    'rejected': rejected,
    'adversarial': None,
    'norm': 'L∞',
    'num_classes': classes,
    'members': members,
    'warnings': list(warnings),
  }


def arrays(saved: Mapping, ranks: np.ndarray) -> dict[str, np.ndarray]:
  """What the .npz file holds of one record.

  Args:
    saved: the record.
    ranks: [N], of at least as many images.

  Returns:
    Arrays by name.
  """
  places = ranks[: saved['images']].argsort().argsort()
  key = saved['attack']
  saved_arrays = {f'correct/{key}': places < saved['correct']}
  if 'members' in saved:
    robust = np.asarray([member['robust'] for member in saved['members']])
    survived = (places[:, None] < robust[None, :]).sum(1)
    is_broken = (places < saved['members'][0]['attacked']) & (
      survived < len(robust)
    )
    saved_arrays[f'broken_by/{key}'] = np.where(is_broken, survived, -1)
  return saved_arrays
