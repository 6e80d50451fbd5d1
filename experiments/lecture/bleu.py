r"""BLEU: what it sees of damage, what its tokeniser decides, and how exact it is.

  python -m launch.sweep experiments/lecture/bleu.py --workdir runs/studies

The lecture, point 4 (Papineni et al. 2002, https://aclanthology.org/P02-1040). Nothing is
trained: the reference of newstest2017 English-German is damaged, and 16 systems of WMT17
are scored, $SEQLAB_DATA/wmt17-en-de/.

Predicted, and what would refute it:
- Damage to the same share of words. Only dropping words lowers the brevity penalty, and
  shuffling keeps the precision of single words at 100. A wrong ending costs as much as a
  wrong word, since BLEU compares whole words: a difference above 1 BLEU would refute this.
- Tokenisers. They change scores by more than systems differ (Post 2018, table 1,
  https://aclanthology.org/W18-6319), and hardly the order: a Kendall correlation with
  the order by 13a below 0.9 would refute this.
- Size. The half width of the 95 % interval falls with the root of the number of
  sentences: an exponent outside -0.5 ± 0.05 would refute this.
"""

import csv
import itertools

import numpy as np
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from scipy.stats import kendalltau

from seqlab.metrics.bootstrap import compare, confidence_interval
from seqlab.metrics.corpus import Lines, corpus_statistics, read_lines, score
from seqlab.metrics.significance import holm
from seqlab.report.figures import lines
from seqlab.report.tables import Column, table
from seqlab.text.plain import find_file

SYSTEMS = (
  *('C-3MA.4959', 'FBK.4870', 'KIT.4950', 'LIUM-NMT.4900', 'LMU-nmt-reranked.4934'),
  *('LMU-nmt-single.4893', 'PROMT-Rule-based.4735', 'RWTH-nmt-ensemble.4921'),
  *('SYSTRAN.4847', 'TALP-UPC.4834', 'online-A.0', 'online-B.0', 'online-F.0'),
  *('online-G.0', 'uedin-nmt.4722', 'xmu.4910'),
)
TOKENIZERS = {
  '13a': dict(tokenizer='13a'),
  '13a, lower case': dict(tokenizer='13a', lowercase=True),
  'none': dict(tokenizer='none'),
  'characters': dict(tokenizer='char'),
}
RATES = (0.0, 0.05, 0.1, 0.2, 0.3)
SIZES = (100, 200, 500, 1_000, 2_000)
SEEDS = 3
LEVEL = 0.05  # of p-values, after the correction of Holm


def study(folder):
  reference = read_lines(find_file('wmt17-en-de', 'reference.de'))
  systems = {
    name.rpartition('.')[0]: read_lines(
      find_file('wmt17-en-de', f'newstest2017.{name}.en-de')
    )
    for name in SYSTEMS
  }
  rows, texts = [], []
  for part in (_damage(folder, reference), _tokenizers(systems, reference)):
    texts.append(part[0])
    rows += part[1]
  text, sizes = _sizes(folder, systems, reference)
  (folder / 'table.md').write_text('\n'.join([*texts, text]), 'utf-8')
  with (folder / 'rows.csv').open('w', encoding='utf-8', newline='') as file:
    head = ['part', 'variant', 'setting', 'seed', 'measure', 'value']
    csv.writer(file).writerows([head, *rows, *sizes])


def drop(words, chosen, random):
  """Leaves out the chosen words."""
  return [word for word, is_chosen in zip(words, chosen, strict=True) if not is_chosen]


def repeat(words, chosen, random):
  """Writes the chosen words twice."""
  return [
    w for word, twice in zip(words, chosen, strict=True) for w in [word] * (1 + twice)
  ]


def shuffle(words, chosen, random):
  """Permutes the chosen words among their places."""
  places = np.flatnonzero(chosen)
  shuffled = [*words]
  for place, other in zip(places, random.permutation(places), strict=True):
    shuffled[place] = words[other]
  return shuffled


def wrong_ending(words, chosen, random):
  """Gives the chosen words an ending that the language does not have."""
  return [f'{w}q' if c else w for w, c in zip(words, chosen, strict=True)]


def wrong_word(words, chosen, random):
  """Writes words that the language does not have in place of the chosen ones."""
  return [
    f'q{random.integers(10**9)}q' if is_chosen else word
    for word, is_chosen in zip(words, chosen, strict=True)
  ]


KINDS = {
  'dropped': drop,
  'repeated': repeat,
  'shuffled': shuffle,
  'wrong ending': wrong_ending,
  'wrong word': wrong_word,
}


def damaged(reference, kind, rate, seed):
  """Returns lines of which a share of the tokens is damaged.

  The same tokens are chosen for every kind, and those of a lower rate among them.

  Args:
    reference: lines of tokens, as `_tokens` makes them.
    kind: a name of `KINDS`.
    rate: the share.
    seed: integer seed of the choice.
  """
  result = []
  for i, line in enumerate(reference):
    words = line.decode('utf-8').split()
    chosen = np.random.default_rng([seed, i]).random(len(words)) < rate
    words = KINDS[kind](words, chosen, np.random.default_rng([seed, i, 1]))
    result.append(' '.join(words).encode('utf-8'))
  return result


