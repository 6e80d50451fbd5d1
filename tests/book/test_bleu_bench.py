"""Compares the BLEU that the interactive page computes with sacreBLEU's."""

import json
import random
import re
import shutil
import subprocess

import pytest
import sacrebleu

from book.references import ROOT
from seqlab.text.lines import read_lines
from seqlab.text.plain import find_file

PAGE = ROOT / 'docs' / 'interactive' / 'bleu.html'
_RUN = """
const pairs = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(pairs.map(([h, r]) => bleu(h, r))));
"""


def _bench(pairs):
  """Returns what the page computes of each pair of hypothesis and reference."""
  node = shutil.which('node')
  if node is None:
    pytest.skip('needs node')
  script = re.search(r'(?s)<script id="metric">(.*?)</script>', PAGE.read_text('utf-8'))
  command = [node, '-e', script[1] + _RUN]
  done = subprocess.run(
    command, input=json.dumps(pairs), capture_output=True, text=True, check=True
  )
  return json.loads(done.stdout)


def _check(pairs):
  for (hypothesis, reference), ours in zip(pairs, _bench(pairs), strict=True):
    theirs = sacrebleu.corpus_bleu([hypothesis], [[reference]])
    assert ours['score'] == pytest.approx(theirs.score, abs=1e-9), hypothesis
    assert ours['penalty'] == pytest.approx(theirs.bp)
    assert [x['correct'] for x in ours['orders']] == theirs.counts
    assert [x['total'] for x in ours['orders']] == theirs.totals
    precisions = [x['precision'] for x in ours['orders']]
    assert precisions == pytest.approx(theirs.precisions)


def test_small_pairs():
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
def test_two_hundred_pairs_of_newstest2017():
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
