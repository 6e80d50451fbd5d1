r"""German and English word vectors in one space, on a lexicon made of Tatoeba.

  python -m launch.sweep experiments/tatoeba/alignment.py --workdir runs/studies

The lexicon has the words of Tatoeba's German-English training pairs that are each other's
best translation by Dice's coefficient, with a coefficient of 0.3 or more and 10 sentence
pairs or more in common (`text.bilingual:associated_words`). Of these word pairs 500 are
drawn to evaluate on, and an orthogonal map is learnt from the others, for five draws. The
folder gets the pairs of the first draw as train.tsv and test.tsv, for `seqlab align`.

The vectors are singular vectors of PPMI with 100 dimensions, German ones from one half of
the sentences and English ones from the other half: an English sentence and all its
translations are in the same half, so no sentence is the translation of another.

Conneau et al. 2018, https://arxiv.org/abs/1710.04087, find that CSLS has a higher precision
than the nearest neighbour, and Artetxe, Labaka and Agirre 2016,
https://aclanthology.org/D16-1250, that centring raises it. Their vectors are of Wikipedia,
so their values are not compared with those of so short a text. Prediction, written before
the first run: with and without centring CSLS has a higher precision at 1 than the nearest
neighbour, and with both retrievals centring raises precision at 1. Each of the four is
refuted if the mean difference over the draws is not above 0.
"""

import zlib

import jax
from jax.sharding import Mesh
import numpy as np

from seqlab.data.text_store import cached_words, encode_text
from seqlab.embeddings.alignment import RETRIEVAL, normalized, procrustes
from seqlab.embeddings.cooccurrence import cached_cooccurrence
from seqlab.embeddings.ppmi import pmi
from seqlab.embeddings.svd import truncated_svd
from seqlab.embeddings.vectors import Vectors
from seqlab.report.tables import Column, table
from seqlab.results.raw_rows import FILE, write_computed_rows
from seqlab.text.bilingual import associated_words, split_lexicon, write_lexicon
from seqlab.text.corpora import open_corpus
from seqlab.text.download import cache_dir
from seqlab.text.plain import open_text
from seqlab.use.bilingual import PRECISIONS, induction

WIDTH, WINDOW, MIN_COUNT = 100, 5, 5
TEST, DRAWS = 500, 5
CENTRING = {'normalised': False, 'normalised and centred': True}


def study(folder):
  german, english = open_corpus('tatoeba', source='de', target='en').read('train')
  lexicon = associated_words(german, english)
  half = [zlib.crc32(sentence.encode()) % 2 for sentence in english]
  source = vectors(folder / 'de.txt', german, half, 0)
  target = vectors(folder / 'en.txt', english, half, 1)
  known = [(s, t) for s, t in lexicon if s in source and t in target]
  rows, scores = [], {}
  for draw in range(DRAWS):
    train, test = split_lexicon(known, test=TEST, seed=draw)
    if draw == 0:
      write_lexicon(folder / 'train.tsv', train)
      write_lexicon(folder / 'test.tsv', test)
    for label, centre in CENTRING.items():
      for retrieval, values in measured(source, target, train, test, centre).items():
        trial = f'{label}, {retrieval}'
        for metric, value in values.items():
          scores.setdefault((trial, metric), []).append(value)
          rows.append([trial, draw, metric, value])
  write_computed_rows(folder / FILE, rows)
  write_table(folder, scores, lexicon, known, source, target)


def vectors(path, lines, half, chosen):
  """Returns singular vectors of PPMI of one half of the lines of a language."""
  kept = [line for line, number in zip(lines, half, strict=True) if number == chosen]
  path.write_text(''.join(f'{line}\n' for line in kept), 'utf-8')
  corpus = open_text(path=path)
  words = cached_words(corpus, cache_dir(), min_count=MIN_COUNT)
  store = encode_text(corpus, words, cache_dir())
  options = dict(window=WINDOW, side='both', weights='linear')
  counts = cached_cooccurrence(store, words.size, cache_dir(), **options)
  mesh = Mesh(jax.devices()[:1], ('data',))
  U, S, _ = truncated_svd(pmi(counts), WIDTH, mesh)
  path.unlink()
  return Vectors(words.words, U * S**0.5)


def measured(source, target, train, test, centre):
  """Returns the precisions by retrieval, of a map that is learnt from `train`."""
  x, y = (normalized(v.matrix, centre=centre) for v in (source, target))
  learnt, asked = (
    [[source.ids[s], target.ids[t]] for s, t in pairs] for pairs in (train, test)
  )
  learnt, asked = np.array(learnt), np.array(asked)
  W = procrustes(x[learnt[:, 0]], y[learnt[:, 1]])
  scores = induction((x @ W).astype('float32'), y, asked)
  return {retrieval: scores[retrieval] for retrieval in RETRIEVAL}


def write_table(folder, scores, lexicon, known, source, target):
  trials = list(dict.fromkeys(trial for trial, _ in scores))
  names = [f'precision@{n}' for n in PRECISIONS]
  rows = [
    [trial, *([100 * x for x in scores[trial, name]] for name in names)]
    for trial in trials
  ]
  columns = [Column(f'precision at {n} (%)', 'max', 1) for n in PRECISIONS]
  note = (
    f'\nThe lexicon has {len(lexicon):,} pairs of words, of which {len(known):,} have '
    f'vectors; {TEST} of these are evaluated, among {target.size:,} English words, and '
    f'the others are learnt from. {source.size:,} German words have vectors. n is the '
    'number of draws.\n'
  )
  text = table(rows, ['vectors, retrieval', *columns]) + note
  (folder / 'table.md').write_text(text, 'utf-8')


PAPER = []
TIME = 'not run; estimated 3 minutes on 2 CPU cores'
