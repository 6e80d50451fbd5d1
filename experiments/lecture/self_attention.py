r"""How far self-attention reaches: right endings by distance, and time by length.

  python -m launch.sweep experiments/lecture/self_attention.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/self_attention.py:model=w2-l2 --workdir runs/w2-l2
  seqlab bench experiments/lecture/self_attention.py --only layers --output layers.json

The lecture: "self-attention" (a picture). Vaswani et al. 2017, section 4 and table 1,
https://arxiv.org/abs/1706.03762: any two positions are one step apart, which in a recurrent
network are as many steps as there are words between them; attention that is restricted to a
window of w words needs several layers. A token sees at most w L words back through L layers.

Does a model give a Russian predicate the ending that agrees with its subject? Distance is
counted in words from the nearest word that shows gender and number (see
`seqlab.evaluators.distance`): one at distance d is visible through w L words if d is at most
w L + 1, since a prediction is made at the word before. Models of Russian text alone have no
other way. In a translation the source tells the subject as well, and attention to the source
has no window, so that there a cliff at w L is not to be expected.

Models of text have 355,392 to 358,640 parameters with a vocabulary of 4,000 words, those of
translations 845,082 to 852,960 with one of 5,000. Each gets three learning rates and three
seeds, and 600 updates (text) or 500 (translation); the rate with the lowest mean perplexity on
'valid' counts, and endings are measured on 'test'. Sizes were chosen for a budget of time, and
models have not converged then. The third command measures the time of a layer by length,
forward and backward; its table states the machine.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain; the report has the number of endings at each distance, and what the most
frequent answer would have right there.

Predicted before the runs, in points of right endings:
1. Text: at distances beyond w L + 1 each windowed Transformer is more than 10 below the full
   one.
2. Text: at distances up to w L + 1 it is less than 10 below it. With 1 this is a cliff at
   w L: at the same place for 1 layer of 4 words and for 2 of 2, and nearer for 2 of 1.
3. Text: the GRU, which has no window, is at distances beyond 5 more than 10 above the
   Transformer with two layers of two words.
4. Translation: from distance 1 to distances beyond 5 a GRU with one vector loses more than
   one with attention.
5. Translation: the windowed Transformer is at distances beyond 5 less than 10 below the full
   one, since it can look at the source.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

LONGEST = 8  # distances from this one on are one group
PEAKS = (2.5e-3, 5e-3, 1e-2)


def _decoder(layers, mlp_width, window=None):
  model = dict(kind='decoder', width=64, heads=4, layers=layers, unroll=layers)
  return {**model, 'mlp_width': mlp_width, 'window': window}


def _transformer(window=None):
  model = dict(kind='transformer', width=96, mlp_width=192, heads=4, layers=2, unroll=2)
  return {**model, 'window': window}


def _recurrent(width, **options):
  return dict(kind='recurrent', width=width, cell='gru', placement='before', **options)


TEXT = {
  'text-gru': dict(kind='recurrent_lm', width=80, cell='gru'),
  'text-full': _decoder(2, 256),
  'w4-l1': _decoder(1, 640, 4),
  'w2-l2': _decoder(2, 256, 2),
  'w1-l2': _decoder(2, 256, 1),
}
TRANSLATION = {
  'gru': _recurrent(126, context='always'),
  'gru-attention': _recurrent(120, attention='additive'),
  'transformer': _transformer(),
  'transformer-w2': _transformer(2),
}
MODELS = {**TEXT, **TRANSLATION}
NAMES = {
  'text-gru': 'text: GRU',
  'text-full': 'text: Transformer',
  'w4-l1': 'text: 1 layer, window 4',
  'w2-l2': 'text: 2 layers, window 2',
  'w1-l2': 'text: 2 layers, window 1',
  'gru': 'GRU, one vector',
  'gru-attention': 'GRU with attention',
  'transformer': 'Transformer',
  'transformer-w2': 'Transformer, window 2',
}
WINDOWED = ('w4-l1', 'w2-l2', 'w1-l2')


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'model': MODELS}, model='transformer')
  is_text = arg.model in TEXT
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  if is_text:
    c.task = 'tasks.language_model:LanguageModel'
  c.seed, c.steps = 0, 600 if is_text else 500

  # Data
  c.corpus = dict(name='agreement', train=30_000, valid=500, test=6_000)
  c.corpus.update(dict(text='ru') if is_text else dict(source='en', target='ru'))
  c.vocabulary = dict(kind='word', size=4_000 if is_text else 5_000)
  if not is_text:
    c.vocabulary.shared = True
  c.batching = dict(kind='buckets', tokens=512, shapes=2, max_length=64)

  # Model
  c.model = dict(MODELS[arg.model])

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.0)
  c.schedule = dict(kind='linear', warmup=c.steps // 10)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='perplexity', split='valid', shapes=1)
  c.evals.test = dict(kind='distance', split='test', longest=LONGEST, shapes=4)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=200)
  c.vocabulary.size = 600
  c.model.update(width=16)
  c.schedule.warmup = 10


def sweep(add):
  for model in MODELS:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'model={model}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _model, 'valid/perplexity', mode='min')
  best = {model: best[model] for model in NAMES if model in best}
  for part, models in (('text', TEXT), ('translation', TRANSLATION)):
    members = {model: best[model] for model in models if model in best}
    if members:
      _draw(folder / f'endings-{part}', members, part)
  rows = [
    [
      *(NAMES[model], chosen(members, PEAKS)),
      [run.final('valid/perplexity') for run in members],
      *(
        [right(run, d, d) for run in members if run.final(f'test/count/{d}')]
        for d in _DISTANCES
      ),
    ]
    for model, members in best.items()
  ]
  columns = ['model', 'peak', 'perplexity, valid']
  columns += [Column(f'right at {_group(d)} (%)', digits=1) for d in _DISTANCES]
  verdicts = table(_verdicts(best), PREDICTIONS)
  counts = table(_counts(best), ['of', *(f'at {_group(d)}' for d in _DISTANCES)])
  text = f'{table(rows, columns)}\n{counts}\n{verdicts}'
  (folder / 'table.md').write_text(text, 'utf-8')


_DISTANCES = range(1, LONGEST + 1)


def _group(d):
  return f'{d} and more' if d == LONGEST else f'{d}'


def right(run, first, last):
  """Returns the right endings at these distances in percent; NaN if there are none."""
  return _share(run, 'right', first, last)


def _share(run, name, first, last):
  pairs = [
    (run.final(f'test/count/{d}'), run.final(f'test/{name}/{d}'))
    for d in range(first, last + 1)
  ]
  total = sum(n for n, _ in pairs)
  if not total:
    return float('nan')
  return 100 * sum(n * share for n, share in pairs if n) / total


def _counts(best):
  """Returns rows with the number of endings, and what the best guess would have right."""
  rows = []
  for part, models in (('text', TEXT), ('translation', TRANSLATION)):
    run = next((best[model][0] for model in models if model in best), None)
    if run is not None:
      counts = [f'{run.final(f"test/count/{d}"):.0f}' for d in _DISTANCES]
      chance = [f'{_share(run, "chance", d, d):.1f}' for d in _DISTANCES]
      rows += [[f'{part}: endings', *counts]]
      rows += [[f'{part}: most frequent column (%)', *chance]]
  return rows


def _draw(path, members, part):
  present = [
    d for d in _DISTANCES if all(x.final(f'test/count/{d}') for m in members.values()
    for x in m)
  ]  # fmt: skip
  series = {
    NAMES[model]: [(present, [right(run, d, d) for d in present]) for run in runs]
    for model, runs in members.items()
  }
  run = next(iter(members.values()))[0]
  chance = [_share(run, 'chance', d, d) for d in present]
  lines(
    path,
    {**series, 'most frequent column': [(present, chance)]},
    f'distance to the nearest evidence (words; {LONGEST}: and more)',
    'right endings of predicates, test (%)',
    title={'text': 'Russian text alone', 'translation': 'English to Russian'}[part],
    spread='bars',
    ylim=(0, 100),
  )


def _verdicts(best):
  def compared(first, second, low, high):
    return versus(best, first, second, lambda run: right(run, low, high))

  def loss(model, sign):
    return [
      (sign * s, [right(run, *span) for run in best.get(model, ())])
      for s, span in ((1, (1, 1)), (-1, (6, LONGEST)))
    ]

  full, tests = 'text-full', len(WINDOWED)
  edges = {model: reach(MODELS[model]) + 1 for model in WINDOWED}
  return [
    *(
      judged(
        f'1. {NAMES[model]} minus full, from distance {edges[model] + 1} on',
        compared(model, full, edges[model] + 1, LONGEST),
        below=-10,
        tests=tests,
      )
      for model in WINDOWED
    ),
    *(
      judged(
        f'2. {NAMES[model]} minus full, up to distance {edges[model]}',
        compared(model, full, 1, edges[model]),
        above=-10,
        tests=tests,
      )
      for model in WINDOWED
    ),
    judged(
      f'3. text: GRU minus {NAMES["w2-l2"]}, from distance 6 on',
      compared('text-gru', 'w2-l2', 6, LONGEST),
      above=10,
    ),
    judged(
      '4. loss from distance 1 to 6 and more: one vector minus attention',
      [*loss('gru', 1), *loss('gru-attention', -1)],
      above=0,
    ),
    judged(
      '5. translation: window 2 minus full, from distance 6 on',
      compared('transformer-w2', 'transformer', 6, LONGEST),
      above=-10,
    ),
  ]


def reach(model):
  """Returns how many words back a windowed Transformer sees through all its layers."""
  return model['window'] * model['layers']


def _model(run):
  model = run.config['model']
  kind, window = model['kind'], model.get('window')
  if kind == 'recurrent_lm':
    return 'text-gru'
  if kind == 'decoder':
    return f'w{window}-l{model["layers"]}' if window else 'text-full'
  if kind == 'transformer':
    return 'transformer-w2' if window else 'transformer'
  return 'gru-attention' if model.get('attention') else 'gru'


PAPER = []
TIME = 'about 20 minutes of one CPU core for the sweep, as a population (estimated)'
