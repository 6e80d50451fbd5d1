"""Compares what the interactive pages compute with sacreBLEU and with the layers."""

import json
import random
import re
import shutil
import subprocess

import numpy as np
import pytest
import sacrebleu

from book.references import ROOT
from seqlab.layers.positions.sinusoidal import sinusoidal
from seqlab.text.lines import read_lines
from seqlab.text.plain import find_file

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
