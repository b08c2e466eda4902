"""How a model did under one attack, as `evaluation/<model>.json` says it.

AutoAttack is several attacks: its record has members, each with what it broke
of the images that those before it had left, and reasons to doubt the result.
"""

import math
from typing import Any, NamedTuple

Json = dict[str, Any]

# The norm of attacks whose record does not name one.
LINF = 'L∞'


class Suspicion(NamedTuple):
  """A reason to doubt an evaluation.

  Attributes:
    kind: a few words, the same for all of one sort.
    message: what was seen and what it may mean, for people.
  """

  kind: str
  message: str


class Member(NamedTuple):
  """One attack of AutoAttack on one model.

  Attributes:
    name: its key.
    label: what a reader sees, 'APGD-CE'.
    black_box: whether it uses no gradients.
    num_steps: of a trial.
    num_trials: of an image; 0 where it is not defined for so few classes.
    attacked: images that were classified correctly until then.
    broken: of these.
    rejected: images it claimed that full float32 did not confirm.
    robust: images of all that are left right by it and those before it.
    seconds: wall clock.
    forward: passes through the network, of all images together.
    backward: passes back.
  """

  name: str
  label: str
  black_box: bool
  num_steps: int
  num_trials: int
  attacked: int
  broken: int
  rejected: int
  robust: int
  seconds: float
  forward: int
  backward: int


class Outcome(NamedTuple):
  """One attack on one model.

  Attributes:
    attack: its key, 'clean' for no attack.
    label: what a reader sees, 'PGD-20'.
    epsilon: radius in pixels of [0, 1]; 0 for 'clean'.
    steps: number of steps, None where it has none.
    step_size: in pixels of [0, 1], None where it has none.
    images: how many images were attacked, at least 1: the first of the split.
    correct: how many of them were classified correctly.
    norm: of the radius.
    rejected: images the attack claimed that were not confirmed in float32.
    adversarial: file of the adversarial images, relative to the workdir; None
      where they were not saved.
    num_classes: K, None if unknown.
    members: of AutoAttack in their order; empty for any other attack.
    suspicions: reasons to doubt this outcome.
  """

  attack: str
  label: str
  epsilon: float
  steps: int | None
  step_size: float | None
  images: int
  correct: int
  norm: str = LINF
  rejected: int = 0
  adversarial: str | None = None
  num_classes: int | None = None
  members: tuple[Member, ...] = ()
  suspicions: tuple[Suspicion, ...] = ()

  @property
  def accuracy(self) -> float:
    """Share of images classified correctly, in [0, 1]."""
    return self.correct / self.images

  @property
  def defined(self) -> tuple[Member, ...]:
    """The members that are defined for the number of classes."""
    return tuple(m for m in self.members if m.num_trials)

  def same_ball(self, other: 'Outcome') -> bool:
    """Whether both may change an image by equally much."""
    return self.norm == other.norm and math.isclose(
      self.epsilon, other.epsilon, abs_tol=1e-6
    )

  def same_attack(self, other: 'Outcome') -> bool:
    """Whether both came from one attack with the same settings."""
    return (
      self.attack == other.attack
      and self.steps == other.steps
      and self._budget == other._budget
      and self.same_ball(other)
      and math.isclose(
        self.step_size or 0.0, other.step_size or 0.0, abs_tol=1e-6
      )
    )

  @property
  def _budget(self) -> list[tuple]:
    return [(m.name, m.num_steps, m.num_trials) for m in self.members]


def read(saved: Json) -> Outcome:
  """One record of `attacks`.

  Args:
    saved: the record.

  Returns:
    The outcome.

  Raises:
    ValueError: a count is impossible.
  """
  images, correct = saved['images'], saved.get('correct')
  if correct is None:
    correct = round(saved['accuracy'] * images)
  if not 0 <= correct <= images or images < 1:
    raise ValueError(
      f'correct={correct} of images={images} for attack '
      f'{saved["attack"]!r}; must be a count of at least one image'
    )
  return Outcome(
    attack=saved['attack'],
    label=saved.get('label') or saved['attack'],
    epsilon=saved.get('epsilon') or 0.0,
    steps=saved.get('steps'),
    step_size=saved.get('step_size'),
    images=images,
    correct=correct,
    norm=saved.get('norm') or LINF,
    rejected=saved.get('rejected') or 0,
    adversarial=saved.get('adversarial'),
    num_classes=saved.get('num_classes'),
    members=tuple(_member(m, images) for m in saved.get('members') or ()),
    suspicions=suspicions(saved),
  )


def suspicions(saved: Json) -> tuple[Suspicion, ...]:
  """The `warnings` of a record or of a whole file, if it has any."""
  return tuple(
    Suspicion(found['kind'], found['message'])
    for found in saved.get('warnings') or ()
  )


def _member(saved: Json, images: int) -> Member:
  member = Member(**{name: saved[name] for name in Member._fields})
  if not 0 <= member.broken <= member.attacked <= images:
    raise ValueError(
      f'broken={member.broken} of attacked={member.attacked} of '
      f'images={images} for {member.label}; none may exceed the next'
    )
  return member
