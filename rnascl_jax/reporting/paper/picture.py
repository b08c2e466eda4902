"""A figure of a sweep with its caption, and what all captions share."""

from collections.abc import Collection, Iterable, Sequence, Sized
from typing import NamedTuple

from matplotlib.figure import Figure

from rnascl_jax.reporting import style, tables
from rnascl_jax.reporting.paper.sweep_runs import Models

ROBUST = 'pgd20'
# By the first label of a row.
TRAINING_COLORS = {
  'Without adversarial training': style.BLUE,
  'With adversarial training': style.RED,
}


class Picture(NamedTuple):
  """A drawn figure, and what its caption says that it shows and lacks."""

  figure: Figure
  caption: str


def radius(rows: Iterable[Models]) -> str:
  """'8/255', the radius of PGD-20 on rows by seed; several if they differ."""
  radii = [
    tables.epsilon_text(result.epsilon, evaluation.dataset, result.norm)
    for models in rows
    for _, evaluation in models.values()
    if (result := evaluation.under(ROBUST)) is not None
  ]
  return ', '.join(dict.fromkeys(radii))


def averaged(rows: Collection[Sized], spread: str = '') -> str:
  """'of one seed', 'mean over 3 seeds', 'mean over 1 to 3 seeds'.

  Each of the rows is as long as it has seeds. How their spread is shown is said
  where there is one.
  """
  counts = sorted(map(len, rows))
  if counts[-1] == 1:
    return 'of one seed'
  ends = dict.fromkeys(f'{n}' for n in (counts[0], counts[-1]))
  return f'mean over {" to ".join(ends)} seeds{spread}'


def lacking(names: Sequence[str]) -> str:
  """' Not run: S5, S7.'; '' where nothing lacks."""
  return f' **Not run: {", ".join(names)}.**' if names else ''
