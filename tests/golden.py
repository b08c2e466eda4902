"""Results of the official AutoAttack, live where it is installed, else saved.

`python -m tests.golden` computes them anew and writes tests/golden.npz.
"""

import contextlib
import importlib.util
import pathlib
import tempfile
import warnings

import numpy as np

PATH = pathlib.Path(__file__).with_name('golden.npz')
# Of how many images pixels are saved.
_IMAGES = 4
INSTALLED = all(
  importlib.util.find_spec(name) for name in ('torch', 'pyautoattack')
)


def names(prefix):
  """Names of the saved results that begin with a prefix."""
  if not PATH.exists():
    return []
  with np.load(PATH) as archive:
    return sorted({k.split('/')[0] for k in archive if k.startswith(prefix)})


def saved(name):
  """A saved result, a dict of arrays."""
  with np.load(PATH) as archive:
    found = {
      key.split('/')[1]: archive[key]
      for key in archive
      if key.split('/')[0] == name
    }
  if not found:
    raise KeyError(f'{name} is not in {PATH}; run python -m tests.golden')
  return found


def saved_or(name, compute):
  """A result: computed where the official code is installed, else as saved.

  Args:
    name: of the result.
    compute: () -> dict of arrays, with the official code.

  Returns:
    The dict.
  """
  return compute() if INSTALLED else saved(name)


@contextlib.contextmanager
def torch_float64():
  """The official code makes its buffers in the default type.

  Tensors are small: further threads only wait for each other.
  """
  import torch

  dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
  torch.set_default_dtype(torch.float64)
  torch.set_num_threads(1)
  try:
    yield
  finally:
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@contextlib.contextmanager
def ignored_warnings():
  """The official code warns of zero gradients, of which there are some."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    yield


def main():
  """Computes all results anew."""
  from tests import attack_networks as nets
  from tests.attacks import test_apgd, test_autoattack

  results = {}
  for network, loss, norm, steps, rank in test_apgd.official_cases():
    name = test_apgd.case_name(network, loss, norm, steps, rank)
    results[name] = test_apgd.official(network, loss, norm, steps, rank)
  with tempfile.TemporaryDirectory() as folder:
    for network in (nets.plain, nets.cell):
      for draws, order in (
        ('tables', 'standard'),
        ('tables', 'reversed'),
        ('0', 'reversed'),
      ):
        name, arguments = test_autoattack.case(network, 200, 5000, draws, order)
        results[name] = test_autoattack.official(
          pathlib.Path(folder), *arguments
        )
        print(name, results[name]['left'])
  arrays = {
    f'{name}/{key}': value[:_IMAGES] if value.ndim == 4 else value
    for name, found in results.items()
    for key, value in found.items()
  }
  np.savez_compressed(PATH, **arrays)


if __name__ == '__main__':
  main()
