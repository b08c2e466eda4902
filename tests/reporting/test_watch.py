"""The server of a run's page: what it serves, and what it refuses."""

import http.client
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

from rnascl_jax.reporting import watch
from rnascl_jax.runtime import commands as runtime_commands
from tests import saved_run, saved_sweep


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp('watched')
  saved_run.files.write_config(root / 'run', {'data': {'name': 'digits'}})
  saved_run.write_evaluation(root / 'run', saved_run.evaluation('ce'))
  shutil.copytree(root / 'run', root / 'other')
  return root / 'run'


@pytest.fixture(scope='module')
def port(folder):
  with watch.server(folder) as served:
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield served.server_port
    served.shutdown()
    thread.join()


def _ask(port, path='/', method='GET', **headers):
  connection = http.client.HTTPConnection('127.0.0.1', port)
  try:
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer
  finally:
    connection.close()


@pytest.mark.parametrize('path', ['/', '/report.html', '/?a=b', '//'])
def test_the_page_of_the_run_is_served(port, path):
  status, text, answer = _ask(port, path)
  assert status == 200 and 'CE student' in text and 'data-live' in text
  assert answer.getheader('Cache-Control') == 'no-store'
  assert answer.getheader('X-Content-Type-Options') == 'nosniff'
  assert _ask(port, path, 'HEAD')[:2] == (200, '')


def test_a_page_is_made_anew_only_when_a_file_has_changed(port, folder):
  tag = _ask(port)[2].getheader('ETag')
  known = {'If-None-Match': tag}
  assert _ask(port, **known)[:2] == (304, '')
  (folder / 'writer.lock').write_text('{}')  # No part of the page.
  assert _ask(port, **known)[0] == 304
  saved = saved_run.evaluation('rnas_cl')
  saved_run.write_evaluation(folder, saved)
  status, text, answer = _ask(port, **known)
  assert status == 200 and 'RNAS-CL student' in text
  assert answer.getheader('ETag') != tag
  known = {'If-None-Match': answer.getheader('ETag')}
  with saved_run.edited(folder / 'evaluation' / 'rnas_cl.json') as saved:
    saved['label'] = 'STUDENT of RNAS'  # As many letters.
  assert 'STUDENT of RNAS' in _ask(port, **known)[1]


@pytest.mark.parametrize(
  'path',
  [
    '/../other/',
    '/%2e%2e/other/report.html',
    '/..%2fother/',
    '/evaluation/../../other/',
    '/config.json',
    '/evaluation/',
    '/link/',
    '/%00',
    '/etc/passwd',
  ],
)
def test_all_but_pages_of_the_folder_is_refused(port, folder, path):
  link = folder / 'link'
  if not link.is_symlink():
    os.symlink(folder.parent / 'other', link)
  assert (folder / 'link' / 'config.json').exists()
  assert _ask(port, path)[:2] == (404, 'There is no such page.')


@pytest.mark.parametrize(
  'host', ['evil.example', '', '127.0.0.1.evil.example', 'localhost:1:x']
)
def test_a_request_by_another_name_of_the_server_is_refused(port, host):
  status, text, _ = _ask(port, Host=host)
  assert status == 403 and text == 'Ask for http://127.0.0.1:PORT/'
  assert _ask(port, Host='localhost:9000')[0] == 200  # Of a tunnel.


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'OPTIONS'])
def test_the_server_only_reads(port, method):
  assert _ask(port, method=method)[0] == 501


def test_a_damaged_file_is_named_and_the_server_goes_on(port, folder):
  path = folder / 'provenance.json'
  path.write_text('{')
  status, text, _ = _ask(port)
  assert status == 500 and f'{path} is damaged' in text
  path.unlink()
  assert _ask(port)[0] == 200


def test_a_link_to_itself_hides_no_page(port, folder):
  link = folder / 'loop'
  link.symlink_to(link)
  try:
    assert _ask(port)[0] == 200
    assert _ask(port, '/loop/')[0] in (404, 500)
  finally:
    link.unlink()


def test_what_no_page_can_be_made_of_is_told(port, folder, monkeypatch):
  def fail(*arguments, **options):
    raise KeyError('stem')

  with monkeypatch.context() as patch:
    patch.setattr(watch.html, 'page', fail)
    (folder / 'provenance.json').write_text('{}')
    status, text, _ = _ask(port)
  (folder / 'provenance.json').unlink()
  assert status == 500 and text == "The page cannot be made: KeyError('stem')"
  assert _ask(port)[0] == 200


def test_a_browser_that_goes_before_its_answer_leaves_no_traceback(port, capfd):
  reset = struct.pack('ii', 1, 0)  # It is told at once that nobody listens.
  for _ in range(3):
    asking = socket.create_connection(('127.0.0.1', port))
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    asking.sendall(b'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n')
    asking.close()
  assert _ask(port)[0] == 200
  assert 'Traceback' not in capfd.readouterr().err


def test_a_folder_without_a_run_and_a_port_in_use_are_refused(port, folder):
  with pytest.raises(ValueError, match='neither the workdir of a run'):
    watch.server(folder.parent)
  with pytest.raises(ValueError, match=f'--port={port} cannot be had'):
    watch.server(folder, port)
  with pytest.raises(ValueError, match='--port=70000 cannot be had'):
    watch.server(folder, 70_000)


def test_the_folder_of_a_sweep_has_an_index_and_a_page_for_each_run(tmp_path):
  row = saved_sweep.write_row(tmp_path, 0, 'digits_ce', ['ce'])
  watched = watch.Watched(tmp_path)
  assert 'seed0/digits_ce/report.html' in watched.page('/').text
  page = watched.page(f'/seed0/{row.name}/report.html')
  assert page.text.startswith('<!doctype html>')
  assert watched.page('/seed0/') is None


def test_the_time_left_is_by_the_epochs_that_were_seen_from_end_to_end(
  tmp_path,
):
  now = [0.0]
  epochs = {'optimization': {'epochs': 10}}
  saved_run.files.write_config(tmp_path, {'teacher': epochs})
  log = tmp_path / 'teacher' / 'metrics.jsonl'
  log.parent.mkdir()

  def page(epoch, seconds):
    with open(log, 'a') as file:
      file.write(f'{{"step": {epoch}, "epoch": {epoch}, "loss": 1}}\n')
    now[0] = seconds
    return watched.page('/').text

  watched = watch.Watched(tmp_path, clock=lambda: now[0])
  assert 'epoch 2 of 10</span>' in page(2, 100.0)
  # Of epoch 3 only the end was seen, however soon after the first look.
  assert 'epoch 3 of 10</span>' in page(3, 100.5)
  assert 'epoch 5 of 10, about 50 s left' in page(5, 120.5)


def test_the_command_prints_its_address_and_ends_at_ctrl_c(folder):
  with subprocess.Popen(
    [*runtime_commands.PROCESS, 'watch', str(folder)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    line = process.stdout.readline()
    port = int(re.search(r'http://127.0.0.1:(\d+)/ shows', line)[1])
    status, text, _ = _ask(port)
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=30)
  assert (status, process.returncode, rest, said) == (200, 130, '', '')
  assert 'CE student' in text
