"""Prints the exact work of the paper's runs, as a Markdown table.

  rnascl costs

Work follows from the configs and from exact counts of multiply-accumulates, see
`rnascl_jax.stages.costs`. docs/costs.md has the output, and hours on paper.
"""

from rnascl_jax.config import config_files, settings
from rnascl_jax.reporting import tables
from rnascl_jax.stages import costs, launcher
from rnascl_jax.stages.costs import DatasetFacts

CIFAR10 = DatasetFacts(50_000, (32, 32, 3), 10)
# Section 4.1: "about 130k images".
IMAGENET100 = DatasetFacts(130_000, (224, 224, 3), 100)
IMAGENET = DatasetFacts(1_281_167, (224, 224, 3), 1000)
_ALL = ('search', 'train', 'adversarial')
# Name, config, images, and the stages of it that the run has.
RUNS = (
  ('CIFAR-10, S3, WRN-34-10', 'cifar10:space=s3', CIFAR10, _ALL),
  ('CIFAR-10, M, WRN-34-10', 'cifar10:space=m', CIFAR10, _ALL),
  ('CIFAR-10, L, WRN-34-10', 'cifar10:space=l', CIFAR10, _ALL),
  ('ImageNet-100, I, WRN-50-2', 'imagenet100:space=i', IMAGENET100, _ALL),
  ('ImageNet, IL, WRN-50-2', 'imagenet100:space=il', IMAGENET100, ('search',)),
  ('ImageNet, IL, WRN-50-2', 'imagenet', IMAGENET, ('train',)),
)


def table() -> str:
  """Writes the work of every stage of every run."""
  heads = ('Run', 'Stage', 'Images', 'Student F', 'Teacher F')
  rows = [[*heads, 'Student, step', 'Step', 'FLOPs']]
  for run, config, images, names in RUNS:
    parsed = settings.parse(config_files.load(config))
    rows += [
      [
        run,
        stage.name,
        f'{stage.images / 1e6:.2f}M',
        f'{stage.student / 1e9:.4f}',
        f'{stage.teacher / 1e9:.3f}',
        f'{stage.passes:.4g} F',
        f'{stage.macs / 1e9:.3f}',
        f'{stage.flops:.2e}',
      ]
      for stage in costs.stages(parsed, images)
      if stage.name in names
    ]
  return tables.markdown(rows, left=2)


if __name__ == '__main__':
  launcher.command(table)
