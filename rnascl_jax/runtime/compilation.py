"""How commands compile: programs are kept, and brief ones take fewer passes.

On a CPU most of the time of compilation is LLVM's. At its highest level, XLA's
default, Threefry's loops are the slowest to compile, and the first weights of a
network have one for each layer. At level 1 they, attacks of an evaluation and
scores of layers compile in about half of the time and less, and run about as
fast. Training keeps level 3, since its rounding, which another level changes,
decides every weight; so does AutoAttack, which gains nothing.
"""

import contextlib
import gc
import os
import pathlib
from typing import Any

import jax

from rnascl_jax.runtime import paths

# Bytes of compiled programs that are kept between runs.
_MOST_KEPT = 2**30
_BRIEF = {'xla_backend_optimization_level': 1}


def brief(platform: str | None = None) -> dict[str, Any] | None:
  """The `compiler_options` of programs that training does not depend on.

  Args:
    platform: where they run, such as 'cpu'; None for the default back end.

  Returns:
    Options of `jax.jit`; None, for no options, elsewhere than on a CPU and
    where JAX was told to leave out most passes of all programs.
  """
  if (platform or jax.default_backend()) != 'cpu':
    return None
  fewest = jax.config.read('jax_disable_most_optimizations')
  return None if fewest else _BRIEF


def prepare() -> None:
  """Prepares a command: keeps compiled programs, and collects garbage rarely.

  Programs are kept in `paths.cache()`, unless the user chose a place; the
  oldest are deleted where they are more than 1 GiB. Traces are many small
  objects that stay, which Python would look through again and again.
  """
  gc.freeze()
  gc.set_threshold(20_000, 50, 100)
  if os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return
  folder = paths.cache()
  delete_oldest(folder, _MOST_KEPT)
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)


def delete_oldest(folder: pathlib.Path, most: int) -> None:
  """Deletes the programs that were kept first, until `most` bytes are left."""
  # Another command may delete them too.
  with contextlib.suppress(OSError):
    stats = {file: file.stat() for file in folder.glob('*-cache')}
    total = sum(status.st_size for status in stats.values())
    for file in sorted(stats, key=lambda file: stats[file].st_mtime):
      if total <= most:
        return
      file.unlink()
      total -= stats[file].st_size
