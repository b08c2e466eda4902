"""AutoAttack in a run: which models faced the same on the same images."""

from typing import NamedTuple

from rnascl_jax.reporting.figures.evaluation import Evaluation
from rnascl_jax.reporting.figures.outcomes import Outcome
from rnascl_jax.reporting.figures.results import Run


class Attacked(NamedTuple):
  """A model under AutoAttack.

  Attributes:
    found: the model.
    outcome: of AutoAttack.
  """

  found: Evaluation
  outcome: Outcome


def groups(run: Run) -> list[list[Attacked]]:
  """Models under AutoAttack, those together that faced the same on the same.

  Args:
    run: the saved results.

  Returns:
    Groups of equal radius, number of images and members, in order of the
    models; empty where no AutoAttack was run.
  """
  found: dict[tuple, list[Attacked]] = {}
  for evaluation in run.evaluations:
    for outcome in evaluation.outcomes:
      if outcome.members:
        key = (
          outcome.attack,
          outcome.norm,
          round(outcome.epsilon, 6),
          outcome.images,
          *(member.label for member in outcome.members),
        )
        found.setdefault(key, []).append(Attacked(evaluation, outcome))
  return list(found.values())


def which_images(outcome: Outcome, images: int) -> str:
  """'the first 64 of 517 test images', or 'all 517 test images'."""
  if outcome.images < images:
    return f'the first {outcome.images:,} of {images:,} test images'
  return f'all {images:,} test images'
