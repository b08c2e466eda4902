"""Evaluation: resumed, checked from disk, the same on all devices."""

import dataclasses
import os
import pathlib
import shutil
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnascl_jax
from configs import cifar10
from configs import digits as digits_config
from rnascl_jax import attacks, stages
from rnascl_jax.attacks import ensembles, norms
from rnascl_jax.attacks.attack_log import Finished
from rnascl_jax.config import checks, resolve, settings
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Split
from rnascl_jax.evaluation import (
  adversarial_images,
  classification,
  model_evaluation,
  under_attack,
)
from rnascl_jax.evaluation.attack_journal import AttackJournal
from rnascl_jax.reporting import report
from rnascl_jax.reporting import results as reported
from rnascl_jax.reporting.figures import robustness
from rnascl_jax.runtime import files, fingerprints, parallel, signals
from tests import tiny

_PGD = attacks.PRESETS['pgd20_rnascl']
# One short step of PGD: what it gives is the random start, all but a bit.
_START = attacks.Preset(
  origin='a test',
  epsilon=0.2,
  step_size=1e-3,
  num_steps=1,
  start=attacks.norms.Norm.uniform_start,
)


class _Nearest(nn.Module):
  """The nearest mean of a class: good at digits, and compiled in no time."""

  tap_names = ()

  @nn.compact
  def __call__(self, images, *, train):
    del train
    return nn.Dense(10)(images.reshape(len(images), -1)), ()


@pytest.fixture(scope='module')
def nearest(digits):
  """The network, its variables, and 60 test images."""
  images = np.asarray(batches.to_float(digits.train.images))
  images = images.reshape(len(images), -1)
  means = np.stack(
    [images[digits.train.labels == k].mean(axis=0) for k in range(10)]
  )
  dense = {'kernel': 2 * means.T, 'bias': -(means**2).sum(axis=1)}
  test = Split(digits.test.images[:60], digits.test.labels[:60])
  return _Nearest(), {'params': {'Dense_0': dense}}, test


def _attacked(nearest, attack=_PGD, devices=1, batch_size=8, **options):
  net, variables, split = nearest
  network = classification.on_devices(
    net, variables, parallel.devices(devices), batch_size
  )
  options = {'epsilon': 0.1, 'seed': 0} | options
  return under_attack.attacked(network, split, attack, **options)


def _assert_same(one, two):
  for name in ('correct', 'rows', 'images', 'rejected'):
    a, b = (np.asarray(getattr(outcome, name)) for outcome in (one, two))
    assert a.tobytes() == b.tobytes(), name


@pytest.fixture
def calls(monkeypatch):
  """Rows of every call of a compiled attack; `after` may end it."""
  compile_attack = under_attack._attacker

  class Calls(list):
    after = staticmethod(lambda count: None)

  found = Calls()

  def counting(net, attack, devices):
    function = compile_attack(net, attack, devices)

    def call(variables, images, labels, rows, seed, epsilon):
      result = function(variables, images, labels, rows, seed, epsilon)
      weights = fingerprints.digest(parallel.unreplicate(variables))
      rows = np.ravel(rows)  # In order; what fills up the batch is not.
      real = np.logical_and.accumulate(np.append(True, np.diff(rows) > 0))
      found.append((weights, attack, float(epsilon[0]), tuple(rows[real])))
      found.after(len(found))
      return result

    return call

  monkeypatch.setattr(under_attack, '_attacker', counting)
  return found


