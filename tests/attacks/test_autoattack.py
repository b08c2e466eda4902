"""AutoAttack: against the official one, and what it does at the edges."""

import dataclasses
import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks
from rnascl_jax.attacks import batch_slots, ensembles, norms, prediction, square
from rnascl_jax.attacks.checks import pre_attack
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.runtime import fingerprints
from tests import attack_networks as nets
from tests import golden, official_autoattack
from tests.official_autoattack import EPSILON


@pytest.fixture(autouse=True)
def one_size(monkeypatch):
  """Of batches, to compile less; `test_batch_slots` has several."""

  def largest(trials, batch_size, divisor=1):
    del trials
    return -(-batch_size // divisor) * divisor

  monkeypatch.setattr(batch_slots, 'fitted', largest)


@functools.cache
def classifier(network=nets.plain):
  return jax.tree_util.Partial(network)


def run(images, labels, *, network=nets.plain, **options):
  return run_on(classifier(network), images, labels, **options)


def run_on(logits_fn, images, labels, **options):
  """Few sizes of batches, and so few programs."""
  settings = {
    'epsilon': EPSILON,
    'verbose': False,
    'checks': False,
    'batch_size': 64 if len(images) >= 64 else 8,
    'devices': jax.devices()[:1],
  }
  return attacks.auto_attack(
    logits_fn,
    images,
    labels,
    **settings | options,
  )


def left(result):
  return [member.robust for member in result.members]


# Against the official code, with the same random numbers for all images.


@functools.cache
def _tables():
  return official_autoattack.tables(5000)


def _start(key, image, epsilon):
  del key
  noise = jnp.asarray(_tables().noise, image.dtype)
  unit = noise / (jnp.max(jnp.abs(noise)) + 1e-12)
  return jnp.clip(image + epsilon * unit, 0, 1)


def _stripes(key, shape):
  del key, shape
  return jnp.asarray(_tables().stripes)[None]


def _draw(key, index, channels):
  del key, channels
  numbers = jax.tree.map(jnp.asarray, _tables())
  row, column = numbers.positions[index]
  return square.SquareDraw(row, column, numbers.signs[index])


def same_draws(queries, order):
  """`standard` with the random numbers of `official_autoattack.Tables`."""
  members = [
    ensembles.apgd_ce(start=_start),
    ensembles.apgd_t(start=_start),
    ensembles.fab_t(),
    ensembles.square(num_steps=queries, draw=_draw, stripes=_stripes),
  ]
  return members if order == 'standard' else members[::-1]


def official(tmp_path, *arguments):
  """Of the official code: images left after each member, and which."""
  path = tmp_path / 'official.npz'
  subprocess.run(
    [sys.executable, '-m', 'tests.official_autoattack', path, *arguments],
    cwd=pathlib.Path(__file__).parents[2],
    check=True,
  )
  with np.load(path) as archive:
    return dict(archive)


def case(network, count, queries, draws, order):
  """Name of a saved result and arguments of `official_autoattack`."""
  arguments = (network.__name__, str(count), str(queries), draws, order)
  return '_'.join(('auto', *arguments)), arguments


# The live test is short, and the members' own tests compare pixels.
@pytest.mark.slow
@pytest.mark.parametrize('order', ('reversed', 'standard'))
@pytest.mark.parametrize('network', (nets.plain, nets.cell))
def test_every_member_leaves_what_the_official_one_leaves(network, order):
  name, _ = case(network, 200, 5000, 'tables', order)
  expected = golden.saved(name)
  images, labels = official_autoattack.data(network, 200)

  found = run(images, labels, network=network, attacks=same_draws(5000, order))

  assert np.abs(np.array(left(found)) - expected['left']).max() <= 1
  assert (found.robust != expected['robust']).sum() <= 1
  assert 20 < found.robust.sum() < 180


def test_live_every_member_leaves_what_the_official_one_leaves(tmp_path):
  pytest.importorskip('pyautoattack')
  images, labels = official_autoattack.data(nets.plain, 64)
  _, arguments = case(nets.plain, 64, 100, 'tables', 'standard')

  expected = official(tmp_path, *arguments)
  result = run(images, labels, attacks=same_draws(100, 'standard'))

  assert left(result) == expected['left'].tolist()
  np.testing.assert_array_equal(result.robust, expected['robust'])


@pytest.mark.slow
@pytest.mark.parametrize('name', golden.names('auto'))
def test_live_the_official_code_still_leaves_what_was_saved(name, tmp_path):
  pytest.importorskip('pyautoattack')
  saved = golden.saved(name)

  found = official(tmp_path, *name.split('_')[1:])

  np.testing.assert_array_equal(found['left'], saved['left'])
  np.testing.assert_array_equal(found['robust'], saved['robust'])


@pytest.mark.parametrize(
  'network', (nets.plain, pytest.param(nets.cell, marks=pytest.mark.slow))
)
def test_with_own_random_numbers_accuracy_is_the_official_one(network):
  name, _ = case(network, 200, 5000, '0', 'reversed')
  expected = golden.saved(name)
  images, labels = official_autoattack.data(network, 200)

  found = run(
    images, labels, network=network, attacks=ensembles.standard()[::-1]
  )

  # Square is first, and so its own share is compared too.
  points = (np.array(left(found)) - expected['left']) / 200
  assert np.abs(points).max() <= 0.015


@pytest.mark.slow
@pytest.mark.parametrize('norm', ('L2', 'L1'))
@pytest.mark.parametrize('network', (nets.plain, nets.cell))
def test_live_standard_in_other_norms_leaves_the_official_images(
  network, norm, tmp_path
):
  """With full budgets, and random numbers of either's own."""
  pytest.importorskip('pyautoattack')
  images, labels = official_autoattack.data(network, 200)
  _, arguments = case(network, 200, 5000, '0', 'standard')

  expected = official(tmp_path, *arguments, norm)
  result = run(
    images,
    labels,
    network=network,
    norm=norm,
    epsilon=official_autoattack.EPSILONS[norm],
  )

  print(norm, network.__name__, expected['left'], left(result))
  assert (result.robust != expected['robust']).sum() <= 1
  assert 20 < result.robust.sum() < 180
  assert not any(member.rejected for member in result.members)


# Results.


@functools.cache
def small():
  """A short ensemble of all kinds."""
  return (
    ensembles.apgd_ce(num_steps=5),
    ensembles.apgd_t(num_steps=5, targets=2),
    ensembles.fab_t(num_steps=5, targets=2),
    ensembles.square(num_steps=30),
  )


@functools.cache
def small_result():
  images, labels = official_autoattack.data(nets.plain, 40)
  return run(images, labels, attacks=small())


def test_a_result_adds_up():
  images, labels = official_autoattack.data(nets.plain, 40)
  result = small_result()

  broken = result.correct & ~result.robust
  before = [int(result.correct.sum()), *left(result)[:-1]]

  assert [member.attacked for member in result.members] == before
  assert [member.broken for member in result.members] == (
    np.bincount(result.broken_by[broken], minlength=4).tolist()
  )
  assert (result.broken_by[~broken] == -1).all()
  assert result.robust_accuracy == left(result)[-1] / 40
  assert result.clean_accuracy == (labels == predict(images)).mean()


def predict(images):
  return np.asarray(jax.jit(nets.plain)(images).argmax(-1))


def test_images_are_adversarial_exactly_where_one_was_found():
  images, labels = official_autoattack.data(nets.plain, 40)
  result = small_result()

  broken = result.broken_by >= 0

  np.testing.assert_array_equal(result.images[~broken], images[~broken])
  assert (predict(result.images)[broken] != labels[broken]).all()
  assert np.abs(result.images - images).max() <= EPSILON + 1e-6


def test_a_printed_result_has_the_lines_of_the_official_code():
  result = small_result()

  lines = str(result).splitlines()

  assert lines[0] == f'initial accuracy: {result.clean_accuracy:.2%}'
  for member, line in zip(result.members, lines[1:], strict=False):
    name = member.label.upper()
    start = f'robust accuracy after {name}: {member.robust / 40:.2%} (total '
    assert line.startswith(start) and line.endswith(' s)')
  last = len(result.members) + 1
  images, _ = official_autoattack.data(nets.plain, 40)
  farthest = np.abs(result.images - images).max()
  assert lines[last].startswith(f'max Linf perturbation: {farthest:.5f}, nan')
  assert lines[last + 1] == f'robust accuracy: {result.robust_accuracy:.2%}'


def test_a_result_is_read_as_it_was_saved(tmp_path):
  result = dataclasses.replace(
    small_result(), warnings=(AttackWarning('kind', 'A message.'),)
  )
  result.save(tmp_path / 'result.npz')

  loaded = type(result).load(tmp_path / 'result.npz')

  assert str(loaded) == str(result)
  for name in ('images', 'correct', 'robust', 'broken_by', 'steps'):
    np.testing.assert_array_equal(getattr(loaded, name), getattr(result, name))
  assert loaded.members == result.members


@pytest.mark.parametrize(
  ('epsilon', 'norm', 'expected'),
  ((8 / 255, 'L∞', '8/255'), (0.03, 'L∞', '0.03'), (0.5, 'L2', '0.5')),
)
def test_a_leaderboard_entry_has_the_fields_of_robustbench(
  epsilon, norm, expected
):
  result = dataclasses.replace(small_result(), epsilon=epsilon, norm=norm)

  entry = result.leaderboard_entry(name='A paper', reported='50.00')

  accuracy = f'{100 * result.robust_accuracy:.2f}'
  assert entry['eps'] == expected
  assert entry['autoattack_acc'] == accuracy != entry['reported'] == '50.00'
  assert entry['clean_acc'] == f'{100 * result.clean_accuracy:.2f}'
  assert (entry['name'], entry['unreliable']) == ('A paper', False)


def test_names_stand_for_the_members_of_the_version():
  standard, plus = ensembles.resolve(), ensembles.resolve(version='plus')

  assert standard == ensembles.standard()
  assert ensembles.resolve(['square', 'apgd-ce']) == (standard[3], standard[0])
  assert ensembles.resolve(['apgd-ce'], version='plus') == plus[:1]
  assert ensembles.resolve(['fab'], norm='L2') == (ensembles.fab(norms.L2),)
  assert set(ensembles.MEMBERS) == {
    member.name.replace('_', '-') for member in plus
  }


def test_labels_may_be_one_hot():
  images, labels = official_autoattack.data(nets.plain, 40)

  result = run(images, np.eye(10)[labels], attacks=small()[:1])

  np.testing.assert_array_equal(
    result.broken_by == 0, small_result().broken_by == 0
  )


def _by_chance(images, key):
  """Right in four of five draws about every image."""
  wrong = jax.random.uniform(key) < 0.2
  logits = nets.plain(images)
  return jnp.where(wrong, -logits, logits)


def test_most_votes_decide_about_a_random_classifier():
  images, labels = official_autoattack.data(nets.plain, 40)
  right = np.asarray(nets.plain(images)).argmax(-1) == labels
  options = {'attacks': small()[:1], 'epsilon': 0.0}
  random = attacks.Randomized(_by_chance)

  one = run_on(random, images, labels, **options)
  many = run_on(random, images, labels, votes=31, **options)

  assert (one.correct != right).any()
  np.testing.assert_array_equal(many.correct, right)


def test_passes_are_counted():
  """APGD-CE costs one pass at the start and one for each step."""
  images, labels = official_autoattack.data(nets.plain, 40)

  result = run(images, labels, attacks=small()[:1], stop_early=False)

  assert result.members[0].passes == attacks.stepwise.NetworkPasses(
    38 * 6, 38 * 6
  )


def test_the_order_of_images_and_their_batches_do_not_matter_in_float64():
  images, labels = official_autoattack.data(nets.plain, 40)
  images = images.astype(np.float64)
  order = np.random.default_rng(0).permutation(40)[:25]
  with jax.enable_x64(True):
    members = small()[1:2]
    whole = run(images, labels, attacks=members)
    part = run(
      images[order],
      labels[order],
      attacks=members,
      indices=order,
      devices=jax.devices()[:2],
    )

  np.testing.assert_array_equal(part.robust, whole.robust[order])
  np.testing.assert_array_equal(part.broken_by, whole.broken_by[order])
  np.testing.assert_allclose(part.images, whole.images[order], atol=1e-12)


def test_a_member_draws_the_same_whatever_the_others_are():
  images, labels = official_autoattack.data(nets.plain, 40)

  together = run(images, labels, attacks=small()[:2])
  alone = run(images, labels, attacks=small()[:1])

  first = together.broken_by == 0
  np.testing.assert_array_equal(first, alone.broken_by == 0)
  np.testing.assert_array_equal(together.images[first], alone.images[first])


class Memory:
  """A journal in memory, that is killed after some trials."""

  def __init__(self, kept=(), limit=10**9):
    self.kept, self.limit = list(kept), limit

  def start(self, identity, logits):
    self.identity, self.logits = identity, logits
    return list(self.kept)

  def append(self, member, finished, seconds):
    if not len(finished.rows):
      return
    if len(self.kept) >= self.limit:
      raise KeyboardInterrupt
    self.kept.append((member, finished, seconds))


@pytest.mark.parametrize('limit', (1, 4, 9))
def test_a_killed_run_goes_on_to_the_same_result(limit):
  images, labels = official_autoattack.data(nets.plain, 40)
  killed = Memory(limit=limit)
  with pytest.raises(KeyboardInterrupt):
    run(images, labels, attacks=small(), journal=killed)

  resumed = Memory(killed.kept)
  found = run(images, labels, attacks=small(), journal=resumed)
  expected = small_result()

  def trials(kept):
    return [
      (name, int(row), int(trial))
      for name, finished, _ in kept
      for row, trial in zip(finished.rows, finished.trials, strict=True)
    ]

  np.testing.assert_array_equal(found.robust, expected.robust)
  np.testing.assert_array_equal(found.images, expected.images)
  assert len(set(trials(resumed.kept))) == len(trials(resumed.kept))


def test_what_a_result_depends_on_is_in_the_journal():
  images, labels = official_autoattack.data(nets.plain, 8)
  first, second, third = Memory(), Memory(), Memory()

  run(images, labels, attacks=small()[:1], journal=first)
  run(images, labels, attacks=small()[:1], journal=second, epsilon=0.1)
  run(images, labels, attacks=small()[:2], journal=third)

  assert first.identity != second.identity
  assert first.identity != third.identity
  assert first.identity['classifier'] == fingerprints.of_classifier(
    classifier(), (8, 8, 3), np.float32
  )
  assert first.logits.shape == (8, 10)


# Edges.


def test_epsilon_0_returns_the_images():
  images, labels = official_autoattack.data(nets.plain, 40)

  result = run(images, labels, epsilon=0.0)

  np.testing.assert_array_equal(result.images, images)
  np.testing.assert_array_equal(result.robust, result.correct)


def test_no_images_are_no_error():
  images, labels = official_autoattack.data(nets.plain, 40)

  result = run(images[:0], labels[:0])

  assert result.robust.shape == (0,)
  assert 'APGD-CE' in str(result)


@functools.cache
def few_classes(num_classes):
  images, labels = nets.data(12, num_classes)
  logits_fn = functools.partial(nets.plain, num_classes=num_classes)
  return logits_fn, images.astype(np.float32), labels


def test_with_few_classes_what_is_not_defined_is_left_out_and_said():
  result = run_on(*few_classes(2), attacks=small()[1:3])

  assert [member.num_trials for member in result.members] == [0, 1]
  assert [warning.kind for warning in result.warnings] == ['classes']
  assert 'APGD-T was left out' in str(result)


def test_with_three_classes_the_dlr_loss_takes_the_place_of_the_targeted_one():
  dlr = ensembles.apgd_dlr(num_steps=5, restarts=2)

  replaced = run_on(*few_classes(3), attacks=small()[1:2])
  alone = run_on(*few_classes(3), attacks=[dlr])

  assert [m.label for m in replaced.members] == ['APGD-DLR']
  assert replaced.members[0].broken > 0
  np.testing.assert_array_equal(replaced.images, alone.images)
  assert [warning.kind for warning in replaced.warnings] == ['classes']
  assert 'APGD-DLR took the place of APGD-T' in str(replaced)


def test_an_ensemble_that_has_the_dlr_loss_leaves_the_targeted_one_out():
  members = [small()[1], ensembles.apgd_dlr(num_steps=5, restarts=2)]

  result = run_on(*few_classes(3), attacks=members)

  assert [m.num_trials for m in result.members] == [0, 2]
  assert 'APGD-T was left out' in str(result)
  assert 'APGD-DLR ran, which needs one class less' in str(result)
  standard = ensembles.standard()
  assert ensembles.for_classes(standard, nets.plain, 4) == standard


def test_an_ensemble_of_which_nothing_is_defined_is_refused():
  with pytest.raises(ValueError, match='apgd_t is defined for 2 classes'):
    run_on(*few_classes(2), attacks=[ensembles.apgd_t()])


def test_float64_is_computed_in_float32_unless_x64_is_on():
  images, labels = official_autoattack.data(nets.plain, 8)

  result = run(images.astype(np.float64), labels, attacks=small()[:1])

  assert result.images.dtype == np.float32


def test_what_is_not_confirmed_is_attacked_once_more(monkeypatch):
  """As where an attack stops at what only low precision takes for broken."""
  images, labels = official_autoattack.data(nets.plain, 40)
  members = small()[:1]
  expected = run(images, labels, attacks=members)
  in_ball, calls = prediction.in_ball, []

  def first_time_never(images, originals, **ball):
    calls.append(len(images))
    return in_ball(images, originals, **ball) & (len(calls) > 1)

  monkeypatch.setattr(prediction, 'in_ball', first_time_never)
  result = run(images, labels, attacks=members)
  monkeypatch.setattr(
    prediction, 'in_ball', lambda images, *_, **__: np.zeros(len(images), bool)
  )
  never = run(images, labels, attacks=members)

  np.testing.assert_array_equal(result.robust, expected.robust)
  assert calls == [expected.members[0].broken] * 2
  np.testing.assert_array_equal(never.robust, never.correct)
  assert never.members[0].rejected == expected.members[0].broken
  assert [s.kind for s in never.warnings] == ['not confirmed']


@jax.tree_util.register_pytree_node_class
class Module:
  """A classifier as a pytree of weights and functions, as in Equinox."""

  def __init__(self, weights, activation):
    self.weights, self.activation = weights, activation

  def __call__(self, images):
    x = self.activation(images.reshape(len(images), -1) @ self.weights)
    return x - x[:, ::-1]

  def tree_flatten(self):
    return (self.weights, self.activation), None

  @classmethod
  def tree_unflatten(cls, _, children):
    return cls(*children)


def test_a_module_of_weights_and_functions_compiles_once_for_all_weights(
  caplog,
):
  rng = np.random.default_rng(0)
  images = np.float32(rng.uniform(size=(4, 2, 2, 1)))

  def attack():
    module = Module(np.float32(rng.normal(size=(4, 3))), jax.nn.relu)
    return run_on(
      module,
      images,
      np.asarray(module(images).argmax(-1)),
      attacks=[ensembles.apgd_ce(num_steps=2)],
    )

  attack()
  with jax.log_compiles(), caplog.at_level('WARNING'):
    attack()

  assert not [r for r in caplog.records if 'Compiling' in r.message]


def _noisy(images, key):
  noise = jax.random.normal(key, (images.shape[0], 10))
  return nets.plain(images) + 0.3 * noise


def test_rand_attacks_a_random_classifier():
  """A plain function will do, and no image is given up after one fall."""
  images, labels = official_autoattack.data(nets.plain, 24)
  members = [ensembles.apgd_ce(num_steps=5, draws=4)]
  noisy = attacks.Randomized(_noisy)

  found = run_on(noisy, images, labels, attacks=members)

  assert 0 < found.robust_accuracy < found.clean_accuracy
  # All steps, although images fell on the way.
  passes = found.members[0].attacked * 4 * (1 + 5)
  assert found.members[0].passes.backward == passes


def test_a_random_classifier_is_suspicious_unless_all_members_draw_anew():
  images, labels = official_autoattack.data(nets.plain, 4)
  noisy = attacks.Randomized(_noisy)

  def kinds(members):
    found = pre_attack.check_ensemble(members, noisy, images, labels)
    return {warning.kind for warning in found}

  (warning,) = (
    warning
    for warning in pre_attack.check_ensemble(
      ensembles.standard(), noisy, images, labels
    )
    if warning.kind == 'random numbers'
  )
  assert 'APGD-CE, APGD-T, FAB-T, Square attack a random' in warning.message
  assert 'random numbers' not in kinds(ensembles.rand())


def test_of_saturated_logits_the_accuracy_with_rescaled_ones_is_told_too():
  images, labels = official_autoattack.data(nets.plain, 24)
  options = {'attacks': [ensembles.apgd_ce(num_steps=5)], 'checks': True}

  saturated = run_on(lambda x: 1e4 * nets.plain(x), images, labels, **options)

  honest = run(images, labels, attacks=['apgd-ce'])
  assert saturated.rescaled_accuracy < saturated.robust_accuracy - 0.1
  # Another temperature is another attack: not the same images to the last one.
  assert saturated.rescaled_accuracy == pytest.approx(
    honest.robust_accuracy, abs=2.5 / 24
  )
  share = f'{saturated.rescaled_accuracy:.2%}'
  assert f'robust accuracy with rescaled logits: {share}' in str(saturated)


def test_probabilities_are_refused():
  images, labels = official_autoattack.data(nets.plain, 4)

  with pytest.raises(ValueError, match='probabilit'):
    run_on(lambda x: jax.nn.softmax(nets.plain(x)), images, labels, checks=True)


def test_l2_may_exceed_1_but_not_the_diagonal():
  images, labels = official_autoattack.data(nets.plain, 24)
  members = [ensembles.apgd_ce(norms.L2, num_steps=5)]

  found = run(images, labels, attacks=members, norm='L2', epsilon=2.0)
  assert found.norm == 'L2'
  with pytest.raises(ValueError, match='epsilon=14'):
    run(images, labels, attacks=members, norm='L2', epsilon=14.0)


def test_every_ensemble_has_the_published_members_and_budgets():
  def facts(members):
    return {
      member.name: (member.attack.num_trials(10), member.attack.num_steps)
      for member in members
    }

  targets = {'apgd_t': (9, 100), 'fab_t': (9, 100)}
  assert facts(ensembles.standard()) == {
    'apgd_ce': (1, 100),
    'square': (1, 5000),
    **targets,
  }
  assert facts(ensembles.plus()) == {
    'apgd_ce': (5, 100),
    'apgd_dlr': (5, 100),
    'fab': (5, 100),
    'square': (1, 5000),
    **targets,
  }
  assert facts(ensembles.rand()) == {'apgd_ce': (1, 100), 'apgd_dlr': (1, 100)}
  # In L1 two of the steps begin a stage.
  assert facts(ensembles.standard(norms.L1)) == {
    'apgd_ce': (5, 102),
    'apgd_t': (5, 102),
    'fab_t': (9, 100),
    'square': (1, 5000),
  }
  for ensemble in (ensembles.plus, ensembles.rand):
    assert facts(ensemble(norms.L1)) == facts(ensemble())
  assert {m.attack.draws for m in ensembles.rand()} == {20}


@pytest.mark.parametrize(('name', 'epsilon'), (('L2', 0.5), ('L1', 3.0)))
def test_members_break_more_than_none_and_stay_in_their_ball(name, epsilon):
  images, labels = official_autoattack.data(nets.plain, 24)
  norm, stages = norms.by_name(name), {}
  if norm is norms.L1:
    stages = {'large_radii': True}
  members = (
    ensembles.apgd_ce(norm, num_steps=7, **stages),
    ensembles.fab_t(norm, num_steps=5, targets=2),
    ensembles.square(norm, num_steps=30),
  )

  for member in members:
    options = {'attacks': [member], 'norm': name, 'epsilon': epsilon}
    result = run(images, labels, **options)
    assert result.members[0].broken > 0
    assert result.members[0].rejected == 0
    deltas = (result.images.astype(float) - images).reshape(24, -1)
    lengths = np.linalg.norm(deltas, int(name[1]), axis=1)
    bound = epsilon + prediction.tolerance(norm, deltas.shape[1])
    assert lengths.max() <= bound
