"""Trains the derived architecture from scratch, with the config's controls.

rnascl train --config=digits --workdir=/tmp/digits

`rnascl adversarial` trains the students further, on attacks.
"""

from rnascl_jax.stages import launcher, students

if __name__ == '__main__':
  launcher.stage(students.train)
