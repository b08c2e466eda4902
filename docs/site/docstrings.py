"""Docstrings as they are written here, made into what Griffe reads."""

import re
import textwrap

import griffe

# "Args:" and the like, with which the sections of a docstring begin.
_SECTION = re.compile(r'^[A-Z]\w*:$', re.MULTILINE)
_INDENTED = re.compile(r'(?:^ .*\n?)+', re.MULTILINE)


class AsWritten(griffe.Extension):
  """Fences formulas, finds examples, and takes the comments of constants.

  What has no docstring has no entry, so a constant without a comment gets one
  that shows nothing.
  """

  def on_instance(self, *, obj: griffe.Object, **_) -> None:
    """Changes the docstring of a module, class or function."""
    if obj.docstring:
      obj.docstring.value = readable(obj.docstring.value)

  def on_attribute_instance(self, *, attr: griffe.Attribute, **_) -> None:
    """Gives a constant of a module the comment above it as its docstring."""
    if attr.parent.is_module and not attr.docstring:
      comment = _comment_above(attr)
      attr.docstring = griffe.Docstring(comment or '<!-- -->', parent=attr)


def readable(text: str) -> str:
  """Fences what is indented before the first section; Example is Examples."""
  section = _SECTION.search(text)
  end = section.start() if section else len(text)
  body = _INDENTED.sub(_fenced, text[:end])
  return body + re.sub('^Example:$', 'Examples:', text[end:], flags=re.M)


def _fenced(match: re.Match[str]) -> str:
  return f'```text\n{textwrap.dedent(match[0]).rstrip()}\n```\n'


def _comment_above(attr: griffe.Attribute) -> str:
  lines = attr.parent.source.splitlines()[: (attr.lineno or 1) - 1]
  comment: list[str] = []
  while lines and lines[-1].startswith('#'):
    comment.insert(0, lines.pop().lstrip('# '))
  return ' '.join(comment)
