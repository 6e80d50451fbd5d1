"""`seqlab align`, with target vectors that are a rotation of the source vectors."""

import json

import numpy as np
import pytest

from seqlab import cli
from seqlab.embeddings.vectors import Vectors
from seqlab.use.bilingual import induction
from seqlab.word_vectors import open_vectors

V, D = 40, 6


@pytest.fixture
def files(tmp_path):
  random = np.random.default_rng(0)
  source = random.normal(size=(V, D)).astype(np.float32)
  rotation, _ = np.linalg.qr(random.normal(size=(D, D)))
  Vectors([f's{i}' for i in range(V)], source).save(tmp_path / 'a.txt')
  target = (3 * source @ rotation).astype(np.float32)
  Vectors([f't{i}' for i in range(V)], target).save(tmp_path / 'b.bin')
  lines = [f's{i}\tt{i}\n' for i in range(V)]
  (tmp_path / 'train.tsv').write_text(''.join(lines[:20]) + 'unknown\tt3\n')
  # The first word has two translations, of which one is right.
  (tmp_path / 'test.tsv').write_text(''.join(lines[20:]) + 's20\tt1\nnone\tt1\n')
  return tmp_path


def _align(files, *options):
  names = [str(files / name) for name in ('a.txt', 'b.bin')]
  output = ['--output', str(files / 'out')]
  dictionary = ['--dictionary', str(files / 'train.tsv')]
  return cli.main(['align', *names, *dictionary, *output, *options])


def test_a_rotation_is_learnt_and_evaluated(files, capsys):
  assert _align(files, '--evaluate', str(files / 'test.tsv')) == 0
  shown = capsys.readouterr().out
  assert '20 of 21 pairs' in shown
  assert '20 of 21 source words of' in shown
  record = json.loads((files / 'out' / 'alignment.json').read_text('utf-8'))
  perfect = {f'precision@{n}': 1.0 for n in (1, 5, 10)}
  assert record['nn'] == record['csls'] == perfect
  source, target = (
    open_vectors(files / 'out' / f'{x}.npz') for x in ('source', 'target')
  )
  np.testing.assert_allclose(source.matrix, target.matrix, atol=1e-5)
  W = np.load(files / 'out' / 'map.npz')['map']
  np.testing.assert_allclose(W.T @ W, np.eye(D), atol=1e-12)


def test_precision_counts_words_of_which_one_translation_is_right():
  # Word 0 has translations 0 (right) and 2; word 1 has translation 2.
  source, target = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
  scores = induction(source, target, np.array([[0, 2], [0, 0], [1, 2]]))
  assert scores['words'] == 2
  assert scores['nn']['precision@1'] == 0.5
  assert scores['nn']['precision@5'] == 1.0


def test_wrong_input_is_named(files, capsys):
  assert _align(files, '--evaluate', str(files / 'train.tsv')) == 1
  assert '21 pairs of' in capsys.readouterr().err
  (files / 'other.tsv').write_text('x\ty\n')
  assert _align(files, '--evaluate', str(files / 'other.tsv')) == 1
  assert 'has a vector for both words' in capsys.readouterr().err
  Vectors(['t1', 't2'], np.eye(2)).save(files / 'b.bin')
  assert _align(files) == 1
  assert '6 dimensions and' in capsys.readouterr().err
  assert not (files / 'out').exists()


def test_few_pairs_are_reported(files, capsys):
  (files / 'train.tsv').write_text('s1\tt1\ns2\tt2\n')
  assert _align(files, '--no-centre') == 0
  assert 'so 4 directions are mapped arbitrarily' in capsys.readouterr().out
