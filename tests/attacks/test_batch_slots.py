"""Attacks on data sets: batch slots change when a step is done, never what."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import apgd, apgd_l1, batch_slots, ensembles
from rnascl_jax.attacks.attack_log import AttackLog, AutoAttackInput
from tests import attack_networks as nets

COUNT = 22
EPSILON = 8 / 255


@functools.cache
def classifier():
  return jax.tree_util.Partial(nets.plain)


def run(
  attack,
  rows,
  *,
  done=0,
  kept=(),
  epsilon=EPSILON,
  dtype=np.float32,
  **options,
):
  """What is yielded; `done` trials of every image have finished before.

  So have those that are `kept`.
  """
  images, labels = nets.data()
  settings = {'batch_size': COUNT, 'devices': tuple(jax.devices()[:1])}
  inputs = AutoAttackInput(
    logits_fn=classifier(),
    key=jax.random.key(3),
    images=images.astype(dtype),
    labels=labels,
    indices=np.arange(len(images)),
    epsilon=epsilon,
    **settings | options,
  )
  log = AttackLog(attack, len(images), 10)
  log.trials[:] = done
  for finished in kept:
    log.add(finished, 0.0)
  return batch_slots.run(inputs, inputs.key, log, np.array(rows, int))


def collect(attack, *, rows=range(COUNT), **options):
  """Every image's last trial, steps, verdict and adversarial image."""
  result, order = {}, []
  for finished, _, _ in run(attack, rows, **options):
    kept = iter(finished.images)
    for row, trial, steps, fooled in zip(*finished[:4], strict=True):
      image = next(kept) if fooled else None
      result[int(row)] = (int(trial), int(steps), bool(fooled), image)
      order.append((int(row), int(trial)))
  return result, order


def assert_same(result, expected, exact=True):
  assert result.keys() == expected.keys()
  for row, (*facts, image) in result.items():
    *other, other_image = expected[row]
    assert facts == other
    if image is not None:
      np.testing.assert_allclose(image, other_image, atol=0 if exact else 1e-12)


def _take_next(queue, count):
  """`AttackQueue.take` where an image has one trial at a time."""
  rows, begun = queue._rows, queue._begun
  ready = (begun[rows] == queue._log.trials[rows]) & (
    begun[rows] < queue._end[rows]
  )
  rows = rows[ready][:count]
  trials = begun[rows]
  begun[rows] += 1
  return rows, trials


def per_image(attack, dtype=np.float32, epsilon=EPSILON):
  """Each image by itself, in one loop: the image, and whether it fools."""
  images, labels = nets.data()
  images = jnp.asarray(images[:COUNT], dtype)
  keys = attacks.image_keys(jax.random.key(3), jnp.arange(COUNT))
  run = functools.partial(attack, nets.plain, epsilon=epsilon)
  result = jax.jit(jax.vmap(run))(keys, images, labels[:COUNT])
  return result, np.asarray(nets.plain(result).argmax(-1) != labels[:COUNT])


def test_batch_slots_break_what_the_attack_on_one_image_breaks():
  attack = apgd.APGD(num_steps=20)

  result, _ = collect(attack, batch_size=8)
  _, fooled = per_image(attack)

  assert [result[row][2] for row in range(COUNT)] == fooled.tolist()
  assert 0 < fooled.sum() < COUNT


def test_without_an_early_stop_the_images_are_those_of_the_whole_attack():
  attack = apgd.APGD(num_steps=20)

  with jax.enable_x64(True):
    result, _ = collect(
      attack, stop_early=False, dtype=np.float64, batch_size=8
    )
    images, fooled = per_image(attack, np.float64)

  for row in np.flatnonzero(fooled):
    np.testing.assert_allclose(result[row][3], images[row], atol=1e-12)
    assert result[row][1] == 20


def test_large_radii_break_images_in_their_last_stage_only():
  attack = apgd_l1.APGDL1(num_steps=20, large_radii=True)

  result, _ = collect(attack, batch_size=8, epsilon=1.0)
  _, fooled = per_image(attack, epsilon=1.0)

  assert [result[row][2] for row in range(COUNT)] == fooled.tolist()
  first = np.argmax(apgd_l1.stages(20, True).factor == 1)
  assert min(result[row][1] for row in np.flatnonzero(fooled)) == first + 1


def test_going_on_at_a_later_trial_gives_the_same():
  attack = apgd.APGD(
    loss=losses.targeted_dlr, least_classes=4, targets=3, num_steps=12
  )
  collect_some = functools.partial(collect, attack, batch_size=5)
  expected, order = collect_some()
  late = [row for row, (trial, *_) in expected.items() if trial == 2]

  result, _ = collect_some(rows=late, done=2)

  assert late
  assert_same(result, {row: expected[row] for row in late}, exact=False)
  assert len(order) == sum(trial + 1 for trial, *_ in expected.values())


