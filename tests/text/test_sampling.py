"""Sampled segmentations: a function of the seed, with the model's distribution."""

from collections import Counter
import math
import random
import subprocess
import sys

import pytest

from seqlab.text.vocabulary import train_vocabulary

LINES = ['unrelated words and wordings', 'words are unrelated', 'the wording ends'] * 40
LINES += [f'{a}{b}' for a in ('un', 're', 'be', 'lat') for b in ('ed', 'ing', 'er')]


@pytest.fixture(scope='module', params=['bpe', 'unigram'])
def vocabulary(request):
  size = {'bpe': 45, 'unigram': 34}[request.param]
  return train_vocabulary(LINES, kind=request.param, size=size)


def _draw(vocabulary, line, strength, seed=0):
  return vocabulary._sampler.draw(line, strength, random.Random(seed).random)


def test_without_dropout_bpe_is_sentencepiece_itself():
  vocabulary = train_vocabulary(LINES, kind='bpe', size=45)
  for line in LINES:
    flat, _ = vocabulary.encode([line])
    assert _draw(vocabulary, line, 0.0) == flat.tolist()


def test_dropping_every_merge_leaves_characters():
  vocabulary = train_vocabulary(LINES, kind='bpe', size=45)
  assert len(_draw(vocabulary, 'words end', 1.0)) == len('▁words▁end')


def test_every_sample_spells_the_line(vocabulary):
  for seed in range(50):
    assert vocabulary.decode([_draw(vocabulary, LINES[0], 0.4, seed)]) == [LINES[0]]


def test_unknown_characters_are_one_unknown_piece(vocabulary):
  flat, _ = vocabulary.encode(['words ЖЖ end'])
  for seed in range(5):
    ids = _draw(vocabulary, 'words ЖЖ end', 0.4, seed)
    assert ids.count(1) == flat.tolist().count(1) == 1


def test_byte_fallback_spells_unknown_characters():
  vocabulary = train_vocabulary(LINES, size=300, byte_fallback=True)
  assert vocabulary.decode([_draw(vocabulary, 'Ж', 0.3)]) == ['Ж']


def test_unigram_segmentations_have_the_frequencies_of_their_probabilities():
  vocabulary = train_vocabulary(LINES, kind='unigram', size=34)
  processor, alpha, n = vocabulary._processor, 0.5, 4_000
  candidates = processor.nbest_encode_as_ids('wording', nbest_size=500)
  weights = {
    tuple(ids): math.exp(alpha * sum(processor.get_score(i) for i in ids))
    for ids in candidates
  }
  total = sum(weights.values())
  generator = random.Random(0).random
  drawn = Counter(
    tuple(vocabulary._sampler.draw('wording', alpha, generator)) for _ in range(n)
  )
  assert set(drawn) <= set(weights)
  for ids, weight in weights.items():
    p = weight / total
    assert abs(drawn[ids] / n - p) < 4.5 * math.sqrt(p * (1 - p) / n) + 1e-3


def test_another_process_draws_the_same(vocabulary):
  code = (
    'LINES = None\n'
    'from seqlab.text.vocabulary import train_vocabulary\n'
    f'v = train_vocabulary(LINES, kind={vocabulary.model_type!r}, '
    f'size={vocabulary.size})\n'
    'print(v.encode(LINES, sampling=0.3, seed=7)[0].tolist())'
  ).replace('LINES = None', f'LINES = {LINES!r}')
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == str(
    vocabulary.encode(LINES, sampling=0.3, seed=7)[0].tolist()
  )
