r"""Multi30k English-German with English word vectors, of 1,000, 5,000 and 29,000 pairs.

  seqlab train experiments/enwiki/sgns.py:width=128 --workdir runs/sgns-128
  python -m launch.sweep experiments/multi30k/vectors.py --workdir runs/studies
  seqlab train experiments/multi30k/vectors.py:size=1k,vectors=tuned --workdir runs/tuned

The source embedding begins with vectors of English Wikipedia (`:path=runs/sgns-128`, or a
file), frozen or tuned, or with fresh ones (`vectors=none`). Zoph et al. 2016,
https://arxiv.org/abs/1604.02201, and Qi et al. 2018, https://arxiv.org/abs/1804.06323,
find that vectors and parameters learnt elsewhere are worth most where pairs are few.

Predicted before the runs: vectors that are tuned gain BLEU on test_2016_flickr at 1,000
pairs, more than at 29,000. No gain at 1,000 pairs, with an interval that excludes one
of 1 BLEU, would refute that they are worth anything here.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.figures import bars
from seqlab.report.runs import group
from seqlab.report.tables import Column, table

# pairs, target subwords, updates, updates between evaluations
SIZES = {
  '1k': (1_000, 1_000, 800, 80),
  '5k': (5_000, 4_000, 2_000, 200),
  '29k': (29_000, 8_000, 5_000, 500),
}
VECTORS = {
  'none': 'fresh',
  'frozen': 'of Wikipedia, frozen',
  'tuned': 'the same, tuned',
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'size': SIZES, 'vectors': VECTORS}
  arg = parse_arg(arg, choices, size='29k', vectors='none', path='runs/sgns-128')
  pairs, subwords, steps, every = SIZES[arg.size]
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, steps

  # Data: the other pairs are cut off, by a hash of their source
  c.corpus = dict(name='multi30k-tok', source='en', target='de')
  if pairs < 29_000:
    c.corpus.cut = dict(unused=1 - pairs / 29_000)
  # Whole words on the source side, since vectors are those of words
  c.vocabulary = dict(source=dict(kind='word', size=10_000), shared=False)
  c.vocabulary.target = dict(kind='bpe', size=subwords)
  c.batching = dict(kind='buckets', tokens=2_048, shapes=8)  # target positions

  # Model
  c.model = dict(kind='transformer', width=128, mlp_width=256, heads=4, layers=4)
  c.model.update(unroll=4, tie='decoder')
  c.init = {}
  if arg.vectors != 'none':
    # Scaled to fresh rows: the sum with the positions is then as it is without vectors
    c.init.vectors = dict(path=arg.path, into='source_embedding', scale='fresh')
    c.init.vectors.freeze = arg.vectors == 'frozen'

  # Hyperparameters, which a sweep or a population may vary without compiling again
  c.hyper = dict(peak=5e-3, dropout=0.3, label_smoothing=0.1, weight_decay=0.0)
  c.schedule = dict(kind='rsqrt', warmup=steps // 4)
  c.optimizer = dict(kind='adam')

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='val', every=every, beam=1)
  test = dict(split='test_2016_flickr', beam=5, alpha=1.0)  # once, at the end
  c.evals.test = dict(kind='translation', **test)
  c.keep_best, c.save_every = 'valid/bleu', every
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.save_every = 20, None
  c.corpus.cut = dict(unused=0.9)
  c.vocabulary.target.size = 500
  c.batching.update(tokens=1_024, shapes=1)
  c.model.update(width=16, mlp_width=32, heads=2, layers=1, unroll=1)
  c.schedule.warmup = 10
  c.evals.valid.update(every=20, shapes=1)
  del c.evals.test


def sweep(add):
  for size in SIZES:
    for seed in range(3):
      for vectors in VECTORS:
        add(seed=seed, arg=f'size={size},vectors={vectors}')


def report(runs, folder):
  bleu = {_cell(members[0]): _by_seed(members) for members in group(runs).values()}
  sizes = [size for size in SIZES if any(size == found for found, _ in bleu)]
  bars(
    folder / 'bleu',
    {
      label: {
        f'{SIZES[size][0]:,}': list(bleu[size, vectors].values())
        for size in sizes
        if (size, vectors) in bleu
      }
      for vectors, label in VECTORS.items()
    },
    'BLEU on test_2016_flickr, beam 5',
    xlabel='pairs of sentences',
    title='Multi30k English-German: source vectors of Wikipedia',
  )
  rows = [
    [f'{SIZES[size][0]:,}', label, list(scores.values()), _gains(bleu, size, vectors)]
    for size in sizes
    for vectors, label in VECTORS.items()
    if (scores := bleu.get((size, vectors)))
  ]
  columns = ['pairs', 'source vectors', Column('BLEU, test_2016_flickr, beam 5')]
  columns.append(Column('gain over fresh ones with the same seed'))
  (folder / 'table.md').write_text(table(rows, columns), 'utf-8')


def _cell(run):
  """Returns size and kind of vectors of a run."""
  vectors = run.config.get('init', {}).get('vectors')
  kind = 'none' if not vectors else 'frozen' if vectors['freeze'] else 'tuned'
  steps = {size: steps for size, (_, _, steps, _) in SIZES.items()}
  return next(s for s in SIZES if steps[s] == run.config['steps']), kind


def _by_seed(runs):
  return {run.config['seed']: run.final('test/bleu') for run in runs}


def _gains(bleu, size, vectors):
  """Returns the differences from the runs with fresh vectors, seed by seed."""
  fresh, these = bleu.get((size, 'none'), {}), bleu[size, vectors]
  return [] if vectors == 'none' else [these[s] - fresh[s] for s in these if s in fresh]


PAPER = []
TIME = '15 minutes on 2 CPU cores with 29,000 pairs; minutes with 1,000'
