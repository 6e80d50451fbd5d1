r"""COGS: sentences to logical forms, and generalisation by its 21 types.

  seqlab train experiments/cogs/kim2020.py --workdir runs/cogs
  seqlab evaluate runs/cogs --split gen --measures exact --max-length 6 120

Kim and Linzen 2020, https://aclanthology.org/2020.emnlp-main.731. `model` is
`transformer` or `lstm`, both smaller than those of the paper; `size=paper` has two
layers of 512 units.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.results import Row

SIZES = {'small': (128, 256), 'paper': (512, 512)}  # width, MLP width


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'model': ('transformer', 'lstm'), 'size': SIZES}
  arg = parse_arg(arg, choices, model='transformer', size='small')
  width, mlp_width = SIZES[arg.size]
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, '20 epochs'

  # Data
  c.corpus = dict(kind='cogs')
  c.vocabulary = dict(source='symbols', target='symbols')
  c.batching = dict(kind='buckets', tokens=4_096, shapes=4)  # target positions

  # Model
  if arg.model == 'lstm':
    c.model = dict(kind='recurrent', width=width, layers=2, cell='lstm', tie='none')
    c.model.update(attention='additive', placement='after')
  else:
    c.model = dict(kind='transformer', width=width, mlp_width=mlp_width, heads=4)
    c.model.update(layers=2, unroll=2, tie='none')

  # Hyperparameters, which a sweep or a population may vary without compiling again
  c.hyper = dict(peak=1e-3, dropout=0.1, label_smoothing=0.0)
  c.schedule = dict(kind='linear', warmup=500)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation. The longest form of 'gen' has 480 symbols for 61 words.
  exact = dict(kind='outputs', measures=('exact',), beam=1, length=(6.0, 120.0))
  c.evals = {}
  c.evals.valid = dict(exact, split='dev', every='2 epochs')
  c.evals.test = dict(exact, split='test')  # once, at the end
  c.evals.gen = dict(exact, split='gen')
  c.keep_best = 'valid/exact'
  c.save_every = '2 epochs'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.save_every = 20, None
  c.batching.update(tokens=2_048, shapes=1)
  c.model.update(width=16, layers=1)
  c.schedule.warmup = 10
  c.corpus.cut = dict(sample=0.004)  # of the training split
  c.evals.valid.update(split='sample', every=20, shapes=1, length=(0.0, 8.0))
  del c.evals.test, c.evals.gen


def sweep(add):
  for model in ('transformer', 'lstm'):
    for seed in range(3):
      add(seed=seed, arg=f'model={model}')


PAPER = [
  Row(
    metric='gen/exact',
    value=0.35,
    of='Kim and Linzen 2020, Transformer',
    url='https://aclanthology.org/2020.emnlp-main.731',
    tolerance=0.06,
    args='model=transformer',
    evaluate='--choose best --beam 1 --max-length 6 120',
    differs='a smaller model, batches by tokens, another selection; 50 corrected examples',
    prediction='above it: early stopping by the loss lowers theirs (Csordás et al. 2021)',
  ),
  Row(
    metric='test/exact',
    value=0.96,
    of='Kim and Linzen 2020, Transformer',
    url='https://aclanthology.org/2020.emnlp-main.731',
    tolerance=0.03,
    args='model=transformer',
    evaluate='--choose best --beam 1 --max-length 6 120',
    differs='a smaller model, batches by tokens, selection by exact match',
    prediction='above it, at 0.99',
  ),
]
TIME = '40 minutes on 2 CPU cores'
