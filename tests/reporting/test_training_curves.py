"""Which quantities of trainings share a panel, and which are shown apart."""

import pathlib

import numpy as np
import pytest

from rnascl_jax.reporting import results, training_curves
from rnascl_jax.reporting.results import StageMetrics

TRAIN = {
  'loss': 5.0,
  'cross_entropy': 1.0,
  'kl': 2.0,
  'attention': 0.0,
  'robust_term': 2.0,
  'accuracy': 0.5,
}
VALIDATION = {'loss': 0.7, 'accuracy': 0.25}


def _panels(method='', train=TRAIN):
  records = [
    {'epoch': epoch, 'split': split, **values}
    for epoch in (1, 2)
    for split, values in (('train', train), ('validation', VALIDATION))
  ]
  run = results.SavedRun(
    pathlib.Path('run'),
    config={'train': {'adversarial_training': {'name': method}}},
    stages=(StageMetrics('train', 'ce', tuple(records), {}),),
  )
  return {
    panel.quantity.label: {line.split: line.values[0] for line in panel.lines}
    for panel in training_curves.panels(run)
  }


def test_validation_is_beside_training_only_where_both_are_one_quantity():
  assert _panels() == {
    'Training objective': {'train': 5.0},
    'Cross-entropy': {'train': 1.0, 'validation': 0.7},
    'KL, or the method in its place': {'train': 2.0},
    'Robust term': {'train': 2.0},  # The attention term is off.
    'Accuracy (%)': {'train': 50.0, 'validation': 25.0},
  }


@pytest.mark.parametrize('method', ['pgd', 'fast', 'free'])
def test_what_is_learnt_on_attacked_images_is_under_attack(method):
  panels = _panels(method, {**TRAIN, 'clean_accuracy': 0.75})
  assert panels['Cross-entropy'] == {'validation': 0.7}
  assert panels['Cross-entropy under attack'] == {'train': 1.0}
  assert panels['Accuracy (%)'] == {'train': 75.0, 'validation': 25.0}
  assert panels['Accuracy under attack (%)'] == {'train': 50.0}


def test_an_accuracy_of_zero_is_shown_and_a_term_that_is_off_is_not():
  panels = _panels(train={'accuracy': 0.0, 'kl': 0.0})
  assert panels['Accuracy (%)']['train'] == 0.0
  assert 'KL, or the method in its place' not in panels


def test_terms_of_the_search_are_positive_on_their_logarithmic_axis():
  records = tuple(
    {'epoch': e, 'split': 'train', 'cross_entropy': e, 'kl': e - 1, 'macs': 2e6}
    for e in (1, 2)
  )
  run = results.SavedRun(
    pathlib.Path('run'), stages=(StageMetrics('search', 'search', records, {}),)
  )
  macs, terms = training_curves.search_panels(run)
  assert terms.is_log
  assert [len(line.values) for line in terms.lines] == [2, 1]
  assert macs.label == 'Expected MACs (million)'
  np.testing.assert_array_equal(macs.lines[0].values, [2, 2])
