r"""Normalisation before and after the sublayers, with a warm-up of the rate and without.

  python -m launch.sweep experiments/lecture/norm_placement.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/norm_placement.py:norm=post,warmup=no \
    --workdir runs/post

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, normalise the sum of a sublayer's
output and the residual (post-norm), and raise the learning rate slowly at first. Xiong et al.
2020, https://arxiv.org/abs/2002.04745, derive that gradients are then large near the output
at initialisation, so that the warm-up is needed, and that it is not needed if a sublayer's
input is normalised (pre-norm). What they derive is computed in norm_computed.py; here is
trained what they conclude. Encoder and decoder have six layers each. Models have 329,088
parameters, and with pre-norm 192 more, of the norms at the ends of the stacks. The rate falls
linearly to 0, and rises for 60 of 600 updates or not at all. Each variant gets four learning
rates and three seeds; the rate with the lowest mean cross-entropy on 'valid' counts, and the
rest is measured on 'test'. A run that diverges is not left out: its cross-entropy is that of
a model that gives all tokens the same probability, ln 1,000 = 6.9, which is also the most
that a run can have. The sizes were chosen by the time of an update; the bounds are ours.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs, in nats per token:
1. Without warm-up pre-norm is within 0.2 of pre-norm with it.
2. Without warm-up post-norm is more than 0.1 worse than with it.
3. Without warm-up post-norm is worse than pre-norm.
4. With warm-up they differ by less than 0.3.
5. With a rate of 9e-3 for both and without warm-up, post-norm is more than 0.5 worse than
   pre-norm.
"""

import math

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen, curves, diverged
from seqlab.report.tables import Column, table

NORMS = {'pre': 'before (pre-norm)', 'post': 'after (post-norm)'}
WARMUPS = {'yes': 60, 'no': 0}  # updates
PEAKS = (1e-3, 3e-3, 9e-3, 2.7e-2)
COMMON = 9e-3  # of the comparison at one rate


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  choices = {'norm': NORMS, 'warmup': WARMUPS}
  arg = parse_arg(arg, choices, norm='pre', warmup='yes')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 600

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000, max_words=10)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=256, max_length=32)

  # Model
  c.model = dict(kind='transformer', width=48, mlp_width=96, heads=4, layers=6)
  c.model.norm = arg.norm

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=3e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=WARMUPS[arg.warmup])
  c.optimizer = dict(kind='adam')  # no clipping, which would hide large gradients

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='loss', split='valid', shapes=1)
  c.evals.test = dict(kind='loss', split='test', shapes=1)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=16, mlp_width=32, layers=1)
  c.schedule.warmup = min(c.schedule.warmup, 10)


def sweep(add):
  for norm in NORMS:
    for warmup in WARMUPS:
      for peak in PEAKS:
        for seed in range(3):
          arg = f'norm={norm},warmup={warmup}'
          add(seed=seed, arg=arg, **{'hyper.peak': peak})


def report(runs, folder):
  ended = diverged(folder)
  runs = [*runs, *ended]
  best = best_by(runs, _variant, _valid, 'min')
  best = {v: best[v] for norm in NORMS for w in WARMUPS if (v := (norm, w)) in best}
  by_peak = {}
  for run in runs:
    at = (*_variant(run), run.config['hyper']['peak'])
    by_peak.setdefault(at, []).append(run)
  names = {v: f'{v[0]}-norm, warm-up: {v[1]}' for v in best}
  lines(
    folder / 'by-rate',
    {names[v]: drawn for v in best if (drawn := _curves(by_peak, v))},
    'peak of the learning rate',
    'cross-entropy, test (nats per token)',
    title='Place of the norm and warm-up, by learning rate',
    spread='bars',
    xlog=True,
  )
  lines(
    folder / 'training-loss',
    {
      names[v]: drawn
      for v, members in best.items()
      if (drawn := [run.series('nll') for run in members if run.has('nll')])
    },
    'updates',
    'training loss (nats per token)',
    title='Training loss at the best learning rate',
  )
  rows = [
    [
      *(NORMS[norm], warmup, chosen(members, PEAKS)),
      [_nll(run) for run in members],
      ' of '.join(
        str(sum(_variant(run) == (norm, warmup) for run in x)) for x in (ended, runs)
      ),
    ]
    for (norm, warmup), members in best.items()
  ]
  columns = [
    *('norm', 'warm-up', 'peak', Column('cross-entropy, test', digits=3)),
    'diverged, of all rates',
  ]
  verdicts = table(_verdicts(best, by_peak), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _curves(by_peak, variant):
  """Returns one curve over the rates per seed, of the rates that have runs."""
  peaks = [peak for peak in PEAKS if (*variant, peak) in by_peak]
  return curves({peak: by_peak[*variant, peak] for peak in peaks}, _nll)


def _verdicts(best, by_peak):
  def minus(groups, first, second):
    return versus(groups, first, second, _nll)

  pre, bare_pre, post, bare_post = (
    (norm, warmup) for norm in NORMS for warmup in WARMUPS
  )
  rows = (
    ('1. pre-norm, without minus with warm-up', minus(best, bare_pre, pre), -0.2, 0.2),
    (
      '2. post-norm, without minus with warm-up',
      minus(best, bare_post, post),
      0.1,
      None,
    ),
    ('3. without warm-up, post minus pre', minus(best, bare_post, bare_pre), 0, None),
    ('4. with warm-up, post minus pre', minus(best, post, pre), -0.3, 0.3),
    (
      f'5. without warm-up, post minus pre, peak {COMMON:g}',
      minus(by_peak, (*bare_post, COMMON), (*bare_pre, COMMON)),
      0.5,
      None,
    ),
  )
  return [
    judged(label, terms, above=above, below=below, digits=3)
    for label, terms, above, below in rows
  ]


def _nll(run, split='test'):
  """Returns the cross-entropy, and that of equal probabilities where it is lower."""
  equal = math.log(run.config['vocabulary']['size'])
  name = f'{split}/nll'
  # Python's min keeps the first of its arguments where the other one is NaN.
  return min(equal, run.final(name)) if run.has(name) else equal


def _valid(run):
  return _nll(run, 'valid')


def _variant(run):
  warmup = run.config['schedule']['warmup']
  return run.config['model']['norm'], 'yes' if warmup else 'no'


PAPER = []
TIME = 'about 12 minutes of one CPU core for the sweep, as a population (estimated)'
