r"""Transformer on Multi30k English-German, the "tiny" model of Wu et al. 2021.

  seqlab train experiments/multi30k/transformer.py --workdir runs/m30k
  seqlab evaluate runs/m30k --split test_2016_flickr --average 10 --alpha 1.0

Paper: 41.02 BLEU on test_2016_flickr (lowercased, Moses-tokenised text,
`nrefs:1|case:lc|tok:none`), https://arxiv.org/abs/2105.14462. Append `:smoke`
for a run of twenty steps, `:source=de,target=en` for the other direction.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.results import Row

# width, MLP width, heads, layers
SIZES = {'tiny': (128, 256, 4, 4), 'small': (512, 1024, 4, 6)}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'size': SIZES}, size='tiny', source='en', target='de')
  width, mlp_width, heads, layers = SIZES[arg.size]
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 8_000

  # Data
  c.corpus = dict(name='multi30k-tok', source=arg.source, target=arg.target)
  c.vocabulary = dict(kind='bpe', size=10_000, shared=True)
  c.batching = dict(kind='buckets', tokens=4_096, shapes=8)  # target positions

  # Model
  c.model = dict(
    kind='transformer', width=width, mlp_width=mlp_width, heads=heads, layers=layers
  )
  c.model.unroll = layers  # takes a quarter less time on a CPU than a loop over layers

  # Hyperparameters, which a sweep or a population may vary without compiling again
  c.hyper = dict(peak=5e-3, dropout=0.3, label_smoothing=0.1, weight_decay=0.0)
  c.schedule = dict(kind='rsqrt', warmup=2_000)
  c.optimizer = dict(kind='adam')

  # Devices
  c.mesh = dict(data=-1, fsdp=1, tensor=1)

  # Evaluation
  c.evals = {}
  c.evals.loss = dict(kind='perplexity', split='val', every=500)
  c.evals.valid = dict(kind='translation', split='val', every=500, beam=5)
  c.keep_best = 'valid/bleu'
  c.save_every, c.keep_latest = '1 epochs', 10
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.vocabulary.size = 1_000
  c.batching.update(tokens=1_024, shapes=1)
  c.model.update(width=32, mlp_width=64, heads=2, layers=1, unroll=1)
  c.schedule.warmup = 10
  c.evals.loss.update(every=20, shapes=1)
  c.evals.valid.update(every=20, beam=1, shapes=1)


def sweep(add):
  for peak in (3e-3, 5e-3, 7e-3):
    for seed in range(3):
      add(seed=seed, **{'hyper.peak': peak})


PAPER = [
  Row(
    metric='test_2016_flickr/bleu',
    value=41.02,
    of='Wu et al. 2021, table 2, text only',
    url='https://arxiv.org/abs/2105.14462',
    tolerance=0.5,
    evaluate='--average 10 --alpha 1.0',
    equal='text, size of the model, updates, average, beam',
    differs='subwords and tokens per update; wu2021.py has those of the paper',
  )
]
TIME = '2 hours on 2 CPU cores'
