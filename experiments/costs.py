"""Prints what the paper's runs cost on paper, as two Markdown tables.

  python -m experiments.costs
  python -m experiments.costs --student_utilization=0.03 --images_per_core=200

Work follows from the configs and from exact counts of MACs, see
`rnascl_jax.stages.costs`; hours from a share of the accelerators' peak that is
assumed and was not measured. docs/costs.md has the output and what the numbers
rest on.
"""

import functools
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from absl import flags

from configs import cifar10, imagenet, imagenet100
from experiments import launcher
from rnascl_jax.config import settings
from rnascl_jax.stages import costs
from rnascl_jax.stages.costs import Images, Machine, Stage, Utilization

_STUDENT = flags.DEFINE_float(
  'student_utilization', 0.015, 'Share of the peak that students reach.'
)
_TEACHER = flags.DEFINE_float(
  'teacher_utilization', 0.2, 'Share of the peak that teachers reach.'
)
_PER_CORE = flags.DEFINE_float(
  'images_per_core',
  500.0,
  'Images of ImageNet that a core decodes and crops in a second; 0: unknown. '
  'docs/imagenet.md measured 491 on one of an AMD EPYC.',
)

CIFAR10 = Images(50_000, (32, 32, 3), 10)
# Section 4.1: "about 130k images".
IMAGENET100 = Images(130_000, (224, 224, 3), 100)
IMAGENET = Images(1_281_167, (224, 224, 3), 1000)

# NVIDIA, H100 SXM, bfloat16 without sparsity; Google Cloud, TPU v5e. Virtual
# cores of a3-highgpu-8g (208 for 8) and of ct5lp-hightpu-4t (112 for 4).
MACHINES = (
  Machine('1x H100', 1, 989.4e12, 26),
  Machine('8x H100', 8, 989.4e12, 208),
  Machine('TPU v5e-64', 64, 197e12, 1792),
)


class Part(NamedTuple):
  """Stages of a config: all of them, or those that are named."""

  config: ModuleType
  argument: str
  images: Images
  only: tuple[str, ...] = ()


_cifar10 = functools.partial(Part, cifar10, images=CIFAR10)
RUNS: dict[str, tuple[Part, ...]] = {
  'CIFAR-10, S3, WRN-34-10': (_cifar10('space=s3'),),
  'CIFAR-10, M, WRN-34-10': (_cifar10('space=m'),),
  'CIFAR-10, L, WRN-34-10': (_cifar10('space=l'),),
  'ImageNet-100, I, WRN-50-2': (Part(imagenet100, 'space=i', IMAGENET100),),
  'ImageNet, IL, WRN-50-2': (
    Part(imagenet100, 'space=il', IMAGENET100, ('search',)),
    Part(imagenet, 'objective=fast_cac', IMAGENET),
  ),
}


class Row(NamedTuple):
  """A stage of a run; `streams` says whether its images are decoded for it."""

  run: str
  stage: Stage
  streams: bool


def rows() -> list[Row]:
  """All stages of all runs."""
  found = []
  for name, parts in RUNS.items():
    for part in parts:
      parsed = settings.parse(part.config.get_config(part.argument))
      streams = parsed.data.name == 'imagenet'
      for stage in costs.stages(parsed, part.images):
        if not part.only or stage.name in part.only:
          found.append(Row(name, stage, streams))
  return found


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  """A table; all columns but the first two are aligned right."""
  marks = [':--' if index < 2 else '--:' for index in range(len(heads))]
  table = [heads, marks, *lines]
  return '\n'.join(f'| {" | ".join(line)} |' for line in table)


def work(found: Sequence[Row]) -> str:
  """What is to be computed."""
  heads = ('Run', 'Stage', 'Images', 'Student F', 'Teacher F')
  heads += ('Student, step', 'Step', 'FLOPs')
  lines = []
  for run, stage, _ in found:
    forward, macs = stage.forward, stage.macs
    times = macs.student / forward.student
    lines.append(
      (
        run,
        stage.name,
        f'{stage.visits / 1e6:.2f}M',
        f'{forward.student / 1e9:.4f}',
        f'{forward.teacher / 1e9:.3f}',
        f'{times:.4g} F',
        f'{macs.total() / 1e9:.3f}',
        f'{stage.flops():.2e}',
      )
    )
  return markdown(heads, lines)


def times(
  found: Sequence[Row], reached: Utilization, per_core: float = 0.0
) -> str:
  """How long it takes on every machine, and what the input must deliver."""
  heads = ['Run', 'Stage']
  for machine in MACHINES:
    heads += [f'{machine.name}: hours', 'images/s']
    heads += ['cores needed'] if per_core else []
  lines = []
  for run, stage, streams in found:
    line = [run, stage.name]
    for machine in MACHINES:
      rate = costs.images_per_second(stage, machine, reached)
      line += [_hours(costs.hours(stage, machine, reached)), f'{rate:,.0f}']
      line += [_cores(rate / per_core, machine, streams)] if per_core else []
    lines.append(line)
  for run in dict.fromkeys(row.run for row in found):
    line = [f'**{run}**', 'all']
    for machine in MACHINES:
      stages = [row.stage for row in found if row.run == run]
      total = sum(costs.hours(s, machine, reached) for s in stages)
      line += [f'**{_hours(total)}**', ''] + ([''] if per_core else [])
    lines.append(line)
  return markdown(heads, lines)


def _hours(value: float) -> str:
  return f'{value:.3g}' if value < 100 else f'{value:,.0f}'


def _cores(needed: float, machine: Machine, streams: bool) -> str:
  if not streams:
    return '-'
  short = ', too few' if needed > machine.cores else ''
  return f'{needed:,.0f} of {machine.cores:,}{short}'


def report(reached: Utilization, per_core: float = 0.0) -> str:
  """Both tables."""
  found = rows()
  return '\n\n'.join(
    [
      'Work. F: a forward pass of an image; step: an image in a training step; '
      'both in GMACs.',
      work(found),
      f'Time at {100 * reached.student:.3g} % of the peak for students and '
      f'{100 * reached.teacher:.3g} % for teachers.',
      times(found, reached, per_core),
    ]
  )


def _costs() -> str:
  try:
    reached = Utilization(_STUDENT.value, _TEACHER.value)
    return report(reached, _PER_CORE.value)
  except ValueError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  launcher.run(_costs)
