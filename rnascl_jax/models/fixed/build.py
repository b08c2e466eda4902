"""Builds a network from what configs and checkpoints say of it.

Example:
  >>> from rnascl_jax.models.fixed import build
  >>> spec = {'name': 'wide_resnet', 'depth': 10, 'width': 2}
  >>> build.network(spec, num_classes=10).tap_names[:2]
  ('conv1', 'block1_layer_0/conv1')
  >>> build.text(spec), build.from_text('wide_resnet,depth=10,width=2') == spec
  ('wide_resnet,depth=10,width=2', True)
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rnascl_jax.models.fixed import NETWORKS
from rnascl_jax.models.networks import Network
from rnascl_jax.models.teachers.class_subset import ClassSubset
from rnascl_jax.runtime import spelling

# Of a specification, what is no field of the network.
_BESIDE = ('name', 'bfloat16')
# The linear layer over classes is one of these, in every network.
HEADS = ('linear', 'fc', 'head', 'classifier')
# What a specification does not say.
_OPTIONS = ('num_classes', 'mean', 'std', 'dtype', 'axis_name')
# Fields that hold a name.
_NAMES = ('genotype',)
_BOOLEANS = {'True': True, 'False': False}


def fields(spec: Mapping[str, Any]) -> dict[str, Any]:
  """What a specification says of a network's shape: fields that are given.

  Args:
    spec: `name` and fields of a network; 0, '', None and () mean that the field
      is left at its default, lists are tuples.

  Returns:
    The fields without the name.
  """
  return {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in spec.items()
    if name not in _BESIDE and (value or value is False)
  }


def text(spec: Mapping[str, Any]) -> str:
  """A specification as a command line has it: 'wide_resnet,depth=34,width=10'.

  Args:
    spec: see `fields`.
  """
  parts = [f'{name}={value}' for name, value in fields(spec).items()]
  return ','.join([spec['name'], *parts])


def from_text(written: str) -> dict[str, Any]:
  """The specification that `text` wrote, if its fields are single values.

  Args:
    written: a name, then fields with numbers or True, or with a name where
      the field is one, separated by commas.

  Returns:
    The specification.

  Raises:
    ValueError: a part is no field with a number or True or False.
  """
  name, *parts = written.split(',')
  spec: dict[str, Any] = {'name': name}
  for part in parts:
    field, _, value = part.partition('=')
    if field in _NAMES and value.isidentifier():
      spec[field] = value
      continue
    try:
      spec[field] = (
        _BOOLEANS[value] if value in _BOOLEANS else json.loads(value)
      )
    except ValueError:
      value = ''
    if not value or not isinstance(spec[field], bool | int | float):
      raise ValueError(
        f'{part!r} in {written!r} must be a field and a number or True, as in '
        'wide_resnet,depth=34,width=10.'
      )
  return spec


def network(
  spec: Mapping[str, Any],
  *,
  num_classes: int,
  classes: Sequence[int] = (),
  **options: Any,
) -> Network:
  """Builds a network.

  Args:
    spec: its `name` in `NETWORKS` and the fields of its shape, see `fields`.
    num_classes: that it tells apart.
    classes: those of them whose logits are returned, in this order; empty for
      all.
    **options: `mean`, `std`, `dtype`, `axis_name`, see `fixed`.

  Returns:
    The network.

  Raises:
    ValueError: there is no such network, it does not take such a shape, or
      `classes` are not among its classes.
  """
  name = spec['name']
  if name not in NETWORKS:
    raise ValueError(
      f'unknown network {name!r}.{spelling.did_you_mean(name, NETWORKS)} Known '
      f'are {", ".join(NETWORKS)}.'
    )
  shape = fields(spec)
  beside = [field for field in _OPTIONS if field in shape]
  if beside:
    raise ValueError(
      f'{text(spec)} says {beside[0]}, which is no part of a network: leave it '
      'out.'
    )
  try:
    net = NETWORKS[name](num_classes=num_classes, **shape, **options)
  except TypeError as error:
    raise ValueError(
      f'there is no network {text(spec)}: {_without_code(error)}.'
    ) from error
  return some_classes(net, num_classes, classes)


def some_classes(
  net: Network, num_classes: int, classes: Sequence[int]
) -> Network:
  """A network that returns the logits of some classes, or of all if of none.

  Args:
    net: a network.
    num_classes: that it tells apart.
    classes: indices in [0, num_classes), in the order of the logits.

  Raises:
    ValueError: an index is out of this range, or there twice.
  """
  if not classes:
    return net
  return ClassSubset(net, num_classes, tuple(classes))


def _without_code(error: TypeError) -> str:
  """What a constructor misses or does not know, in words."""
  said = str(error)
  missing = re.search(r'missing .* argument[s]?: (.*)', said)
  if missing:
    return f'it needs {missing[1]}'
  unknown = re.search(r"unexpected keyword argument ('\w+')", said)
  if unknown:
    return f'it has no field {unknown[1]}'
  fixed = re.search(r"multiple values for .*argument ('\w+')", said)
  if fixed:
    return f'its {fixed[1]} cannot be chosen'
  return said


def same_data(name: str, other: str) -> bool:
  """Whether two names are of one data set, as 'CIFAR-10' and 'cifar10' are."""
  plain, other_plain = (
    ''.join(filter(str.isalnum, each.lower())) for each in (name, other)
  )
  return plain == other_plain
