r"""What one vector of the source forgets: BLEU by length, and a probe of the vector.

  python -m launch.sweep experiments/lecture/forgetting.py --workdir runs/studies
  seqlab train experiments/lecture/forgetting.py:context=uniform --workdir runs/uniform

The lecture: "энкодер-декодер забывает о начальных токенах" (encoder and decoder forget the
first tokens). Bahdanau et al. 2015, figure 2, https://arxiv.org/abs/1409.0473, report that
quality falls with length where one vector encodes the whole source, and much less with
attention; Sutskever et al. 2014, section 3.3, https://arxiv.org/abs/1409.3215, that
reversing the source helps the first words. The control has attention's place and output
layer and gives each word the same weight. Encoders read in one direction, since one that
reads in both has the first words last. Models have 746,112 to 750,636 parameters, 3,000
updates, three learning rates and three seeds; the rate with the best mean BLEU on 'valid'
counts, and the rest is measured on 'test'. A linear probe predicts the piece at each of the
first ten positions of sources of 10 to 14 pieces from the encoder's last state; its gain is
(right - chance) / (1 - chance). The loss with length is the share of its BLEU on sources of
1 to 5 words that a model lacks on sources of 18 or more.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs:
1. The loss with length is greater with one vector than with attention.
2. It is greater for the control than for attention, too: it is looking that helps, and not
   the output layer.
3. Words that are read first are forgotten: the probe's gain for positions 1 to 3 is greater
   if the source is reversed, so that these are read last. The words are the same.
4. For positions 8 to 10 it is greater if the source is not reversed.
5. Reversal raises the accuracy of the first three target tokens.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by
from seqlab.report.tables import Column, table

LENGTHS = (5, 8, 11, 14, 17)  # upper limits in words; the last group has no limit
POSITIONS = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20)  # target positions, in tokens
PROBED = 10
CONTEXTS = {
  'vector': 'one vector',
  'reversed': 'one vector, source reversed',
  'uniform': 'uniform attention',
  'attention': 'attention',
}
# With these the models have equally many parameters.
WIDTHS = {'vector': 192, 'reversed': 192, 'uniform': 182, 'attention': 174}
PEAKS = (2.5e-3, 5e-3, 1e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'context': CONTEXTS}, context='vector')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 3_000

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=4_000)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=1_024, shapes=2, max_length=64)
  c.batching.reverse_source = arg.context == 'reversed'

  # Model
  c.model = dict(kind='recurrent', width=WIDTHS[arg.context], cell='gru')
  c.model.update(context='always', placement='before', bidirectional=False)
  scores = {'uniform': 'uniform', 'attention': 'additive'}
  c.model.attention = scores.get(arg.context)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=300)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, lengths=LENGTHS)
  c.evals.errors = dict(kind='errors', split='test', positions=POSITIONS)
  c.evals.probe = dict(kind='probe', split='test', shortest=PROBED, longest=14)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.batching.shapes = 1
  c.model.width = 16
  c.evals.test.shapes = 1
  c.schedule.warmup = 10


def sweep(add):
  for context in CONTEXTS:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'context={context}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _context, 'valid/bleu')
  best = {context: best[context] for context in CONTEXTS if context in best}
  _draw_lengths(folder, best)
  _draw_positions(folder, best)
  rows = [
    [
      *(CONTEXTS[context], f'{members[0].config["hyper"]["peak"]:g}'),
      [run.final('test/bleu') for run in members],
      *([run.final(f'test/bleu/{n}') for run in members] for n in _NAMES),
      [_loss(run) for run in members],
      [_first_words(run) for run in members],
      *([_gain(run, places) for run in members] for places in (_FIRST, _LAST)),
    ]
    for context, members in best.items()
  ]
  columns = [
    *('model', 'peak', Column('BLEU, test')),
    *(f'BLEU, {n} words' for n in _NAMES),
    *('loss with length (%)', 'first three target tokens right (%)'),
    *('gain of the probe, 1 to 3 (%)', 'gain of the probe, 8 to 10 (%)'),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


_NAMES = [
  f'{a}-{b}'
  for a, b in zip((1, *(x + 1 for x in LENGTHS)), (*LENGTHS, ''), strict=True)
]
_FIRST, _LAST = (1, 2, 3), (8, 9, 10)


def _draw_lengths(folder, best):
  lines(
    folder / 'bleu-by-length',
    {
      CONTEXTS[context]: [
        ([*LENGTHS, LENGTHS[-1] + 5], [run.final(f'test/bleu/{n}') for n in _NAMES])
        for run in members
      ]
      for context, members in best.items()
    },
    'source length (words, upper limit; last point: longer)',
    'BLEU on test, greedy',
    title='BLEU by length of the source, with equal parameters',
    spread='bars',
  )


def _draw_positions(folder, best):
  places = range(1, PROBED + 1)
  lines(
    folder / 'probe-by-position',
    {
      CONTEXTS[context]: [
        (places, [_gain(run, (i,)) for i in places]) for run in members
      ]
      for context, members in best.items()
    },
    'position in the source (pieces)',
    'gain of the probe over chance (%)',
    title="What the encoder's last state holds of the source",
    spread='bars',
  )
  lines(
    folder / 'accuracy-by-position',
    {
      CONTEXTS[context]: [
        (POSITIONS, [run.final(f'errors/forced/{p}') for p in POSITIONS])
        for run in members
      ]
      for context, members in best.items()
    },
    'target position (tokens)',
    'accuracy, true prefix',
    title='Accuracy by target position',
    spread='bars',
  )


def _verdicts(best):
  def predict(number, first, second, of, what):
    terms = versus(best, first, second, of)
    names = f'{CONTEXTS[first]} minus {CONTEXTS[second]}'
    return judged(f'{number}. {what}: {names}', terms, above=0)

  loss, gain = 'loss with length (%)', 'gain of the probe (%)'
  return [
    predict(1, 'vector', 'attention', _loss, loss),
    predict(2, 'uniform', 'attention', _loss, loss),
    predict(3, 'reversed', 'vector', lambda run: _gain(run, _FIRST), f'{gain}, 1 to 3'),
    predict(4, 'vector', 'reversed', lambda run: _gain(run, _LAST), f'{gain}, 8 to 10'),
    predict(5, 'reversed', 'vector', _first_words, 'first three target tokens (%)'),
  ]


def _loss(run):
  """Returns the share of BLEU on the shortest sources that the longest lack, in %."""
  short, long = (run.final(f'test/bleu/{_NAMES[i]}') for i in (0, -1))
  return 100 * (1 - long / max(short, 1e-9))


def _first_words(run):
  return 100 * np.mean([run.final(f'errors/forced/{p}') for p in (1, 2, 3)])


def _gain(run, places):
  """Returns the mean gain of the probe over chance at these positions, in percent."""
  pairs = [[run.final(f'probe/{n}/{i}') for n in ('right', 'chance')] for i in places]
  gains = [(right - c) / max(1 - c, 1e-9) for right, c in pairs]
  return 100 * float(np.mean(gains))


def _context(run):
  if run.config['batching']['reverse_source']:
    return 'reversed'
  kinds = {None: 'vector', 'uniform': 'uniform', 'additive': 'attention'}
  return kinds[run.config['model'].get('attention')]


PAPER = []
TIME = 'about 2 hours on 2 CPU cores for the sweep (estimated)'
