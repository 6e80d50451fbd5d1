r"""Transformer on the embedded corpus: English to Russian that agrees.

  seqlab train experiments/agreement/transformer.py --workdir runs/demo
  seqlab evaluate runs/demo --split test
  python -m launch.sweep experiments/agreement/transformer.py --trials 20 \
    --workdir runs/searches

Sentences come from a grammar, so data needs no download and a small model can
learn all of it: the demo, and the smallest real thing to change and run again.
"""

import ml_collections

from seqlab.config import parse_arg


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, smoke=False)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 20 if arg.smoke else 1_500

  # Data
  pairs = 500 if arg.smoke else 30_000
  c.corpus = dict(name='agreement', source='en', target='ru', train=pairs)
  c.corpus.update(valid=100 if arg.smoke else 500, test=100 if arg.smoke else 1_000)
  c.vocabulary = dict(kind='bpe', size=600 if arg.smoke else 3_000, shared=True)
  longest = 128 if arg.smoke else 64  # positions of a packed row
  c.batching = dict(kind='packed', tokens=1_024, max_length=longest)

  # Model
  c.model_name = 'models.transformer:Transformer'
  width = 32 if arg.smoke else 128
  layers = 1 if arg.smoke else 2
  c.model = dict(width=width, mlp_width=2 * width, heads=8, layers=layers)
  c.model.unroll = layers  # a quarter faster on a CPU, and compiles as fast

  # What a sweep or a population may vary without compiling again
  # Nothing is dropped: hardly a sentence comes often enough to be learnt by heart.
  c.hyper = dict(peak=5e-3, label_smoothing=0.1, weight_decay=0.0)
  c.schedule = dict(kind='linear', warmup=300)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Devices
  c.mesh = dict(data=-1, fsdp=1, tensor=1)

  # Evaluation
  every = 20 if arg.smoke else 750
  c.evals = {}
  c.evals.valid = dict(type='translation', split='valid', every=every, beam=1, shapes=1)
  c.keep_best = 'valid/bleu'
  return c


def sweep(add):
  for seed in range(8):
    add(seed=seed)


def search(trial):
  """Three values that all trials compile once for, and one with a program for each."""
  return {
    'hyper.peak': trial.suggest_float('peak', 3e-4, 3e-2, log=True),
    'hyper.label_smoothing': trial.suggest_float('label_smoothing', 0.0, 0.3),
    'hyper.weight_decay': trial.suggest_float('weight_decay', 1e-6, 1e-2, log=True),
    'schedule.warmup': trial.suggest_categorical('warmup', [100, 300, 900]),
  }


PAPER = {}
TIME = '2 to 4 minutes on 2 CPU cores'
