"""What importing a module brings in, and the examples of all modules."""

import doctest
import importlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import rnascl_jax

HEAVY = (
  'array_record',
  'flax',
  'matplotlib',
  'ml_collections',
  'orbax',
  'sklearn',
  'tensorboardX',
  'tensorflow',
  'tensorflow_datasets',
  'torch',
)
MODULES = tuple(
  module.name
  for module in pkgutil.walk_packages(rnascl_jax.__path__, 'rnascl_jax.')
)


def imported_by(statement):
  """Top-level packages and our modules that a fresh Python then holds."""
  script = f'import sys; {statement}; print(*sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=pathlib.Path(__file__).parent.parent,
    capture_output=True,
    text=True,
    check=True,
  )
  names = done.stdout.split()
  return {n if n.startswith('rnascl_jax') else n.split('.')[0] for n in names}


def test_losses_import_no_network_or_data_library():
  found = imported_by(
    'from rnascl_jax import losses; from rnascl_jax.search import flops, gumbel'
  )

  assert 'jax' in found
  assert not found.intersection(HEAVY)


def test_importing_the_package_imports_no_module_of_it():
  found = imported_by('import rnascl_jax')

  assert 'rnascl_jax' in found
  assert not {name for name in found if name.startswith('rnascl_jax.')}
  assert not found.intersection(('jax', *HEAVY))


@pytest.mark.parametrize(
  'statement',
  (
    'from rnascl_jax.reporting import report',
    'from rnascl_jax.reporting import figures',
    'from rnascl_jax.reporting import paper',
    'from rnascl_jax.runtime import files',
  ),
)
def test_reports_are_written_without_jax(statement):
  found = imported_by(statement)

  assert not found.intersection(('jax', 'jaxlib', 'flax', 'orbax', 'torch'))


def test_modules_are_attributes_of_the_package_on_first_use():
  found = imported_by('import rnascl_jax; rnascl_jax.losses.margin')

  assert 'rnascl_jax.losses' in found
  with pytest.raises(AttributeError, match='nonesuch'):
    _ = rnascl_jax.nonesuch


@pytest.mark.parametrize('name', MODULES)
def test_examples_of_the_module_run_as_printed(name):
  module = importlib.import_module(name)

  outcome = doctest.testmod(module)

  assert outcome.failed == 0
