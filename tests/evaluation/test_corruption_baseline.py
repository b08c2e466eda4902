"""Errors of a reference model: files, and the published ones."""

import json

import pytest

from rnascl_jax.data.corruptions import names
from rnascl_jax.evaluation import corruption_baseline

_FIVE = [0.1, 0.2, 0.3, 0.4, 0.5]


def _load(place, corruptions=('fog',), severities=names.SEVERITIES, **changes):
  return corruption_baseline.load(
    str(place), corruptions, severities, **{'is_imagenet_c': False} | changes
  )


def test_alexnets_errors_are_of_the_common_corruptions():
  baseline = _load('alexnet', names.COMMON, is_imagenet_c=True)
  assert set(baseline['errors']) == set(names.COMMON)
  assert all(0.5 < error < 1 for error in baseline['errors'].values())
  assert 'https://' in baseline['source']


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('a.json', json.dumps({'fog': 0.5, 'snow': _FIVE})),
    ('a.csv', 'corruption,1,2,3,4,5\nsnow,.1,.2,.3,.4,.5\n\nfog, 0.5\n'),
    ('a.csv', 'fog,0.5\nsnow,.1,.2,.3,.4,.5'),
  ],
)
def test_a_file_has_one_error_or_five_of_a_corruption(name, text, tmp_path):
  path = tmp_path / name
  path.write_text(text)
  baseline = _load(path, ('fog', 'snow'))
  assert baseline['errors'] == {'fog': 0.5, 'snow': _FIVE}
  assert (baseline['name'], baseline['source']) == ('a', str(path))
  _load(path, ('snow',), (1, 3))


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ({'fogg': 0.5}, "there is no corruption 'fogg'. Did you mean 'fog'"),
    ({'fog': 50}, r'fog has 50, and must have errors in \(0, 1\]'),
    ({'fog': 0}, 'divide per cent by 100'),
    ({'fog': [0.1, 0.2]}, 'one or five'),
    ({'fog': 'x'}, "fog has 'x'"),
    ({'snow': 0.5}, 'has no error under fog: it has snow. Add it'),
    ([], 'is damaged: it holds a list'),
  ],
)
def test_another_file_is_refused(content, message, tmp_path):
  path = tmp_path / 'a.json'
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message):
    _load(path)


def test_means_over_five_severities_need_all_five(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('{"fog": 0.5}')
  with pytest.raises(ValueError, match='severities are 1, 3: evaluate all'):
    _load(path, severities=(1, 3))
