r"""LSTM of characters on tiny Shakespeare, which hands its state on from row to row.

  seqlab train experiments/shakespeare/recurrent.py --workdir runs/shakespeare-lstm
  seqlab train experiments/shakespeare/recurrent.py:cell=gru --workdir runs/shakespeare-gru

Truncated backpropagation over streams, as in Karpathy's char-rnn
(https://github.com/karpathy/char-rnn): 50 streams of rows of 50 characters, 2 layers of
width 128. Its text is the same; its split is another one.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, cell='lstm', layers=2)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.language_model:LanguageModel'
  c.seed, c.steps = 0, 2_000

  # Data
  c.corpus = dict(kind='tinyshakespeare')
  c.vocabulary = dict(kind='char')
  c.batching = dict(kind='streams', rows=50, length=50)

  # Model
  c.model = dict(kind='recurrent_lm', width=128, cell=arg.cell, layers=arg.layers)

  # Hyperparameters, which a sweep or a population may vary without compiling again
  c.hyper = dict(peak=4e-3)
  c.schedule = dict(kind='cosine', warmup=100, floor=0.1)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Devices
  c.mesh = dict(data=1, devices=1)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='bits', split='valid', every=500)
  c.evals.valid.update(context=512, stride=256)
  c.keep_best, c.best_is = 'valid/bpc', 'min'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps, c.schedule.warmup = 20, 5
  c.batching.update(rows=8, length=16)
  c.model.update(width=16, layers=1)
  c.evals.valid.every = 20


def sweep(add):
  for cell in ('rnn', 'gru', 'lstm'):
    for seed in range(3):
      add(seed=seed, arg=f'cell={cell}')


PAPER = []
TIME = '3 minutes on 2 CPU cores'
