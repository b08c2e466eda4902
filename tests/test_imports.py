"""What importing a module brings in, and the examples of all modules."""

import ast
import doctest
import importlib
import importlib.util
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
# A room imports only from rooms before it.
ROOMS = (
  'base',
  'runtime',
  'losses',
  'search',
  'models',
  'distillation',
  'attacks',
  'data',
  'training',
  'config',
  'evaluation',
  'reporting',
  'stages',
  'interop',
  'sweeps',
)
MODULES = tuple(
  module.name
  for module in pkgutil.walk_packages(rnascl_jax.__path__, 'rnascl_jax.')
)


def imports_of(name):
  """Modules of ours that a module imports, anywhere in its source."""
  spec = importlib.util.find_spec(name)
  tree = ast.parse(pathlib.Path(spec.origin).read_text('utf-8'))
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{name} has a relative import'
      whole = [f'{node.module}.{alias.name}' for alias in node.names]
      names = [n if n in MODULES else node.module for n in whole]
    else:
      continue
    yield from (n for n in names if n.startswith('rnascl_jax.'))


def room_of(name):
  return name.split('.')[1]


def imported_by(statement):
  """Packages and modules that a fresh Python then holds."""
  script = f'import sys; {statement}; print(*sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=pathlib.Path(__file__).parent.parent,
    capture_output=True,
    text=True,
    check=True,
  )
  return set(done.stdout.split())


def test_nothing_lies_loose_beside_the_rooms():
  assert {room_of(name) for name in MODULES} == set(ROOMS)


@pytest.mark.parametrize('name', MODULES)
def test_a_room_imports_only_from_rooms_before_it(name):
  place = ROOMS.index(room_of(name))
  for imported in imports_of(name):
    assert ROOMS.index(room_of(imported)) <= place, imported


def test_no_module_imports_itself_by_way_of_others():
  graph = {name: set(imports_of(name)) for name in MODULES}
  # Removes modules all of whose imports were removed; a cycle stays.
  while ready := {name for name, names in graph.items() if not names}:
    graph = {n: names - ready for n, names in graph.items() if n not in ready}
  assert not graph


def test_the_runtime_needs_neither_flax_nor_orbax_but_for_checkpoints():
  names = [n for n in MODULES if room_of(n) == 'runtime']
  names.remove('rnascl_jax.runtime.checkpoints')

  found = imported_by(f'import {", ".join(names)}')

  assert not found.intersection(('flax', 'orbax'))


def test_losses_import_no_network_or_data_library():
  found = imported_by(
    'from rnascl_jax import attacks, losses; '
    'from rnascl_jax.search import flops, gumbel'
  )

  assert 'jax' in found
  assert not found.intersection(HEAVY)


def test_importing_the_package_imports_no_module_of_it():
  found = imported_by('import rnascl_jax')

  assert 'rnascl_jax' in found
  assert not {name for name in found if name.startswith('rnascl_jax.')}
  assert not found.intersection(('jax', *HEAVY))


def test_reports_are_written_without_jax_or_a_display():
  found = imported_by(
    'from rnascl_jax.reporting import figures, paper, report; '
    'from rnascl_jax.runtime import files'
  )

  barred = {'jax', 'jaxlib', 'flax', 'orbax', 'tensorflow', 'torch'}
  assert not found & (barred | {'matplotlib.pyplot'})


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
