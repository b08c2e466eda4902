"""What importing a module brings in, and the examples of all modules."""

import ast
import configparser
import doctest
import importlib
import importlib.metadata
import importlib.util
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys
import venv

import pytest

import rnascl_jax
from rnascl_jax.runtime import extras
from tests import tiny

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
ROOT = pathlib.Path(__file__).parent.parent
# Of the extras, which the demo on digits does without.
OF_EXTRAS = tuple(extras.PACKAGES)
# What else attacks, losses and distillation do without: neither JAX, NumPy,
# Flax, Optax and chex nor what these bring.
OF_COMMANDS = (
  'PIL',
  'jinja2',
  'matplotlib',
  'ml_collections',
  'safetensors',
  'sklearn',
  'tensorboardX',
  'tqdm',
)
# Begins a script that cannot import the packages among its arguments.
BLOCKING = """
import sys

class Blocked:
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in sys.argv:
      raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
"""
BARE_RUN = """
import jax
import jax.numpy as jnp
import numpy as np
from rnascl_jax import attacks, losses
from rnascl_jax.distillation import compare, methods, projections

def logits_fn(images):
  brightness = images.mean(axis=(1, 2, 3))
  return jnp.stack([brightness - .5, .5 - brightness], axis=-1)

images = np.float32([.51, .54]).reshape(2, 1, 1, 1) * np.ones((2, 2, 2, 1))
images, labels = images.astype(np.float32), np.zeros(2, int)
adversarial = attacks.perturb(
  attacks.presets.by_name('pgd20_trades'), logits_fn, images, labels)
print(logits_fn(adversarial).argmax(axis=-1).tolist())
result = attacks.auto_attack(
  logits_fn, images, labels, epsilon=8 / 255, attacks=('apgd-ce',))
print(result.robust_accuracy)
print(losses.trades(
  logits_fn(images), logits_fn(adversarial), labels, beta=6.0).shape)
student, teacher = (
  losses.attention_vectors([np.ones(c, np.float32) * images], (2, 2))
  for c in (3, 5))
print(losses.attention_loss(student, teacher, jnp.ones((1, 1))).shape)
print(methods.similarity().loss((), (), images, images, None)[0].tolist())
"""
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


def printed(script, *arguments, python=sys.executable, cwd=ROOT):
  """What a fresh Python prints."""
  done = subprocess.run(
    [python, '-c', script, *arguments],
    cwd=cwd,
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stderr
  return done.stdout


def imported_by(statement):
  """Packages and modules that a fresh Python then holds."""
  return set(printed(f'import sys; {statement}; print(*sys.modules)').split())


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
  for name in ('checkpoints', 'saved_variables'):
    names.remove(f'rnascl_jax.runtime.{name}')

  found = imported_by(f'import {", ".join(names)}')

  assert not found.intersection(('flax', 'orbax'))


def test_losses_import_no_network_or_data_library():
  found = imported_by(
    'from rnascl_jax import attacks, losses; '
    'from rnascl_jax.search import flops, gumbel'
  )

  assert 'jax' in found
  assert not found.intersection(HEAVY)


@pytest.mark.parametrize(
  'python',
  [
    pytest.param('this', id='other packages blocked'),
    pytest.param('bare', id='in a venv', marks=pytest.mark.slow),
  ],
)
def test_attacks_losses_and_distillation_run_where_only_jax_and_flax_are(
  python, request
):
  if python == 'this':
    text = printed(BLOCKING + BARE_RUN, *OF_COMMANDS, *OF_EXTRAS)
  else:
    folder = request.getfixturevalue('bare_venv')
    text = printed(BARE_RUN, python=folder / 'bin' / 'python', cwd=folder)

  lines = text.splitlines()
  assert lines[0] == '[1, 0]'
  assert lines[-4:] == ['0.5', '(2,)', '(2,)', '[0.0, 0.0]']


@pytest.fixture
def bare_venv(tmp_path):
  """A virtual environment with this package and what it needs at least."""
  install = [tmp_path / 'bin' / 'python', '-m', 'pip', 'install', '--quiet']
  versions = [
    f'{name}=={importlib.metadata.version(name)}'
    for name in ('jax', 'numpy', 'flax', 'optax', 'chex')
  ]
  copy = tmp_path / 'source'  # A build writes beside the sources.
  names = subprocess.run(
    ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True
  ).stdout.splitlines()
  for name in names:
    if name.split('/')[0] not in ('docs', 'tests'):
      (copy / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / name, copy / name)
  venv.create(tmp_path, with_pip=True)
  subprocess.run([*install, *versions], check=True)
  subprocess.run([*install, '--no-deps', str(copy)], check=True)
  return tmp_path


def test_the_demo_runs_without_the_packages_of_extras(tmp_path):
  config = tiny.config()
  config.teacher.optimization.epochs = 1
  script = """
import json
from experiments import pipeline
from rnascl_jax import stages
stages.teacher(json.loads(sys.argv[1]), sys.argv[2])
"""

  printed(BLOCKING + script, config.to_json(), str(tmp_path), *OF_EXTRAS)

  assert (tmp_path / 'teacher' / 'stage.json').exists()


@pytest.mark.parametrize('module', [*OF_EXTRAS, 'nonesuch'])
def test_a_missing_package_is_named_with_what_installs_it(module, monkeypatch):
  monkeypatch.setitem(sys.modules, module, None)

  with pytest.raises(ImportError, match='^flying needs the package ') as error:
    extras.require(module, 'flying')

  package = extras.PACKAGES.get(module)
  wanted = f'"rnascl_jax[{package.extra}]"' if package else module
  assert f'pip install {wanted}' in str(error.value)


def test_every_extra_that_is_named_has_its_packages():
  parser = configparser.ConfigParser()
  parser.read(ROOT / 'setup.cfg')
  for package in extras.PACKAGES.values():
    listed = parser['options.extras_require'][package.extra]
    assert re.search(rf'^{package.name}\b', listed, re.MULTILINE), package


def test_importing_the_package_imports_no_module_of_it():
  found = imported_by('import rnascl_jax')

  assert 'rnascl_jax' in found
  assert not {name for name in found if name.startswith('rnascl_jax.')}
  assert not found.intersection(('jax', *HEAVY))


def test_reports_are_written_without_jax_or_a_display():
  found = imported_by(
    'from rnascl_jax.reporting import figures, html, paper, report, watch; '
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
