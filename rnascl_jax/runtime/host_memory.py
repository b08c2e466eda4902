"""Memory that programs on a CPU give back, kept for their next run.

Each run of a program of JAX takes memory for all that it holds at a time,
hundreds of mebibytes for a step of training, and gives it back at its end. The
C library returns blocks of this size to the system at once, and the system
clears every page of them before the next step may write to it. That takes a
third or more of the time of a step, and huge pages, which save what looking up
small ones costs, are not asked for.

Example:
  >>> from rnascl_jax.runtime import host_memory
  >>> is_kept = host_memory.keep()  # Before JAX makes its first array.

Reference:
  The GNU C Library, mallopt(3); Linux, madvise(2).
"""

import ctypes
import mmap
import os
import platform

# Parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep() -> bool:
  """Has this process keep the memory that it frees, in huge pages.

  Threads that have started keep their own ways, so this is to be called before
  JAX makes its first array. Up to half of the machine's memory may lie in huge
  pages; what is not used is not taken. The process keeps the most that it ever
  held until it ends. What is computed does not change.

  Returns:
    Whether it does; False where the C library is not glibc.
  """
  if platform.libc_ver()[0] != 'glibc':
    return False
  libc = ctypes.CDLL(None)
  # All threads share the one arena that grows without bounds.
  wanted = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
  kept = all([libc.mallopt(*parameter) == 1 for parameter in wanted])
  if kept and hasattr(mmap, 'MADV_HUGEPAGE'):
    _ask_for_huge_pages(libc)
  return kept


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
  """For what the arena will hold: a block is freed, but remains its own."""
  size = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2
  libc.malloc.restype = ctypes.c_void_p
  block = libc.malloc(ctypes.c_size_t(size))
  if block is None:  # As limits of the process may have it.
    return
  libc.free(ctypes.c_void_p(block))
  begin = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
  length = (block + size - begin) // mmap.PAGESIZE * mmap.PAGESIZE
  # It is advice: a system without huge pages does not take it.
  libc.madvise(
    ctypes.c_void_p(begin), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE
  )
