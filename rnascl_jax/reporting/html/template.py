"""Fills the templates: what is data is escaped, what is ours is not.

The page allows no script but its own, by that one's hash, and loads nothing.
"""

import base64
import functools
import hashlib
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import markupsafe

_FOLDER = pathlib.Path(__file__).parent / 'templates'
_STRONG, _CODE = re.compile(r'\*\*(.+?)\*\*'), re.compile(r'`([^`]+)`')


def render(
  name: str,
  title: str,
  subtitle: str,
  contents: Sequence[tuple[str, str]],
  *,
  is_live: bool = False,
  **values: Any,
) -> str:
  """Makes a page.

  Args:
    name: of the template.
    title: of the page.
    subtitle: below it.
    contents: places in the page, and their names.
    is_live: whether it asks its server for a newer page.
    **values: what the template shows.
  """
  style, script = (
    (_FOLDER / file).read_text('utf-8') for file in ('style.css', 'page.js')
  )
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  return (
    _templates()
    .get_template(name)
    .render(
      title=title,
      subtitle=subtitle,
      contents=contents,
      live=is_live,
      style=style,
      script=script,
      policy=(
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src "
        "'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
        + "; connect-src 'self'"
        * is_live
      ),
      **values,
    )
  )


@functools.cache
def _templates() -> jinja2.Environment:
  templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  templates.filters['prose'] = prose
  return templates


def prose(text: str) -> markupsafe.Markup:
  """A sentence of report.md as HTML: `**` and backticks alone mean something.

  Example:
    >>> print(prose('**Warning** of `a<b`'))
    <strong>Warning</strong> of <code>a&lt;b</code>
  """
  escaped = str(markupsafe.escape(text))
  escaped = _STRONG.sub(r'<strong>\1</strong>', escaped)
  return markupsafe.Markup(_CODE.sub(r'<code>\1</code>', escaped))
