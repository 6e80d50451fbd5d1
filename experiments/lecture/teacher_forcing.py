r"""Teacher forcing, scheduled sampling, and what a model's own errors cost it.

  python -m launch.sweep experiments/lecture/teacher_forcing.py --workdir runs/studies
  seqlab train experiments/lecture/teacher_forcing.py:sampling=linear --workdir runs/tf

The lecture: "обучение происходит путем teacher forcing - в декодере подаем правильное значение
вместо предсказанного" (the decoder is given the true token instead of the predicted one).
Bengio et al. 2015, https://arxiv.org/abs/1506.03099, expect that such a model does worse after
errors of its own, which it never saw in training (exposure bias), and give it its own tokens
at a rate that rises. Here it rises to a quarter, linearly until half of the training or as an
inverse sigmoid; for the Transformer by two passes (Mihaylova and Martins 2019,
https://arxiv.org/abs/1906.07651). Huszár 2015, https://arxiv.org/abs/1511.05101, shows that
the objective of scheduled sampling is inconsistent: its optimum is not the true distribution.

The cost of an error is the accuracy of the pieces after it given the true piece in its place,
minus that given the wrong one, in points; pieces of words whose form depends on the wrong word
do not count (see `seqlab.evaluators.exposure`). A cost of own errors alone is not exposure
bias, since a wrong history may be worth less to any model; scheduled sampling is made to lower
it. A lower cost may also mean that a model relies less on its history, whoever wrote it, which
the costs of the same planted pieces show. Own errors are at other places in each model and are
few in a good one, while planted pieces are at the same place in all. An own error is also more
plausible than a piece of another sentence, which is another reason for a lower cost. Each kind
of training gets three learning rates and three seeds; the rate with the best mean BLEU on
'valid' counts, and all else is measured on 'test'. Sentences have at most seven words, in
training and in the tests, so that few updates bring models near their best BLEU, which the
table has.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
(of a prediction's comparisons together, by Bonferroni's correction) is where it was predicted,
refuted if the whole interval is elsewhere, and otherwise not decided. The interval adds the
variance over seeds (Welch) and, but for perplexity, that over test sentences, which all seeds
share (bootstrap).

Predicted before the runs:
1. With teacher forcing an own error has a cost.
2. A piece of another sentence in its place costs more than the model's own.
3. Scheduled sampling lowers the cost of an own error, with each of its rates.
4. It lowers the cost of a planted piece, too.
5. It raises BLEU by less than 2.
6. It raises perplexity given true prefixes, as Huszár's argument says.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.metrics.bleu import bleu_score
from seqlab.report.differences import PREDICTIONS, judged, over_items
from seqlab.report.figures import bars, lines
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

STEPS = {'recurrent': 2_000, 'transformer': 1_500}
PEAKS = (5e-3, 1e-2, 2e-2)
RATE = 0.25  # share of own tokens, at the end
REPAIRS = 2
SAMPLING = {
  'none': 'teacher forcing',
  'linear': 'linear rise',
  'sigmoid': 'inverse sigmoid rise',
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'model': STEPS, 'sampling': SAMPLING}
  arg = parse_arg(arg, choices, model='recurrent', sampling='none')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, STEPS[arg.model]

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=2_000, max_words=7)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=512, shapes=2, max_length=64)

  # Model
  if arg.model == 'recurrent':
    c.model = dict(kind='recurrent', width=96, cell='gru', placement='before')
    c.model.attention = 'additive'
  else:
    c.model = dict(kind='transformer', width=64, mlp_width=128, heads=4, layers=2)
    c.model.unroll = 2

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=c.steps // 10)
  c.optimizer = dict(kind='adam', clip=1.0)
  if arg.sampling != 'none':
    c.hyper.scheduled_sampling = RATE
  if arg.sampling == 'linear':
    rise = dict(kind='linear', updates=c.steps // 2)
    c.hyper_schedules = dict(scheduled_sampling=rise)
  elif arg.sampling == 'sigmoid':
    # Half of it at a quarter of the training: k ln k updates
    rise = dict(kind='inverse_sigmoid', k=109)
    c.hyper_schedules = dict(scheduled_sampling=rise)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.loss = dict(kind='perplexity', split='test', shapes=1)
  c.evals.exposure = dict(kind='exposure', split='test', repairs=REPAIRS)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.width = 16
  c.schedule.warmup = 10


def sweep(add):
  # The Transformer only shows whether the effect depends on recurrence.
  for model, samplings in (
    ('recurrent', SAMPLING),
    ('transformer', ('none', 'linear')),
  ):
    for sampling in samplings:
      for peak in PEAKS:
        for seed in range(3):
          arg = f'model={model},sampling={sampling}'
          add(seed=seed, arg=arg, **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _kind, 'valid/bleu')
  best = {kind: best[kind] for kind in _KINDS if kind in best}
  names = {kind: f'{kind[0]}, {SAMPLING[kind[1]]}' for kind in best}
  lines(
    folder / 'repairs',
    {
      names[kind]: [
        (
          range(REPAIRS + 1),
          [run.final(f'exposure/repairs/{r}') for r in range(REPAIRS + 1)],
        )
        for run in members
      ]
      for kind, members in best.items()
    },
    'first errors that are repaired',
    'BLEU on test, greedy',
    title='BLEU by the number of repaired errors',
    spread='bars',
  )
  bars(
    folder / 'after-an-error',
    {
      label: {
        names[kind]: [100 * run.final(f'exposure/{history}/rest') for run in members]
        for kind, members in best.items()
      }
      for history, label in _HISTORIES.items()
    },
    'pieces after the first error that are right (%)',
    title='Accuracy after the first error, by what stands in its place',
  )
  rows = [
    [
      *(kind[0], SAMPLING[kind[1]], chosen(members, PEAKS)),
      [run.final('test/bleu') for run in members],
      [run.final('loss/perplexity') for run in members],
      *(
        [100 * run.final(f'exposure/{history}/rest') for run in members]
        for history in _HISTORIES
      ),
      *([_cost(run, x) for run in members] for x in (_OWN, _RANDOM, _PLANTED)),
      [run.final('exposure/sentences') for run in members],
    ]
    for kind, members in best.items()
  ]
  columns = [
    *('model', 'training', 'peak', 'BLEU', 'perplexity, true prefix'),
    *(f'right after {label} (%)' for label in _HISTORIES.values()),
    *('cost of an own error', 'cost of a piece of another sentence', 'planted'),
    Column('sentences with an error', digits=0),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _verdicts(best):
  return [row for model in STEPS for row in _verdicts_of(model, best)]


def _verdicts_of(model, best):
  forced = (model, 'none')
  sampled = [(model, s) for s in SAMPLING if s != 'none' and (model, s) in best]

  def predict(label, signs, of, statistics=None, score=None, **options):
    groups = [(sign, best.get(kind, ())) for sign, kind in signs]
    items = None
    if statistics:
      rows = [(sign, [statistics(run) for run in runs]) for sign, runs in groups]
      items = over_items(rows, score)
    terms = [(sign, [of(run) for run in runs]) for sign, runs in groups]
    return judged(label, terms, items=items, **options)

  def cost(histories):
    return (
      lambda run: _cost(run, histories),
      lambda run: _counts(run, histories),
      _cost_of,
    )

  bleu = (
    lambda run: run.final('test/bleu'),
    lambda run: run.arrays('test')['bleu'],
    bleu_score,
  )
  yield predict(
    f'1. {model}: cost of an own error', [(1, forced)], *cost(_OWN), above=0
  )
  yield predict(
    *(f'2. {model}: cost, another minus own', [(1, forced)]),
    *cost(('own', 'random')),
    above=0,
  )
  for number, label, measured, bound in (
    (3, 'cost of an own error', cost(_OWN), {'below': 0}),
    (4, 'cost of a planted piece', cost(_PLANTED), {'below': 0}),
    (5, 'BLEU', bleu, {'below': 2}),
    (6, 'perplexity', (lambda run: run.final('loss/perplexity'),), {'above': 0}),
  ):
    for kind in sampled:
      yield predict(
        f'{number}. {model}, {SAMPLING[kind[1]]}: {label}',
        [(1, kind), (-1, forced)],
        *measured,
        tests=len(sampled),
        **bound,
      )


_HISTORIES = {
  'true': 'the true piece',
  'own': "the model's own error",
  'random': 'a piece of another sentence',
}
_KINDS = [(model, sampling) for model in STEPS for sampling in SAMPLING]


def _kind(run):
  """Returns model and kind of training of a run."""
  model, sampling = run.config['model']['kind'], 'none'
  if run.config['hyper'].get('scheduled_sampling') is not None:
    rises = run.config['hyper_schedules']['scheduled_sampling']
    sampling = {'linear': 'linear', 'inverse_sigmoid': 'sigmoid'}[rises['kind']]
  return model, sampling


# Which accuracy minus which one is the cost of what
_OWN, _RANDOM = ('true', 'own'), ('true', 'random')
_PLANTED = ('planted/true', 'planted/random')


def _cost(run, histories):
  """Returns by how many points the second history lowers the accuracy after it."""
  return float(_cost_of(_counts(run, histories).sum(axis=0)))


def _counts(run, histories):
  """Returns hits and counts of each line given one history, then given another one."""
  arrays = run.arrays('exposure')
  return np.hstack([arrays[history] for history in histories])  # [R, 4]


def _cost_of(sums):
  with np.errstate(invalid='ignore'):  # a model without an error has no cost
    return 100 * (sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3])


PAPER = []
TIME = 'about 40 minutes of one CPU core for the sweep (estimated)'
