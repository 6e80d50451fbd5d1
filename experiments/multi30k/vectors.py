r"""Multi30k English-German with English word vectors, of 1,000, 5,000 and 29,000 pairs.

  seqlab train experiments/enwiki/sgns.py:width=128 --workdir runs/sgns-128
  seqlab train experiments/multi30k/vectors.py:size=1k,vectors=tuned --workdir runs/tuned

The source embedding begins with vectors of English Wikipedia (`:path=runs/sgns-128`, or a
file), frozen or tuned, or with fresh ones (`vectors=none`). Zoph et al. 2016,
https://arxiv.org/abs/1604.02201, and Qi et al. 2018, https://arxiv.org/abs/1804.06323,
find that vectors and parameters learnt elsewhere are worth most where pairs are few.
"""

import ml_collections

from seqlab.config import parse_arg

# pairs, target subwords, updates, updates between evaluations
SIZES = {
  '1k': (1_000, 1_000, 1_500, 100),
  '5k': (5_000, 4_000, 3_000, 200),
  '29k': (29_000, 8_000, 8_000, 500),
}
VECTORS = ('none', 'frozen', 'tuned')


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
  c.batching = dict(kind='buckets', tokens=4_096, shapes=8)  # target positions

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


def sweep(add):
  for seed in range(3):
    add(seed=seed)


PAPER = []
TIME = '2 hours on 2 CPU cores; minutes with 1,000 pairs'
