"""The tables of attacks in docs/attacks.md, made from the attacks themselves.

python -m tests.attack_tables  # writes them into the page
"""

import pathlib
import re

from rnascl_jax import losses
from rnascl_jax.attacks import ensembles, norms
from rnascl_jax.attacks.presets import PRESETS
from rnascl_jax.reporting import tables

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'attacks.md'
# Members are counted for as many classes as CIFAR-10 has.
CLASSES = 10
SOURCES = {
  'apgd': 'Croce and Hein, ICML 2020',
  'fab': 'Croce and Hein, ICML 2020 (FAB)',
  'square': 'Andriushchenko et al., ECCV 2020',
}
IN_L1 = 'Croce and Hein, ICML 2021'


def members() -> str:
  """The members of every version in every norm, as Markdown."""
  header = ['attack', 'version', 'norm', 'targets', 'sees', 'steps']
  rows = [[*header, 'forward, backward passes', 'source']]
  for version, ensemble in ensembles.VERSIONS.items():
    for norm in norms.NORMS.values():
      for member in ensemble(norm):
        rows.append([member.label, version, norm.name, *_costs(member)])
  return tables.markdown(_merged(rows), left=8)


def _costs(member: ensembles.EnsembleMember) -> list[str]:
  attack = member.attack
  trials = attack.num_trials(CLASSES)
  begin, step = attack.passes(CLASSES)
  passes = [
    trials * (first + attack.num_steps * each)
    for first, each in zip(begin, step, strict=True)
  ]
  targets = getattr(attack, 'targets', 0)
  kind = member.name.split('_')[0]
  return [
    str(min(targets, CLASSES - 1)) if targets else '',
    'logits' if member.black_box else 'gradients',
    f'{trials} × {attack.num_steps:,}',
    ', '.join(f'{count:,}' for count in passes),
    SOURCES[kind] if kind == 'fab' or attack.norm != norms.L1 else IN_L1,
  ]


def _merged(rows: list[list[str]]) -> list[list[str]]:
  """Rows that differ in the norm alone, as one."""
  merged: dict[tuple[str, ...], list[str]] = {}
  for row in rows:
    merged.setdefault((*row[:2], *row[3:]), []).append(row[2])
  return [
    [*rest[:2], ', '.join(names), *rest[2:]] for rest, names in merged.items()
  ]


def presets() -> str:
  """The attacks of the literature, as Markdown."""
  rows = [['preset', 'norm', 'loss', 'ε', 'step', 'steps', 'start', 'origin']]
  for name, preset in PRESETS.items():
    loss = 'margin' if preset.loss is losses.cw_loss else 'cross-entropy'
    steps = f'{preset.restarts} × ' * (preset.restarts > 1)
    start = 'the image' if preset.start is None else 'random'
    rows.append(
      [
        f'`{name}`',
        getattr(preset, 'norm', norms.LINF).name,
        loss,
        _radius(preset.epsilon),
        _radius(preset.step_size),
        f'{steps}{preset.num_steps}',
        start,
        preset.origin,
      ]
    )
  return tables.markdown(rows, left=8)


def _radius(value: float) -> str:
  levels = round(255 * value, 6)
  of_levels = f'{levels:g}/255'
  plain = f'{value:g}'
  return of_levels if len(of_levels) < len(f'{value}') else plain


def filled(page: str) -> str:
  """The page with its tables made anew."""
  for name, table in (('members', members()), ('presets', presets())):
    page, count = re.subn(
      rf'(<!-- {name} -->\n).*?(\n<!-- end -->)',
      lambda match, table=table: f'{match[1]}\n{table}\n{match[2]}',
      page,
      flags=re.S,
    )
    assert count == 1, name
  return page


if __name__ == '__main__':
  PAGE.write_text(filled(PAGE.read_text(encoding='utf-8')), encoding='utf-8')