@pytest.mark.parametrize('num_examples', [0, 1, 4, 5, 6, 23])
def test_evaluation_sees_every_example_exactly_once(num_examples):
  network = classification.NetworkOnDevices(_Nearest(), {}, range(5), 4)
  padded = [*network.batches(num_examples)]
  assert len(padded) == -(-num_examples // 5)
  for rows, mask in padded:
    assert rows.shape == mask.shape == (5,) and not rows[~mask].any()
  seen = [row for rows, mask in padded for row in rows[mask]]
  assert seen == list(range(num_examples))


def test_a_killed_attack_repeats_no_finished_batch(nearest, calls, tmp_path):
  straight = _attacked(nearest)
  assert 0 < straight.correct.sum() < 50
  expected = list(calls)
  assert len(expected) > 6
  for killed_in in (1, 3, 2):
    calls.clear()

    def die(count, killed_in=killed_in):
      if count == killed_in:
        raise KeyboardInterrupt

    calls.after = die
    with pytest.raises(KeyboardInterrupt), AttackJournal(tmp_path) as journal:
      _attacked(nearest, journal=journal)
    assert calls == expected[:killed_in]
    del expected[: killed_in - 1]  # The batch it died in is not finished.
  calls.clear()
  calls.after = lambda count: None
  with AttackJournal(tmp_path) as journal:
    resumed = _attacked(nearest, journal=journal)
  assert calls == expected
  _assert_same(resumed, straight)
  with AttackJournal(tmp_path) as journal:
    _assert_same(_attacked(nearest, journal=journal), straight)
  assert calls == expected


def test_a_journal_goes_on_with_other_batches_and_devices(
  nearest, calls, tmp_path
):
  straight = _attacked(nearest)

  def die(count):
    if count == 4:
      raise KeyboardInterrupt

  calls.clear()
  calls.after = die
  with pytest.raises(KeyboardInterrupt), AttackJournal(tmp_path) as journal:
    _attacked(nearest, journal=journal)
  done = {row for *_, rows in calls[:3] for row in rows}
  calls.clear()
  calls.after = lambda count: None
  with AttackJournal(tmp_path) as journal:
    resumed = _attacked(nearest, journal=journal, devices=2, batch_size=13)
  assert not done & {row for *_, rows in calls for row in rows}
  assert (resumed.correct == straight.correct).mean() >= 0.99


@pytest.mark.parametrize(
  'change',
  [
    {'seed': 1},
    {'epsilon': 0.2},
    {'attack': attacks.PRESETS['fgsm']},
    {'attack': dataclasses.replace(_PGD, norm=norms.L2)},
  ],
)
def test_the_journal_of_another_attack_is_refused(nearest, tmp_path, change):
  _attacked(nearest, journal=AttackJournal(tmp_path))
  with pytest.raises(ValueError, match='Delete the folder to start afresh'):
    _attacked(nearest, journal=AttackJournal(tmp_path), **change)


def test_the_journal_of_other_weights_is_refused(nearest, tmp_path):
  _attacked(nearest, journal=AttackJournal(tmp_path))
  net, variables, split = nearest
  other = jax.tree.map(lambda x: 1.01 * x, variables)
  with pytest.raises(ValueError, match='logits of 60 of 60 images'):
    _attacked((net, other, split), journal=AttackJournal(tmp_path))
  other = jax.tree.map(lambda x: np.float32(1 + 2e-7) * x, variables)
  with pytest.raises(ValueError, match=r"evaluation \(weights: '[^;]*$"):
    _attacked((net, other, split), journal=AttackJournal(tmp_path))


def test_images_that_are_wrong_anyhow_are_not_attacked(nearest, calls):
  net, variables, split = nearest
  wrong = Split(split.images, (split.labels + 1) % 10)
  outcome = _attacked((net, variables, wrong))
  right = set(np.flatnonzero(split.labels != wrong.labels))
  attacked = {row for *_, rows in calls for row in rows}
  assert len(attacked) < 10 < len(right)
  assert not outcome.correct[sorted(right - attacked)].any()


def test_draws_do_not_depend_on_batches_or_devices(nearest):
  """The random start is nearly all there is in this attack's images."""
  one = _attacked(nearest, _START, epsilon=0.9, batch_size=60)
  assert len(one.rows) > 5
  for devices, batch_size in ((1, 7), (2, 7), (2, 60)):
    two = _attacked(
      nearest, _START, devices, epsilon=0.9, batch_size=batch_size
    )
    assert (one.correct == two.correct).mean() >= 0.99
    both, first, second = np.intersect1d(
      one.rows, two.rows, return_indices=True
    )
    assert len(both) > 5
    np.testing.assert_allclose(one.images[first], two.images[second], atol=1e-6)
  other = _attacked(nearest, _START, epsilon=0.9, batch_size=60, seed=1)
  assert not np.allclose(one.images[0], other.images[0], atol=1e-2)


def test_auto_attack_does_not_depend_on_batches_or_devices(nearest):
  net, variables, split = nearest
  images = np.asarray(batches.to_float(split.images))

  def run(devices, batch_size):
    return attacks.auto_attack(
      classification.classifier(net, variables),
      images,
      split.labels,
      epsilon=0.1,
      attacks=(ensembles.apgd_ce(num_steps=4), ensembles.square(num_steps=30)),
      batch_size=batch_size,
      devices=parallel.devices(devices),
      checks=False,
      verbose=False,
    )

  one = run(1, 8)
  assert 5 < one.robust.sum() < 50
  two = run(2, 6)
  assert (one.robust == two.robust).mean() >= 0.99
  same = (one.broken_by == two.broken_by) & (one.steps == two.steps)
  assert same.mean() >= 0.99
  np.testing.assert_allclose(one.images[same], two.images[same], atol=1e-5)


def test_equal_networks_share_the_programs_of_auto_attack(nearest):
  net, variables, _ = nearest
  del net
  other = jax.tree.map(lambda x: 2 * x, variables)
  one, two = (
    jax.tree.structure(classification.classifier(_Nearest(), v))
    for v in (variables, other)
  )
  assert one == two and hash(one) == hash(two)


@pytest.mark.parametrize('offset', [0.11, -2.0])
def test_what_leaves_the_ball_or_the_pixels_breaks_nothing(nearest, offset):
  """A foul attack: it breaks all images, and none by the rules."""

  def foul(logits_fn, key, image, label, *, epsilon):
    del logits_fn, key, label, epsilon
    noise = jax.random.uniform(jax.random.key(3), image.shape)
    return 1 - image + offset * noise

  outcome = _attacked(nearest, foul)
  assert outcome.rejected > 40 and not len(outcome.rows)
  assert outcome.accuracy > 0.8


def _outside_the_ball(logits_fn, key, image, label, *, epsilon):
  del logits_fn, key, label, epsilon
  return 1 - image


def _outside_the_box(logits_fn, key, image, label, *, epsilon):
  found = _PGD(logits_fn, key, image, label, epsilon=epsilon)
  return jnp.where(found == 0, -0.01, found)


@pytest.mark.parametrize('devices', (1, 2))
@pytest.mark.parametrize(
  'kind', ('_START', '_outside_the_ball', '_outside_the_box')
)
def test_accuracy_under_attack_is_that_of_the_images_it_makes(
  nearest, devices, kind
):
  """A random start depends on an image's row; what is foul breaks nothing."""
  net, variables, split = nearest
  attack = globals()[kind]
  options = {'attack': attack, 'devices': devices, 'batch_size': 16}
  outcome = _attacked(nearest, **options)
  # The first image fills up the last batch: a weak one, and with a seed with
  # which it is broken in the first row too.
  rows = [outcome.rows[0] if kind == '_START' else 0, *range(1, 60)]
  moved = Split(split.images[rows], split.labels[rows])
  for seed in range(100):
    outcome = _attacked((net, variables, moved), seed=seed, **options)
    if kind != '_START' or 0 in outcome.rows:
      break
  network = classification.on_devices(
    net, variables, parallel.devices(devices), 16
  )
  assert network.clean(moved).correct.sum() % 16
  accuracy = under_attack.accuracy_under_attack(
    network, moved, attack, epsilon=0.1, seed=seed
  )
  assert accuracy == outcome.accuracy
  assert (0 in outcome.rows) == (kind == '_START')
  assert (outcome.rejected > 0) == (kind != '_START')
  assert (len(outcome.rows) > 0) == (kind == '_START')


@pytest.mark.parametrize(
  ('name', 'epsilon'), [('pgd20_l2_robustness', 0.5), ('pgd10_l1_foolbox', 2.0)]
)
def test_images_are_judged_in_the_norm_of_their_attack(
  nearest, tmp_path, name, epsilon
):
  preset, split = attacks.PRESETS[name], nearest[2]
  file = tmp_path / 'a.npz'
  outcome = _attacked(nearest, preset, epsilon=epsilon, file=file)
  assert outcome.rejected == 0 and len(outcome.rows) > 5
  originals = batches.to_float(split.images[outcome.rows])
  lengths = jax.vmap(preset.norm.length)(outcome.images - originals)
  assert lengths.max() <= epsilon + 1e-5
  assert outcome.images.min() >= 0 and outcome.images.max() <= 1
  saved = adversarial_images.load(file)
  assert (saved.norm, saved.epsilon) == (preset.norm.name, epsilon)
  with pytest.raises(ValueError, match=f'made for the norm {saved.norm}'):
    adversarial_images.confirmed(saved, originals, saved.labels, None)

  def too_far(*arguments, epsilon):
    return preset(*arguments, epsilon=1.1 * epsilon)

  too_far.norm = preset.norm
  foul = _attacked(nearest, too_far, epsilon=epsilon)
  assert foul.rejected > 5 and foul.accuracy > outcome.accuracy
  network = classification.on_devices(*nearest[:2], parallel.devices(1), 8)
  assert outcome.accuracy == under_attack.accuracy_under_attack(
    network, split, preset, epsilon=epsilon, seed=0
  )


def test_only_what_is_in_the_file_counts(tmp_path):
  """Of five claims one is right; the others are too far, dark, sane, NaN."""
  originals = np.full((6, 1, 1, 2), 0.5, np.float32)
  labels = np.zeros(6, int)
  good, far, sane = (0.5, 0.6), (0.5, 0.6001), (0.6, 0.5)
  originals[2] = 0.01
  dark = (-0.01, 0.05)
  images = np.array([good, far, dark, sane, (np.nan, 0.6)], np.float32)
  found = adversarial_images.AdversarialImages(
    np.arange(5), images.reshape(5, 1, 1, 2), labels[:5], 0.1, norms.LINF.name
  )
  path = tmp_path / 'a.npz'
  adversarial_images.save(path, found)
  sure = adversarial_images.confirmed(
    adversarial_images.load(path),
    originals[:5],
    labels[:5],
    lambda x: x.reshape(-1, 2),
  )
  assert sure.tolist() == [True, False, False, False, False]


def test_only_broken_images_are_kept():
  clean = classification.Clean(np.zeros((60, 10)), np.arange(60) != 4, 0.0)
  progress = under_attack.AttackProgress(clean, (8, 8, 1))
  images = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
  for rows, fooled, image in (
    ([2, 41], [False, True], images[:1]),
    ([7, 9], [True, False], images[1:]),
  ):
    zeros = np.zeros(2, int)
    finished = Finished(np.array(rows), zeros, zeros, np.array(fooled), image)
    progress.add(('attack', finished, 0.5))
  assert progress.accuracy == 0.5 * 59 / 60 and progress.seconds == 1
  assert np.flatnonzero(progress.done).tolist() == [2, 4, 7, 9, 41]
  rows, claimed = progress.claimed()
  assert rows.tolist() == [7, 41]
  np.testing.assert_array_equal(claimed, images[::-1])
  rows, claimed = under_attack.AttackProgress(clean, (8, 8, 1)).claimed()
  assert claimed.shape == (0, 8, 8, 1) and not len(rows)


def test_only_broken_images_are_converted(nearest, monkeypatch):
  _, _, split = nearest
  rows = np.array([7, 41])
  images = np.asarray(batches.to_float(split.images[rows])) * 0.95
  converted = []
  to_float = batches.to_float

  def counting(images):
    converted.append(len(images))
    return to_float(images)

  def wrong(images):
    return np.eye(10)[(split.labels[rows] + 1) % 10]

  monkeypatch.setattr(batches, 'to_float', counting)
  kept = adversarial_images.confirm(
    rows, images, split, wrong, norm=norms.LINF, epsilon=0.1
  )
  assert converted == [2] and kept.rows.tolist() == [7, 41]


def test_a_folder_of_images_takes_the_place_of_another(tmp_path):
  place, new = tmp_path / 'a' / 'ce', tmp_path / 'b' / 'images'
  for name in ('1', '2'):
    new.mkdir(parents=True)
    (new / name).write_text(name)
    adversarial_images.replace(place, new)
    assert [path.name for path in place.iterdir()] == [name]
    assert not list((tmp_path / 'b').iterdir())
  new.mkdir()
  adversarial_images.replace(place, new)
  assert not place.exists()
  adversarial_images.replace(place, tmp_path / 'c' / 'nonesuch')
  assert not place.exists()


def test_images_of_other_labels_or_types_are_refused(tmp_path):
  images = np.zeros((1, 1, 1, 2), np.float32)
  found = adversarial_images.AdversarialImages(
    np.array([0]), images, np.array([1]), 0.1, norms.LINF.name
  )
  with pytest.raises(ValueError, match='other labels'):
    adversarial_images.confirmed(
      found, images, np.array([0]), lambda x: x.reshape(-1, 2)
    )
  with pytest.raises(ValueError, match='float64, must be float32'):
    adversarial_images.save(
      tmp_path / 'a.npz', found._replace(images=images.astype(np.float64))
    )


def _same_results(one: pathlib.Path, two: pathlib.Path):
  """All that an evaluation leaves, but for how long it took."""

  def plain(value):
    if isinstance(value, dict):
      value = {k: v for k, v in value.items() if k != 'seconds'}
      return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value

  names = {
    path.relative_to(folder).as_posix()
    for folder in (one, two)
    for path in folder.rglob('*')
    if path.is_file()
  }
  assert len(names) > 12
  for name in sorted(names):
    if name.endswith('.json'):
      saved = [plain(files.read_json(folder / name)) for folder in (one, two)]
      for evaluated in saved:
        evaluated.pop('key')
      assert saved[0] == saved[1], name
    else:
      arrays = [dict(np.load(folder / name)) for folder in (one, two)]
      assert arrays[0].keys() == arrays[1].keys()
      for key, array in arrays[0].items():
        assert array.tobytes() == arrays[1][key].tobytes(), (name, key)


@pytest.mark.parametrize('killed_in', [1, 6, 'apgd_ce'])
def test_an_evaluation_killed_by_sigterm_goes_on_to_the_same_results(
  tiny_run, tmp_path, monkeypatch, calls, killed_in
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  shutil.rmtree(folder / 'evaluation')
  append = AttackJournal.append

  def append_and_stop(self, member, finished, seconds):
    if killed_in in (len(calls), member):
      os.kill(os.getpid(), signal.SIGTERM)
    append(self, member, finished, seconds)

  with monkeypatch.context() as patch:
    patch.setattr(AttackJournal, 'append', append_and_stop)
    with pytest.raises(signals.Interrupted) as stopped:
      stages.evaluate(tiny.config(), str(folder))
  assert stopped.value.code == 128 + signal.SIGTERM
  before = len(calls)
  assert before == killed_in or killed_in == 'apgd_ce'
  assert list((folder / 'evaluation' / 'journal').rglob('part-*.npz'))
  stages.evaluate(tiny.config(), str(folder))
  assert len(calls) == len(set(calls)) > before
  _same_results(folder / 'evaluation', tiny_run / 'evaluation')
  assert not (folder / 'evaluation' / 'journal').exists()


def test_a_killed_evaluation_leaves_the_one_before_with_all_its_files(
  tiny_run, tmp_path, monkeypatch
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  config = tiny.config()
  config.evaluation.attacks = ('fgsm',)
  config.evaluation.epsilon_255 = 32.0

  def die(subject):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(model_evaluation, '_curves', die)
    with pytest.raises(KeyboardInterrupt):
      stages.evaluate(config, str(folder))
  unfinished = folder / 'evaluation' / 'journal' / 'teacher' / 'adversarial'
  assert [path.name for path in unfinished.iterdir()] == ['fgsm.npz']
  shutil.copytree(folder / 'evaluation', tmp_path / 'left')
  shutil.rmtree(tmp_path / 'left' / 'journal')
  _same_results(tmp_path / 'left', tiny_run / 'evaluation')
  stages.evaluate(config, str(folder))
  for name, expected in (
    ('teacher', ['fgsm.npz']),
    ('ce', ['autoattack.npz', 'fgsm.npz']),
  ):
    images = folder / 'evaluation' / 'adversarial' / name
    assert sorted(path.name for path in images.iterdir()) == expected
    saved = adversarial_images.load(images / 'fgsm.npz')
    assert saved.epsilon == pytest.approx(32 / 255)
  assert not (folder / 'evaluation' / 'journal').exists()


def _evaluate(tiny_run, tmp_path, **changes) -> tuple[pathlib.Path, dict]:
  """Evaluates the tiny run anew; the folder, and what it says of `ce`."""
  folder = tmp_path / 'copy'
  if not folder.exists():
    shutil.copytree(tiny_run, folder)
  (folder / 'evaluation' / 'ce.json').unlink()
  config = tiny.config()
  config.evaluation.update(changes)
  stages.evaluate(config, str(folder))
  return folder, files.read_json(folder / 'evaluation' / 'ce.json')


@pytest.mark.parametrize('name', ('teacher', 'rnas_cl'))
def test_a_loaded_model_refuses_8_bit_images(tiny_run, name):
  images = resolve.dataset(settings.parse(tiny.config()).data).test.images[:2]
  logits_fn = rnascl_jax.load(tiny_run, name).logits_fn

  assert images.dtype == np.uint8
  with pytest.raises(ValueError, match='uint8.*divide 8-bit images by 255'):
    logits_fn(images)
  with pytest.raises(ValueError, match='divide 8-bit images by 255'):
    logits_fn(images.astype(np.float32))


def test_every_saved_image_is_adversarial(tiny_run):
  """Checked with the loaded models alone."""
  data = resolve.dataset(settings.parse(tiny.config()).data)
  images = np.asarray(batches.to_float(data.test.images))
  count = 0
  for name in ('teacher', 'rnas_cl', 'ce'):
    classify = jax.jit(rnascl_jax.load(tiny_run, name).logits_fn)
    saved = files.read_json(tiny_run / 'evaluation' / f'{name}.json')
    flags = np.load(tiny_run / 'evaluation' / f'{name}.npz')
    for record in saved['attacks'][1:]:
      found = dict(np.load(tiny_run / record['adversarial']))
      rows, made = found['rows'], found['images']
      correct = flags[f'correct/{record["attack"]}']
      clean = flags['correct/clean'][: len(correct)]
      np.testing.assert_array_equal(rows, np.flatnonzero(clean & ~correct))
      assert made.dtype == np.float32 and record['rejected'] == 0
      assert found['epsilon'] == record['epsilon'] and found['norm'] == 'L∞'
      np.testing.assert_array_equal(found['labels'], data.test.labels[rows])
      changed = images.copy()
      changed[rows] = made
      wrong = np.asarray(classify(changed)).argmax(-1) != data.test.labels
      assert wrong[rows].all()
      assert np.abs(changed - images).max() <= record['epsilon'] + 1e-6
      assert changed.min() >= 0 and changed.max() <= 1
      count += len(rows)
  assert count > 5


def test_auto_attack_says_what_each_member_did(tiny_run):
  saved = files.read_json(tiny_run / 'evaluation' / 'ce.json')
  record, flags = (
    saved['attacks'][-1],
    np.load(tiny_run / 'evaluation' / 'ce.npz'),
  )
  correct, broken_by = (
    flags['correct/autoattack'],
    flags['broken_by/autoattack'],
  )
  assert (record['attack'], record['norm']) == ('autoattack', 'L∞')
  assert record['preset'] == ['apgd_ce']
  assert record['label'] == 'AutoAttack (APGD-CE)'
  assert record['images'] == len(correct) == len(broken_by) == 32
  assert record['correct'] == correct.sum()
  assert record['steps'] is record['step_size'] is None
  assert record['epsilon'] == pytest.approx(16 / 255)
  (member,) = record['members']
  clean = flags['correct/clean'][:32]
  assert member['attacked'] == clean.sum() >= member['broken']
  assert member['broken'] == (broken_by == 0).sum() > 0
  assert member['robust'] == correct.sum()
  np.testing.assert_array_equal(clean & (broken_by < 0), correct)
  assert (member['num_steps'], member['num_trials']) == (100, 1)
  assert member['backward'] > 0 and member['label'] == 'APGD-CE'
  assert not member['black_box']
  other = files.read_json(tiny_run / 'evaluation' / 'rnas_cl.json')
  assert [r['attack'] for r in other['attacks']] == ['clean', 'fgsm', 'pgd20']
  assert other['warnings'] == saved['warnings'] == []


def test_what_the_file_does_not_confirm_counts_as_robust(
  tiny_run, tmp_path, monkeypatch
):
  load = adversarial_images.load

  def tampered(path):
    """The first image in a file is not what the attack made."""
    found = load(path)
    found.images[:1] = 2.0
    return found

  monkeypatch.setattr(adversarial_images, 'load', tampered)
  folder, saved = _evaluate(tiny_run, tmp_path)
  before = files.read_json(tiny_run / 'evaluation' / 'ce.json')
  for record, honest in zip(
    saved['attacks'][1:], before['attacks'][1:], strict=True
  ):
    assert record['rejected'] == 1
    assert record['correct'] == honest['correct'] + 1
    rows = np.load(folder / record['adversarial'])['rows']
    honest_rows = np.load(tiny_run / honest['adversarial'])['rows']
    np.testing.assert_array_equal(rows, honest_rows[1:])
  member, honest = (s['attacks'][-1]['members'][0] for s in (saved, before))
  assert member['broken'] == honest['broken'] - 1
  assert (member['rejected'], member['robust']) == (1, honest['robust'] + 1)
  flags = np.load(folder / 'evaluation' / 'ce.npz')
  assert (flags['broken_by/autoattack'] == 0).sum() == member['broken']


def test_images_are_deleted_after_the_check_if_they_are_not_wanted(
  tiny_run, tmp_path
):
  folder, saved = _evaluate(tiny_run, tmp_path, save_images=False)
  assert [record['adversarial'] for record in saved['attacks']] == [None] * 4
  assert not list((folder / 'evaluation' / 'adversarial').rglob('*.npz'))
  before = files.read_json(tiny_run / 'evaluation' / 'ce.json')
  for record, other in zip(saved['attacks'], before['attacks'], strict=True):
    assert record['correct'] == other['correct']


def test_without_auto_attack_its_results_and_images_are_gone(
  tiny_run, tmp_path
):
  folder, saved = _evaluate(tiny_run, tmp_path, auto_attack=())
  assert [r['attack'] for r in saved['attacks']] == ['clean', 'fgsm', 'pgd20']
  assert 'correct/autoattack' not in np.load(folder / 'evaluation' / 'ce.npz')
  images = folder / 'evaluation' / 'adversarial' / 'ce'
  assert sorted(p.name for p in images.iterdir()) == ['fgsm.npz', 'pgd20.npz']


def test_a_run_is_evaluated_and_reported_in_the_norm_of_its_config(
  tiny_run, tmp_path
):
  shutil.copytree(tiny_run, tmp_path / 'copy')
  for model in ('train/rnas_cl', 'adversarial'):  # One model tells all.
    shutil.rmtree(tmp_path / 'copy' / model)
  folder, saved = _evaluate(
    tiny_run,
    tmp_path,
    norm='L2',
    teachers=False,
    attacks=('fgm_l2', 'pgd10_l2_rice'),
    epsilon=0.5,
    curve_attacks=('fgm_l2',),
    curve_epsilons=(0.25, 4.0),
  )
  records = {record['attack']: record for record in saved['attacks'][1:]}
  assert list(records) == ['fgsm', 'pgd10', 'autoattack']
  images = np.asarray(
    batches.to_float(
      resolve.dataset(settings.parse(tiny.config()).data).test.images
    )
  )
  for record in records.values():
    assert (record['norm'], record['epsilon']) == ('L2', 0.5)
    kept = adversarial_images.load(folder / record['adversarial'])
    assert (kept.norm, kept.epsilon) == ('L2', 0.5) and len(kept.rows)
    lengths = jax.vmap(norms.L2.length)(kept.images - images[kept.rows])
    assert lengths.max() <= 0.5 + 1e-6
  assert records['pgd10']['step_size'] == pytest.approx(0.5 * 15 / 128)
  (curve,) = saved['curves']
  assert (curve['norm'], curve['label']) == ('L2', 'FGM')
  assert [p['epsilon'] for p in curve['points']] == [0, 0.25, 4]
  run = reported.load(folder)
  figure = robustness.epsilon_curves(run)
  assert 'ε (L2, pixel values in [0, 1])' in {
    axes.get_xlabel() for axes in figure.axes
  }
  text = report.write(folder).read_text()
  assert 'PGD-10 ε = 0.5 (L2), 10 steps of 0.0586' in text
  assert 'L2, ε = 0.5, on' in text  # Of AutoAttack.


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({}, "attacks has 'fgsm', an attack in L∞, .*norm='L2'.*'pgd10_l2_rice'"),
    (
      {'attacks': ('pgd10_l2_rice',)},
      "curve_attacks has 'fgsm', an attack in L∞, but",
    ),
    (
      {'attacks': ('fgm_l2',), 'curve_attacks': ('pgd10_l1_foolbox',)},
      "has 'pgd10_l1_foolbox', an attack in L1, but",
    ),
    (
      {'attacks': ('fgm_l2',), 'curve_attacks': (), 'epsilon': 8.5},
      r'epsilon=8.5 is more than 8, the length in L2 of.*\(8, 8, 1\)',
    ),
    (
      {
        'attacks': ('fgm_l2',),
        'curve_attacks': ('fgm_l2',),
        'curve_epsilons': (1.0, 8.5),
      },
      'curve_epsilons=8.5 is more than 8',
    ),
  ],
)
def test_what_is_of_another_norm_is_refused_before_the_first_stage(
  changes, message
):
  config = tiny.config()
  config.evaluation.update({'norm': 'L2', 'curve_epsilons': (1.0,)} | changes)
  everything = settings.parse(config)
  with pytest.raises(ValueError, match=message):
    checks.check(everything, resolve.dataset(everything.data), 1)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    (
      'auto_attack',
      ('standrad',),
      "'standrad' is unknown. Did you mean 'stand",
    ),
    ('auto_attack', ('apgd_ec',), "Did you mean 'apgd_ce'.*'square'"),
    ('auto_attack', ('standard', 'square'), 'has square twice'),
    ('auto_attack', ('rand',), 'draw random numbers.*use "standard"'),
    ('auto_attack_models', ('rnascl',), "Did you mean 'rnas_cl'"),
    ('auto_attack_models', ('vulnerable_teacher',), "of: 'teacher', 'ce', 'r"),
  ],
)
def test_what_auto_attack_cannot_do_is_refused_before_the_first_stage(
  field, value, message
):
  config = tiny.config()
  config.evaluation[field] = value
  everything = settings.parse(config)
  with pytest.raises(ValueError, match=f'(?i){message}'):
    checks.check(everything, resolve.dataset(everything.data), 1)


