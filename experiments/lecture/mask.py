r"""A decoder with its causal mask, and one that attends to later positions.

  python -m launch.sweep experiments/lecture/mask.py --on population --workdir runs/studies
  seqlab train experiments/lecture/mask.py:mask=no --workdir runs/no-mask

The lecture: "чтобы декодер учитывал только те слова, которые он уже выдал, - будем
использовать маску в аттеншне" (a mask in attention lets the decoder see only the words that
it has produced); Vaswani et al. 2017, section 3.2.3, https://arxiv.org/abs/1706.03762. Without
the causal mask the next token can be copied in training, but not in decoding.

Each decoder gets 600 updates, three learning rates and three seeds; the rate with the best
mean BLEU on 'valid' counts (the lowest of several that are equal), and the rest is measured
on 'test', except for the training loss, which is the mean of the last 50 updates. With the
true words given, cross-entropy and accuracy show what was learnt: a decoder that failed to
learn would have a low accuracy as well, and one that copies has a high one. The leak is the
share of the gradient, for random words, that flows to the predicted word and later ones. The
bounds are ours.

Each prediction is a bound on a mean or on a difference of means. It is supported if the whole
95 % interval over seeds (Welch; of a prediction's comparisons together, by Bonferroni's
correction) is where it was predicted, refuted if the whole interval is elsewhere, and
otherwise not decided. The report prints these verdicts. Seeds share the test sentences, whose
sampling error the interval does not contain.

Predicted before the runs, and after an earlier study with one learning rate, in which BLEU
was 46 with the mask and 0 without it, and the share of the gradient 49 %:
1. With the mask the share of the gradient at later positions is below 0.01 %; without it it
   is above 20 %.
2. With the true words given, the cross-entropy is lower without the mask by more than 0.2
   nats per token, and the accuracy is above 95 %.
3. In decoding BLEU is lower without it by more than 20.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

MASKS = {'yes': True, 'no': False}
NAMES = {'yes': 'with the mask', 'no': 'without it'}
PEAKS = (2.5e-3, 5e-3, 1e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'mask': MASKS}, mask='yes')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 600

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=300, test=1_000, max_words=10)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=1_024, max_length=64)

  # Model
  c.model = dict(kind='transformer', width=64, mlp_width=128, heads=4, layers=2)
  c.model.update(unroll=2, causal=MASKS[arg.mask])

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=60)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1, every=200)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.given = dict(kind='loss', split='test', shapes=1)
  c.evals.leak = dict(kind='leak')
  c.keep_best = 'valid/bleu'
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=16, layers=1)
  c.evals.valid.every = 20
  c.schedule.warmup = 10


def sweep(add):
  for mask in MASKS:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'mask={mask}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _mask, 'valid/bleu')
  best = {mask: best[mask] for mask in MASKS if mask in best}
  for name, metric, ylabel in (
    ('loss', 'nll', 'training loss (nats per token)'),
    ('bleu', 'valid/bleu', 'BLEU of the validation set'),
  ):
    lines(
      folder / name,
      {
        NAMES[mask]: [run.series(metric) for run in members]
        for mask, members in best.items()
      },
      'updates',
      ylabel,
      title='Decoders with and without a causal mask',
    )
  rows = [
    [
      *(NAMES[mask], chosen(members, PEAKS)),
      *([of(run) for run in members] for of in (_loss, _nll, _accuracy, _bleu, _share)),
    ]
    for mask, members in best.items()
  ]
  columns = [
    *('decoder', 'peak', Column('training loss (nats)', digits=2)),
    Column('cross-entropy, true words given (nats)', digits=3),
    Column('accuracy, true words given (%)', digits=1),
    Column('BLEU', 'max', 2),
    Column('share of the gradient at later positions (%)', digits=1),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _verdicts(best):
  def one(label, mask, of, **bounds):
    terms = [(1, [of(run) for run in best.get(mask, ())])]
    return judged(f'{label}, {NAMES[mask]}', terms, tests=2, **bounds)

  def change(label, of, **options):
    return judged(
      f'{label}, without minus with', versus(best, 'no', 'yes', of), **options
    )

  return [
    one('1. share of the gradient (%)', 'yes', _share, below=0.01),
    one('1. share of the gradient (%)', 'no', _share, above=20),
    change('2. cross-entropy', _nll, below=-0.2, tests=2, digits=3),
    one('2. accuracy (%)', 'no', _accuracy, above=95),
    change('3. BLEU', _bleu, below=-20),
  ]


def _loss(run):
  return float(np.mean(run.series('nll')[1][-50:]))


def _nll(run):
  return run.final('given/nll')


def _accuracy(run):
  return 100 * run.final('given/accuracy')


def _bleu(run):
  return run.final('test/bleu')


def _share(run):
  return 100 * run.final('leak/share')


def _mask(run):
  return 'yes' if run.config['model']['causal'] else 'no'


PAPER = []
TIME = '13 minutes for the sweep, as a population, on a CPU core shared with a training'
