"""The known name that a misspelt one most likely stands for.

Example:
  >>> from rnascl_jax.runtime import spelling
  >>> spelling.did_you_mean('gama', ('gamma', 'epochs'))
  " Did you mean 'gamma'?"
  >>> spelling.did_you_mean('xyz', ('gamma', 'epochs'))
  ''
"""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
  """A question for an error message about an unknown name.

  Args:
    name: the unknown name, as the user wrote it.
    known: the names that there are.

  Returns:
    ' Did you mean 'gamma'?', with the most similar known name, or '' if none is
    similar.
  """
  close = difflib.get_close_matches(str(name), list(known), 1)
  return f' Did you mean {close[0]!r}?' if close else ''
