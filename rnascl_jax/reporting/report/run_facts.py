"""What was run, on what, and for how long: a report's head and foot."""

import posixpath

from rnascl_jax.reporting.evaluations import Json
from rnascl_jax.reporting.results import SavedRun


def section(run: SavedRun) -> str:
  """The section 'What was run'; only facts that the run saved."""
  lines = [f'- {name}: {value}' for name, value in facts(run)]
  return '\n'.join(['## What was run', '', *lines]) if lines else ''


def facts(run: SavedRun) -> list[tuple[str, str]]:
  """Names and values, in Markdown, of what the run saved about itself."""
  saved = run.provenance
  devices = ', '.join(
    f'{d["count"]} × {d["kind"]}' for d in saved.get('devices', ())
  )
  processes, versions = saved.get('processes', 1), saved.get('versions', {})
  known = [
    ('Data set', run.dataset),
    ('Seed', '' if run.seed is None else str(run.seed)),
    ('Hardware', devices + f' of {processes} processes' * (processes > 1)),
    ('Wall clock', _wall_clock(saved.get('seconds', {}))),
    ('Versions', ', '.join(f'{name} {v}' for name, v in versions.items())),
    *(('Not trained here', text) for text in _pretrained(run)),
  ]
  source = (run.architecture or {}).get('source')
  if source:
    text = f'the architecture and its tutors, from {_file(source)}).'
    known.append(('Not searched here', text))
  known += [('**Ended early**', text) for text in _ended_early(run)]
  if saved.get('command'):
    known.append(('Command', f'`{saved["command"]}`'))
  return [(name, value) for name, value in known if value]


def footer(run: SavedRun) -> str:
  """The section 'Provenance': where every number of the report comes from."""
  return f'## Provenance\n\n{sources(run)}'


def sources(run: SavedRun) -> str:
  """The code and the files that the numbers come from, in Markdown."""
  commit = run.provenance.get('commit')
  names = ['`config.json`'] if run.config else []
  names += [f'`evaluation/{e.model}.json`' for e in run.evaluations]
  if run.architecture is not None:
    names.append('`architecture.json`')
  lines = [
    f'Code: commit `{commit}`.' if commit else 'Code: commit not recorded.'
  ]
  if names:
    lines.append(f'Results are computed from {", ".join(names)}.')
  saved = [a.adversarial for e in run.evaluations for a in e.attacks]
  folders = {posixpath.dirname(path) for path in saved if path}
  if folders:
    folder = posixpath.commonpath(folders)
    lines.append(f'Adversarial images are in `{folder}/`.')
  return ' '.join(lines)


def _wall_clock(seconds: Json) -> str:
  stages = [f'{name} {duration(value)}' for name, value in seconds.items()]
  if len(stages) > 1 and 'total' not in seconds:
    stages.append(f'together {duration(sum(seconds.values()))}')
  return ', '.join(stages)


def _file(source: Json) -> str:
  return f'`{source["file"]}` (SHA-256 `{source["sha256"]}`'


def _pretrained(run: SavedRun) -> list[str]:
  """Teachers that were trained elsewhere, and the files they are from."""
  texts = []
  for name, saved in run.pretrained.items():
    text = f'{run.label(name)}, from `{saved["checkpoint"]}`'
    source = saved.get('source')
    if source:
      text += (
        f', which was imported from {_file(source)}; normalisation: '
        f'{source["normalization"]})'
      )
    texts.append(f'{text}.')
  return texts


def _ended_early(run: SavedRun) -> list[str]:
  """Stages that overfitted to the attack they were trained on."""
  texts = []
  for stage in run.stages:
    drop = stage.summary.get('collapse')
    if drop:
      used, epochs = stage.selected_epoch, stage.summary.get('epochs')
      texts.append(
        f'{run.label(stage.model)}, after epoch {drop["epoch"]} of {epochs}: '
        'its accuracy under PGD on the validation images fell from '
        f'{100 * drop["best"]:.1f} to {100 * drop["fell_to"]:.1f} %, as it had '
        'overfitted to the attack of its training. Its best checkpoint is used'
        f'{"" if used is None else f", of epoch {used:g}"}.'
      )
  return texts


def duration(seconds: float) -> str:
  """'31 s', '2 min 05 s', '1 h 02 min'."""
  whole = round(seconds)
  if whole < 60:
    return f'{seconds:.1f} s' if seconds < 10 else f'{whole} s'
  if whole < 3600:
    return f'{whole // 60} min {whole % 60:02d} s'
  return f'{whole // 3600} h {whole % 3600 // 60:02d} min'
