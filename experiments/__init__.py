"""Commands; each has `--help`. `rnascl NAME` runs them too."""

import sys

from rnascl_jax.runtime import outputs, signals

# Python imports this package before the command in it, and so before JAX. In
# programs that import a command the flag does not stand here any more.
if sys.argv[:1] == ['-m']:
  signals.install()
  outputs.degrade()
