"""Accuracy under common corruptions, of several models at once.

Results lie in `evaluation/corruptions/<set>/`, where the set is 'made' or the
folder of the images, with their number where not all are used:

  set.json      what the images are, and the baseline if there is one
  <model>.json  how many images are right, by corruption and severity
  examples/     one image as it is, and under each corruption and severity

What is finished is not computed again; more corruptions, severities and models
may be added at any time.
"""

import itertools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from rnascl_jax.attacks import prediction
from rnascl_jax.data.corruptions.corrupted_set import CorruptedSet
from rnascl_jax.data.splits import Split
from rnascl_jax.evaluation import attack_journal, classification
from rnascl_jax.evaluation.target import EvaluationTarget, first
from rnascl_jax.runtime import files, processes, progress
from rnascl_jax.runtime.signals import Stop

# Stands beside the corruptions for the images as they are.
CLEAN = ('clean', 0)


def folder_of(workdir: pathlib.Path, corrupted: CorruptedSet) -> pathlib.Path:
  """The folder of a set's results in a workdir."""
  return workdir / 'evaluation' / 'corruptions' / corrupted.name


def check_folder(folder: pathlib.Path, corrupted: CorruptedSet) -> None:
  """Raises if a folder has results on other images.

  Raises:
    ValueError: it has.
    DamagedFileError: its set.json is damaged.
  """
  path = folder / 'set.json'
  if not path.exists():
    return
  saved = files.read_json(path, 'identity')['identity']
  now = files.to_json(corrupted.identity)
  if saved != now:
    raise ValueError(
      f'{folder} has results on other images with the name {corrupted.name} '
      f'({saved} there, {now} here): rename that folder, or the folder of '
      'images.'
    )


def evaluate(
  targets: Sequence[EvaluationTarget],
  corrupted: CorruptedSet,
  corruptions: Sequence[str],
  severities: Sequence[int],
  baseline: dict[str, Any] | None = None,
) -> bool:
  """Counts the corrupted images that each model classifies correctly.

  Args:
    targets: the models of a run, at least one.
    corrupted: the images.
    corruptions: which of them, at least one.
    severities: in [1, 5], at least one.
    baseline: of `corruption_baseline.load`; None leaves that which is saved.

  Returns:
    Whether there was something to do.

  Raises:
    Interrupted: after SIGTERM or SIGINT, when everything finished is saved.
  """
  folder = folder_of(targets[0].workdir, corrupted)
  processes.on_main(_write_set, folder, targets[0], corrupted, baseline)
  models = [_ModelResults(folder, target) for target in targets]
  work = [CLEAN, *itertools.product(corruptions, severities)]
  to_do = [cell for cell in work if any(m.lacks(*cell) for m in models)]
  with progress.Progress(
    len(work) * corrupted.images,
    initial=(len(work) - len(to_do)) * corrupted.images,
    description=f'corruptions ({corrupted.name})',
    unit='images',
    is_main_process=processes.is_main() and bool(to_do),
  ) as bar:
    done = (len(work) - len(to_do)) * corrupted.images
    for name, severity in to_do:
      if (name, severity) == CLEAN:
        split = first(targets[0].data.test, corrupted.images)
      else:
        split = processes.together(corrupted.load, name, severity)
      processes.on_main(
        _write_example, folder / 'examples', split, name, severity
      )
      lacking = [m for m in models if m.lacks(name, severity)]
      _evaluate_cell(lacking, split, name, severity, bar, done, targets[0].stop)
      done += corrupted.images
  return bool(to_do)


def _write_set(
  folder: pathlib.Path,
  target: EvaluationTarget,
  corrupted: CorruptedSet,
  baseline: dict[str, Any] | None,
) -> None:
  path = folder / 'set.json'
  saved = files.read_json(path) if path.exists() else {}
  files.write_json(
    path,
    {
      'name': corrupted.name,
      'dataset': target.data.name,
      'images': corrupted.images,
      'identity': corrupted.identity,
      'baseline': baseline or saved.get('baseline'),
    },
  )


class _ModelResults:
  """The results of one model, and their file."""

  def __init__(self, folder: pathlib.Path, target: EvaluationTarget):
    """Reads what is saved, unless it is of another training."""
    model = target.model
    self.network = target.network
    self._path = folder / f'{model.name}.json'
    self._content = {
      'model': model.name,
      'label': model.label,
      'kind': model.kind,
      'base': model.base,
      'order': model.order,
      'results': {},
      'key': files.to_json(model.summary),
    }
    saved = processes.from_main(processes.together(self._saved))
    if saved is None:
      return
    if saved['key'] == self._content['key']:
      self._content['results'] = saved['results']
    else:
      logging.warning('%s is of another training: it is replaced.', self._path)

  def _saved(self) -> dict[str, Any] | None:
    if not (processes.is_main() and self._path.exists()):
      return None
    return files.to_json(files.read_json(self._path, 'results', 'key'))

  def lacks(self, name: str, severity: int) -> bool:
    return str(severity) not in self._content['results'].get(name, {})

  def add(
    self, name: str, severity: int, correct: np.ndarray, seconds: float
  ) -> None:
    """Saves which images [N] of a corruption and severity are right."""
    by_severity = self._content['results'].setdefault(name, {})
    by_severity[str(severity)] = {
      'images': len(correct),
      'correct': int(correct.sum()),
      'seconds': round(seconds, 2),
    }
    processes.on_main(files.write_json, self._path, self._content)


def _evaluate_cell(
  models: Sequence[_ModelResults],
  split: Split,
  name: str,
  severity: int,
  bar: progress.Progress,
  done: int,
  stop: Stop,
) -> None:
  """Classifies the images of one corruption and severity, and saves counts.

  Args:
    models: whose results lack them.
    split: the images.
    name: of the corruption.
    severity: of it.
    bar: shows the images that are done, and the accuracy of the first model.
    done: images that were done before.
    stop: whether to stop.
  """
  started = time.monotonic()
  correct = np.zeros((len(models), len(split.labels)), bool)
  networks = [model.network for model in models]
  seen = 0
  for rows, logits in classification.batch_logits(networks, split.images):
    for right, of_model in zip(correct, logits, strict=True):
      right[rows] = ~prediction.fooled(of_model, split.labels[rows])
    seen += len(rows)
    accuracy = correct[0].sum() / seen
    bar.update(done + seen, {f'{name}_{severity}': accuracy})
    if processes.any_true(stop.signum is not None):
      raise attack_journal.stopped(stop)
  seconds = time.monotonic() - started
  for model, right in zip(models, correct, strict=True):
    model.add(name, severity, right, seconds)


def _write_example(
  folder: pathlib.Path, split: Split, name: str, severity: int
) -> None:
  """Writes the first image as PNG, unless it is there."""
  path = folder / f'{name}_{severity}.png'
  if path.exists():
    return
  image = np.asarray(split.images[np.array([0])])[0]
  picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
  with files.replacing(path) as file:
    picture.save(file, 'PNG')
