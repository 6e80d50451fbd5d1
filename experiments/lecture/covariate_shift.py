r"""Does batch normalisation help because the inputs of layers are stable? Noise after it.

  python -m launch.sweep experiments/lecture/covariate_shift.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/covariate_shift.py:norm=noisy --workdir runs/noisy

The lecture, of batch normalisation: "хотим избежать ковариационного сдвига" (the aim is to
avoid covariate shift), and "сначала нормируемся так, чтобы матож ноль и дисперсия один;
потом делаем линейное преобразование, параметры которого есть параметры сети" (normalise to
mean 0 and variance 1, then apply a learnt linear map). Ioffe and Szegedy 2015,
https://arxiv.org/abs/1502.03167, explain the gain by inputs of layers whose distribution
changes less. Santurkar et al. 2018, https://arxiv.org/abs/1805.11604, add noise after the
normalisation, whose mean and scale change at every update, so that inputs are less stable
than without normalisation, and find that such networks train as well. Here the encoder has
each kind of normalisation, and the decoder layer normalisation.

The drift is the change of the mean of a feature of a sublayer's input on 'valid', between
evaluations 50 updates apart, in units of its standard deviation: the root mean square over
features and sublayers of the encoder, and then the mean over evaluations. It grows with the
learning rate, so that kinds are compared at the same one, 4e-3; the table also has the drift
at the best rate of each kind. Models have 229,504 to 230,144 parameters, which differ by the
gains and biases only. Each kind gets 600 updates, four learning rates and four seeds; the
rate with the lowest mean cross-entropy on 'valid' counts, and the rest is measured on 'test'.
The bounds are ours.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs, cross-entropies in nats per token:
1. With batch normalisation inputs drift less than with none, at the same rate.
2. With noise after it they drift more than with none, at the same rate. This is a condition
   of 3 and 4 and no result: the noise itself moves the means at every update.
3. With noise the cross-entropy is nevertheless lower than with no normalisation.
4. With noise it is within 0.2 of batch normalisation without noise.
5. Without gain and bias it is within 0.1 of that with both, since the next linear map can
   take the place of a gain, and in part that of a bias.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.evaluators.inputs import drift
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table
from seqlab.results.raw_rows import write_computed_rows

NORMS = {
  'none': 'none',
  'batch': 'batch',
  'noisy': 'noisy_batch',
  'neither': dict(kind='batch', use_scale=False, use_bias=False),
}
NAMES = {
  'none': 'none',
  'batch': 'batch',
  'noisy': 'batch, then noise',
  'neither': 'batch without both',
}
PEAKS = (2e-3, 4e-3, 8e-3, 1.6e-2)
COMMON = 4e-3  # at which drifts are compared
EVERY = 50


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'norm': NORMS}, norm='batch')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 600

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000, max_words=10)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=512, max_length=64)

  # Model
  c.model = dict(kind='transformer', width=64, mlp_width=128, heads=4, layers=2)
  c.model.update(unroll=2, normalization=NORMS[arg.norm])
  c.model.decoder_normalization = 'layer'

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=4e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=60)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='loss', split='valid', shapes=1)
  c.evals.test = dict(kind='loss', split='test', shapes=1)
  c.evals.bleu = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.inputs = dict(kind='inputs', split='valid', every=EVERY)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=16, mlp_width=32, layers=1)
  c.evals.inputs.every = 5
  c.schedule.warmup = 10


def sweep(add):
  for norm in NORMS:
    for peak in PEAKS:
      for seed in range(4):
        add(seed=seed, arg=f'norm={norm}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _norm, 'valid/nll', 'min')
  best = {norm: best[norm] for norm in NORMS if norm in best}
  common = {
    norm: [
      run for run in runs if (_norm(run), run.config['hyper']['peak']) == (norm, COMMON)
    ]
    for norm in best
  }
  lines(
    folder / 'drift',
    {
      NAMES[norm]: [(_steps(run), _drifts(run)) for run in members]
      for norm, members in common.items()
      if members
    },
    'updates',
    'drift of the means of the inputs (standard deviations)',
    title=f"Drift of the inputs of the encoder's sublayers, peak {COMMON:g}",
  )
  lines(
    folder / 'training-loss',
    {
      NAMES[norm]: [run.series('nll') for run in members]
      for norm, members in best.items()
    },
    'updates',
    'training loss (nats per token)',
    title='Training loss by the normalisation of the encoder',
  )
  rows = [
    [
      *(NAMES[norm], chosen(members, PEAKS)),
      [_nll(run) for run in members],
      [run.final('bleu/bleu') for run in members],
      *([_drift(run) for run in x] for x in (common[norm], members)),
    ]
    for norm, members in best.items()
  ]
  columns = [
    *('normalisation of the encoder', 'peak'),
    *(Column('cross-entropy, test', digits=3), Column('BLEU, test', digits=1)),
    Column(f'drift, peak {COMMON:g}', digits=3),
    Column('drift, this peak', digits=3),
  ]
  verdicts = table(_verdicts(best, common), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')
  write_computed_rows(
    folder / 'drift.csv',
    (
      (run.path.name, run.config['seed'], f'drift/{step}', value)
      for run in runs
      for step, value in zip(_steps(run), _drifts(run), strict=True)
    ),
  )


def _verdicts(best, common):
  def entropies(first, second):
    return versus(best, first, second, _nll)

  def moved(first, second):
    return versus(common, first, second, _drift)

  rows = (
    ('1. drift, batch minus none', moved('batch', 'none'), None, 0),
    ('2. drift, noise minus none', moved('noisy', 'none'), 0, None),
    ('3. noise minus none', entropies('noisy', 'none'), None, 0),
    ('4. noise minus batch', entropies('noisy', 'batch'), -0.2, 0.2),
    ('5. without both minus batch', entropies('neither', 'batch'), -0.1, 0.1),
  )
  return [
    judged(label, terms, above=above, below=below, digits=3)
    for label, terms, above, below in rows
  ]


def _nll(run):
  return run.final('test/nll')


def _drifts(run):
  return drift(run.path, 'inputs')


def _drift(run):
  return float(np.mean(_drifts(run)))


def _steps(run):
  """Returns the updates at whose evaluation there is a drift: all but the first."""
  return run.series('inputs/mean')[0][1:]


def _norm(run):
  norm = run.config['model']['normalization']
  norm = {'kind': norm} if isinstance(norm, str) else dict(norm)
  return next(
    name
    for name, x in NORMS.items()
    if ({'kind': x} if isinstance(x, str) else dict(x)) == norm
  )


PAPER = []
TIME = 'about 12 minutes of one CPU core for the sweep, as a population (estimated)'
