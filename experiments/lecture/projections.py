r"""W_Q, W_K, W_V and W_O: which are needed; and positions, added or concatenated.

  python -m launch.sweep experiments/lecture/projections.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/projections.py:variant=no_value --workdir runs/no-value

The lecture: "три матрицы - query, key, value: Q = W_Q X, K = W_K X, V = W_V X" (three
matrices), and "теперь на вход мы будем подавать сумму этих эмбедингов (позиции и слова)"
(the input is the sum of the position's and the word's embeddings). Vaswani et al. 2017,
https://arxiv.org/abs/1706.03762, add W_O and scale words by the root of D. Reformer
(Kitaev et al. 2020, https://arxiv.org/abs/2001.04451) reports that W_K = W_Q costs nothing;
He and Hofmann 2024, https://arxiv.org/abs/2311.01906, train without W_V and W_O. Variants
apply to every attention, that to the source as well. A variant with fewer matrices has a
wider feed-forward layer, so that all models have 230,144 to 230,528 parameters: what is
measured is a matrix against equally many parameters elsewhere.

In a concatenation the first 48 of 64 dimensions of the input are a word's vector, and the
last 16 a position. The output table has all 64 dimensions in every variant, so that the
number of parameters is the same. Vectors of words start with variance 1 / D per dimension,
with the root of D they have variance 1; sines and cosines have 1/2. The root of D changes
how large words are beside positions, at first and by each step of Adam, whose size does not
depend on that of the gradient; and how large their sum is beside what the layers add to it. A
control parts the two: without the root of D, but with positions that are divided by it, words
and positions have the same ratio as with it, at first and after equal steps.

Each variant gets 800 updates of about 20 sentences of at most eight words, three learning
rates and three seeds; the rate with the best mean BLEU on 'valid' counts, and all else is
measured on 'test'. Models have not converged then: what is compared is how far they are
after equally many updates. Sizes were chosen for a budget of time; in a trial of one seed on
'valid', of longer sentences, the loss fell steadily at the highest rate. The bounds are ours.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs:
1. Without one of the matrices (W_K = W_Q, no W_V, no W_O) BLEU is less than 3 below that of
   the full model.
2. One matrix for queries, keys and values costs more than 3 BLEU.
3. With the root of D, sum and concatenation differ by less than 3 BLEU.
4. Positions that are larger than words do harm: without the root of D the sum has a lower
   BLEU than with positions that are divided by it.
5. The size of the sum matters less: with these smaller positions BLEU differs from that of
   the full model by less than 3.
6. The root of D gains less in a concatenation, where positions have dimensions of their own.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged
from seqlab.report.figures import bars
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

CONCATENATED = 16  # dimensions of a position
# Variant -> name, width of the feed-forward layer, and further options of the model.
VARIANTS = {
  'full': ('full', 128, {}),
  'query_is_key': ('W_K = W_Q', 176, dict(projections='query_is_key')),
  'no_value': ('no W_V', 176, dict(projections='no_value')),
  'no_output': ('no W_O', 176, dict(projections='no_output')),
  'one_matrix': ('W_Q = W_K = W_V', 224, dict(projections='one_matrix')),
  'sum_unscaled': ('sum without √D', 128, dict(embedding_scale='none')),
  'small_positions': (
    'sum without √D, positions / √D',
    128,
    dict(
      positions=dict(kind='sinusoidal', scaling='inverse_sqrt'), embedding_scale='none'
    ),
  ),
  'concatenation': (
    'concatenation',
    128,
    dict(positions=dict(kind='sinusoidal', concatenated=CONCATENATED)),
  ),
  'concatenation_unscaled': (
    'concatenation without √D',
    128,
    dict(
      positions=dict(kind='sinusoidal', concatenated=CONCATENATED),
      embedding_scale='none',
    ),
  ),
}
ONE_LESS = ('query_is_key', 'no_value', 'no_output')
PEAKS = (2.5e-3, 5e-3, 1e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'variant': VARIANTS}, variant='full')
  _, mlp_width, options = VARIANTS[arg.variant]
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 800

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000, max_words=8)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=256, max_length=32)

  # Model
  c.model = dict(kind='transformer', width=64, mlp_width=mlp_width, heads=4, layers=2)
  c.model.update(unroll=2, **options)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=80)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.loss = dict(kind='perplexity', split='test', shapes=1)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=32, layers=1)
  c.schedule.warmup = 10


def sweep(add):
  for variant in VARIANTS:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'variant={variant}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _variant, 'valid/bleu')
  best = {variant: best[variant] for variant in VARIANTS if variant in best}
  bars(
    folder / 'bleu',
    {
      'BLEU': {
        VARIANTS[variant][0]: _bleu(members) for variant, members in best.items()
      }
    },
    'BLEU on test, greedy',
    title='BLEU with equal parameters, at the best learning rate',
    digits=1,
  )
  rows = [
    [
      *(VARIANTS[variant][0], chosen(members, PEAKS)),
      _bleu(members),
      [run.final('loss/perplexity') for run in members],
    ]
    for variant, members in best.items()
  ]
  columns = ['variant', 'peak', Column('BLEU, test'), 'perplexity, test']
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _bleu(runs):
  return [run.final('test/bleu') for run in runs]


def _verdicts(best):
  def terms(*signed):
    return [(sign, _bleu(best.get(variant, ()))) for sign, variant in signed]

  gain = {
    'sum': ((1, 'full'), (-1, 'sum_unscaled')),
    'concatenation': ((1, 'concatenation'), (-1, 'concatenation_unscaled')),
  }
  smaller = [(-sign, variant) for sign, variant in gain['sum']]
  return [
    *(
      judged(
        f'1. {VARIANTS[variant][0]} minus full',
        terms((1, variant), (-1, 'full')),
        above=-3,
        tests=len(ONE_LESS),
      )
      for variant in ONE_LESS
    ),
    judged(
      '2. W_Q = W_K = W_V minus full', terms((1, 'one_matrix'), (-1, 'full')), below=-3
    ),
    judged(
      '3. concatenation minus sum, with √D',
      terms((1, 'concatenation'), (-1, 'full')),
      above=-3,
      below=3,
    ),
    judged(
      '4. sum without √D: positions / √D minus positions',
      terms((1, 'small_positions'), (-1, 'sum_unscaled')),
      above=0,
    ),
    judged(
      '5. sum without √D, positions / √D, minus full',
      terms((1, 'small_positions'), (-1, 'full')),
      above=-3,
      below=3,
    ),
    judged(
      '6. gain of √D: concatenation minus sum',
      terms(*gain['concatenation'], *smaller),
      below=0,
    ),
  ]


def _variant(run):
  model = run.config['model']
  projections = model.get('projections', 'separate')
  if projections != 'separate':
    return projections
  unscaled = model.get('embedding_scale', 'sqrt') == 'none'
  positions = model.get('positions', {})
  if 'scaling' in positions:
    return 'small_positions'
  if 'concatenated' in positions:
    return 'concatenation_unscaled' if unscaled else 'concatenation'
  return 'sum_unscaled' if unscaled else 'full'


PAPER = []
TIME = 'about 15 minutes of one CPU core for the sweep, as a population (estimated)'
