r"""Five attention scores and a control that looks at nothing, each at its best rate.

  python -m launch.sweep experiments/lecture/scores.py --workdir runs/studies
  seqlab train experiments/lecture/scores.py:score=general --workdir runs/general

The lecture: "аттеншн может быть любой функцией (напр., скалярным произведением)" (any function
may serve, such as the dot product). The scores are those of Bahdanau et al. 2015,
https://arxiv.org/abs/1409.0473, and of Luong et al. 2015, https://arxiv.org/abs/1508.04025,
whose `concat` is left out as the same function as `additive`. `location` sees the decoder's
state and not the source's words; the control gives each word the same weight.
`local_monotonic` is `general` in a window of three pieces on either side of the output's own
position, where Luong et al. have ten, with which a window would contain nearly all of these
sources. The width is chosen so that models have 237,538 to 240,856 parameters; all have the
same output layer, 1,200 updates, three learning rates and three seeds. The rate with the best
mean BLEU on 'valid' counts, and all else is measured on 'test'. Sentences have at most eight
words, in training and in the tests. The table shows how much of a model's BLEU on 'valid' came
in the last third of its training: while that is much, a score may still be slow, and not
worse.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
(of a prediction's comparisons together, by Bonferroni's correction) is where it was predicted,
refuted if the whole interval is elsewhere, and otherwise not decided. The interval adds the
variance over seeds (Welch) and that over test sentences, which all seeds share (bootstrap).
The margins are ours: about as wide as three seeds let such an interval be.

Predicted before the runs:
1. Every score has a higher BLEU than the control.
2. `dot`, `general` and `additive` have a higher BLEU than `location`.
3. With tuned learning rates these three differ by less than 5 BLEU.
4. A window does not cost BLEU in Russian, whose words are mostly in the order of the English
   ones: `local_monotonic` is less than 5 BLEU below `general`.
"""

import itertools

import ml_collections

from seqlab.config import parse_arg
from seqlab.metrics.bleu import bleu_score
from seqlab.report.differences import PREDICTIONS, judged, over_items, versus
from seqlab.report.figures import bars
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

# Score -> width, with which the models have equally many parameters.
SCORES = {
  **{'uniform': 96, 'location': 94, 'dot': 96},
  **{'general': 94, 'additive': 92, 'local_monotonic': 94},
}
CONTENT = ('dot', 'general', 'additive')
PEAKS = (5e-3, 1e-2, 2e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'score': SCORES}, score='general')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1_200

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000, max_words=8)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=512, shapes=2, max_length=64)

  # Model
  c.model = dict(kind='recurrent', width=SCORES[arg.score], cell='gru')
  c.model.placement = 'before'
  options = {'local_monotonic': {'window': 3}, 'location': {'positions': 64}}
  c.model.attention = dict(kind=arg.score, **options.get(arg.score, {}))

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=120)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(
    kind='translation', split='valid', beam=1, shapes=1, every=c.steps // 3
  )
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)  # at the end
  c.evals.loss = dict(kind='perplexity', split='test', shapes=1)
  c.evals.attention = dict(kind='attention', split='valid')
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.evals.valid.every = 20, 10
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
  best = best_by(runs, _score, 'valid/bleu')
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
      *(score, chosen(members, PEAKS), _bleu(members)),
      [_late(run) for run in members],
      [run.final('loss/perplexity') for run in members],
      [run.final('attention/entropy_cross') for run in members],
    ]
    for score, members in best.items()
  ]
  columns = [
    *('score', 'peak', Column('BLEU, test'), 'BLEU, valid, gained in the last third'),
    *('perplexity, test', 'entropy (nats)'),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _score(run):
  return run.config['model']['attention']['kind']


def _bleu(runs):
  return [run.final('test/bleu') for run in runs]


def _late(run):
  values = run.series('valid/bleu')[1]
  return values[-1] - values[-2]


def _verdicts(best):
  others = [score for score in SCORES if score != 'uniform']
  predictions = (
    (1, [(score, 'uniform') for score in others], {'above': 0}),
    (2, [(score, 'location') for score in CONTENT], {'above': 0}),
    (3, [*itertools.combinations(CONTENT, 2)], {'above': -5, 'below': 5}),
    (4, [('local_monotonic', 'general')], {'above': -5}),
  )
  return [
    judged(
      f'{number}. {first} minus {second}',
      versus(best, first, second, lambda run: run.final('test/bleu')),
      tests=len(pairs),
      items=over_items(
        versus(best, first, second, lambda run: run.arrays('test')['bleu']), bleu_score
      ),
      **bounds,
    )
    for number, pairs, bounds in predictions
    for first, second in pairs
  ]


PAPER = []
TIME = 'about 35 minutes of one CPU core for the sweep (estimated)'
