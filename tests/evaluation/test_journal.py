"""Journals: what a killed run finds again, and which ones it must not use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks
from rnascl_jax.attacks import ensembles
from rnascl_jax.attacks.attack_log import Finished
from rnascl_jax.evaluation import attack_journal
from rnascl_jax.evaluation.attack_journal import AttackJournal
from rnascl_jax.runtime import files, fingerprints, signals

_LOGITS = np.array([[1.0, -2.0], [0.5, 3.0]])
_ABOUT = {'epsilon': 0.1, 'members': {'square': {'num_steps': 5}}}


class _Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def _finished(row: int, fooled: bool = True) -> Finished:
  return Finished(
    rows=np.array([row, row + 1]),
    trials=np.array([0, 3]),
    steps=np.array([7, 9]),
    fooled=np.array([fooled, False]),
    images=np.random.default_rng(row).random((int(fooled), 2, 2, 1)),
  )


def _entries(folder) -> list:
  return AttackJournal(folder).start(_ABOUT, _LOGITS)


def _rows(folder) -> list[int]:
  return [int(finished.rows[0]) for _, finished, _ in _entries(folder)]


def test_what_was_appended_comes_back_in_order_and_bit_for_bit(tmp_path):
  given = [('a', _finished(0), 1.5), ('b', _finished(2, False), 0.25)]
  for entry in given:  # Each in a run of its own.
    with AttackJournal(tmp_path) as journal:
      journal.start(_ABOUT, _LOGITS)
      journal.append(*entry)
  found = _entries(tmp_path)
  assert [(m, s) for m, _, s in found] == [('a', 1.5), ('b', 0.25)]
  for (_, one, _), (_, two, _) in zip(given, found, strict=True):
    for a, b in zip(one, two, strict=True):
      assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_a_kill_costs_what_was_finished_in_the_last_five_seconds(tmp_path):
  clock = _Clock()
  with AttackJournal(tmp_path, clock=clock) as journal:
    journal.start(_ABOUT, _LOGITS)
    journal.append('a', _finished(0), 0.0)
    assert _rows(tmp_path) == [0]
    for row, seconds in ((2, 2), (4, 2.9), (6, 0.2), (8, 1)):
      clock.now += seconds
      journal.append('a', _finished(row), 0.0)
    assert _rows(tmp_path) == [0, 2, 4, 6]
    assert len(list(tmp_path.glob('part-*'))) == 2
  assert _rows(tmp_path) == [0, 2, 4, 6, 8]


def test_an_exception_costs_nothing(tmp_path):
  with pytest.raises(KeyboardInterrupt), AttackJournal(tmp_path) as journal:
    journal.start(_ABOUT, _LOGITS)
    for row in range(3):
      journal.append('a', _finished(row), 0.0)
    raise KeyboardInterrupt
  assert _rows(tmp_path) == [0, 1, 2]


def test_a_part_interrupted_between_file_and_memory_is_there_once(
  tmp_path, monkeypatch
):
  with pytest.raises(KeyboardInterrupt), AttackJournal(tmp_path) as journal:
    journal.start(_ABOUT, _LOGITS)

    def interrupted():
      monkeypatch.setattr(journal, '_clock', lambda: 0.0)
      raise KeyboardInterrupt

    monkeypatch.setattr(journal, '_clock', interrupted)
    journal.append('a', _finished(0), 0.0)
  assert _rows(tmp_path) == [0]


def test_without_a_with_statement_everything_is_written_at_once(tmp_path):
  journal = AttackJournal(tmp_path, clock=_Clock())
  journal.start(_ABOUT, _LOGITS)
  for row in range(3):
    journal.append('a', _finished(row), 0.0)
    assert _rows(tmp_path) == list(range(row + 1))


@pytest.mark.parametrize('kept', [0, 100, 0.5, 0.99])
def test_a_part_that_is_cut_off_is_not_there_and_harms_no_other(tmp_path, kept):
  journal = AttackJournal(tmp_path)
  journal.start(_ABOUT, _LOGITS)
  for row in range(3):
    journal.append('a', _finished(row), 0.0)
  part = tmp_path / 'part-000001.npz'
  content = part.read_bytes()
  part.write_bytes(content[: kept if kept >= 1 else int(kept * len(content))])
  (tmp_path / '.part-000003.npz.0f0f.tmp').write_bytes(b'half')
  assert _rows(tmp_path) == [0, 2]
  journal = AttackJournal(tmp_path)
  journal.start(_ABOUT, _LOGITS)
  journal.append('a', _finished(4), 0.0)
  part.unlink()
  assert _rows(tmp_path) == [0, 2, 4]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'epsilon': 0.2}, r'epsilon: 0\.1 there, 0\.2 here'),
    ({'members': {'square': {'num_steps': 6}}}, r'members\.square\.num_steps'),
    ({'members': {}}, 'members.square: .* there, None here'),
    ({'seed': 1}, 'seed: None there, 1 here'),
  ],
)
def test_the_journal_of_another_evaluation_is_refused(
  tmp_path, change, message
):
  AttackJournal(tmp_path).start(_ABOUT, _LOGITS)
  with pytest.raises(ValueError, match=f'{message}.*Delete the folder'):
    AttackJournal(tmp_path).start(_ABOUT | change, _LOGITS)


def test_the_journal_of_another_network_is_refused(tmp_path):
  AttackJournal(tmp_path, {'weights': 'a'}).start(_ABOUT, _LOGITS)
  AttackJournal(tmp_path, {'weights': 'a'}).start(_ABOUT, _LOGITS)
  with pytest.raises(ValueError, match="weights: 'a' there, 'b' here"):
    AttackJournal(tmp_path, {'weights': 'b'}).start(_ABOUT, _LOGITS)


def test_the_journal_of_an_older_format_is_refused(tmp_path):
  AttackJournal(tmp_path).start(_ABOUT, _LOGITS)
  files.write_json(tmp_path / 'identity.json', _ABOUT)
  with pytest.raises(ValueError, match=r'\(format: None there, 2 here\)'):
    AttackJournal(tmp_path).start(_ABOUT, _LOGITS)


def test_the_journal_of_a_classifier_with_another_gradient_is_refused(tmp_path):
  """Its logits are the same, but attacks would have found others."""

  def identity_of(function):
    return fingerprints.of_classifier(
      lambda images: function(images.reshape(1, -1)), (1, 2, 1), np.float32
    )

  plain, masked, again = map(
    identity_of,
    (jnp.tanh, lambda x: jax.lax.stop_gradient(jnp.tanh(x)), jnp.tanh),
  )
  AttackJournal(tmp_path).start(_ABOUT | {'classifier': plain}, _LOGITS)
  AttackJournal(tmp_path).start(_ABOUT | {'classifier': again}, _LOGITS)
  with pytest.raises(ValueError, match=r'evaluation \(classifier\.program: '):
    AttackJournal(tmp_path).start(_ABOUT | {'classifier': masked}, _LOGITS)


def test_logits_may_differ_by_rounding_and_no_more(tmp_path):
  logits = np.array([[1.0, -200.0], [np.nan, np.inf]])
  AttackJournal(tmp_path).start(_ABOUT, logits)
  AttackJournal(tmp_path).start(_ABOUT, logits + 0.19)
  for other in (logits + 0.21, np.nan_to_num(logits)):
    with pytest.raises(ValueError, match='logits of [12] of 2 images'):
      AttackJournal(tmp_path).start(_ABOUT, other)
  with pytest.raises(ValueError, match=r'\(2, 2\) there, \(1, 2\) here'):
    AttackJournal(tmp_path).start(_ABOUT, logits[:1])


@pytest.mark.parametrize('name', ['identity.json', 'logits.npz'])
def test_a_journal_that_does_not_say_of_what_it_is_is_refused(tmp_path, name):
  journal = AttackJournal(tmp_path)
  journal.start(_ABOUT, _LOGITS)
  journal.append('a', _finished(0), 0.0)
  path = tmp_path / name
  path.unlink()
  with pytest.raises(files.DamagedFileError, match=f'{path}.*Delete the journ'):
    _entries(tmp_path)


@pytest.mark.parametrize('at', [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize(
  'name', ['identity.json', 'logits.npz', 'part-000000.npz']
)
def test_a_flipped_bit_in_a_journal_becomes_no_result(tmp_path, name, at):
  journal = AttackJournal(tmp_path)
  journal.start(_ABOUT, _LOGITS)
  for row in (0, 2):
    journal.append('a', _finished(row), 0.0)
  expected = AttackJournal(tmp_path).start(_ABOUT, _LOGITS)
  path = tmp_path / name
  content = bytearray(path.read_bytes())
  content[int(at * len(content))] ^= 8
  path.write_bytes(content)
  try:
    found = _entries(tmp_path)
  except ValueError as error:
    assert not name.startswith('part') and str(tmp_path) in str(error)
    return
  # All of them where nothing that is read was hit, or those of other parts.
  assert repr(found) in (repr(expected), repr(expected[1:]))


def test_nothing_is_appended_to_a_journal_that_was_not_started(tmp_path):
  with pytest.raises(ValueError, match='start'):
    AttackJournal(tmp_path).append('a', _finished(0), 0.0)
  assert not list(tmp_path.iterdir())


def test_the_identity_is_json_for_people(tmp_path):
  AttackJournal(tmp_path, {'model': 'ce'}).start(
    {'epsilon': np.float32(0.5)}, _LOGITS
  )
  saved = files.read_json(tmp_path / 'identity.json')
  assert saved == {'format': 2, 'epsilon': 0.5, 'model': 'ce'}


class _Dying(AttackJournal):
  """Dies after some entries."""

  def __init__(self, folder, entries: int):
    super().__init__(folder)
    self._left = entries

  def append(self, member, finished, seconds):
    super().append(member, finished, seconds)
    self._left -= 1
    if not self._left:
      raise KeyboardInterrupt


def test_auto_attack_goes_on_from_its_journal_to_the_same_images(tmp_path):
  rng = np.random.default_rng(0)
  weights = jnp.asarray(rng.normal(size=(16, 3)), jnp.float32)

  def apply(weights, images):
    return jnp.tanh(images.reshape(-1, 16) @ weights)

  logits_fn = jax.tree_util.Partial(apply, weights)
  images = rng.random((24, 4, 4, 1)).astype(np.float32)
  labels = np.asarray(logits_fn(images).argmax(-1))
  options = {
    'epsilon': 0.05,
    'attacks': (
      ensembles.apgd_ce(num_steps=7),
      ensembles.apgd_dlr(num_steps=5, restarts=2),
    ),
    'batch_size': 8,
    'checks': False,
    'verbose': False,
    'devices': jax.local_devices()[:1],
  }

  def run(journal):
    return attacks.auto_attack(
      logits_fn, images, labels, journal=journal, **options
    )

  straight = run(None)
  assert 0 < straight.robust.sum() < 20
  for entries in (1, 1, 2):
    with pytest.raises(KeyboardInterrupt), _Dying(tmp_path, entries) as journal:
      run(journal)
  with AttackJournal(tmp_path) as journal:
    resumed = run(journal)
  np.testing.assert_array_equal(resumed.images, straight.images)
  np.testing.assert_array_equal(resumed.broken_by, straight.broken_by)
  passes = [[m.passes for m in r.members] for r in (resumed, straight)]
  assert passes[0] == passes[1]
  with pytest.raises(ValueError, match=r'epsilon: 0\.05 there, 0\.06 here'):
    options['epsilon'] = 0.06
    run(AttackJournal(tmp_path))


class _OtherProcess:
  """`processes`, as one that is not the main one sees it."""

  def __init__(self, asked: bool):
    self._asked = asked

  def is_main(self):
    return False

  def on_main(self, function, *arguments, **named):
    del function, arguments, named

  def together(self, function, *arguments):
    return function(*arguments)

  def count(self):
    return 2

  def check_agreement(self, what, text):
    assert what == 'journal' and text.startswith('entries=')

  def wait_for(self, path):
    assert path.exists()

  def any_true(self, flag):
    return flag or self._asked


@pytest.mark.parametrize('asked', (False, True))
def test_another_process_reads_the_journal_writes_none_and_stops_with_all(
  tmp_path, monkeypatch, asked
):
  def make():
    return AttackJournal(tmp_path, {'weights': 'w'}, stop=signals.Stop())

  with make() as journal:
    journal.start(_ABOUT, _LOGITS)
    journal.append('a', _finished(0), 1.0)
  before = {p: p.read_bytes() for p in tmp_path.iterdir()}
  monkeypatch.setattr(attack_journal, 'processes', _OtherProcess(asked))
  with make() as journal:
    (entry,) = journal.start(_ABOUT, _LOGITS)
    assert entry[0] == 'a' and entry[1].rows.tolist() == [0, 1]
    if asked:
      with pytest.raises(signals.Interrupted) as error:
        journal.append('b', _finished(4), 1.0)
      assert error.value.code == 128 + 15
    else:
      journal.append('b', _finished(4), 1.0)
  assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
