"""Times the networks of a sweep, and tabulates what their searches paid.

  rnascl pareto --workdir=ROOT
  rnascl pareto --workdir=ROOT --runtime=onnx --batch=64

ROOT is the folder of `rnascl sweep`, of configs/pareto.py or another whose rows
were searched. All networks are timed in turns in one process, as `rnascl
latency` does it. ROOT/pareto/ has the tables (pareto.md): every row with means
over seeds and the front marked, differences from the search by MACs with
intervals, the networks of the front; the picture (pareto.png); and the times
with their device (latency.json).
"""

import sys

from absl import flags

from rnascl_jax.interop import latency
from rnascl_jax.reporting import pareto, pareto_page, tables
from rnascl_jax.reporting.figures import pareto as figures
from rnascl_jax.reporting.paper import sweep_runs
from rnascl_jax.reporting.paper.sweep_runs import EvaluatedModel
from rnascl_jax.runtime import (
  commands,
  compilation,
  files,
  host_memory,
  lock,
  provenance,
)
from rnascl_jax.search import architecture
from rnascl_jax.stages import launcher

_MODEL = flags.DEFINE_string('model', 'rnas_cl', 'Name of the student.')
_RUNTIME = flags.DEFINE_enum(
  'runtime', 'jax', [*latency.RUNTIMES], 'What runs the networks.'
)
_THREADS = flags.DEFINE_integer(
  'threads', 1, 'Threads of a CPU; 0 for all that there are.', lower_bound=0
)
_BATCH = flags.DEFINE_integer('batch', 1, 'Images at once.', lower_bound=1)
_REPEATS = flags.DEFINE_integer(
  'repeats', 101, 'Turns whose median is taken.', lower_bound=1
)


def _pareto() -> str:
  host_memory.keep()
  compilation.prepare()
  try:
    sweep = sweep_runs.load(launcher.FLAGS.workdir)
    models = pareto.searched(sweep, _MODEL.value)
    measured = _measure(models)
    found = pareto.points(models, measured.times)
    if not found:
      raise ValueError(f'{sweep.root} has no robust accuracy of a row.')
  except ValueError as error:
    sys.exit(f'error: {error}')
  run, evaluation = next(iter(models.values()))
  attacked = evaluation.under(run.headline_attack)
  attack = attacked.label if attacked else 'Robust'
  folder = pareto.folder(sweep.root)
  with lock.hold(folder):
    lock.remove_temporary(folder)
    facts = pareto.facts(measured, provenance.describe(1))
    files.write_json(folder / 'latency.json', facts)
    figures.write(found, attack, folder / 'pareto.png')
    page = pareto_page.page(found, measured, attack, commands.line())
    files.write_atomically(folder / 'pareto.md', page)
  parts = [
    tables.plain(pareto_page.cells(found, attack)),
    pareto_page.note(measured),
  ]
  differences = pareto_page.difference_cells(found, attack)
  if len(differences) > 1:
    parts.append(tables.plain(differences))
  return '\n\n'.join([*parts, f'Saved: {folder / "pareto.md"}'])


def _measure(
  models: dict[tuple[str, int], EvaluatedModel],
) -> pareto.Measured:
  """Times every network once, however many rows found it."""
  by = latency.runtime(_RUNTIME.value, _THREADS.value)
  saved = {key: model.run.architecture or {} for key, model in models.items()}
  first = next(iter(saved.values()))
  image = first['image_shape'], first['num_classes']
  spaces = {}
  for (row, seed), fields in saved.items():
    if (fields['image_shape'], fields['num_classes']) != image:
      raise ValueError(
        f'seed {seed} of {row} has other images than the rows before it: give '
        'sweeps of different data folders of their own.'
      )
    spaces[row, seed] = architecture.from_dict(fields).derived_space
  unique = list(dict.fromkeys(spaces.values()))
  height, width, channels = image[0]
  times = latency.times_of(
    unique,
    (height, width, channels),
    image[1],
    by,
    batch=_BATCH.value,
    repeats=_REPEATS.value,
  )
  of_space = dict(zip(unique, times, strict=True))
  return pareto.Measured(
    by.device,
    by.name,
    _BATCH.value,
    _REPEATS.value,
    {key: of_space[space] for key, space in spaces.items()},
  )


if __name__ == '__main__':
  launcher.define_workdir()
  launcher.command(_pareto)
