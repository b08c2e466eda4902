"""Tables that the paper does not print: the numbers of Fig. 3, and γ.

Fig. 3 shows ways to distil without a search of their own. The study of γ, the
weight of the attention loss, is ours: with and without KL in one architecture
by the same tutors, and with a search of its own for each γ.

Example:
  >>> from rnascl_jax.reporting.paper import studies
  >>> studies.FIGURE_3.is_printed
  False
  >>> [line.labels[1] for line in studies.GAMMA.lines[:3]]
  ['0', '1', '7']
"""

from typing import NamedTuple

from rnascl_jax.reporting.paper.definition import (
  CLEAN,
  PGD20,
  SIZE,
  Line,
  Source,
  Table,
)

_COLUMNS = (CLEAN, PGD20, SIZE)
SPACES = ('s3', 's5', 's7')
# What distils, as Fig. 3 calls it; RNAS-CL comes from its own row.
METHODS = {
  'rnas_cl': 'RNAS-CL',
  'sp': 'Similarity',
  'vid': 'VID',
  'rkd': 'RKD',
  'crd': 'CRD',
  'pkt': 'PKT',
  'at': 'AT',
  'kd': 'KD',
}


def distilled(space: str, method: str) -> Source:
  """The student of one way to distil, of Fig. 3."""
  if method == 'rnas_cl':
    return Source(space, 'wrn34', '', method)
  return Source(space, 'wrn34', 'kd', method)


FIGURE_3 = Table(
  key='fig3',
  title='Fig. 3 in numbers: ways to distil on CIFAR-10',
  headings=('Space', 'Method'),
  columns=_COLUMNS,
  lines=tuple(
    Line((space.upper(), name), source=distilled(space, method))
    for space in SPACES
    for method, name in METHODS.items()
  ),
  notes=(
    'All in the architecture that RNAS-CL found. The paper shows these in a '
    'figure and prints no numbers; it has no AT and no KD.',
  ),
  needs='kd',
  pairs=tuple(
    (distilled(space, 'rnas_cl'), distilled(space, method))
    for space in SPACES
    for method in METHODS
    if method != 'rnas_cl'
  ),
)

GAMMAS = (0, 1, 7, 70, 700)
WITH_KL, WITHOUT_KL, OWN_SEARCH = (
  'CE + KL + γ ICC',
  'CE + γ ICC',
  'CE + KL + γ ICC, own search',
)


class Study(NamedTuple):
  """Where γ is studied.

  Attributes:
    space: of the search.
    teacher: robust.
    default: the γ of the row without a γ in its name.
    searched: values of γ with a search of their own; 0 is CE + KL.
  """

  space: str
  teacher: str
  default: int
  searched: tuple[int, ...]

  def source(self, series: str, gamma: int) -> Source | None:
    """The student of one γ; None where the study has none."""
    study = Source(self.space, self.teacher, 'gamma', f'gamma_{gamma}')
    if series == WITH_KL:
      return study
    if series == WITHOUT_KL:
      return study._replace(model=f'only_gamma_{gamma}') if gamma else None
    if gamma not in self.searched:
      return None
    if gamma == 0:
      return study._replace(variant='ce_kl', model='ce_kl')
    own = '' if gamma == self.default else f'gamma_{gamma}'
    return study._replace(variant=own, model='rnas_cl')

  def sources(self, series: str) -> dict[int, Source]:
    """Of a series, by γ."""
    found = {gamma: self.source(series, gamma) for gamma in GAMMAS}
    return {gamma: source for gamma, source in found.items() if source}


def gamma_table(study: Study, title: str, note: str) -> Table:
  """Accuracies for every γ, with and without KL."""
  series = (WITH_KL, WITHOUT_KL, OWN_SEARCH)
  return Table(
    key='gamma',
    title=title,
    needs='gamma',
    headings=('Objective', 'γ'),
    columns=_COLUMNS,
    lines=tuple(
      Line((name, f'{gamma}'), source=source)
      for name in series
      for gamma, source in study.sources(name).items()
    ),
    notes=(
      'ICC: intermediate cross-connections, the attention loss of eq. (1). But '
      'for those with a search of their own, all are trained in the '
      f'architecture and by the tutors of one search.{note}',
    ),
    pairs=tuple(
      (source, sources[0])
      for name in series
      if 0 in (sources := study.sources(name))
      for gamma, source in sources.items()
      if gamma
    ),
  )


# configs/digits.py has 70, configs/cifar10.py the paper's 1.
GAMMA = gamma_table(
  Study('s3', 'wrn34', 1, (0, 1)),
  'The weight γ of the attention loss on CIFAR-10, S3 (not in the paper)',
  '',
)
GAMMA_DIGITS = gamma_table(
  Study('digits', 'small', 70, GAMMAS),
  'The weight γ of the attention loss on digits (not in the paper)',
  ' Eq. (1) averages over 10 student and 7 teacher layers: γ = 70 undoes this. '
  'With KL, γ = 70 is the student RNAS-CL of Table 7 and γ = 0 the student KD '
  'of Fig. 3, trained again with the same result.',
)
