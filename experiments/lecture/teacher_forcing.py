r"""Teacher forcing, scheduled sampling, and what a model's own errors cost it.

  python -m launch.sweep experiments/lecture/teacher_forcing.py --workdir runs/studies
  seqlab train experiments/lecture/teacher_forcing.py:sampling=linear --workdir runs/tf

The lecture: "обучение происходит путем teacher forcing - в декодере подаем правильное
значение вместо предсказанного" (the decoder is given the true token instead of the
predicted one). Bengio et al. 2015, https://arxiv.org/abs/1506.03099, expect that such a
model does worse after errors of its own, which it never saw in training (exposure bias),
and give it its own tokens at a rate that rises. Here the rate is constant from the first
update on, or rises linearly or as an inverse sigmoid until half of the training; for the
Transformer by two passes (Mihaylova and Martins 2019, https://arxiv.org/abs/1906.07651).
Huszár 2015, https://arxiv.org/abs/1511.05101, shows that the objective of scheduled
sampling is inconsistent: its optimum is not the true distribution.

Each kind of training gets three learning rates and three seeds; the rate with the best
mean BLEU on 'valid' counts, and all else is measured on 'test'. An effect is a difference
of means whose 95 % interval over seeds (Welch) excludes 0.

Predicted before the runs, and what would refute it:
1. With teacher forcing the pieces after the first error are right less often given the
   error than given the true piece. No effect would refute exposure bias here.
2. A random wrong piece costs more than the model's own. An effect in the other direction
   would refute it, and would say that own errors are a danger of their own.
3. Scheduled sampling makes the cost of an own error smaller. No effect for any of the
   three rates would refute that it does what it is made for.
4. It does not raise BLEU by more than 1, since a converged model errs rarely. A higher
   gain with an effect would refute this.
5. Perplexity given true prefixes rises, as Huszár's argument says. A fall would refute it.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import difference
from seqlab.report.figures import bars, lines
from seqlab.report.runs import best_by
from seqlab.report.tables import Column, table

STEPS = {'recurrent': 4_000, 'transformer': 1_500}
PEAKS = (2.5e-3, 5e-3, 1e-2)
RATE = 0.25  # share of own tokens, at the end
REPAIRS = 4
SAMPLING = {
  'none': 'teacher forcing',
  'constant': 'constant rate',
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
  c.corpus.update(train=30_000, valid=500, test=1_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)

  # Model
  if arg.model == 'recurrent':
    c.model = dict(kind='recurrent', width=128, cell='gru', placement='before')
    c.model.attention = 'additive'
  else:
    c.model = dict(kind='transformer', width=128, mlp_width=256, heads=8, layers=2)
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
    # Half of it at a quarter of the training: k ln k updates, for 4,000 and for 1,500
    rise = dict(kind='inverse_sigmoid', k=190 if arg.model == 'recurrent' else 87)
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
      *(kind[0], SAMPLING[kind[1]], f'{members[0].config["hyper"]["peak"]:g}'),
      [run.final('test/bleu') for run in members],
      [run.final('loss/perplexity') for run in members],
      *(
        [100 * run.final(f'exposure/{history}/rest') for run in members]
        for history in _HISTORIES
      ),
      *([_cost(run, history) for run in members] for history in ('own', 'random')),
      [run.final('exposure/sentences') for run in members],
    ]
    for kind, members in best.items()
  ]
  columns = [
    *('model', 'training', 'peak', 'BLEU', 'perplexity, true prefix'),
    *(f'right after {label} (%)' for label in _HISTORIES.values()),
    *('cost of an own error', 'cost of a random one'),
    Column('sentences with an error', digits=0),
  ]
  text = f'{table(rows, columns)}\n{_differences(best)}'
  (folder / 'table.md').write_text(text, 'utf-8')


def _differences(best):
  """Returns a table of what scheduled sampling changes, and of the predictions' effects."""
  measures = {
    'BLEU': lambda run: run.final('test/bleu'),
    'perplexity': lambda run: run.final('loss/perplexity'),
    'cost of an own error': lambda run: _cost(run, 'own'),
  }
  rows = []
  for (model, sampling), members in best.items():
    if len(members) < 2:
      continue
    own = [_cost(run, 'own') for run in members]
    more = [_cost(run, 'random') - _cost(run, 'own') for run in members]
    forced = best.get((model, 'none'), [])
    against = [
      difference([of(run) for run in members], [of(run) for run in forced]).text()
      if sampling != 'none' and len(forced) > 1
      else ''
      for of in measures.values()
    ]
    # Within a run, so that the interval is that of one sample
    costs = [difference(x, [0.0] * len(x)).text() for x in (own, more)]
    rows.append([model, SAMPLING[sampling], *costs, *against])
  columns = ['model', 'training', 'cost of an own error', 'random minus own']
  columns += [f'{name}, against teacher forcing' for name in measures]
  return table(rows, columns)


_HISTORIES = {
  'true': 'the true piece',
  'own': "the model's own error",
  'random': 'a random wrong piece',
}
_KINDS = [(model, sampling) for model in STEPS for sampling in SAMPLING]


def _kind(run):
  """Returns model and kind of training of a run."""
  model, sampling = run.config['model']['kind'], 'none'
  if run.config['hyper'].get('scheduled_sampling') is not None:
    rises = run.config.get('hyper_schedules', {}).get('scheduled_sampling', {})
    sampling = {'linear': 'linear', 'inverse_sigmoid': 'sigmoid'}.get(
      rises.get('kind'), 'constant'
    )
  return model, sampling


def _cost(run, history):
  """Returns by how many points an error lowers the accuracy of the pieces after it."""
  true, other = (run.final(f'exposure/{h}/rest') for h in ('true', history))
  return 100 * (true - other)


PAPER = []
TIME = '5 hours of one CPU core for the sweep'
