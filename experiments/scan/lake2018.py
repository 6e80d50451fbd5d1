r"""SCAN: commands to sequences of actions, with the splits of Lake and Baroni 2018.

  seqlab train experiments/scan/lake2018.py:split=length --workdir runs/scan-length
  seqlab evaluate runs/scan-length --split test --measures exact --max-length 6 4

`split` is simple, length, addprim_jump or addprim_turn_left; `model` is `lstm`, the
paper's best model on average (two layers of 200 units, no attention, no dropout),
`gru`, its best one by length (one layer of 50 units with attention), or `transformer`.
https://arxiv.org/abs/1711.00350. The paper trains on single examples, half of the time
without teacher forcing; here a batch has many of them, and all are forced.
"""

import ml_collections

from seqlab.config import parse_arg

SPLITS = ('simple', 'length', 'addprim_jump', 'addprim_turn_left')
MODELS = {
  'lstm': dict(kind='recurrent', width=200, layers=2, cell='lstm', bidirectional=False),
  'gru': dict(
    kind='recurrent',
    width=50,
    cell='gru',
    bidirectional=False,
    attention='additive',
    placement='before',
  ),
  'transformer': dict(kind='transformer', width=128, mlp_width=256, heads=4, layers=2),
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'split': SPLITS, 'model': MODELS}
  arg = parse_arg(arg, choices, split='simple', model='lstm')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, '20 epochs'

  # Data. The paper has no development split, and takes the model of the last update.
  c.corpus = dict(kind='scan', split=arg.split)
  c.vocabulary = dict(source='symbols', target='symbols')
  c.batching = dict(kind='buckets', tokens=1_024, shapes=4)  # target positions

  # Model
  c.model = dict(MODELS[arg.model], tie='none')

  # Hyperparameters, which a sweep or a population may vary without compiling again
  dropout = {'lstm': 0.0, 'gru': 0.5, 'transformer': 0.1}[arg.model]
  c.hyper = dict(peak=1e-3, dropout=dropout)
  c.schedule = dict(kind='constant', warmup=100)
  c.optimizer = dict(kind='adam', clip=5.0)

  # Evaluation: once, at the end. Outputs are up to six times as long as their sources.
  c.evals = {}
  c.evals.test = dict(kind='outputs', split='test', measures=('exact',), beam=1)
  c.evals.test.length = (6.0, 4.0)
  c.save_every = '1 epochs'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.save_every = 20, None
  c.batching.update(tokens=512, shapes=1)
  c.model.update(width=16, layers=1)
  c.schedule.warmup = 10
  del c.evals.test


def sweep(add):
  for split in SPLITS:
    for model in MODELS:
      for seed in range(3):
        add(seed=seed, arg=f'split={split},model={model}')


PAPER = []
TIME = '20 minutes on 2 CPU cores'
