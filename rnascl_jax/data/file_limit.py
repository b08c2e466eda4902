"""How many files a process may have open: one for each shard it reads.

ImageNet has 1,088 of them, and Linux allows 1,024 by default, where a process
may allow itself more.
"""

# Of a process apart from shards: libraries, sockets, checkpoints, metrics.
_OTHERS = 512


def allow(shards: int) -> None:
  """Raises this process's limit of open files if shards may not fit in it.

  Workers inherit it. Nothing happens where the limit is high enough, cannot be
  raised, or, on Windows, is none of the process's.

  Args:
    shards: how many more files are to be open.
  """
  try:
    import resource
  except ModuleNotFoundError:
    return
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = 2 * shards + _OTHERS
  if hard != resource.RLIM_INFINITY:
    wanted = min(wanted, hard)
  if soft != resource.RLIM_INFINITY and soft < wanted:
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
