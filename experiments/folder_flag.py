"""A flag that must name a folder."""

from absl import flags


def require(name: str) -> None:
  """Makes a flag required, and refuses what an unset variable leaves of it."""
  flags.mark_flag_as_required(name)
  flags.register_validator(
    name,
    lambda path: path is None or path.strip(),
    'it is empty: name a folder.',
  )
