"""Sixteen systems of WMT17 English to German have the scores of sacreBLEU and jiwer.

Needs `$SEQLAB_DATA/wmt17-en-de`: `reference.de.gz` and one gzipped file per system.
"""

import gzip
import itertools
import os
from pathlib import Path

import jax
import jiwer
import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU

from seqlab.metrics.characters import piece_bytes
from seqlab.metrics.corpus import (
  Lines,
  Pieces,
  corpus_statistics,
  measure_texts,
  read_lines,
  score,
)
from seqlab.metrics.measures import make_measures
from seqlab.text.vocabulary import train_vocabulary

FOLDER = Path(os.environ.get('SEQLAB_DATA', 'data')) / 'wmt17-en-de'
SYSTEMS = sorted(FOLDER.glob('newstest2017.*.gz'))
ORDER = [2, 3, 4, 5, 6, 7, 8, 9, 0, 1]  # sacreBLEU's columns in our order

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(len(SYSTEMS) < 16, reason=f'{FOLDER} has not the 16 systems'),
]


def text_of(path):
  with gzip.open(path, 'rt', encoding='utf-8', newline='\n') as file:
    return [line.rstrip() for line in file]


@pytest.fixture(scope='module')
def reference():
  return text_of(FOLDER / 'reference.de.gz')


@pytest.fixture(scope='module')
def vocabulary(reference):
  return train_vocabulary(reference, kind='bpe', size=8_000, byte_fallback=True)


@pytest.mark.parametrize('lowercase', [False, True], ids=['mixed', 'lc'])
@pytest.mark.parametrize('tokenizer', ['13a', 'none', 'char'])
def test_bytes_and_pieces_score_as_sacrebleu(
  reference, vocabulary, tokenizer, lowercase
):
  options = dict(tokenizer=tokenizer, lowercase=lowercase)
  metric = BLEU(tokenize=tokenizer, lowercase=lowercase, force=True)
  metric._ref_cache = metric._cache_references([reference])
  lines = [Lines(read_lines(FOLDER / 'reference.de.gz'))]
  table = piece_bytes(vocabulary.surfaces())
  for path in SYSTEMS:
    expected = np.array(metric._extract_corpus_statistics(text_of(path), None))[
      :, ORDER
    ]
    actual = corpus_statistics(Lines(read_lines(path)), lines, **options)
    np.testing.assert_array_equal(actual, expected, err_msg=path.name)

    flat, offsets = vocabulary.encode(text_of(path))
    ids = [flat[a:b] for a, b in itertools.pairwise(offsets)]
    # SentencePiece merges runs of white space, so the oracle is given its text, too.
    written = vocabulary.decode(ids)
    expected_of_ids = np.array(metric._extract_corpus_statistics(written, None))[
      :, ORDER
    ]
    actual_of_ids = corpus_statistics(Pieces(ids, table), lines, **options)
    np.testing.assert_array_equal(actual_of_ids, expected_of_ids, err_msg=path.name)

    total = expected.sum(axis=0)
    oracle = BLEU.compute_bleu(
      *(total[:4].tolist(), total[4:8].tolist(), int(total[8]), int(total[9])), 'exp'
    )
    assert score(total)['score'] == pytest.approx(oracle.score, rel=1e-12)


def _corpus_score(metric):
  return lambda outputs, reference: metric.corpus_score(outputs, [reference]).score


ORACLES = {
  'chrf': _corpus_score(sacrebleu.CHRF()),
  'chrf++': _corpus_score(sacrebleu.CHRF(word_order=2)),
  'ter': _corpus_score(sacrebleu.TER()),
  'cer': lambda outputs, reference: jiwer.cer(reference, outputs),
  'wer': lambda outputs, reference: jiwer.wer(reference, outputs),
}


@pytest.mark.parametrize('path', SYSTEMS, ids=lambda path: path.name.split('.')[1])
@pytest.mark.parametrize('name', ORACLES)
def test_other_measures_are_those_of_their_tools(reference, name, path):
  # jiwer divides words only at spaces, of which an output may have others.
  outputs, texts = (
    [' '.join(x.split()) for x in y] for y in (text_of(path), reference)
  )
  (measure,) = make_measures([name])
  rows = measure_texts(outputs, [(text,) for text in texts], measure)
  with jax.enable_x64(True):
    actual = float(measure.score(rows.sum(axis=0)))
  assert actual == pytest.approx(ORACLES[name](outputs, texts), rel=1e-12)
