"""Bits and accuracy of a split, against sums over its logits."""

import math

from flax import linen as nn
import jax
import numpy as np
import pytest

from seqlab.evaluators.bits import Evaluator
from seqlab.tasks.interface import TextSize
from seqlab.tasks.translation import Translation
from seqlab.text.vocabulary import train_vocabulary
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.types import PAD


def test_bits_and_accuracy_are_those_of_the_logits(tiny, tmp_path):
  task = Translation.from_config(tiny, tmp_path / 'vocabulary')
  variables = nn.unbox(jax.jit(task.init)(jax.random.key(0)))
  rows = batch_sharding(make_mesh(data=1, devices=1))
  evaluator = Evaluator(task=task, sharding=rows, split='valid')
  metrics = dict(evaluator.run(variables))
  assert tuple(metrics) == evaluator.metrics

  source, target = (
    np.stack([np.pad(store[i], (0, 40 - n)) for i, n in enumerate(store.lengths)])
    for store in task.stores('valid')
  )
  logits = jax.jit(task.model.apply)(variables, source, target)
  logp = np.asarray(jax.nn.log_softmax(logits), np.float64)
  real = target != PAD
  nll = -np.take_along_axis(logp, target[..., None], axis=-1)[..., 0][real].sum()
  lines = task.corpus.read('valid')[1]
  characters = sum(len(line) + 1 for line in lines)
  assert metrics['bpc'] == pytest.approx(nll / math.log(2) / characters, rel=1e-3)
  right = (logp.argmax(axis=-1) == target)[real].mean()
  assert metrics['token_accuracy'] == pytest.approx(right, abs=1e-6)
  assert f'{characters:,} characters' in evaluator.about
  assert 'every line from its beginning' in evaluator.about


def test_text_that_a_vocabulary_loses_does_not_count():
  lines = ['a  b\t c', 'a\0']
  sizes = {}
  for kind in ('word', 'symbols', 'char'):
    vocabulary = train_vocabulary(lines, kind=kind)
    ids, offsets = vocabulary.encode(lines)
    texts = vocabulary.decode([ids[: offsets[1]], ids[offsets[1] :]])
    size = TextSize.of(lines, vocabulary, ids)
    assert size.characters == sum(map(len, texts)) + 2
    assert size.bytes == sum(len(text.encode()) for text in texts) + 2
    sizes[kind] = size.characters
  assert sizes == {'word': 9, 'symbols': 9, 'char': 11}
