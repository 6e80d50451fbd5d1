r"""The context as an embedding of the sentence: who does what, beside the words.

  python -m launch.sweep experiments/lecture/sentences.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/sentences.py:context=vector --workdir runs/vector

The lecture: "контекст - эмбединг всего предложения, который передается от энкодера
декодеру" (the context is an embedding of the whole sentence, passed from encoder to
decoder). Sutskever et al. 2014, figure 2, https://arxiv.org/abs/1409.3215, draw vectors of
sentences, which depend on the order of words and less on the voice. Here the sentences are
written after the grammar of the embedded corpus, 500 groups of each kind: with an adverb of
time at the beginning or the end and persons swapped, with the recipient before or after the
object and persons swapped, and active, passive and with another person. Counted is how often
the sentence of the same meaning is nearer (cosine) to the first one than that of another
meaning is, and how often a linear probe finds who acts, for pairs of persons to which it was
not fitted.

The vector is the encoder's last state, of an encoder that reads in one direction. Controls: the
sum of a random direction of the same width per piece (a bag of words) and models before
training, of five draws each, so that a difference from them varies with the trained model only;
a probe that is fitted to persons in a random order; and a model with attention, whose decoder
need not take everything from the last state. Models have 746,112 and 750,636 parameters,
800 updates of 16 sentences of at most nine words, three learning rates and five seeds; the
rate with the best mean BLEU on 'valid' counts. Sizes were chosen for a budget of time, and
models have not converged then.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the sentences, whose sampling error the interval does
not contain: of a share of 500 groups the standard error is at most 2.2 points, of the probe's
about 100 held-out groups at most 5.

Predicted before the runs, of the model with one vector, in points:
1. The same meaning is nearer than swapped persons in more than half of the groups, for an
   adverb and for a recipient that moved. (For a bag of words it is in none: the sentence
   with swapped persons has the same words as the first.)
2. The passive is nearer than another person's act more often than for a bag of words.
3. The probe finds who acts more than 20 points more often than in a bag of words, where it
   can find both persons.
4. It does so more than 10 points more often than before training, where the order of words
   is in the vector as well.
5. It does so more often than with attention.
6. Fitted to a random order it finds who acts in less than 15 % of the sentences; there are 26
   persons.
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.evaluators.meanings import VECTORS
from seqlab.report.differences import PREDICTIONS, judged
from seqlab.report.figures import bars
from seqlab.report.maps import word_map
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table
from seqlab.text.meanings import KINDS

CONTEXTS = {'vector': 'one vector', 'attention': 'attention'}
WIDTHS = {'vector': 192, 'attention': 174}  # for equally many parameters
PEAKS = (2.5e-3, 5e-3, 1e-2)
NAMES = {
  'vector': 'after training',
  'untrained': 'before training',
  'bag': 'bag of words',
}
MEANINGS = {
  'time': 'adverb moved / persons swapped',
  'recipient': 'recipient moved / persons swapped',
  'passive': 'passive / another person',
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'context': CONTEXTS}, context='vector')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 800

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000, max_words=9)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=512, shapes=1, max_length=32)

  # Model
  c.model = dict(kind='recurrent', width=WIDTHS[arg.context], cell='gru')
  c.model.update(context='always', placement='before', bidirectional=False)
  c.model.attention = 'additive' if arg.context == 'attention' else None

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=80)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.meanings = dict(kind='meanings', number=500)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.width = 16
  c.evals.meanings.number = 60
  c.schedule.warmup = 10


def sweep(add):
  for context in CONTEXTS:
    for peak in PEAKS:
      for seed in range(5):
        add(seed=seed, arg=f'context={context}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _context, 'valid/bleu')
  best = {context: best[context] for context in CONTEXTS if context in best}
  bars(
    folder / 'nearer',
    {
      f'{CONTEXTS[context]}, {NAMES[name]}': {
        MEANINGS[kind]: [_share(run, f'{name}/nearer/{kind}') for run in members]
        for kind in KINDS
      }
      for context, name, members in _vectors(best)
    },
    'groups in which the same meaning is nearer (%)',
    title='Same meaning against another meaning (50 %: no preference)',
    reference={'chance': 50.0},
    ylim=(0, 100),
  )
  for context, members in best.items():
    _draw_map(folder / f'map-{context}', members[0], CONTEXTS[context])
  rows = [
    [
      *(CONTEXTS[context], chosen(members, PEAKS)),
      [run.final('test/bleu') for run in members],
      *(
        [_share(run, f'{name}/agent') for run in members]
        for name in (*VECTORS, 'shuffled')
      ),
    ]
    for context, members in best.items()
  ]
  columns = [
    *('model', 'peak', Column('BLEU, test', digits=1)),
    *(Column(f'who acts (%), {NAMES[name]}', digits=1) for name in VECTORS),
    Column('who acts (%), shuffled', digits=1),
  ]
  nearest = [
    [
      *(CONTEXTS[context], NAMES[name]),
      *([_share(run, f'{name}/nearer/{kind}') for run in members] for kind in KINDS),
    ]
    for context, name, members in _vectors(best)
  ]
  titles = [
    *('model', 'vectors'),
    *(Column(f'nearer (%), {MEANINGS[kind]}', digits=1) for kind in KINDS),
  ]
  parts = (rows, columns), (nearest, titles), (_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text('\n'.join(table(*x) for x in parts), 'utf-8')


def _vectors(best):
  for context, members in best.items():
    for name in VECTORS:
      yield context, name, members


def _verdicts(best):
  def shares(metric, context='vector'):
    return [_share(run, metric) for run in best.get(context, ())]

  def over(metric, first='vector', second='bag'):
    """Returns the terms of a difference within each run, whose bag is always the same."""
    pairs = zip(shares(f'{first}/{metric}'), shares(f'{second}/{metric}'), strict=True)
    return [(1, [a - b for a, b in pairs])]

  attention = shares('vector/agent', 'attention')
  return [
    *(
      judged(
        *(f'1. nearer, {MEANINGS[kind]}', [(1, shares(f'vector/nearer/{kind}'))]),
        above=50,
        tests=2,
      )
      for kind in ('time', 'recipient')
    ),
    judged('2. nearer, passive, vector minus bag', over('nearer/passive'), above=0),
    judged('3. who acts, vector minus bag', over('agent'), above=20),
    judged('4. who acts, after training', over('agent', second='untrained'), above=10),
    judged(
      '5. who acts, one vector minus attention',
      [(1, shares('vector/agent')), (-1, attention)],
      above=0,
    ),
    judged(
      '6. who acts, shuffled',
      [(1, shares('shuffled/agent'))],
      below=15,
    ),
  ]


def _draw_map(path, run, name):
  """Draws the two components of the largest variance, with lines in each group."""
  arrays = run.arrays('meanings')
  texts = [str(x) for kind in KINDS for x in arrays[f'texts/{kind}']]
  vectors = np.concatenate([arrays[f'vectors/{kind}'] for kind in KINDS])
  # Two groups may have a sentence in common; a map has each once.
  rows = [i for i, text in enumerate(texts) if text not in texts[:i]]
  labels = ('first', 'same meaning', 'another meaning')
  word_map(
    path,
    [texts[i] for i in rows],
    vectors[rows],
    groups=[labels[i % 3] for i in rows],
    links=[(texts[i], texts[i + 1]) for i in range(0, len(texts), 3)],
    title=f'Vectors of sentences, {name}, seed {run.config["seed"]} (PCA)',
  )


def _share(run, metric):
  return 100 * run.final(f'meanings/{metric}')


def _context(run):
  return 'attention' if run.config['model'].get('attention') else 'vector'


PAPER = []
TIME = 'about 15 minutes of one CPU core for the sweep, as a population (estimated)'
