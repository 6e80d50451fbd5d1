r"""What one vector of the source forgets: BLEU by length, and a probe of the vector.

  python -m launch.sweep experiments/lecture/forgetting.py --workdir runs/studies
  seqlab train experiments/lecture/forgetting.py:context=uniform --workdir runs/uniform

The lecture: "энкодер-декодер забывает о начальных токенах" (encoder and decoder forget the
first tokens). Bahdanau et al. 2015, figure 2, https://arxiv.org/abs/1409.0473, report that
quality falls with length where one vector encodes the whole source, and much less with
attention; Sutskever et al. 2014, section 3.3, https://arxiv.org/abs/1409.3215, that
reversing the source helps the first words. The control has attention's place and output
layer and gives each word the same weight. Encoders read in one direction, since one that
reads in both has the first words last. Models have 300,492 to 302,275 parameters, 900
updates, three learning rates and three seeds; the rate with the best mean BLEU on 'valid'
counts, and the rest is measured on 'test'. Sentences have at most 18 words, in training and
in the tests.

A linear probe predicts the piece at each of the first ten positions of sources of 10 to 14
pieces from the encoder's last state; its gain is (right - chance) / (1 - chance). It is
fitted to sentences of the training, for all models alike. The loss with length is the share
of its BLEU on sources of 1 to 5 words that a model lacks on sources of 15 to 18: a share,
since models differ in BLEU at every length. A model that is worse in general may lose a
greater share, too: the table has the BLEU of each length, to be read with it.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
(of a prediction's comparisons together, by Bonferroni's correction) is where it was predicted,
refuted if the whole interval is elsewhere, and otherwise not decided. The interval adds the
variance over seeds (Welch) and that over test sentences, which all seeds share (bootstrap).

Predicted before the runs:
1. The loss with length is greater with one vector than with attention.
2. It is greater for the control than for attention, too: it is looking that helps, and not
   the output layer.
3. Words that are read first are forgotten: the probe's gain for positions 1 to 3 is greater
   if the source is reversed, so that these are read last. The words are the same.
4. For positions 8 to 10 it is greater if the source is not reversed.
5. Reversal raises BLEU.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.metrics.bleu import bleu_score
from seqlab.report.differences import PREDICTIONS, judged, over_items, versus
from seqlab.report.figures import lines
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

LENGTHS = (5, 8, 11, 14)  # upper limits in words; the last group has MAX_WORDS
MAX_WORDS = 18
PROBED = 10
CONTEXTS = {
  'vector': 'one vector',
  'reversed': 'one vector, source reversed',
  'uniform': 'uniform attention',
  'attention': 'attention',
}
# With these the models have equally many parameters.
WIDTHS = {'vector': 112, 'reversed': 112, 'uniform': 107, 'attention': 102}
PEAKS = (5e-3, 1e-2, 2e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'context': CONTEXTS}, context='vector')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 900

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=2_000, max_words=MAX_WORDS)
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
  c.schedule = dict(kind='linear', warmup=90)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, lengths=LENGTHS)
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
      *(CONTEXTS[context], chosen(members, PEAKS)),
      [run.final('test/bleu') for run in members],
      *([run.final(f'test/bleu/{n}') for run in members] for n in _NAMES),
      [_loss(run) for run in members],
      *([_gain(run, places) for run in members] for places in (_FIRST, _LAST)),
    ]
    for context, members in best.items()
  ]
  columns = [
    *('model', 'peak', Column('BLEU, test')),
    *(f'BLEU, {n} words' for n in _NAMES),
    *(
      'loss with length (%)',
      'gain of the probe, 1 to 3 (%)',
      'gain of the probe, 8 to 10 (%)',
    ),
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
        ([*LENGTHS, MAX_WORDS], [run.final(f'test/bleu/{n}') for n in _NAMES])
        for run in members
      ]
      for context, members in best.items()
    },
    'source length (words, upper limit)',
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


def _verdicts(best):
  def predict(number, first, second, of, statistics, score, what):
    names = f'{CONTEXTS[first]} minus {CONTEXTS[second]}'
    items = over_items(versus(best, first, second, statistics), score)
    terms = versus(best, first, second, of)
    return judged(f'{number}. {what}: {names}', terms, above=0, items=items)

  loss = (_loss, _loss_statistics, _loss_of, 'loss with length (%)')

  def gain(places):
    return (
      lambda run: _gain(run, places),
      lambda run: _gain_statistics(run, places),
      _gain_of,
      f'gain of the probe (%), {places[0]} to {places[-1]}',
    )

  return [
    predict(1, 'vector', 'attention', *loss),
    predict(2, 'uniform', 'attention', *loss),
    predict(3, 'reversed', 'vector', *gain(_FIRST)),
    predict(4, 'vector', 'reversed', *gain(_LAST)),
    predict(
      *(5, 'reversed', 'vector', lambda run: run.final('test/bleu')),
      *(lambda run: run.arrays('test')['bleu'], bleu_score, 'BLEU'),
    ),
  ]


def _loss(run):
  """Returns the share of BLEU on the shortest sources that the longest lack, in %."""
  return float(_loss_of(_loss_statistics(run).sum(axis=0)))


def _loss_statistics(run):
  """Returns BLEU's integers of the shortest sources, then of the longest ones."""
  arrays = run.arrays('test')
  parts = [arrays['part'] == part for part in (0, len(LENGTHS))]
  return np.hstack([arrays['bleu'] * part[:, None] for part in parts])  # [R, 20]


def _loss_of(statistics):
  short, long = (np.asarray(bleu_score(x)) for x in np.split(statistics, 2, axis=-1))
  return 100 * (1 - long / np.maximum(short, 1e-9))


def _gain(run, places):
  """Returns the mean gain of the probe over chance at these positions, in percent."""
  return float(_gain_of(_gain_statistics(run, places).sum(axis=0)))


def _gain_statistics(run, places):
  """Returns whether probe and chance are right at these positions, and 1, by source."""
  arrays, columns = run.arrays('probe'), np.array(places) - 1
  hits = [arrays[name][:, columns] for name in ('right', 'chance')]
  return np.hstack([*hits, np.ones((len(hits[0]), 1))])


def _gain_of(statistics):
  right, chance = np.split(statistics[..., :-1] / statistics[..., -1:], 2, axis=-1)
  return 100 * ((right - chance) / np.maximum(1 - chance, 1e-9)).mean(axis=-1)


def _context(run):
  if run.config['batching']['reverse_source']:
    return 'reversed'
  kinds = {None: 'vector', 'uniform': 'uniform', 'additive': 'attention'}
  return kinds[run.config['model'].get('attention')]


PAPER = []
TIME = 'about 35 minutes of one CPU core for the sweep (estimated)'
