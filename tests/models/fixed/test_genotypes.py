"""Genotypes as data and as text."""

import pytest

from rnascl_jax.models.fixed import darts, genotypes

SKIPS = "('skip_connect', 0), ('skip_connect', 1)"


def _text(normal=SKIPS, concat='[2]'):
  return (
    f'Genotype(normal=[{normal}], normal_concat={concat}, reduce=[{SKIPS}], '
    'reduce_concat=range(2, 3))'
  )


@pytest.mark.parametrize('name', genotypes.GENOTYPES)
def test_a_published_genotype_is_valid_and_survives_as_text(name):
  genotype = genotypes.by_name(name)
  assert genotypes.by_name(str(genotype)) == genotype


def test_the_text_that_a_search_prints_is_read():
  assert genotypes.by_name(_text()) == genotypes.Genotype(
    (('skip_connect', 0), ('skip_connect', 1)),
    (2,),
    (('skip_connect', 0), ('skip_connect', 1)),
    (2,),
  )


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('dart_v2', "unknown genotype 'dart_v2'.*Did you mean 'darts_v2'"),
    ('Genotype(normal=[])', 'missing 3 required'),
    ('Genotype(normal=', 'cannot be read'),
    (_text(concat='open("x")'), 'is not a list'),
    (_text(normal="('skip_connect', 0)"), 'has 1 edges, not two for each'),
    (_text(normal="('skip', 0), ('skip', 1)"), "unknown operation 'skip'"),
    (_text(normal=SKIPS.replace('1', '2')), 'node 2 has an edge from 2'),
    (_text(concat='[1, 2]'), 'is not of nodes 2 to 2'),
  ],
)
def test_what_is_no_genotype_is_refused_with_the_reason(text, message):
  with pytest.raises(ValueError, match=message):
    darts.DartsNetwork(10, genotype=text)


@pytest.mark.parametrize(
  'fields', [{'depth': 2}, {'features': (4, 8)}, {'features': (4, 7, 8)}]
)
def test_a_chain_that_cannot_be_reduced_twice_is_refused(fields):
  with pytest.raises(ValueError, match='must be at least 3 and features='):
    darts.DartsNetwork(10, **fields)