def test_trials_of_an_image_come_in_order_and_end_with_its_fall():
  attack = apgd.APGD(
    loss=losses.targeted_dlr, least_classes=4, targets=3, num_steps=12
  )

  result, order = collect(attack, batch_size=5)

  for row, (last, _, fooled, _) in result.items():
    trials = [trial for other, trial in order if other == row]
    assert trials == list(range(last + 1))
    assert fooled or last == 2


def test_an_image_that_falls_in_a_step_takes_no_further_one():
  result, _ = collect(apgd.APGD(num_steps=20), batch_size=8)

  steps = [steps for _, steps, fooled, _ in result.values() if fooled]

  assert min(steps) <= 2
  assert {s for _, s, fooled, _ in result.values() if not fooled} == {20}


def test_steps_under_way_are_told_between_ends():
  """So that progress and a request to stop do not wait for 5,000 queries."""
  attack = ensembles.square(num_steps=150).attack
  # Nothing breaks these images.
  attacked = run(attack, [0, 2], epsilon=EPSILON / 8, batch_size=8)
  told = [(len(finished.rows), steps) for finished, _, steps in attacked]

  steps = [steps for ended, steps in told if not ended]
  assert steps == [0, 100, 200]
  assert sum(ended for ended, _ in told) == 2 and told[-1][1] == 0


def test_no_images_are_no_work():
  assert collect(apgd.APGD(), rows=[]) == ({}, [])


def test_batches_take_as_few_rounds_as_the_largest_in_few_sizes():
  fitted = batch_slots.fitted
  assert [fitted(n, 64) for n in (1, 7, 9, 21, 29, 33, 64)] == [
    *(1, 7, 10, 24, 32, 40, 64)
  ]
  assert fitted(9 * 21, 64) == 64  # Three rounds.
  assert fitted(9 * 29, 64) == 56  # Five rounds.
  assert fitted(21, 64, 2) == 24 and fitted(1, 64, 2) == 2
  assert fitted(999, 100, 8) == 104 and fitted(999, 3) == 3
  sizes = {fitted(n, 1024) for n in range(1, 1025)}
  assert len(sizes) == 36
  for n in range(1, 1025):
    assert n <= fitted(n, 1024) < 1.34 * n


def _targeted(**options):
  """Three targets of APGD."""
  return apgd.APGD(
    loss=losses.targeted_dlr, least_classes=4, targets=3, **options
  )


def test_several_targets_of_an_image_at_once_break_it_as_one_after_the_other(
  monkeypatch,
):
  attack = _targeted(num_steps=12)
  at_once, order = collect(attack, rows=range(5), batch_size=15)
  monkeypatch.setattr(batch_slots.AttackQueue, 'take', _take_next)

  one_by_one, other_order = collect(attack, rows=range(5), batch_size=15)

  assert_same(at_once, one_by_one, exact=False)
  assert sorted(order) == sorted(other_order)
  assert {trial for _, trial in order} == {0, 1, 2}


@pytest.mark.parametrize('kept', [1, 2, 3])
def test_killed_with_several_targets_at_once_an_image_goes_on_where_it_was(
  kept,
):
  attack = _targeted(num_steps=12)
  expected, order = collect(attack, rows=range(5), batch_size=6)
  told = run(attack, range(5), batch_size=6)
  ended = (finished for finished, *_ in told if len(finished.rows))
  parts = list(itertools.islice(ended, kept))
  before = [
    (int(row), int(trial))
    for part in parts
    for row, trial in zip(part.rows, part.trials, strict=True)
  ]

  result, after = collect(attack, rows=range(5), batch_size=6, kept=parts)

  assert sorted(before + after) == sorted(order) and after
  assert_same(result, {row: expected[row] for row in result}, exact=False)


def test_parts_of_a_batch_find_what_one_finds(monkeypatch):
  attack = _targeted(num_steps=12)
  results = []
  for size in (16, 3):
    monkeypatch.setattr(batch_slots, '_PART', {'cpu': size})
    results.append(collect(attack, batch_size=8)[0])

  assert_same(*results, exact=False)


def test_a_smaller_batch_goes_on_with_what_is_left(monkeypatch):
  expected, _ = collect(_targeted(num_steps=12), batch_size=8)
  monkeypatch.setattr(batch_slots, '_WORTH', 1)
  sizes = set()
  put = batch_slots.parallel.put

  def spy(tree, devices, *, split=False):
    if split:
      sizes.add(len(jax.tree.leaves(tree)[0]))
    return put(tree, devices, split=split)

  monkeypatch.setattr(batch_slots.parallel, 'put', spy)

  result, _ = collect(_targeted(num_steps=12), batch_size=8)

  assert_same(result, expected, exact=False)
  assert max(sizes) == 8 and min(sizes) < 8


def test_slow_loops_and_fast_ones_find_the_same(monkeypatch):
  """A loop on the device, and a call for every step, are one program."""
  attack = apgd.APGD(num_steps=20)
  stepped, _ = collect(attack, batch_size=8)
  monkeypatch.setattr(
    batch_slots.unrolling, 'is_slow_in_loops', lambda *_, platform: False
  )

  looped, _ = collect(attack, batch_size=8)

  assert_same(looped, stepped, exact=False)
