"""Sentence scores of all pairs, against sacreBLEU."""

import functools
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import sacrebleu

from seqlab.metrics.characters import piece_bytes
from seqlab.metrics.pairwise import expected_utility, pairwise_scores
from seqlab.text.corpora import open_corpus
from seqlab.types import EOS, PAD

TEXTS = [
  'A man, 26, is riding a bike; "fast" he said.',
  'A man is riding a bicycle, quickly -- he said.',
  'Ein Mann fährt 3.5 km mit dem Fahrrad &quot;schnell&quot;.',
  'the the the the cat sat on the the mat',
  'the cat sat the cat sat the cat sat',
  'девочка читает книгу, а мальчик — нет.',
  'девочка читает книги .',
  '女の子が本を読んでいます。',
  'ab',
  'a b a b a b a',
  'a',
  '',
]
LONG = ['x y z ' * 60, 'x y ' * 70, 'one two three ' * 30, 'z']


def as_ids(texts, width):
  """Returns each text as pieces of up to three bytes, and the table of the pieces."""
  pieces = [
    [text.encode()[i : i + 3] for i in range(0, len(text.encode()), 3)]
    for text in texts
  ]
  known = sorted({piece for text in pieces for piece in text})
  table = piece_bytes([b'', b'', b'', b'', *known])
  ids = np.full((len(texts), width), PAD, np.int32)
  for row, text in zip(ids, pieces, strict=True):
    row[: len(text)] = [known.index(piece) + 4 for piece in text]
    row[len(text)] = EOS
  return ids, table


def oracle(utility, hypothesis, reference):
  if utility == 'chrf':
    return sacrebleu.sentence_chrf(hypothesis, [reference]).score
  return sacrebleu.sentence_bleu(hypothesis, [reference]).score


@functools.partial(jax.jit, static_argnums=(2, 3))
def pairs(ids, table, size, utility):
  return pairwise_scores(ids, table, size, utility)


# One block of elements, and many.
@pytest.mark.parametrize(('utility', 'cells'), [('chrf', 1000), ('bleu', 1 << 21)])
def test_scores_of_pairs_are_those_of_sacrebleu(utility, cells, monkeypatch):
  monkeypatch.setattr('seqlab.metrics.pairwise._CELLS', cells)
  ids, table = as_ids(TEXTS, 40)
  pairs.clear_cache()
  scores = pairs(ids, table, 96, utility)
  expected = [[oracle(utility, h, r) for r in TEXTS] for h in TEXTS]
  np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.slow  # compiles a measure for each room
def test_the_expected_utility_is_the_mean_over_the_other_outputs(monkeypatch):
  # Short texts have a room of their own.
  monkeypatch.setattr('seqlab.metrics.pairwise._BYTES_PER_PIECE', (1,))
  sides = [TEXTS[:4], LONG, ['', '', '', ''], ['b', 'ab', 'abc', 'b']]
  ids, table = as_ids([text for side in sides for text in side], 160)
  utility = jax.jit(expected_utility, static_argnums=2)(
    ids.reshape(4, 4, -1), table, 'chrf'
  )
  for row, texts in zip(np.asarray(utility), sides, strict=True):
    for m, text in enumerate(texts):
      others = [oracle('chrf', text, x) for i, x in enumerate(texts) if i != m]
      np.testing.assert_allclose(row[m], np.mean(others), atol=1e-4)


@pytest.mark.slow  # a thousand pairs by sacreBLEU
@pytest.mark.parametrize('utility', ['chrf', 'bleu'])
def test_scores_of_real_sentences_are_those_of_sacrebleu(utility):
  folder = Path(os.environ.get('SEQLAB_DATA') or os.devnull)
  if not (folder / 'multi30k').is_dir():
    pytest.skip('set SEQLAB_DATA to a folder with multi30k')
  corpus = open_corpus('multi30k', source='en', target='de')
  texts = [line for side in corpus.read('test_2016_flickr') for line in side[:16]]
  ids, table = as_ids(texts, 100)
  scores = pairs(ids, table, 300, utility)
  expected = [[oracle(utility, h, r) for r in texts] for h in texts]
  np.testing.assert_allclose(scores, expected, atol=1e-4)