def _damage(folder, reference):
  """Returns a table of damage to the reference, and the raw rows; draws the scores."""
  reference = _tokens(reference)
  rows, shown, curves = [], [], {}
  for kind in KINDS:
    curves[kind] = [([], []) for _ in range(SEEDS)]
    for rate in RATES:
      results = [
        _scored(damaged(reference, kind, rate, s), reference, tokenizer='none')
        for s in range(SEEDS)
      ]
      for seed, result in enumerate(results):
        rows += [['damage', kind, rate, seed, name, x] for name, x in result.items()]
        curves[kind][seed][0].append(100 * rate)
        curves[kind][seed][1].append(result['BLEU'])
      if rate in (0.1, 0.3):
        cells = ([r[name] for r in results] for name in results[0])
        shown.append([kind, f'{rate:.0%}', *cells])
  lines(
    folder / 'damage',
    curves,
    'damaged words (%)',
    'BLEU',
    title='The reference of newstest2017 en-de, damaged',
    spread='bars',
  )
  columns = ['words are', 'share', *(Column(name, digits=1) for name in results[0])]
  columns[-1] = Column('brevity penalty', digits=3)
  return table(shown, columns), rows


def _tokens(reference):
  """Returns lines of the tokens of 13a, so that damage does not move punctuation."""
  split = Tokenizer13a()
  return [split(line.decode('utf-8')).encode('utf-8') for line in reference]


def _scored(hypothesis, reference, **options):
  """Returns BLEU, its four precisions in percent, and its brevity penalty."""
  statistics = corpus_statistics(Lines(hypothesis), [Lines(reference)], **options)
  result = score(statistics.sum(axis=0))
  orders = zip(result['counts'], result['totals'], strict=True)
  precisions = {f'p{n}': 100 * hit / of for n, (hit, of) in enumerate(orders, 1)}
  return {'BLEU': result['score'], **precisions, 'brevity penalty': result['bp']}


def _tokenizers(systems, reference):
  """Returns a table of the systems by tokeniser, best first by 13a, and raw rows."""
  scores = {
    label: {
      name: _scored(x, reference, **options)['BLEU'] for name, x in systems.items()
    }
    for label, options in TOKENIZERS.items()
  }
  rows = [
    ['tokenizers', name, label, '', 'BLEU', value]
    for label, column in scores.items()
    for name, value in column.items()
  ]
  order = sorted(systems, key=scores['13a'].__getitem__, reverse=True)
  ranks = {
    label: {name: 1 + i for i, name in enumerate(sorted(column, key=column.get)[::-1])}
    for label, column in scores.items()
  }
  shown = [
    [name, *(f'{scores[x][name]:.2f} ({ranks[x][name]})' for x in TOKENIZERS)]
    for name in order
  ]
  text = table(shown, ['system', *(f'BLEU, {x} (rank)' for x in TOKENIZERS)])
  notes = []
  for label in [*TOKENIZERS][1:]:
    agreement = kendalltau([*scores['13a'].values()], [*scores[label].values()])
    swapped = sum(
      (scores['13a'][a] - scores['13a'][b]) * (scores[label][a] - scores[label][b]) < 0
      for a, b in itertools.combinations(systems, 2)
    )
    change = np.mean([scores[label][n] - scores['13a'][n] for n in systems])
    notes.append(
      f'{label}: {change:+.2f} BLEU on average, Kendall correlation '
      f'{agreement.statistic:.3f}, {swapped} of 120 pairs in another order'
    )
  return f'{text}\nCompared with 13a: {"; ".join(notes)}.\n', rows


def _sizes(folder, systems, reference):
  """Returns a table of intervals by the number of sentences, and the raw rows."""
  statistics = [
    corpus_statistics(Lines(x), [Lines(reference)]) for x in systems.values()
  ]
  best = [*systems].index('uedin-nmt')
  rows, shown, widths = [], [], []
  for size in (*SIZES, len(reference)):
    halves, told = [], []
    for seed in range(SEEDS if size < len(reference) else 1):
      chosen = np.random.default_rng(seed).permutation(len(reference))[:size]
      _, half = confidence_interval(statistics[best][chosen])
      halves.append(half)
      told.append(_distinguished([x[chosen] for x in statistics]))
      rows.append(['size', 'uedin-nmt', size, seed, 'half width', half])
      rows.append(['size', 'all', size, seed, 'pairs told apart', told[-1]])
    widths.append((size, np.mean(halves)))
    shown.append([f'{size:,}', halves, told])
  slope = np.polyfit(*np.log(np.array(widths)).T, 1)[0]
  lines(
    folder / 'interval',
    {'uedin-nmt': [tuple(zip(*widths, strict=True))]},
    'sentences of the test set',
    'half width of the 95 % interval (BLEU)',
    title='Interval of BLEU by size of the test set',
    xlog=True,
    ylog=True,
  )
  columns = ['sentences', Column('half width, uedin-nmt', digits=2)]
  columns.append(Column('of 120 pairs of systems, told apart', digits=0))
  note = (
    f'\nThe half width falls with the power {slope:.3f} of the number of sentences. '
    f'Systems are told apart by the paired bootstrap, p < {LEVEL} after the correction '
    'of Holm for 120 comparisons; subsets are drawn three times.\n'
  )
  return table(shown, columns) + note, rows


def _distinguished(statistics, samples=10_000):
  """Returns how many pairs of systems differ significantly, after Holm's correction."""
  p = []
  for i in range(len(statistics) - 1):
    p += [x.p_value for x in compare(statistics[i:], samples=samples)[1:]]
  return int((holm(p) < LEVEL).sum())


PAPER = []
TIME = '8 minutes on 2 CPU cores'
