r"""Recurrent encoder-decoders on Multi30k, with the Transformer's data pipeline.

  seqlab train experiments/multi30k/recurrent.py --workdir runs/m30k-gru
  seqlab train experiments/multi30k/recurrent.py:attention=none --workdir runs/m30k-fixed

GRU with additive attention (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473), or
without attention. Arguments such as `:attention=dot,placement=after` choose other
models; `:source=de,target=en` is the direction of most tutorials.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(
    arg,
    source='en',
    target='de',
    cell='gru',
    attention='additive',
    placement='before',
  )
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 8_000

  # Data
  c.corpus = dict(name='multi30k-tok', source=arg.source, target=arg.target)
  c.vocabulary = dict(kind='bpe', size=10_000, shared=True)
  c.batching = dict(kind='buckets', tokens=4_096, shapes=4)  # target positions
  c.batching.reverse_source = False

  # Model
  c.model = dict(kind='recurrent', width=256, cell=arg.cell, layers=1)
  c.model.update(placement=arg.placement, context='always')
  attends = arg.attention != 'none'
  c.model.attention = arg.attention if attends else None

  # Hyperparameters, which a sweep or a population may vary without compiling again
  c.hyper = dict(peak=3e-3, dropout=0.3, label_smoothing=0.1, weight_decay=0.0)
  c.schedule = dict(kind='rsqrt', warmup=1_000)
  c.optimizer = dict(kind='adam', clip=1.0)

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
  c.model.width = 32
  c.schedule.warmup = 10
  c.evals.loss.update(every=20, shapes=1)
  c.evals.valid.update(every=20, beam=1, shapes=1)


def sweep(add):
  for attention in ('none', 'additive'):
    for seed in range(3):
      add(seed=seed, arg=f'attention={attention}')


PAPER = []
TIME = '2 hours on 2 CPU cores'
