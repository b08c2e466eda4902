"""The queue of trials: what is in the log is as if they ran one by one."""

import numpy as np
import pytest

from rnascl_jax.attacks import apgd
from rnascl_jax.attacks.attack_log import AttackLog, Finished
from rnascl_jax.attacks.attack_queue import AttackQueue

NUM_TRIALS = 3


def start(count, done=0):
  log = AttackLog(apgd.APGD(restarts=NUM_TRIALS), count, 10)
  log.trials[:] = done
  return log, AttackQueue(log, np.arange(count))


def taken(queue, count):
  return list(zip(*(a.tolist() for a in queue.take(count)), strict=True))


def finish(log, queue, *trials):
  """Ends (row, trial, fooled), and returns what comes into the log."""
  rows, numbers, fooled = map(np.array, zip(*trials, strict=True))
  images = np.array([[[[row + trial / 10]]] for row, trial, f in trials if f])
  in_order = queue.add(
    Finished(rows, numbers, 10 * rows + numbers, fooled, images)
  )
  log.add(in_order, 0.0)
  return list(zip(*(a.tolist() for a in in_order[:2]), strict=True))


def test_all_images_come_before_the_second_trial_of_one():
  _, queue = start(3)
  assert queue.left == queue.waiting == 9
  assert taken(queue, 4) == [(0, 0), (1, 0), (2, 0), (0, 1)]
  assert taken(queue, 9) == [(1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]
  assert taken(queue, 1) == [] and queue.waiting == 0 and queue.left == 9


def test_an_image_whose_trial_is_over_goes_on_before_others_begin():
  log, queue = start(4)
  assert taken(queue, 2) == [(0, 0), (1, 0)]
  assert finish(log, queue, (0, 0, False)) == [(0, 0)]
  assert taken(queue, 1) == [(0, 1)]


def test_a_trial_that_ends_early_waits_for_those_in_front_of_it():
  log, queue = start(2)
  queue.take(6)
  assert finish(log, queue, (0, 1, False), (1, 2, True)) == []
  assert queue.steps_ahead == 1 + 12 and queue.left == 6
  assert finish(log, queue, (0, 0, False)) == [(0, 0), (0, 1)]
  assert finish(log, queue, (1, 0, False)) == [(1, 0)]
  assert finish(log, queue, (1, 1, False)) == [(1, 1), (1, 2)]
  assert log.fooled.tolist() == [False, True]
  assert log.images(np.array([1])).item() == pytest.approx(1.2)
  assert queue.left == 1 and queue.steps_ahead == 0


def test_what_comes_after_a_trial_that_fools_is_of_no_use():
  log, queue = start(1)
  queue.take(2)
  assert finish(log, queue, (0, 1, True)) == []
  of_use = queue.are_of_use(np.array([0, 0, 0]), np.arange(3))
  assert of_use.tolist() == [True, True, False]
  assert taken(queue, 1) == [] and queue.left == 2
  assert finish(log, queue, (0, 0, True)) == [(0, 0)]
  assert queue.left == queue.steps_ahead == 0
  assert log.images(np.array([0])).item() == 0


def test_what_is_in_the_log_is_not_attacked_again():
  _, queue = start(2, done=2)
  assert taken(queue, 9) == [(0, 2), (1, 2)]


@pytest.mark.parametrize('seed', range(5))
def test_in_any_order_the_log_is_that_of_one_trial_after_the_other(seed):
  rng = np.random.default_rng(seed)
  fools = rng.random((6, NUM_TRIALS)) < 0.3
  expected = []
  for row in range(6):
    last = np.argmax(fools[row]) if fools[row].any() else NUM_TRIALS - 1
    expected += [(row, trial) for trial in range(last + 1)]
  log, queue = start(6)
  under_way, found = [], []
  while queue.left:
    under_way += taken(queue, int(rng.integers(4)))
    under_way = [
      t for t in under_way if queue.are_of_use(*map(np.array, [[t[0]], [t[1]]]))
    ]
    if under_way:
      ended = under_way.pop(rng.integers(len(under_way)))
      found += finish(log, queue, (*ended, bool(fools[ended])))

  assert sorted(found) == expected
  assert [t for t in found if t[0] == 0] == [t for t in expected if t[0] == 0]
  assert log.fooled.tolist() == fools.any(axis=1).tolist()
