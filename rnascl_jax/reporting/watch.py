"""The page of a run, served while the run goes on.

The server answers this machine alone (127.0.0.1, by that name or `localhost`),
only reads, and gives nothing but pages: that of the run, or the index of a
sweep and the pages of its runs. A page is made anew when a file has changed.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.reporting import watch
  >>> folder = pathlib.Path(tempfile.mkdtemp())
  >>> _ = (folder / 'config.json').write_text('{"format": 2}')
  >>> watch.Watched(folder).page('/').text.startswith('<!doctype html>')
  True
  >>> watch.Watched(folder).page('/../other/') is None
  True
"""

import contextlib
import functools
import hashlib
import http
import http.server
import os
import pathlib
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import IO, NamedTuple

from rnascl_jax.reporting import html, results
from rnascl_jax.reporting.html import sweep, trainings
from rnascl_jax.reporting.paper import sweep_runs
from rnascl_jax.reporting.report import run_facts
from rnascl_jax.runtime import paths, signals

HOST = '127.0.0.1'
# What pages are not made of, and changes often.
_FOLDERS = ('adversarial', 'checkpoints', 'figures', 'journal', 'profile')
_FILES = ('.tmp', '.lock', '.log', '.md', '.html')
_PAGES = ('report.html', 'index.html')
# Of this server in requests; the port of a tunnel may be another one.
_NAMES = re.compile(r'(127\.0\.0\.1|localhost)(:\d+)?', re.IGNORECASE)
_HEADERS = {
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
}


class Page(NamedTuple):
  """A page, and a tag that changes with the files it is made of."""

  tag: str
  text: str


