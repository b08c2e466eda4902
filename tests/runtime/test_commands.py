"""`rnascl` and the shipped configs work wherever the package lies."""

import ast
import configparser
import pathlib
import shutil
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_PROCESS = ('-m', 'rnascl_jax.runtime.commands')


@pytest.fixture(scope='module')
def options() -> dict[str, list[str]]:
  """The lists of setup.cfg's section `options`."""
  parser = configparser.ConfigParser()
  parser.read(_ROOT / 'setup.cfg', 'utf-8')
  return {k: v.strip().splitlines() for k, v in parser['options'].items()}


@pytest.fixture(scope='module')
def installed(options, tmp_path_factory) -> pathlib.Path:
  """A folder with the packages as a wheel has them."""
  site = tmp_path_factory.mktemp('site')
  moved = dict(line.split(' = ') for line in options['package_dir'])
  for package in options['packages']:
    source = _ROOT / moved.get(package, package.replace('.', '/'))
    if package == 'rnascl_jax.configs.ablations':
      source = _ROOT / moved['rnascl_jax.configs'] / 'ablations'
    place = site / package.replace('.', '/')
    place.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
      if file.is_file():
        shutil.copy(file, place)
  return site


@pytest.fixture
def own_folder(tmp_path) -> pathlib.Path:
  """A user's folder whose own names are those of a checkout's."""
  for name in ('configs', 'experiments'):
    (tmp_path / name).mkdir()
    text = 'raise RuntimeError("another package of this name was imported")'
    (tmp_path / name / '__init__.py').write_text(text)
  return tmp_path


def _run(site, folder, *words):
  done = subprocess.run(
    [sys.executable, *_PROCESS, *words],
    cwd=folder,
    env={'PYTHONPATH': str(site), 'PATH': '', 'HOME': str(folder)},
    capture_output=True,
    encoding='utf-8',
  )
  return done.returncode, done.stdout + done.stderr


def test_the_wheel_has_every_package(options):
  packages = [
    path.parent for path in (_ROOT / 'rnascl_jax').rglob('__init__.py')
  ]
  names = {'.'.join(path.relative_to(_ROOT).parts) for path in packages}
  shipped = {
    'rnascl_jax.' + '.'.join(path.parent.relative_to(_ROOT).parts)
    for folder in ('configs', 'experiments')
    for path in (_ROOT / folder).rglob('__init__.py')
  }
  assert set(options['packages']) == names | shipped


@pytest.mark.parametrize('folder', ['rnascl_jax', 'configs', 'experiments'])
def test_nothing_imports_a_package_that_a_user_may_have_too(folder):
  for path in (_ROOT / folder).rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_bytes())):
      if isinstance(node, ast.ImportFrom):
        names = [node.module or '.']
      elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      else:
        continue
      first = {name.split('.')[0] for name in names}
      assert not first & {'configs', 'experiments', 'tests'}, path


@pytest.mark.parametrize(
  'layout', ['installed', pytest.param('checkout', marks=pytest.mark.slow)]
)
def test_commands_and_configs_are_found_from_any_folder(
  layout, installed, own_folder
):
  site = {'installed': installed, 'checkout': _ROOT}[layout]
  code, text = _run(
    site,
    own_folder,
    'sweep',
    '--workdir=R',
    '--print',
    '--config=ablations/terms:table=8,data=digits',
  )
  assert code == 0, text
  assert '\nrnascl pipeline --config=ablations/terms:' in text
  source = _ROOT / 'configs' / 'ablations' / 'terms.py'
  shutil.copy(source, own_folder / 'mine.py')
  code, text = _run(
    site,
    own_folder,
    'search',
    '--workdir=W',
    '--config=mine.py:data=digits,smoke',
  )
  assert code == 1
  assert 'W/teacher is not complete. Run rnascl teacher first' in text
