"""Compares what the interactive pages compute with sacreBLEU and with this library."""

import base64
import functools
import json
import random
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from book.references import ROOT
from seqlab.data.store import TokenStore
from seqlab.decoding.beam import beam_search
from seqlab.embeddings.cooccurrence import cooccurrence
from seqlab.layers.positions.sinusoidal import sinusoidal
from seqlab.pages.html import Component
from seqlab.text.agreement import sentence
from seqlab.text.lines import read_lines
from seqlab.text.plain import find_file
from seqlab.types import BOS, EOS, SPECIALS

PAGES = ROOT / 'docs' / 'interactive'


def _computed(page, script, expression, inputs):
  """Returns the value of an expression of `inputs`, by a script of a page.

  Args:
    page: name of the page.
    script: id of the script that defines its functions.
    expression: JavaScript.
    inputs: what JSON can write.
  """
  node = shutil.which('node')
  if node is None:
    pytest.skip('needs node')
  text = (PAGES / page).read_text('utf-8')
  source = re.search(rf'(?s)<script id="{script}">(.*?)</script>', text)[1]
  read = "const inputs = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
  command = [node, '-e', f'{source}{read}console.log(JSON.stringify({expression}))']
  done = subprocess.run(
    command, input=json.dumps(inputs), capture_output=True, text=True, check=True
  )
  return json.loads(done.stdout)


def _check(pairs):
  results = _computed(
    'bleu.html', 'metric', 'inputs.map(([h, r]) => bleu(h, r))', pairs
  )
  for (hypothesis, reference), ours in zip(pairs, results, strict=True):
    theirs = sacrebleu.corpus_bleu([hypothesis], [[reference]])
    assert ours['score'] == pytest.approx(theirs.score, abs=1e-9), hypothesis
    assert ours['penalty'] == pytest.approx(theirs.bp)
    assert [x['correct'] for x in ours['orders']] == theirs.counts
    assert [x['total'] for x in ours['orders']] == theirs.totals
    precisions = [x['precision'] for x in ours['orders']]
    assert precisions == pytest.approx(theirs.precisions)


def test_bleu_of_small_pairs():
  reference = (
    'It cost 1,000.50 dollars &quot;then&quot;, in the 1990-s - or so (he said).'
  )
  _check(
    [
      (reference, reference),
      ('', 'a b'),
      ('a', ''),
      ('x y', 'a b'),
      ('a b', 'a b'),
      ('the the the the the the the', 'the cat sat on the mat today'),
      ('It cost 1,000.50 dollars "then" , in 1990-s', reference),
      (
        '«Да», — сказал он...  В 3-й раз;\u00a0так.',
        '«Нет», — сказал он. В 3-й раз: так!',
      ),
      ('a 😀. b', 'a 😀 . b'),
    ]
  )


@pytest.mark.slow  # needs the data of WMT17
def test_bleu_of_two_hundred_pairs_of_newstest2017():
  try:
    files = [
      find_file('wmt17-en-de', name)
      for name in ('newstest2017.online-G.0.en-de', 'reference.de')
    ]
  except (OSError, ValueError) as error:
    pytest.skip(f'needs wmt17-en-de: {error}')
  hypotheses, references = (list(read_lines(file)) for file in files)
  chosen = random.Random(0).sample(range(len(references)), 200)
  _check([(hypotheses[i], references[i]) for i in chosen])


@pytest.mark.parametrize('base', [10_000, 2])
def test_the_clocks_are_the_layers(base):
  t, k, width = 7, -3, 16
  expression = (
    '[position(inputs.t, 16, inputs.base), position(inputs.t + inputs.k, 16, inputs.base),'
    ' turned(position(inputs.t, 16, inputs.base), inputs.k, inputs.base)]'
  )
  inputs = dict(t=t, k=k, base=base)
  before, after, turned = _computed('clocks.html', 'positions', expression, inputs)
  expected = np.asarray(sinusoidal(np.array([t, t + k]), width, base))
  np.testing.assert_allclose([before, after], expected, atol=1e-6)
  np.testing.assert_allclose(turned, after, atol=1e-12)


