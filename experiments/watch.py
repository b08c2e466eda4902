"""Shows a run in the browser while it goes on.

  rnascl watch WORKDIR
  rnascl watch WORKDIR --port=8000

Prints the address of a page that is the run's report.html, with how far its
trainings have come; it is made anew as files change. The page can be read on
this machine only. WORKDIR may be the folder of a sweep too.
"""

import sys

from absl import app, flags

from rnascl_jax.reporting import watch

_WORKDIR = flags.DEFINE_string('workdir', None, 'WORKDIR, as a flag.')
_PORT = flags.DEFINE_integer('port', 0, 'Port; 0 picks one that is free.')


def main(argv: list[str]) -> None:
  """Serves the folder until Ctrl-C."""
  folders = argv[1:] if _WORKDIR.value is None else [*argv[1:], _WORKDIR.value]
  if len(folders) != 1:
    raise app.UsageError('Name one folder: rnascl watch WORKDIR')
  try:
    sys.exit(watch.serve(folders[0], _PORT.value, sys.stdout))
  except (OSError, ValueError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  app.run(main)
