r"""Transformer on the embedded corpus: English to Russian with grammatical agreement.

  seqlab train experiments/agreement/transformer.py --workdir runs/demo
  seqlab evaluate runs/demo --split test
  python -m launch.sweep experiments/agreement/transformer.py --trials 20 \
    --workdir runs/searches

Sentences come from a grammar, so no data are downloaded, and a small model can learn
the whole task. This is the demo, and the smallest experiment to change and run again.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1_500

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000)
  c.vocabulary = dict(kind='bpe', size=3_000, shared=True)
  c.batching = dict(kind='packed', tokens=1_024, max_length=64)

  # Model
  c.model = dict(kind='transformer', width=128, mlp_width=256, heads=8, layers=2)
  c.model.unroll = 2  # takes a quarter less time on a CPU, and compiles as fast

  # Hyperparameters, which a sweep or a population may vary without compiling again
  # No dropout: hardly any sentence occurs often enough to be memorised.
  c.hyper = dict(peak=5e-3, label_smoothing=0.1, weight_decay=0.0)
  c.schedule = dict(kind='linear', warmup=300)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Devices
  c.mesh = dict(data=-1, fsdp=1, tensor=1)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', every=750, beam=1, shapes=1)
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.batching.max_length = 128
  c.model.update(width=32, mlp_width=64, layers=1, unroll=1)
  c.evals.valid.every = 20


def sweep(add):
  for seed in range(8):
    add(seed=seed)


def search(trial):
  """Suggests three traced values, and one (warmup) that compiles one program each."""
  return {
    'hyper.peak': trial.suggest_float('peak', 3e-4, 3e-2, log=True),
    'hyper.label_smoothing': trial.suggest_float('label_smoothing', 0.0, 0.3),
    'hyper.weight_decay': trial.suggest_float('weight_decay', 1e-6, 1e-2, log=True),
    'schedule.warmup': trial.suggest_categorical('warmup', [100, 300, 900]),
  }


PAPER = []
TIME = '2 to 4 minutes on 2 CPU cores'
