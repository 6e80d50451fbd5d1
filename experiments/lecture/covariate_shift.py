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
features and sublayers of the encoder, and then the mean over evaluations. Models have
229,504 to 230,144 parameters, which differ by the gains and biases only. Each kind gets
1,000 updates, three learning rates and three seeds; the rate with the lowest mean
cross-entropy on 'valid' counts, and the rest is measured on 'test'.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs, cross-entropies in nats per token:
1. With batch normalisation inputs drift less than with none.
2. With noise after it they drift more than with none.
3. With noise the cross-entropy is lower than with no normalisation, all the same.
4. With noise it is within 0.1 of batch normalisation without noise.
5. Without the gain, without the bias and without both it is within 0.05 of that with both,
   since the next linear map can take the place of a gain, and in part that of a bias.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.evaluators.inputs import drift
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by
from seqlab.report.tables import Column, table
from seqlab.results.raw_rows import write_computed_rows

NORMS = {
  'none': 'none',
  'layer': 'layer',
  'batch': 'batch',
  'noisy': 'noisy_batch',
  'no-gain': dict(kind='batch', use_scale=False),
  'no-bias': dict(kind='batch', use_bias=False),
  'neither': dict(kind='batch', use_scale=False, use_bias=False),
}
NAMES = {
  'none': 'none',
  'layer': 'layer',
  'batch': 'batch',
  'noisy': 'batch, then noise',
  'no-gain': 'batch without gain',
  'no-bias': 'batch without bias',
  'neither': 'batch without both',
}
PEAKS = (2e-3, 4e-3, 8e-3)
EVERY = 50


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'norm': NORMS}, norm='batch')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 1_000

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=512, max_length=64)

  # Model
  c.model = dict(kind='transformer', width=64, mlp_width=128, heads=4, layers=2)
  c.model.update(unroll=2, normalization=NORMS[arg.norm])
  c.model.decoder_normalization = 'layer'

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=4e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=100)
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
      for seed in range(3):
        add(seed=seed, arg=f'norm={norm}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _norm, 'valid/nll', 'min')
  best = {norm: best[norm] for norm in NORMS if norm in best}
  drifts = {norm: [drift(run.path, 'inputs') for run in best[norm]] for norm in best}
  lines(
    folder / 'drift',
    {
      NAMES[norm]: [
        (_steps(run), of_run) for run, of_run in zip(best[norm], of, strict=True)
      ]
      for norm, of in drifts.items()
      if norm in ('none', 'layer', 'batch', 'noisy')
    },
    'updates',
    'drift of the means of the inputs (standard deviations)',
    title="Drift of the inputs of the encoder's sublayers",
  )
  lines(
    folder / 'training-loss',
    {
      NAMES[norm]: [run.series('nll') for run in best[norm]]
      for norm in ('none', 'layer', 'batch', 'noisy')
      if norm in best
    },
    'updates',
    'training loss (nats per token)',
    title='Training loss by the normalisation of the encoder',
  )
  rows = [
    [
      *(NAMES[norm], f'{members[0].config["hyper"]["peak"]:g}'),
      [_nll(run) for run in members],
      [run.final('bleu/bleu') for run in members],
      [float(np.mean(of_run)) for of_run in drifts[norm]],
    ]
    for norm, members in best.items()
  ]
  columns = [
    *('normalisation of the encoder', 'peak'),
    *(Column('cross-entropy, test', digits=3), Column('BLEU, test', digits=1)),
    Column('drift', digits=3),
  ]
  verdicts = table(_verdicts(best, drifts), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')
  write_computed_rows(folder / 'drift.csv', _drift_rows(best, drifts))


def _verdicts(best, drifts):
  def entropies(first, second):
    return versus(best, first, second, _nll)

  def moved(first, second):
    return versus(drifts, first, second, lambda of_run: float(np.mean(of_run)))

  without = ('no-gain', 'no-bias', 'neither')
  return [
    judged('1. drift, batch minus none', moved('batch', 'none'), below=0, digits=3),
    judged('2. drift, noise minus none', moved('noisy', 'none'), above=0, digits=3),
    judged('3. noise minus none', entropies('noisy', 'none'), below=0, digits=3),
    judged(
      *('4. noise minus batch', entropies('noisy', 'batch')),
      above=-0.1,
      below=0.1,
      digits=3,
    ),
    *(
      judged(
        *(f'5. {NAMES[norm]} minus batch', entropies(norm, 'batch')),
        above=-0.05,
        below=0.05,
        tests=len(without),
        digits=3,
      )
      for norm in without
    ),
  ]


def _drift_rows(best, drifts):
  for norm, of in drifts.items():
    for run, of_run in zip(best[norm], of, strict=True):
      for step, value in zip(_steps(run), of_run, strict=True):
        yield run.path.name, run.config['seed'], f'drift/{step}', value


def _nll(run):
  return run.final('test/nll')


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
TIME = (
  'about 35 minutes of one CPU core for the sweep (estimated from 11 ms per update)'
)
