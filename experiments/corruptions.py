r"""Evaluates all trained models under common corruptions, such as noise or fog.

  rnascl corruptions --config=digits --workdir=/tmp/digits
  rnascl corruptions --config=cifar10 --workdir=DIR --data=/data/CIFAR-10-C
  rnascl corruptions --config=imagenet --workdir=DIR --data=/data/ImageNet-C \
    --baseline=alexnet

--data=made corrupts the test images of the run by the formulas of Hendrycks and
Dietterich (2019), all but frost and spatter, which need photographs and OpenCV;
else it is a folder of CIFAR-10-C or CIFAR-100-C (fog.npy, ..., labels.npy), or
of ImageNet-C (fog/1/n01440764/..., or weather/fog/1/...), of whose classes
those of the run are used. It may be run again for more of:

  --models=rnas_cl_eq6,ce          names of trained models; all without it
  --corruptions=fog,noise          names, or noise, blur, weather, digital,
                                   extra (of validation), common (the others),
                                   all
  --severities=1,3,5
  --images=1000                    of each corruption and severity

It prints accuracies and the mean corruption error, which is divided by the
errors of AlexNet or of any model where --baseline names them in a file: JSON,
{"fog": 0.8, ...}, or CSV, fog,0.8. Results are left in evaluation/corruptions/,
where `rnascl report` finds them for its table and figures. What is finished is
not computed again: a run that was stopped goes on with the same command.
"""

import sys

from absl import flags

from rnascl_jax.stages import corruptions, launcher
from rnascl_jax.stages.run import Run

_DATA = flags.DEFINE_string(
  'data', 'made', "'made', or a folder of CIFAR-10-C or ImageNet-C."
)
_MODELS = flags.DEFINE_list('models', [], 'Names of models; all without it.')
_CORRUPTIONS = flags.DEFINE_list(
  'corruptions', ['common'], 'Names of corruptions and of groups of them.'
)
_SEVERITIES = flags.DEFINE_list(
  'severities', ['1', '2', '3', '4', '5'], 'Severities, from 1 to 5.'
)
_IMAGES = flags.DEFINE_integer(
  'images', 0, 'Images of each corruption and severity; 0 for all.'
)
_BASELINE = flags.DEFINE_string(
  'baseline', '', "'alexnet', or a JSON or CSV file of errors; '' for none."
)


def _corruptions(run: Run) -> str:
  try:
    asked = corruptions.plan(
      run,
      data=_DATA.value,
      models=_MODELS.value,
      corruptions_or_groups=_CORRUPTIONS.value,
      severities=_severities(),
      images=_IMAGES.value,
      baseline=_BASELINE.value,
    )
  except (ValueError, FileNotFoundError) as error:
    sys.exit(f'error: {error}')
  return corruptions.evaluate(run, asked)


def _severities() -> list[int]:
  for text in _SEVERITIES.value:
    if not text.isdecimal():
      raise ValueError(
        f'--severities has {text!r}: write some of 1 to 5, such as 1,3,5.'
      )
  return [int(text) for text in _SEVERITIES.value]


if __name__ == '__main__':
  launcher.stage(_corruptions, trains=False)
