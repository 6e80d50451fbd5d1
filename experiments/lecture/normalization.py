r"""Batch and layer normalisation with 1, 2, 8 and 64 sentences per batch.

  python -m launch.sweep experiments/lecture/normalization.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/normalization.py:kind=batch,sentences=1 \
    --workdir runs/batch

The lecture: "проблема - сложно использовать с последовательностями и маленькими данными"
(batch normalisation is hard to use with sequences and small data), and of layer
normalisation "нормируем на одном слое - по одному предложению (батч размера 1)" (one
sentence at a time). 'encoder' has batch normalisation (Ioffe and Szegedy 2015,
https://arxiv.org/abs/1502.03167) in the encoder and layer normalisation in the decoder, as
in the experiments of Shen et al. 2020, https://arxiv.org/abs/2003.07845; 'batch' has it in
both. In the decoder the statistics of a batch contain later tokens of the same sentences,
which it has to predict.

No sentence has more than eight words, in training or in tests. A smaller batch gets more
updates, but fewer sentences in all, so that kinds are compared at each size, and only their
differences between sizes. All models have 230,144 parameters. Each kind at each size gets
three learning rates and three seeds; the rate with the lowest mean cross-entropy on 'valid'
counts, and the cross-entropy is measured on 'test'. The gap is by how much the cross-entropy
on 'valid' is greater with running statistics, as in use, than with those of batches of as
many sentences. The learning rates grow with the root of the number of sentences,
from the best one of mask.py on 'valid', 1e-2 with about 75 sentences; the bounds are ours.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs, in nats per token:
1. With 64 sentences per batch 'encoder' is within 0.2 of layer normalisation.
2. With one sentence it is more than 0.1 worse than layer normalisation.
3. The difference of these two is greater with one sentence than with 64.
4. Batch normalisation in the decoder, too, makes it worse at each size.
5. Its gap is then greater than with batch normalisation in the encoder alone, at each size.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen, curves
from seqlab.report.tables import Column, table

# Normalisation of the encoder, and of the decoder.
KINDS = {
  'layer': ('layer', 'layer'),
  'encoder': ('batch', 'layer'),
  'batch': ('batch', 'batch'),
}
NAMES = {
  'layer': 'layer',
  'encoder': 'batch in the encoder, layer in the decoder',
  'batch': 'batch in both',
}
# Sentences per batch -> updates, and the peaks of the learning rate.
SIZES = {
  1: (3_000, (7e-4, 1.4e-3, 2.8e-3)),
  2: (2_000, (1e-3, 2e-3, 4e-3)),
  8: (800, (2e-3, 4e-3, 8e-3)),
  64: (200, (5e-3, 1e-2, 2e-2)),
}
LENGTH = 28  # tokens of a row, EOS counted; two of 30,000 pairs of training are longer


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'kind': KINDS, 'sentences': SIZES}
  arg = parse_arg(arg, choices, kind='layer', sentences=8)
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed = 0
  c.steps, peaks = SIZES[arg.sentences]

  # Data: one shape, so that every batch but the last of an epoch is full
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=300, test=1_000, max_words=8)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', shapes=1, rows_multiple=1, max_length=LENGTH)
  c.batching.tokens = arg.sentences * LENGTH

  # Model
  encoder, decoder = KINDS[arg.kind]
  c.model = dict(kind='transformer', width=64, mlp_width=128, heads=4, layers=2)
  c.model.update(unroll=2, normalization=encoder, decoder_normalization=decoder)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=peaks[1], label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=c.steps // 10)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='loss', split='valid', shapes=1)
  c.evals.test = dict(kind='loss', split='test', shapes=1)
  c.evals.statistics = dict(kind='statistics', split='valid')
  c.evals.statistics.tokens = arg.sentences * LENGTH
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=16, mlp_width=32, layers=1)
  c.schedule.warmup = 10


def sweep(add):
  for size, (_, peaks) in SIZES.items():
    for kind in KINDS:
      for peak in peaks:
        for seed in range(3):
          arg = f'kind={kind},sentences={size}'
          add(seed=seed, arg=arg, **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _variant, 'valid/nll', 'min')
  best = {v: best[v] for n in SIZES for kind in KINDS if (v := (kind, n)) in best}
  for name, of, ylabel in (
    ('cross-entropy', _nll, 'cross-entropy, test (nats per token)'),
    ('gap', _gap, 'cross-entropy, running minus batch statistics (nats)'),
  ):
    lines(
      folder / name,
      {NAMES[kind]: drawn for kind in KINDS if (drawn := _curves(best, kind, of))},
      'sentences per batch',
      ylabel,
      title=f'{ylabel.partition(",")[0].capitalize()} by batch size',
      spread='bars',
      xlog=True,
    )
  rows = [
    [
      *(NAMES[kind], str(size), chosen(members, SIZES[size][1])),
      *([of(run) for run in members] for of in (_nll, _gap)),
    ]
    for (kind, size), members in best.items()
  ]
  columns = [
    *('normalisation', 'sentences', 'peak'),
    Column('cross-entropy, test', digits=3),
    Column('gap', digits=3),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _curves(best, kind, of):
  """Returns one curve over the sizes per seed."""
  return curves({n: best[kind, n] for n in SIZES if (kind, n) in best}, of)


def _nll(run):
  return run.final('test/nll')


def _gap(run):
  return run.final('statistics/gap')


def _verdicts(best):
  def minus(first, second, size, of=_nll):
    """Returns the terms of a difference between kinds at a size."""
    return versus(best, (first, size), (second, size), of)

  few, many = min(SIZES), max(SIZES)
  more = [(-factor, values) for factor, values in minus('encoder', 'layer', many)]

  def row(number, label, terms, **options):
    return judged(f'{number}. {label}', terms, digits=3, **options)

  return [
    row(
      *(1, f'encoder minus layer, {many} per batch', minus('encoder', 'layer', many)),
      above=-0.2,
      below=0.2,
    ),
    row(
      *(2, f'encoder minus layer, {few} per batch', minus('encoder', 'layer', few)),
      above=0.1,
    ),
    row(
      *(3, f'the same, {few} per batch minus {many} per batch'),
      [*minus('encoder', 'layer', few), *more],
      above=0,
    ),
    *(
      row(
        *(number, f'batch minus encoder, {label}, {n} per batch'),
        minus('batch', 'encoder', n, of),
        above=0,
        tests=len(SIZES),
      )
      for number, label, of in ((4, 'cross-entropy', _nll), (5, 'gap', _gap))
      for n in SIZES
    ),
  ]


def _variant(run):
  """Returns the kind of normalisation and the number of sentences per batch."""
  model = run.config['model']
  norms = model['normalization'], model['decoder_normalization']
  kind = next(name for name, pair in KINDS.items() if pair == norms)
  return kind, run.config['batching']['tokens'] // LENGTH


PAPER = []
TIME = 'about 15 minutes of one CPU core for the sweep, as a population (estimated)'