def test_the_window_counts_as_the_library_does():
  text = (
    "The cat drinks milk, and the cat's dog drinks the-water.\n\nКошка — пьёт молоко!\n"
    'Слово\nthe the the cat'
  )
  variants = [(w, weights) for w in (1, 2, 9) for weights in ('flat', 'linear')]
  variants.append((4, 'harmonic'))
  expression = (
    '{rows: lines(inputs.text), counted: inputs.variants.map('
    '([window, weights]) => count(lines(inputs.text), window, weights))}'
  )
  inputs = dict(text=text, variants=variants)
  computed = _computed('window.html', 'counting', expression, inputs)
  first = "the cat drinks milk and the cat's dog drinks the-water"
  rest = 'кошка пьёт молоко', 'слово', 'the the the cat'
  assert computed['rows'] == [line.split() for line in (first, *rest)]
  for (window, weights), result in zip(variants, computed['counted'], strict=True):
    ids = {word: i for i, word in enumerate(result['words'])}
    rows = [[ids[word] for word in row] for row in computed['rows']]
    starts = np.cumsum([0, *map(len, rows)])
    store = TokenStore(np.concatenate(rows).astype(np.uint16), starts)
    matrix = cooccurrence(store, len(ids), window=window, weights=weights, workers=1)
    np.testing.assert_allclose(result['matrix'], matrix.toarray(), rtol=1e-12)


def _beam_page():
  """Returns the sentences of the page on beam search, by language."""
  text = (PAGES / 'beam.html').read_text('utf-8')
  return json.loads(re.search(r'(?s)id="sentences">(.*?)</script>', text)[1])


def test_the_text_of_the_beam_is_from_the_corpus():
  pairs = [sentence(0, i) for i in range(60)]
  expected = {'en': [x.english for x in pairs], 'ru': [x.russian for x in pairs]}
  assert _beam_page() == expected


@functools.partial(jax.jit, static_argnames=('width', 'longest'))
def _beam(tables, alpha, *, width, longest):
  B = len(tables)

  def step(cache, token):
    return cache, tables[jnp.arange(B * width) // width, token]

  return beam_search(
    step,
    {'nothing': jnp.zeros(B * width)},
    batch_size=B,
    beam_size=width,
    max_len=longest,
    alpha=alpha,
  )


def _logits(words, table):
  """Returns the log-probabilities of the page's table, [V, V], with this library's ids."""
  words = [*SPECIALS, *words]
  ids = {word: i for i, word in enumerate(words)}
  logits = np.full((300, 300), -np.inf, np.float32)
  for word, row in table:
    for other in row:
      logits[ids[word], ids[other['word']]] = other['logp']
  logits[np.isinf(logits).all(axis=1), EOS] = 0.0  # of words that never occur
  return words, logits


@pytest.mark.parametrize(
  ('width', 'longest'),
  [(3, 12), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((1, 12), (6, 5)))],
)
def test_the_beam_is_that_of_the_library(width, longest):
  alphas, texts = (0.0, 0.6, 1.5), ['\n'.join(x) for x in _beam_page().values()]
  expression = (
    'inputs.texts.map(text => { const {words, table} = bigrams(text); return {words,'
    ' table: [...table], found: inputs.alphas.map(alpha => beam(table, inputs.width,'
    ' alpha, inputs.longest).finished.map(({words, score}) => ({words, score})))}; })'
  )
  inputs = dict(texts=texts, alphas=alphas, width=width, longest=longest)
  computed = _computed('beam.html', 'search', expression, inputs)
  assert (SPECIALS[BOS], SPECIALS[EOS]) == ('<s>', '</s>')
  vocabularies, tables = zip(
    *(_logits(x['words'], x['table']) for x in computed), strict=True
  )
  for k, alpha in enumerate(alphas):
    tokens, scores = _beam(np.stack(tables), alpha, width=width, longest=longest)
    for words, page, ids, values in zip(
      vocabularies, computed, np.asarray(tokens), np.asarray(scores), strict=True
    ):
      found = page['found'][k]
      assert [x['score'] for x in found] == pytest.approx(
        values[: len(found)], abs=1e-5
      )
      assert np.isinf(values[len(found) :]).all()
      assert [x['words'] for x in found] == [
        [words[i] for i in row[row != 0]] for row in ids[: len(found)]
      ]


def test_the_attention_is_of_a_run_with_the_component_of_today():
  """Where it fails, make the page again, or replace its style and script alone."""
  text = (PAGES / 'attention.html').read_text('utf-8')
  component = Component.of('attention')
  assert f'<style>{component.style}</style>' in text
  assert f'<script>{component.script}</script>' in text
  data = json.loads(re.search(r'(?s)id="attention-data">(.*?)</script>', text)[1])
  assert {x['kind'] for x in data['maps']} == {'encoder', 'decoder', 'cross'}
  for map_ in data['maps']:
    weights = np.frombuffer(base64.b64decode(map_['weights']), '<f4')
    columns = len(data['sides'][map_['columns']]['tokens'])
    sums = weights.reshape(-1, columns).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-3)
