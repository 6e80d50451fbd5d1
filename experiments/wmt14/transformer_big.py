r"""Transformer "big" on WMT14 English-German, with large batches (Ott et al. 2018).

  seqlab plan experiments/wmt14/transformer_big.py --devices 8 64 512 --chip h100 v5p
  seqlab train experiments/wmt14/transformer_big.py --workdir runs/big

Model: Vaswani et al. 2017, table 3, https://arxiv.org/abs/1706.03762. Batches of about
400,000 words: Ott et al., "Scaling Neural Machine Translation", 2018,
https://arxiv.org/abs/1806.00187, who report 29.3 BLEU (tokenised) on newstest2014. The
corpus is read from $SEQLAB_DATA/wmt14-en-de/ (train.en, train.de, newstest2013.en,
...), or downloaded; `seqlab plan` does not need it. `:smoke` trains a small model on
the embedded corpus instead; `:fsdp` shards the parameters.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.results import Row

# width, MLP width, heads, layers
SIZES = {'base': (512, 2048, 8, 6), 'big': (1024, 4096, 16, 6)}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'size': SIZES}, size='big', fsdp=False)
  width, mlp_width, heads, layers = SIZES[arg.size]
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 18_000

  # Data
  c.corpus = dict(name='wmt14-en-de', source='en', target='de')
  c.vocabulary = dict(kind='bpe', size=32_000, shared=True)
  # Packed: one shape, known without the corpus. 3,072 rows for up to 1,024 devices.
  c.batching = dict(kind='packed', tokens=393_216, max_length=128, rows_multiple=1_024)

  # Model
  c.model = dict(
    kind='transformer', width=width, mlp_width=mlp_width, heads=heads, layers=layers
  )

  # Hyperparameters, which a sweep or a population may vary without compiling again
  c.hyper = dict(peak=1e-3, dropout=0.3, label_smoothing=0.1, weight_decay=0.0)
  c.schedule = dict(kind='rsqrt', warmup=4_000)
  c.optimizer = dict(kind='adam')

  # Devices
  c.mesh = (
    dict(data=1, fsdp=-1, tensor=1) if arg.fsdp else dict(data=-1, fsdp=1, tensor=1)
  )

  # Evaluation
  c.evals = {}
  split, every = 'newstest2013', 1_000
  c.evals.loss = dict(kind='perplexity', split=split, every=every)
  c.evals.valid = dict(kind='translation', split=split, every=every, beam=4)
  c.keep_best, c.keep_latest = 'valid/bleu', 10
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus = dict(name='agreement', source='en', target='ru', train=2_000)
  c.vocabulary.size = 500
  c.batching.update(tokens=1_024, max_length=64, rows_multiple=8)
  c.model.update(width=32, mlp_width=64, heads=2, layers=1)
  c.schedule.warmup = 10
  c.evals.loss.update(split='valid', every=20)
  c.evals.valid.update(split='valid', every=20, beam=1)


PAPER = [
  Row(
    metric='newstest2014/bleu',
    value=29.3,
    of='Ott et al. 2018, table 1, tokenised',
    url='https://arxiv.org/abs/1806.00187',
    tolerance=0.5,
    seeds=1,
    evaluate='--beam 4 --alpha 0.6 --penalty length --average 10',
    differs='vocabulary, batches, numbers of half precision; BLEU without compounds divided',
  )
]
