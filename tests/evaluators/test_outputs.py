"""Measures of decoded outputs are those of their text."""

import types

from flax import linen as nn
import jax
import jiwer
import numpy as np
import pytest
import sacrebleu

from seqlab.evaluators.outputs import Evaluator
from seqlab.metrics.measures import MEASURES
from seqlab.tasks.translation import Translation
from seqlab.text.vocabulary import content_of
from seqlab.train.mesh import batch_sharding, make_mesh

ROWS = batch_sharding(make_mesh(data=1, devices=1))


@pytest.fixture(scope='module')
def fresh(tiny, tmp_path_factory):
  folder = tmp_path_factory.mktemp('fresh') / 'vocabulary'
  task = Translation.from_config(tiny, folder)
  return task, nn.unbox(jax.jit(task.init)(jax.random.key(0)))


def _run(task, variables, sharding=ROWS, **options):
  evaluator = Evaluator(task, sharding, split='valid', beam=1, show=1_000, **options)
  evaluator.compile(variables)
  metrics = dict(evaluator.run(variables))
  assert tuple(metrics) == evaluator.metrics
  return metrics, evaluator


@pytest.fixture(scope='module')
def measured(fresh):
  """All measures of a fresh model's outputs, and the outputs."""
  metrics, evaluator = _run(*fresh, measures=[m for m in MEASURES if m != 'per'])
  outputs = [line[2:] for line in evaluator.samples if line.startswith('> ')]
  return metrics, outputs, evaluator


def _with(task, **methods):
  """Returns the task with further methods of its corpus."""
  corpus = types.SimpleNamespace(
    **{n: getattr(task.corpus, n) for n in ('read', 'convention')}, **methods
  )
  members = ('vocabularies', 'model', 'batches', 'reverse_source')
  return types.SimpleNamespace(corpus=corpus, **{n: getattr(task, n) for n in members})


def test_measures_are_those_of_the_text(fresh, measured):
  metrics, outputs, evaluator = measured
  _, references = fresh[0].corpus.read('valid')
  words = [(x.split(), y.split()) for x, y in zip(outputs, references, strict=True)]
  same = sum(a == b for x, y in words for a, b in zip(x, y, strict=False))
  expected = {
    'exact': 0.0,
    'cer': jiwer.cer(references, outputs),
    'wer': jiwer.wer(references, outputs),
    'word_errors': 1.0,
    'symbol_accuracy': same / sum(len(y) for _, y in words),
    'bleu': sacrebleu.corpus_bleu(outputs, [references]).score,
    'chrf': sacrebleu.corpus_chrf(outputs, [references]).score,
    'chrf++': sacrebleu.corpus_chrf(outputs, [references], word_order=2).score,
    'ter': sacrebleu.corpus_ter(outputs, [references]).score,
  }
  assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-9)
  assert {*evaluator.arrays} == {*metrics}
  edits, length = evaluator.arrays['wer'].T  # of each line
  rates = [jiwer.wer(*line) for line in zip(references, outputs, strict=True)]
  assert edits / length == pytest.approx(rates)


def test_eight_devices_have_the_outputs_and_measures_of_one(fresh, measured):
  metrics, outputs, evaluator = measured
  sharding = batch_sharding(make_mesh(data=4, fsdp=2))
  measures = ('cer', 'word_errors', 'bleu')
  others, sharded = _run(*fresh, sharding, measures=measures, shapes=1)
  assert sharded.samples == evaluator.samples
  assert others == {name: metrics[name] for name in measures}
  assert len(outputs) % 8, 'some devices have rows without a sentence'


def test_the_best_reference_counts_and_categories_are_measured(fresh, measured):
  """The output itself is one of the references of every other line."""
  task, variables = fresh
  _, outputs, _ = measured
  texts = zip(task.corpus.read('valid')[1], outputs, strict=True)
  references = [(y, x) if k % 2 else (y,) for k, (y, x) in enumerate(texts)]
  categories = ['odd' if k % 2 else 'even' for k in range(len(outputs))]
  task = _with(
    task, references=lambda split: references, categories=lambda split: categories
  )
  metrics, evaluator = _run(
    task, variables, measures=('exact', 'per', 'word_errors', 'ter')
  )
  assert (metrics['exact/odd'], metrics['exact/even']) == (1, 0)
  odd = np.mean([c == 'odd' for c in categories])
  assert metrics['exact'] == pytest.approx(odd)
  assert metrics['word_errors'] == pytest.approx(1 - metrics['exact'])
  assert (metrics['word_errors/odd'], metrics['per/odd'], metrics['ter/odd']) == (
    0,
    0,
    0,
  )
  even = [k for k, c in enumerate(categories) if c == 'even']
  edits = jiwer.wer([references[k][0] for k in even], [outputs[k] for k in even])
  assert metrics['per/even'] == pytest.approx(edits, rel=1e-5)
  assert 'word_errors: share of lines that are not exactly right' in evaluator.about
  assert 'nearest reference' in evaluator.about


def test_a_symbol_is_a_token_of_the_vocabulary(tiny, tmp_path):
  """A character of text that is read by characters, with its spaces."""
  options = {
    'vocabulary': {'kind': 'char'},
    'batching': tiny['batching'] | {'shapes': 1},
  }
  task = Translation.from_config(tiny | options, tmp_path / 'vocabulary')
  variables = nn.unbox(jax.jit(task.init)(jax.random.key(1)))
  metrics, evaluator = _run(task, variables, measures=('per', 'cer'), shapes=1)
  outputs = [line[2:] for line in evaluator.samples if line.startswith('> ')]
  expected = jiwer.cer(task.corpus.read('valid')[1], outputs)
  assert metrics == pytest.approx({'per': expected, 'cer': expected}, rel=1e-5)


class _Marks:
  """A vocabulary whose tokens are three or more words of 13a each."""

  def __init__(self, vocabulary):
    self.size = vocabulary.size

  def surfaces(self):
    return [b'', b' ?', b'', b'', *(b' !%d.,;' % i for i in range(4, self.size))]

  def decode(self, sequences):
    surfaces = self.surfaces()
    texts = (b''.join(surfaces[i] for i in content_of(ids)) for ids in sequences)
    return [text.decode().lstrip(' ') for text in texts]


@pytest.mark.slow
def test_outputs_with_more_words_than_room_are_counted_again(fresh):
  """A batch that reports too many words is counted on the host, with the right sums."""
  task, variables = fresh
  task = _with(task, references=lambda split: [(x,) for x in texts])
  task.vocabularies = types.SimpleNamespace(target=_Marks(task.vocabularies.target))
  texts = [f'!{4 + k % 7}.,; !5.,;' for k in range(len(task.corpus.read('valid')[1]))]
  metrics, evaluator = _run(task, variables, measures=('bleu', 'wer'))
  decoded = evaluator._decoded
  assert any(cut for *_, cut in decoded._resident.run(variables))
  outputs = [line[2:] for line in evaluator.samples if line.startswith('> ')]
  expected = sacrebleu.corpus_bleu(outputs, [texts]).score
  assert expected > 0
  assert metrics['bleu'] == pytest.approx(expected, rel=1e-5)
  assert metrics['wer'] == pytest.approx(jiwer.wer(texts, outputs), rel=1e-5)


def test_a_wrong_measure_is_refused_before_anything_is_built():
  with pytest.raises(ValueError, match="measures has 'cerr'"):
    Evaluator.check_options({'measures': ('cerr',)}, 'evals.valid')
