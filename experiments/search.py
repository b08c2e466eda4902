"""Searches filters and tutors with a trained teacher.

rnascl search --config=digits --workdir=/tmp/digits
"""

from rnascl_jax.stages import launcher, searches

if __name__ == '__main__':
  launcher.stage(searches.search)
