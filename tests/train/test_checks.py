"""Checks of a whole experiment."""

import copy
from pathlib import Path

import pytest

from launch.study import is_study
from seqlab.experiment import load_experiment
from seqlab.train.checks import check_experiment, check_metric

FOLDER = Path(__file__).parents[2] / 'experiments'
FILES = sorted(
  str(p.relative_to(FOLDER)) for p in FOLDER.rglob('*.py') if not is_study(str(p))
)


def changed(name, key, value):
  config = copy.deepcopy(load_experiment(f'{FOLDER}/{name}'))
  *sections, last = key.split('.')
  section = config
  for part in sections:
    section = section.setdefault(part, {})
  section[last] = value
  return config


@pytest.mark.parametrize('argument', ['', ':smoke'])
@pytest.mark.parametrize('name', FILES)
def test_the_experiments_of_the_tree_pass(name, argument):
  check_experiment(load_experiment(f'{FOLDER}/{name}{argument}'))


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    *(('optimizer.clip', x) for x in (-1.0, 'one', float('nan'))),
    *(('optimizer.b1', x) for x in (1.0, -0.1)),
    ('optimizer', {'kind': 'adm'}),
    ('optimizer.clp', 1.0),
    *(('hyper.peak', x) for x in (-0.05, None, '1e-3', float('inf'))),
    *(('hyper.dropout', x) for x in (1.0, 1.5, -0.1)),
    *(('hyper.label_smoothing', x) for x in (1.0, 2.0)),
    ('hyper.attention_dropout', 1.5),
    ('hyper.weight_decay', -1.0),
    ('hyper.droput', 0.1),
    *(('schedule.warmup', x) for x in (-1, 2.5, None)),
    ('schedule.floor', 1.5),
    ('schedule', {'kind': 'wrong'}),
    *(('model.width', x) for x in (0, -8, '8', 8.0, True)),
    ('model.positions', 'rotery'),
    ('model.window', -1),
    ('model.dtype', 'float17'),
    ('model.unknown', 1),
    *(('batching.tokens', x) for x in ('many', None)),
    ('batching.sampling', 1.5),
    ('batching.segmentations', 0),
    ('evals.valid.every', 0),
    ('evals.valid.every', 'soon'),
    ('evals.valid.beam', 'wide'),
    ('evals.valid.shapes', 0),
    ('evals.valid.tokens', -1),
    ('evals.valid.show', -1),
    ('evals.valid.tokenizer', 'moses'),
    ('evals.valid.bem', 2),
    ('evals.valid', {'kind': 'translatoin', 'split': 'valid'}),
    ('evals.valid', {'type': 'translatoin', 'split': 'valid'}),
    ('evals.valid', {'kind': None}),
    ('evals.valid', {}),
    ('evals.valid', 3),
    ('evals.valid', 'translation'),  # which needs a split
    ('evals.valid', {'kind': 'nowhere.at_all:Evaluator'}),
    ('evals', []),
    ('fallback.factor', 0),
    ('fallback.times', -1),
    ('fallback.loss_above', 0),
    ('mesh.data', 'all'),
    ('mesh', 8),
    ('model', {'kind': 'models.transformer:Transformr'}),
    ('model', {'kind': 'transformr'}),
    ('task', 'os:system'),
    ('keep_best', 'vlid/bleu'),
    ('parallel', 'threads'),
    ('optimizer', {'kind': 'muon', 'weight_decay': 0.1}),  # hyper.weight_decay is 0
    ('optimizer', {'kind': 'schedule_free', 'groups': [{'match': 'x'}]}),
    ('model.positions', {'kind': 't5', 'buckets': 2}),
    ('model.normalization', {'kind': 'layer', 'epsilon': -1.0}),
    ('model.normalization', {'kind': 'rms', 'epsilon': 0.0}),
    ('seed', 2**32),
    *(
      ('optimizer', {'kind': 'optax:adamw', **x})
      for x in ({'eps': 'abc'}, {'b1': True})
    ),
    ('optimizer', {'kind': 'optax:adamw', 'nesterov': 3}),
    ('model.activation', {'kind': 'jax.nn:leaky_relu', 'negative_slope': 'abc'}),
    ('model.positions', 'seqlab.layers.normalization:LayerNorm'),
    ('model.normalization', 'seqlab.layers.activations:relu'),
    ('model', {'kind': 'math:sqrt'}),
    ('evals.valid.decoding', {'kind': 'greedy', 'alpha': 1.0}),
    (
      'evals.valid',
      {'kind': 'translation', 'split': 'valid', 'temperature': 1.0, 'alpha': 1.0},
    ),
    *(('evals.valid.' + x, 3) for x in ('task', 'sharding', 'name')),
    ('model.source_size', 9),
    ('schedule.steps', 9),
    ('batching.sides', 9),
    ('seed', 1.5),
  ],
)
def test_a_wrong_value_is_refused_by_name(key, value):
  with pytest.raises(ValueError, match=key.split('.')[-1]) as error:
    check_experiment(changed('agreement/transformer.py', key, value))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'key', 'value'),
  [
    ('enwiki/sgns.py', 'model.window', 0),
    ('enwiki/sgns.py', 'model.output_vectors', 'word'),
    ('enwiki/sgns.py', 'batching.subsample', -1e-3),
    ('enwiki/sgns.py', 'corpus.heldout', -1),
    ('enwiki/ppmi_svd.py', 'model.power', -1.0),
    ('enwiki/ppmi_svd.py', 'model.block', 0),
    ('enwiki/ppmi_svd.py', 'pmi.smoothing', 0.0),
    ('enwiki/glove.py', 'model.x_max', 0.0),
    ('enwiki/glove.py', 'batching.size', 0),
    ('multi30k/recurrent.py', 'hyper.scheduled_sampling', 1.5),
    ('multi30k/recurrent.py', 'model.cell', 'grru'),
    ('multi30k/recurrent.py', 'model.forget_bias', 2.0),
    ('enwiki/sgns.py', 'model.size', 9),
    ('enwiki/sgns.py', 'model.keep_gaps', True),
    ('enwiki/sgns.py', 'batching.store', 9),
    ('enwiki/sgns.py', 'batching.keep', 9),
    ('enwiki/sgns.py', 'vocabulary.corpus', 9),
    ('enwiki/ppmi_svd.py', 'pmi.counts', 9),
  ],
)
def test_options_of_other_tasks_are_checked_too(name, key, value):
  with pytest.raises(ValueError, match=key):
    check_experiment(changed(name, key, value))


