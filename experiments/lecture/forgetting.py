r"""What one vector of the source forgets: BLEU by length, and a probe of the vector.

  python -m launch.sweep experiments/lecture/forgetting.py --workdir runs/studies
  seqlab train experiments/lecture/forgetting.py:context=uniform --workdir runs/uniform

The lecture: "энкодер-декодер забывает о начальных токенах" (the encoder-decoder forgets the
first tokens). Bahdanau et al. 2015, figure 2, https://arxiv.org/abs/1409.0473, report that
quality falls with length where one vector encodes the whole source, and much less with
attention; Sutskever et al. 2014, section 3.3, https://arxiv.org/abs/1409.3215, that
reversing the source helps the first words. The control has attention's place and output
layer and gives each word the same weight. Encoders read in one direction, since one that
reads in both has the first words last. Models have 746,112 to 750,636 parameters, 3,000
updates, three learning rates and three seeds; the rate with the best mean BLEU on 'valid'
counts, and the rest is measured on 'test'. A linear probe predicts the piece at each of the
first ten positions of sources of 10 to 14 pieces from the encoder's last state; its gain is
(right - chance) / (1 - chance). An effect is a difference of means whose 95 % interval over
seeds (Welch) excludes 0.

Predicted before the runs, and what would refute it:
1. From sources of 1 to 5 words to those of 18 or more, BLEU falls more with one vector than
   with attention. No effect would refute it.
2. The control falls more than attention, too: it is looking that helps, and not the output
   layer. No effect would refute it.
3. The probe's gain is lower for positions 1 to 3 than for 8 to 10: the beginning is
   forgotten. No effect would refute the lecture's claim for this model.
4. With a reversed source the order of 3 is reversed. No effect would refute it.
5. Reversal raises the accuracy of the first three target tokens. No effect would refute it.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.report.differences import difference
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
  c.corpus.update(train=30_000, valid=500, test=2_000)
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
      [_fall(run) for run in members],
      [_first_words(run) for run in members],
      *([_gain(run, places) for run in members] for places in (_FIRST, _LAST)),
    ]
    for context, members in best.items()
  ]
  columns = [
    *('model', 'peak', Column('BLEU, test')),
    *(f'BLEU, {n} words' for n in _NAMES),
    *('fall of BLEU', 'first three target tokens right (%)'),
    *('gain of the probe, 1 to 3 (%)', 'gain of the probe, 8 to 10 (%)'),
  ]
  text = table(rows, columns)
  if compared := _compared(best):
    text += '\n' + table(compared, ['difference', '95 % interval'])
  (folder / 'table.md').write_text(text, 'utf-8')


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


def _compared(best):
  """Returns the differences that the predictions are about."""

  def compare(label, of, first, second):
    if all(len(best.get(context, ())) > 1 for context in (first, second)):
      values = ([of(run) for run in best[context]] for context in (first, second))
      found = difference(*values)
      names = f'{CONTEXTS[first]} minus {CONTEXTS[second]}'
      rows.append([f'{label}: {names}', found.text()])

  rows = []
  compare('fall of BLEU', _fall, 'vector', 'attention')
  compare('fall of BLEU', _fall, 'uniform', 'attention')
  compare('fall of BLEU', _fall, 'vector', 'uniform')
  compare('first three target tokens (%)', _first_words, 'reversed', 'vector')
  for context in ('vector', 'reversed'):
    if len(members := best.get(context, ())) > 1:
      # Within a run, so that the interval is that of one sample
      more = [_gain(run, _LAST) - _gain(run, _FIRST) for run in members]
      found = difference(more, [0.0] * len(more))
      label = f'gain of the probe (%), 8 to 10 minus 1 to 3: {CONTEXTS[context]}'
      rows.append([label, found.text()])
  return rows


def _fall(run):
  """Returns by how much BLEU is lower on the longest sources than on the shortest."""
  return run.final(f'test/bleu/{_NAMES[0]}') - run.final(f'test/bleu/{_NAMES[-1]}')


def _first_words(run):
  return 100 * np.mean([run.final(f'errors/forced/{p}') for p in (1, 2, 3)])


def _gain(run, places):
  """Returns the mean gain of the probe over chance at these positions, in percent."""
  pairs = [[run.final(f'probe/{n}/{i}') for n in ('right', 'chance')] for i in places]
  return 100 * float(np.mean([(right - c) / (1 - c) for right, c in pairs]))


def _context(run):
  if run.config['batching']['reverse_source']:
    return 'reversed'
  kinds = {None: 'vector', 'uniform': 'uniform', 'additive': 'attention'}
  return kinds[run.config['model'].get('attention')]


PAPER = []
TIME = '2 hours on 2 CPU cores for the sweep'
