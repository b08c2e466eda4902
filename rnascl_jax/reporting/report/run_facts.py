"""What was run, on what, and for how long: a report's head and foot."""

import posixpath

from rnascl_jax.reporting.results import Run


def section(run: Run) -> str:
  """The section 'What was run'; only facts that the run saved."""
  facts = [
    ('Data set', run.dataset),
    ('Seed', _seed(run)),
    ('Hardware', _hardware(run)),
    ('Wall clock', _wall_clock(run)),
    ('Versions', _versions(run)),
  ]
  lines = [f'- {name}: {value}' for name, value in facts if value]
  lines += [f'- Not trained here: {given}' for given in _given(run)]
  lines += [f'- Not searched here: {given}' for given in _architecture(run)]
  lines += [f'- **Ended early**: {ended}' for ended in _ended_early(run)]
  command = run.provenance.get('command')
  if command:
    lines.append(f'- Command: `{command}`')
  return '\n'.join(['## What was run', '', *lines]) if lines else ''


def footer(run: Run) -> str:
  """The section 'Provenance': where every number of the report comes from."""
  commit = run.provenance.get('commit')
  names = [f'`evaluation/{e.model}.json`' for e in run.evaluations]
  if run.config:
    names.insert(0, '`config.json`')
  if run.architecture is not None:
    names.append('`architecture.json`')
  lines = [
    f'Code: commit `{commit}`.' if commit else 'Code: commit not recorded.'
  ]
  if names:
    lines.append(f'Results are computed from {", ".join(names)}.')
  saved = [o.adversarial for e in run.evaluations for o in e.attacks]
  folders = {posixpath.dirname(path) for path in saved if path}
  if folders:
    folder = posixpath.commonpath(folders)
    lines.append(f'Adversarial images are in `{folder}/`.')
  return '\n\n'.join(['## Provenance', ' '.join(lines)])


def _seed(run: Run) -> str:
  seed = run.config.get('seed', run.provenance.get('seed'))
  return '' if seed is None else str(seed)


def _hardware(run: Run) -> str:
  devices = run.provenance.get('devices', ())
  found = ', '.join(f'{d["count"]} × {d["kind"]}' for d in devices)
  processes = run.provenance.get('processes', 1)
  return f'{found} of {processes} processes' if processes > 1 else found


def _wall_clock(run: Run) -> str:
  seconds = run.provenance.get('seconds', {})
  stages = [f'{name} {duration(value)}' for name, value in seconds.items()]
  if len(stages) > 1 and 'total' not in seconds:
    stages.append(f'together {duration(sum(seconds.values()))}')
  return ', '.join(stages)


def _given(run: Run) -> list[str]:
  """Teachers that were trained elsewhere, and the files they are from."""
  found = []
  for name, saved in run.pretrained.items():
    text = f'{run.label(name)}, from `{saved["checkpoint"]}`'
    source = saved.get('source')
    if source:
      text += (
        f', which was imported from `{source["file"]}` (SHA-256 '
        f'`{source["sha256"]}`; normalisation: {source["normalization"]})'
      )
    found.append(f'{text}.')
  return found


def _architecture(run: Run) -> list[str]:
  """The file of another search whose architecture the run took."""
  source = (run.architecture or {}).get('source')
  if not source:
    return []
  return [
    f'the architecture and its tutors, from `{source["file"]}` (SHA-256 '
    f'`{source["sha256"]}`).'
  ]


def _ended_early(run: Run) -> list[str]:
  """Stages that overfitted to the attack they were trained on."""
  found = []
  for stage in run.stages:
    drop = stage.summary.get('collapse')
    if drop:
      used, epochs = stage.selected_epoch, stage.summary.get('epochs')
      found.append(
        f'{run.label(stage.model)}, after epoch {drop["epoch"]} of {epochs}: '
        'its accuracy under PGD on the validation images fell from '
        f'{100 * drop["best"]:.1f} to {100 * drop["fell_to"]:.1f} %, as it had '
        'overfitted to the attack of its training. Its best checkpoint is used'
        f'{"" if used is None else f", of epoch {used:g}"}.'
      )
  return found


def _versions(run: Run) -> str:
  versions = run.provenance.get('versions', {})
  return ', '.join(f'{name} {version}' for name, version in versions.items())


def duration(seconds: float) -> str:
  """'31 s', '2 min 05 s', '1 h 02 min'."""
  whole = round(seconds)
  if whole < 60:
    return f'{seconds:.1f} s' if seconds < 10 else f'{whole} s'
  if whole < 3600:
    return f'{whole // 60} min {whole % 60:02d} s'
  return f'{whole // 3600} h {whole % 3600 // 60:02d} min'