def test_a_metric_that_an_evaluators_class_lacks_is_refused():
  config = changed('agreement/transformer.py', 'evals.valid', {'kind': 'leak'})
  check_experiment({**config, 'keep_best': 'valid/share'})
  with pytest.raises(ValueError, match=r"keep_best is .* 'valid/share'"):
    check_experiment({**config, 'keep_best': 'valid/shar'})


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('evals.valid.decoding', 'greedy'),  # with the file's beam=1
    ('evals.valid.decoding', {'kind': 'sampling', 'top_k': 3}),
    ('optimizer', {'kind': 'optax:adamw', 'eps': 1e-6, 'nesterov': True}),
    ('model.activation', {'kind': 'jax.nn:leaky_relu', 'negative_slope': 0.2}),
    ('keep_best', 'valid/length_ratio'),
  ],
)
def test_options_that_fit_together_are_accepted(key, value):
  check_experiment(changed('agreement/transformer.py', key, value))


def test_a_section_that_the_task_needs_is_named():
  config = load_experiment(f'{FOLDER}/agreement/transformer.py')
  del config['batching']
  with pytest.raises(ValueError, match="no section 'batching'"):
    check_experiment(config)


class _Evaluator:
  metrics = ('bleu', 'bleu/1-10')


def test_a_metric_that_no_evaluator_gives_is_refused():
  check_metric('valid/bleu/1-10', {'valid': _Evaluator()})
  check_metric('valid/anything', {'valid': object()})
  check_metric(None, {})
  with pytest.raises(ValueError, match="did you mean 'valid/bleu'"):
    check_metric('valid/blue', {'valid': _Evaluator()})