class Watched:
  """A workdir, or the folder of a sweep, as pages that are up to date."""

  def __init__(
    self,
    root: str | os.PathLike[str],
    clock: Callable[[], float] = time.monotonic,
  ):
    """Checks the folder.

    Args:
      root: a workdir, or the folder of a sweep.
      clock: seconds; for tests.

    Raises:
      ValueError: if it is neither.
    """
    self.root = paths.local(root, 'workdir').resolve()
    if not (_is_run(self.root) or _is_sweep(self.root)):
      raise ValueError(
        f'{self.root} is neither the workdir of a run, with a config.json, nor '
        'the folder of a sweep, with folders seed<N>: name the --workdir of a '
        'command that has begun.'
      )
    self._clock, self._lock = clock, threading.Lock()
    self._pages: dict[pathlib.Path, Page] = {}
    # By stage: its epochs when it was first seen under way.
    self._first: dict[tuple[pathlib.Path, str], float] = {}
    # When it was first seen to come further, and its epochs then.
    self._since: dict[tuple[pathlib.Path, str], tuple[float, float]] = {}

  def page(self, path: str) -> Page | None:
    """Makes the page of a path of the server; None where there is none.

    Raises:
      ValueError: a file of the run is broken.
    """
    folder = self._folder(path)
    if folder is None:
      return None
    with self._lock:
      tag = _tag(folder)
      known = self._pages.get(folder)
      if known is None or known.tag != tag:
        known = Page(tag, self._make(folder))
        self._pages[folder] = known
      return known

  def _folder(self, path: str) -> pathlib.Path | None:
    """The folder that a path names; None for all outside and for files."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(path).path).lstrip('/')
    if '\0' in name:
      return None
    place = self.root / name
    folder = (place.parent if place.name in _PAGES else place).resolve()
    if not folder.is_relative_to(self.root):
      return None
    return folder if _is_run(folder) or _is_sweep(folder) else None

  def _make(self, folder: pathlib.Path) -> str:
    if not _is_run(folder):
      return sweep.page(sweep_runs.load(folder), is_live=True)
    run = results.load(folder)
    left = {}
    for stage in trainings.stages(run):
      if stage.done and not stage.is_complete:
        seconds = self._seconds_left(folder, stage)
        if seconds is not None:
          left[stage.name] = run_facts.duration(seconds)
    return html.page(run, is_live=True, left=left)

  def _seconds_left(
    self, folder: pathlib.Path, stage: trainings.Stage
  ) -> float | None:
    """By the rate since the stage was seen to come further; None until then.

    When the epochs that were there at first had ended is not known.
    """
    key, now = (folder, stage.name), self._clock()
    if stage.done <= self._first.setdefault(key, stage.done):
      return None
    since, done = self._since.setdefault(key, (now, stage.done))
    if stage.done <= done or now <= since:
      return None
    return (stage.epochs - stage.done) * (now - since) / (stage.done - done)


def _is_run(folder: pathlib.Path) -> bool:
  return (folder / 'config.json').is_file()


def _is_sweep(folder: pathlib.Path) -> bool:
  return any(path.is_dir() for path in folder.glob('seed[0-9]*'))


def _tag(folder: pathlib.Path) -> str:
  """A digest of names, sizes and times of the files that pages are made of."""
  digest = hashlib.sha256()
  for place, folders, files in os.walk(folder):
    folders[:] = sorted(set(folders) - set(_FOLDERS))
    for name in sorted(files):
      if not name.endswith(_FILES) and not name.startswith('events.'):
        try:
          status = os.stat(os.path.join(place, name))
        except OSError:
          continue  # It was replaced at this moment, or is a link to itself.
        facts = place, name, status.st_size, status.st_mtime_ns
        digest.update(repr(facts).encode())
  return digest.hexdigest()[:20]


class _Handler(http.server.BaseHTTPRequestHandler):
  """Answers GET and HEAD with pages."""

  server_version, sys_version = 'rnascl', ''

  def __init__(self, watched: Watched, *arguments, **options):
    self._watched = watched
    super().__init__(*arguments, **options)

  def do_GET(self) -> None:
    if not _NAMES.fullmatch(self.headers.get('Host', '')):
      # A page of elsewhere whose name leads here would read the run.
      self._answer(http.HTTPStatus.FORBIDDEN, f'Ask for http://{HOST}:PORT/')
      return
    try:
      page = self._watched.page(self.path)
    except Exception as error:  # A page has to say what is wrong with a run.
      text = f'{error}'
      if not isinstance(error, OSError | ValueError):
        text = f'The page cannot be made: {error!r}'
      self._answer(http.HTTPStatus.INTERNAL_SERVER_ERROR, text)
      return
    if page is None:
      self._answer(http.HTTPStatus.NOT_FOUND, 'There is no such page.')
    elif self.headers.get('If-None-Match') == f'"{page.tag}"':
      self._answer(http.HTTPStatus.NOT_MODIFIED, '', tag=page.tag)
    else:
      self._answer(http.HTTPStatus.OK, page.text, kind='html', tag=page.tag)

  do_HEAD = do_GET

  def _answer(
    self,
    status: http.HTTPStatus,
    text: str,
    *,
    kind: str = 'plain',
    tag: str = '',
  ) -> None:
    content = text.encode()
    self.send_response(status)
    for name, value in _HEADERS.items():
      self.send_header(name, value)
    if tag:
      self.send_header('ETag', f'"{tag}"')
    if status is not http.HTTPStatus.NOT_MODIFIED:
      self.send_header('Content-Type', f'text/{kind}; charset=utf-8')
      self.send_header('Content-Length', f'{len(content)}')
    # A browser may have gone before its answer came.
    with contextlib.suppress(ConnectionError):
      self.end_headers()
      if self.command == 'GET':
        self.wfile.write(content)

  def log_message(self, format: str, *args: object) -> None:
    """Says nothing: a page asks every two seconds."""


def server(
  root: str | os.PathLike[str], port: int = 0
) -> http.server.ThreadingHTTPServer:
  """Makes the server of a folder, which listens already.

  Args:
    root: a workdir, or the folder of a sweep.
    port: 0 picks one that is free.

  Raises:
    ValueError: if the folder is neither, or the port cannot be had.
  """
  handler = functools.partial(_Handler, Watched(root))
  try:
    return http.server.ThreadingHTTPServer((HOST, port), handler)
  except (OSError, OverflowError) as error:
    raise ValueError(
      f'--port={port} cannot be had ({error}): choose another one up to 65535, '
      'or 0 for one that is free.'
    ) from error


def serve(root: str | os.PathLike[str], port: int, out: IO[str]) -> int:
  """Serves a folder until SIGINT or SIGTERM; returns the exit status.

  Args:
    root: as in `server`.
    port: as in `server`.
    out: where the address is printed.

  Raises:
    ValueError: as `server` does.
  """
  stopped: list[int] = []
  with server(root, port) as served:

    def stop(signum: int, frame: object) -> None:
      del frame
      stopped.append(signum)
      # It waits for the loop, which goes on in this thread.
      threading.Thread(target=served.shutdown).start()

    with signals.handled_by(stop):
      address = f'http://{HOST}:{served.server_address[1]}/'
      print(f'{address} shows {root}; Ctrl-C ends it.', file=out, flush=True)
      served.serve_forever(poll_interval=0.1)
  return 128 + stopped[0] if stopped else 0
