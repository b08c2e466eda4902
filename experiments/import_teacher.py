r"""Makes a teacher of a PyTorch checkpoint.

The teachers of the paper, after their file was downloaded from their authors:

  rnascl import-teacher --list
  rnascl import-teacher --teacher=wrn34 \
    --file=model_best.pth --output=teachers/wrn34

Any other: its network (rnascl_jax.models.fixed.NETWORKS, with fields where
it has some) and how its inputs are normalised, if the file does not say:

  rnascl import-teacher --file=model.pt --output=DIR \
    --network=wide_resnet,depth=28,width=10 --normalization=none
  rnascl import-teacher --file=vit.safetensors --output=DIR \
    --network=vit_small,patch_size=16 --image_size=224 \
    --normalization=0.5,0.5,0.5/0.5,0.5,0.5

Wrappers are taken off; every array in the file must be used, or be known to
change nothing; names and shapes that do not fit are listed, with the network
that would fit. Nothing is left in --output unless all went well.

A student is then taught with the network in its config:

  rnascl pipeline --workdir=DIR \
    --config=cifar10:teacher=wrn34 \
    --config.teacher.checkpoint=teachers/wrn34

and the teacher's own accuracy, to compare with that of its authors:

  for stage in teacher evaluate; do
    rnascl $stage --workdir=DIR \
      --config=teachers:network=wrn34 \
      --config.teacher.checkpoint=teachers/wrn34
  done
  rnascl report --workdir=DIR
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from rnascl_jax.config import settings
from rnascl_jax.interop import pickles, torch_import
from rnascl_jax.interop.normalization import NORMALIZATIONS, Normalization
from rnascl_jax.interop.torch_import import Imported
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import build
from rnascl_jax.models.teachers.published import PUBLISHED
from rnascl_jax.runtime import paths
from rnascl_jax.stages import launcher

_FILE = flags.DEFINE_string(
  'file', '', 'The checkpoint: .pt, .pth, .ckpt or .safetensors.'
)
_OUTPUT = flags.DEFINE_string('output', '', 'Folder to make for the teacher.')
_TEACHER = flags.DEFINE_enum(
  'teacher', None, sorted(PUBLISHED), 'A teacher of the paper, see --list.'
)
_NETWORK = flags.DEFINE_string(
  'network',
  '',
  'The network, in place of --teacher: a name, then fields, separated by '
  'commas.',
)
_NORMALIZATION = flags.DEFINE_string(
  'normalization',
  '',
  'Of inputs in [0, 1], if not what the file says or is known of --teacher: '
  f'{", ".join(NORMALIZATIONS)}, or MEAN/STD with commas between '
  'channels.',
)
_IMAGE_SIZE = flags.DEFINE_integer(
  'image_size', 32, 'Side of the images in pixels, beside --network.', 1
)
_DATASET = flags.DEFINE_string(
  'dataset',
  '',
  'What it was trained on, beside --network, unless the file says: a run on '
  'other data refuses it.',
)
_PREFIX = flags.DEFINE_string(
  'prefix',
  None,
  "What stands before the network's names, if the file has several networks.",
)
_KEPT = flags.DEFINE_float(
  'kept',
  None,
  "Share of each layer's weights that are kept, of a file of HYDRA, which has "
  'scores to prune by and does not say how many.',
)
_ENTRY = flags.DEFINE_string(
  'entry', '', 'Entry of the file with the state dict, if it has several.'
)
_PICKLES = flags.DEFINE_enum(
  'pickles',
  'safe',
  pickles.WAYS,
  'How a pickle is read. safe: tensors and plain containers, all else is '
  'refused. inert: all else becomes placeholders, and none of it is run. '
  'unsafe: whatever code is in the file is run WITH YOUR RIGHTS: it can read, '
  'send and delete your files. Only for a file whose author you trust.',
)
_LIST = flags.DEFINE_bool(
  'list', False, 'Prints the teachers of the paper and where they are from.'
)


def _import() -> str:
  if _LIST.value:
    return published_table()
  try:
    _check_flags()
    imported = _read()
    torch_import.save(imported, _OUTPUT.value)
  except (ValueError, OSError, ImportError) as error:
    sys.exit(f'error: {error}')
  return summary(imported, paths.local(_OUTPUT.value))


def _check_flags() -> None:
  if not _FILE.value or not _OUTPUT.value:
    raise ValueError('give --file and --output; --help explains them.')
  if bool(_TEACHER.value) == bool(_NETWORK.value):
    raise ValueError(
      'give either --teacher, one of the paper (see --list), or --network.'
    )
  if _TEACHER.value and launcher.FLAGS['image_size'].present:
    raise ValueError('--image_size is for --network; --teacher has its own.')
  if _NETWORK.value:
    _check_fields(build.from_text(_NETWORK.value))
  torch_import.check_absent(_OUTPUT.value)


def _check_fields(spec: Mapping[str, Any]) -> None:
  """Raises for a network that no config could name afterwards."""
  known = {field.name for field in dataclasses.fields(settings.NetworkSettings)}
  unknown = sorted(set(spec) - known)
  if unknown:
    raise ValueError(
      f'--network={_NETWORK.value}: config.teacher.network has no '
      f'{", ".join(unknown)}, so no run could use it; it has '
      f'{", ".join(sorted(known))}. In Python, interop.torch_import.read '
      'takes any field of a network.'
    )


def _read() -> Imported:
  how = {
    'pickled': _PICKLES.value,
    'entry': _ENTRY.value,
    'prefix': _PREFIX.value,
    'kept': _KEPT.value,
  }
  normalization = _normalization(_NORMALIZATION.value)
  if _TEACHER.value is None:
    return torch_import.read(
      _FILE.value,
      build.from_text(_NETWORK.value),
      normalization=normalization,
      image_size=_IMAGE_SIZE.value,
      dataset=_DATASET.value,
      **how,
    )
  known = PUBLISHED[_TEACHER.value]
  return torch_import.read(
    _FILE.value,
    known.network,
    normalization=normalization,
    fallback=known.normalization,
    num_classes=known.num_classes,
    image_size=known.image_size,
    dataset=known.data,
    **how,
  )


def _normalization(written: str) -> Normalization | str:
  """A name, or the numbers of 'MEAN/STD'."""
  if '/' not in written:
    return written
  try:
    mean, std = (
      tuple(float(number) for number in part.split(','))
      for part in written.split('/')
    )
  except ValueError:
    raise ValueError(
      f'--normalization={written} must be a name or MEAN/STD, as in '
      '0.5,0.5,0.5/0.25,0.25,0.25.'
    ) from None
  return Normalization(mean, std)


def summary(imported: Imported, folder: pathlib.Path) -> str:
  """What was read, for people."""
  metadata, source = imported.metadata, imported.metadata['source']
  height, width, channels = metadata['image_shape']
  count = networks.count_parameters(imported.variables, batch_norm=True)
  ignored = [f'{number} {why}' for why, number in source['ignored'].items()]
  rows = {
    'File': source['file'],
    'SHA-256': source['sha256'],
    'State dict': source['entry'] or 'the file itself',
    'Names begin with': source['prefix'] or 'nothing else',
    'Arrays used': source['used'],
    'Changing nothing': '; '.join(ignored) or 'none',
    'Network': build.text(metadata['network']),
    'Parameters': f'{count:,}',
    'Layers to learn from': len(metadata['layers']),
    'Images': f'{height} x {width} x {channels}, in [0, 1]',
    'Classes': metadata['num_classes'],
    'Trained on': metadata['dataset'] or 'not known: give --dataset',
    'Mean': ', '.join(f'{x:.4g}' for x in metadata['mean']),
    'Deviation': ', '.join(f'{x:.4g}' for x in metadata['std']),
    'As said by': source['normalization'],
    'Saved as': folder,
  }
  width = max(map(len, rows))
  lines = [f'{name:{width}}  {value}' for name, value in rows.items()]
  use = f'Use it with --config.teacher.checkpoint={folder}'
  return '\n'.join([*lines, '', use])


def published_table() -> str:
  """The teachers of the paper, for people."""
  lines = []
  for name, known in PUBLISHED.items():
    lines += [
      f'{name}: {known.title}',
      f'  {known.data}, {known.clean} % clean, {known.parameters:,} parameters',
      f'  {known.source}',
      f'  {known.file or "its authors publish no file: train it"}',
    ]
    if known.pickles != 'safe':
      lines.append(f'  --pickles={known.pickles}, if the default refuses it')
  return '\n'.join(lines)


if __name__ == '__main__':
  launcher.command(_import)
