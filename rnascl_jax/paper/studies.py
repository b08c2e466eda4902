"""Tables that the paper does not print: the numbers of Fig. 3, and γ.

Fig. 3 shows ways to distil without a search of their own. The study of γ, the
weight of the attention loss, is ours: with and without KL in one architecture
by the same tutors, and with a search of its own for each γ.

Example:
  >>> from rnascl_jax.paper import studies
  >>> studies.FIGURE_3.is_printed
  False
  >>> [line.labels[1] for line in studies.GAMMA.lines[:3]]
  ['0', '1', '7']
"""

from rnascl_jax.paper.definition import CLEAN, PGD20, Line, Source, Table

_COLUMNS = (CLEAN, PGD20)
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
# That of configs/digits.py: its run is the row without a γ in its name. That of
# γ = 0 is the row of CE + KL.
_DEFAULT = 70


def _studied(model: str) -> Source:
  return Source('digits', 'small', 'gamma', model)


def weighted(series: str, gamma: int) -> Source | None:
  """The student of one γ; None where the study has none."""
  study = _studied(f'gamma_{gamma}')
  if series == WITH_KL:
    return study
  if series == WITHOUT_KL:
    return study._replace(model=f'only_gamma_{gamma}') if gamma else None
  if gamma == 0:
    return study._replace(variant='ce_kl', model='ce_kl')
  own = '' if gamma == _DEFAULT else f'gamma_{gamma}'
  return study._replace(variant=own, model='rnas_cl')


GAMMA = Table(
  key='gamma',
  title='The weight γ of the attention loss on digits (not in the paper)',
  headings=('Objective', 'γ'),
  columns=_COLUMNS,
  lines=tuple(
    Line((series, f'{gamma}'), source=source)
    for series in (WITH_KL, WITHOUT_KL, OWN_SEARCH)
    for gamma in GAMMAS
    if (source := weighted(series, gamma)) is not None
  ),
  notes=(
    'ICC: intermediate cross-connections, the attention loss of eq. (1). But '
    'for those with a search of their own, all are trained in the architecture '
    'and by the tutors of one search. Eq. (1) averages over 10 student and 7 '
    'teacher layers: γ = 70 undoes this.',
  ),
  pairs=tuple(
    (first, second)
    for series in (WITH_KL, OWN_SEARCH)
    for gamma in GAMMAS[1:]
    if (first := weighted(series, gamma)) is not None
    and (second := weighted(series, 0)) is not None
  ),
)
