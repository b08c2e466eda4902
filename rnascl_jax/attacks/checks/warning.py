"""A reason to doubt an evaluation, in words."""

from typing import NamedTuple


class AttackWarning(NamedTuple):
  """What was seen that may make robust accuracy look higher than it is.

  Attributes:
    kind: a short name.
    message: what was seen, what it may mean and what to do, for people.
  """

  kind: str
  message: str
