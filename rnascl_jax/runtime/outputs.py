"""Text for terminals, pipes and logs that cannot show all characters.

Example:
  >>> import io
  >>> stream = io.TextIOWrapper(io.BytesIO(), 'ascii', errors=READABLE)
  >>> stream.write('L∞, ε = 0.1: 35.0 ± 1.0 — Schrödinger') > 0
  True
  >>> stream.flush()
  >>> stream.buffer.getvalue().decode('ascii')
  'Linf, eps = 0.1: 35.0 +/- 1.0 - Schrodinger'
"""

import codecs
import io
import sys
import unicodedata

# An error handler of codecs, such as 'strict' and 'replace'.
READABLE = 'rnascl_jax.readable'

_ASCII = {
  '∞': 'inf',
  'ε': 'eps',
  'γ': 'gamma',
  '±': '+/-',
  '×': 'x',
  '−': '-',
  '–': '-',
  '—': '-',
  '→': '->',
  '←': '<-',
  '\N{REPLACEMENT CHARACTER}': '?',
}


def degrade() -> None:
  """Makes standard output and error write what they cannot encode in ASCII."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors=READABLE)


def _readable(error: UnicodeError) -> tuple[str, int]:
  if not isinstance(error, UnicodeEncodeError):
    raise error
  part = error.object[error.start : error.end]
  return ''.join(map(_ascii, part)), error.end


def _ascii(character: str) -> str:
  """'eps' for 'ε', 'o' for 'ö', and the code point where no letter fits."""
  plain = unicodedata.normalize('NFKD', character).encode('ascii', 'ignore')
  escaped = character.encode('ascii', 'backslashreplace')
  return _ASCII.get(character) or (plain or escaped).decode()


codecs.register_error(READABLE, _readable)
