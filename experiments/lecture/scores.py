r"""Ten attention scores and a control that looks at nothing, each at its best rate.

  python -m launch.sweep experiments/lecture/scores.py --workdir runs/studies
  seqlab train experiments/lecture/scores.py:score=general --workdir runs/general

The lecture: "аттеншн может быть любой функцией (напр., скалярным произведением)"
(any function may serve, such as the dot product). The scores are those of Bahdanau
et al. 2015, https://arxiv.org/abs/1409.0473, of Luong et al. 2015,
https://arxiv.org/abs/1508.04025, and of Tu et al. 2016. The control gives each word the
same weight. The width is chosen so that models have 409,630 to 415,872 parameters; all
have the same output layer, 2,000 updates, three learning rates and three seeds. The rate
with the best mean BLEU on 'valid' counts, and all else is measured on 'test'.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs:
1. Every score has a higher BLEU than the control.
2. `dot`, `general`, `additive` and `concat` have a higher BLEU than `location`, which does
   not see the source's words.
3. With tuned learning rates these four differ by less than 2 BLEU.
4. Windows cost little in Russian: `local_monotonic` is less than 1 BLEU below `general`.
"""

import itertools

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import bars
from seqlab.report.runs import best_by
from seqlab.report.tables import Column, table

# Score -> width, with which the models have equally many parameters.
SCORES = {
  'uniform': 134,
  **{'dot': 134, 'scaled_dot': 134, 'cosine': 134},
  **{'general': 130, 'local_monotonic': 130, 'local_predictive': 128},
  **{'additive': 128, 'concat': 128, 'coverage': 128, 'location': 128},
}
CONTENT = ('dot', 'general', 'additive', 'concat')
PEAKS = (2.5e-3, 5e-3, 1e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'score': SCORES}, score='general')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 2_000

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)

  # Model
  c.model = dict(kind='recurrent', width=SCORES[arg.score], cell='gru')
  c.model.update(placement='before', attention=arg.score)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=200)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)  # at the end
  c.evals.loss = dict(kind='perplexity', split='test', shapes=1)
  c.evals.attention = dict(kind='attention', split='valid')
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.width = 16
  c.schedule.warmup = 10


def sweep(add):
  for score in SCORES:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'score={score}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, lambda run: run.config['model']['attention'], 'valid/bleu')
  best = {score: best[score] for score in SCORES if score in best}
  bars(
    folder / 'bleu',
    {'BLEU': {score: _bleu(members) for score, members in best.items()}},
    'BLEU on test, greedy',
    xlabel='score',
    title='BLEU by attention score, at the best learning rate',
  )
  rows = [
    [
      *(score, f'{members[0].config["hyper"]["peak"]:g}', _bleu(members)),
      [run.final('loss/perplexity') for run in members],
      [run.final('attention/entropy_cross') for run in members],
    ]
    for score, members in best.items()
  ]
  columns = [
    *('score', 'peak', Column('BLEU, test'), 'perplexity, test'),
    'entropy (nats)',
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _bleu(runs):
  return [run.final('test/bleu') for run in runs]


def _verdicts(best):
  others = [score for score in SCORES if score != 'uniform']
  predictions = (
    (1, [(score, 'uniform') for score in others], {'above': 0}),
    (2, [(score, 'location') for score in CONTENT], {'above': 0}),
    (3, [*itertools.combinations(CONTENT, 2)], {'above': -2, 'below': 2}),
    (4, [('local_monotonic', 'general')], {'above': -1}),
  )
  return [
    judged(
      f'{number}. {first} minus {second}',
      versus(best, first, second, lambda run: run.final('test/bleu')),
      tests=len(pairs),
      **bounds,
    )
    for number, pairs, bounds in predictions
    for first, second in pairs
  ]


PAPER = []
TIME = 'about 2 hours on 2 CPU cores for the sweep (estimated)'