def test_members_and_ensembles_are_combined_in_order():
  names = [m.name for m in resolve.ensemble(('square', 'apgd_ce', 'fab'))]
  assert names == ['square', 'apgd_ce', 'fab']
  assert resolve.ensemble(('standard',)) == ensembles.standard()
  in_l2 = resolve.ensemble(('standard',), 'L2')
  assert in_l2 == ensembles.standard(norms.L2) != ensembles.standard()
  assert resolve.ensemble(()) == ()


def test_the_demo_attacks_some_images_or_all():
  some, everything, none = (
    settings.parse(digits_config.get_config(argument)).evaluation
    for argument in (None, 'autoattack=all', 'autoattack=none')
  )
  assert some.auto_attack == everything.auto_attack == ('standard',)
  assert some.auto_attack_models == ('rnas_cl', 'rnas_cl_eq6', 'ce')
  assert (some.auto_attack_images, everything.auto_attack_images) == (64, 0)
  assert everything.auto_attack_models == none.auto_attack == ()
  with pytest.raises(ValueError, match='Choose one of some, all, none'):
    digits_config.get_config('autoattack=most')
  smoke = settings.parse(cifar10.get_config('smoke')).evaluation
  assert smoke.auto_attack == smoke.auto_attack_models == ()
  paper = settings.parse(cifar10.get_config())
  assert paper.evaluation.auto_attack_models == (
    *paper.students,
    *paper.adversarial.students,
  )
