r"""Which words each head attends to, against baselines, and what is wrong without it.

  python -m launch.sweep experiments/lecture/heads.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/heads.py:heads=8 --workdir runs/heads

The lecture: "если аттентионов несколько - то каждый будет согласовывать свою информацию -
род, число и т.д." (several heads each agree on information of their own: gender, number,
...). Vaswani et al. 2017, table 3 (A), https://arxiv.org/abs/1706.03762, vary the number of
heads with equally many parameters; here it is 1 and 8. The grammar of the corpus defines which
word determines a form; see `seqlab.evaluators.agreement`, which also defines the baselines.
'gender' are forms in the singular, 'number' those in the plural; 'antecedent' is свой and the
subject that it refers to. An English plural such as dog|s lets a head look at the stem, which
tells the gender, or at `s`, which tells the number. That a head looks at a piece does not show
what it reads there, since the encoder has mixed the pieces.

Heads have no order, so that those of different seeds are aligned by role: the head of a
role is the one that looks there most often on 'valid', and all heads are matched with those
of the first seed by their profiles on 'valid' (a linear assignment). All numbers of heads
are then measured on 'test', so that the choice of a head does not raise them; the best fixed
distance is chosen on 'test', in its favour. The best of 16 heads looks somewhere often
even if it is the best by chance: the control is a head that is chosen in the same way among
those of a model before training (one update, at the first rate of the warm-up).

Three learning rates, five seeds, 700 updates of about 35 sentences of at most ten words; the
rate with the best mean BLEU on 'valid' counts. Sizes were chosen for a budget of time. The
correlation of looks and losses over the 16 heads of a side is reported and not tested: from so few
heads the interval of one seed is about 1 wide.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain; the table of roles has it as a column, in points.

Predicted before the runs, with 8 heads but for 5:
1. In the decoder's self-attention there is a head for each of gender, number, case and
   antecedent, which looks at the governor more often than the best fixed distance does.
2. So it is in the attention to the source.
3. On either side such heads look there more often than heads that are chosen in the same way
   before training (mean over the four roles).
4. Gender and number have heads of their own in the attention to the source: without the head
   for gender more forms of gender are lost than of number, compared with what is lost without
   the head for `s`. If one head has both roles, this difference of differences is zero.
5. With 8 heads more forms of each kind are right than with one.
6. Heads are needed for what they look at: without the head of a role more of its forms are
   lost than without one of the other heads of that side (mean over the four roles).
"""

import ml_collections
import numpy as np

from seqlab.config import parse_arg
from seqlab.metrics.similarity import spearman
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import bars, heatmap
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

HEADS = (1, 8)
MANY = 8
UNTRAINED = f'{MANY}, before training'
PEAKS = (2.5e-3, 5e-3, 1e-2)
SEEDS = range(5)
KINDS = ('gender', 'number', 'case', 'antecedent')
LOOKS = {'cross': (*KINDS, 'stem', 's'), 'decoder': KINDS}
SIDES = {'decoder': 'to the prefix', 'cross': 'to the source'}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'trained': ('yes', 'no')}, heads=MANY, trained='yes')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 700 if arg.trained == 'yes' else 1

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=500, test=1_000, max_words=10)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='packed', tokens=512, max_length=64)

  # Model
  c.model = dict(kind='transformer', width=96, mlp_width=192, layers=2)
  c.model.update(heads=arg.heads, unroll=2)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=70)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.roles = dict(kind='agreement', split='valid')
  c.evals.agreement = dict(kind='agreement', split='test')
  c.evals.attention = dict(kind='attention', split='valid', show=4)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = min(c.steps, 20)
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=16, layers=1)
  c.schedule.warmup = 150  # as its first losses were recorded


def sweep(add):
  for heads in HEADS:
    for peak in PEAKS:
      for seed in SEEDS:
        add(seed=seed, arg=f'heads={heads}', **{'hyper.peak': peak})
  for seed in SEEDS:
    add(seed=seed, arg='trained=no')


def report(runs, folder):
  best = best_by(runs, _variant, 'valid/bleu')
  best = {name: best[name] for name in (*HEADS, UNTRAINED) if name in best}
  rows = [
    [
      *(str(heads), chosen(members, PEAKS)),
      [run.final('test/bleu') for run in members],
      *(
        [100 * run.final(f'agreement/accuracy_{kind}') for run in members]
        for kind in KINDS
      ),
    ]
    for heads, members in best.items()
  ]
  columns = ['heads', 'peak', Column('BLEU, test')]
  columns += [Column(f'{kind} right (%)', digits=1) for kind in KINDS]
  text = f'{table(rows, columns)}\n{table(_verdicts(best), PREDICTIONS)}'
  members = best.get(MANY, [])
  if members:
    seeds, untrained = (
      [Seed(run) for run in best.get(name, ())] for name in (MANY, UNTRAINED)
    )
    roles = _roles(seeds, untrained, folder)
    text += f'\nHeads chosen on valid, measured on test:\n\n{roles}'
    text += f'\nRank correlation over the heads of looks and losses:\n\n{_ranks(seeds)}'
    _draw_aligned(seeds, folder)
    _draw_map(members[0], folder)
  bars(
    folder / 'bleu',
    {
      'BLEU': {
        str(heads): [run.final('test/bleu') for run in members]
        for heads, members in best.items()
        if heads != UNTRAINED
      }
    },
    'BLEU on test, greedy',
    xlabel='heads',
    title='BLEU by number of heads, with equal parameters',
    digits=1,
  )
  (folder / 'table.md').write_text(text, 'utf-8')


class Seed:
  """The heads of one run, numbered over layers and heads.

  Attributes:
    valid: arrays of the evaluation that heads are chosen by.
    test: arrays of the evaluation that is reported.
  """

  def __init__(self, run):
    self.valid, self.test = run.arrays('roles'), run.arrays('agreement')

  def looks(self, side: str, arrays: dict) -> np.ndarray:
    """Returns how often each head looks where, [heads, looks]."""
    return _flat(arrays[f'look/{side}'])

  def head(self, side: str, look: str) -> int:
    """Returns the head that looks there most often on 'valid'."""
    return int(self.looks(side, self.valid)[:, LOOKS[side].index(look)].argmax())

  def share(self, side: str, look: str, head: int, name: str = 'look') -> float:
    """Returns in how many percent of the cases of 'test' a head looks there.

    Args:
      side: one of SIDES.
      look: one of LOOKS.
      head: number of the head.
      name: 'look', or a baseline: 'chance', 'fixed' or 'uniform'.
    """
    values = self.test[f'{name}/{side}'][..., LOOKS[side].index(look)]
    return 100 * float(values.reshape(-1)[head] if values.ndim else values)

  def lost(self, side: str) -> np.ndarray:
    """Returns the forms that are lost without each head, points, [heads, kinds]."""
    return 100 * (self.test['accuracy'] - _flat(self.test[f'without/{side}']))

  def excess_loss(self, side: str) -> float:
    """Returns what is lost without the head of a role, more than without another head.

    Points, mean over the kinds of forms.
    """
    lost, differences = self.lost(side), []
    for k, kind in enumerate(KINDS):
      head = self.head(side, kind)
      differences.append(lost[head, k] - np.delete(lost[:, k], head).mean())
    return float(np.mean(differences))

  def half_width(self, side: str, look: str, head: int) -> float:
    """Returns half of the 95 % interval of `share` over the forms, in points."""
    share = self.share(side, look, head) / 100
    cases = self.test[f'cases/{side}'][LOOKS[side].index(look)]
    return 196 * float(np.sqrt(share * (1 - share) / max(cases, 1)))

  def rank_correlation(self, side: str, kind: str) -> float:
    """Returns Spearman's correlation of looks and losses over heads; NaN if constant."""
    k = KINDS.index(kind)
    return spearman(self.looks(side, self.test)[:, k], self.lost(side)[:, k])


def _flat(x: np.ndarray) -> np.ndarray:
  return x.reshape(-1, x.shape[-1])


def aligned(profile: np.ndarray, reference: np.ndarray) -> np.ndarray:
  """Returns which head of a profile is matched with each head of another one.

  The sum of squared differences is least (a linear assignment).

  Args:
    profile: [heads, looks].
    reference: [heads, looks].
  """
  from scipy.optimize import linear_sum_assignment  # takes long to import

  distance = ((reference[:, None] - profile[None]) ** 2).sum(axis=-1)
  return linear_sum_assignment(distance)[1]


def _roles(seeds, untrained, folder):
  rows, drawn = [], {side: {} for side in SIDES}
  for side in SIDES:
    for look in LOOKS[side]:
      heads = [seed.head(side, look) for seed in seeds]
      pairs = [*zip(seeds, heads, strict=True)]

      def measured(name, side=side, look=look, pairs=pairs):
        return [seed.share(side, look, head, name) for seed, head in pairs]

      names = ('look', 'chance', 'fixed', 'uniform')
      values = {name: measured(name) for name in names}
      values['untrained'] = [x.share(side, look, x.head(side, look)) for x in untrained]
      lost, median = [], []
      if look in KINDS:
        k = KINDS.index(look)
        lost = [float(seed.lost(side)[head, k]) for seed, head in pairs]
        median = [float(np.median(seed.lost(side)[:, k])) for seed in seeds]
      rows.append(
        [
          *(SIDES[side], look, *values.values()),
          [seed.half_width(side, look, head) for seed, head in pairs],
          *(lost, median),
        ]
      )
      for label, shares in zip(_LABELS, values.values(), strict=True):
        drawn[side].setdefault(label, {})[look] = shares
  for side, where in SIDES.items():
    bars(
      folder / f'roles-{side}',
      drawn[side],
      'cases in which the head looks there (%)',
      xlabel='what the head was chosen for',
      title=f'Heads of a role {where}, and baselines',
      ylim=(0, 100),
    )
  columns = ['attention', 'role', *(Column(f'{x} (%)', digits=1) for x in _LABELS)]
  columns.append(Column('95 % over forms (± points)', digits=1))
  columns += ['lost without it (points)', 'median of all heads (points)']
  return table(rows, columns)


_LABELS = (
  *('head', 'its distances', 'best fixed distance', 'random piece'),
  'head before training',
)


def _ranks(seeds):
  rows = [
    [where, *([seed.rank_correlation(side, kind) for seed in seeds] for kind in KINDS)]
    for side, where in SIDES.items()
  ]
  return table(rows, ['attention', *KINDS])


def _draw_aligned(seeds, folder):
  """Draws means over seeds of all heads, after matching them by their profiles."""
  for side, where in SIDES.items():
    profiles = [seed.looks(side, seed.valid) for seed in seeds]
    orders = [aligned(profile, profiles[0]) for profile in profiles]
    pairs = [*zip(seeds, orders, strict=True)]
    looks = np.mean([seed.looks(side, seed.test)[order] for seed, order in pairs], 0)
    lost = np.mean([seed.lost(side)[order] for seed, order in pairs], 0)
    names = [f'head {i + 1}' for i in range(len(looks))]
    heatmap(
      folder / f'looks-{side}',
      100 * looks,
      LOOKS[side],
      names,
      label='cases in which the head looks there (%)',
      xlabel='what it looks at',
      title=f'Aligned heads {where}, mean of {len(seeds)} seeds',
      digits=0,
      limits=(0, 100),
    )
    bound = max(float(np.abs(lost).max()), 1e-9)
    heatmap(
      folder / f'lost-{side}',
      lost,
      KINDS,
      names,
      label='forms lost without the head (points)',
      xlabel='kind of form',
      title=f'Aligned heads {where}, mean of {len(seeds)} seeds',
      digits=1,
      limits=(-bound, bound),
      colours='RdBu_r',
    )


def _draw_map(run, folder):
  """Draws the head of the decoder for gender on the first sentence of 'valid'."""
  seed, arrays = Seed(run), run.arrays('attention')
  shape = seed.valid['look/decoder'].shape[:2]
  layer, head = np.unravel_index(seed.head('decoder', 'gender'), shape)
  target = [str(piece) for piece in arrays['target/0']]
  heatmap(
    folder / 'map',
    arrays['decoder/0'][layer, head],
    ['<s>', *target[:-1]],
    target,
    label='attention',
    xlabel='token that the decoder has read',
    ylabel='target token to be predicted',
    title=f'Layer {layer + 1}, head {head + 1}, for gender; seed {run.config["seed"]}',
    limits=(0, 1),
  )


def _verdicts(best):
  seeds, untrained = (
    [Seed(run) for run in best.get(name, ())] for name in (MANY, UNTRAINED)
  )

  def above_fixed(side, kind):
    heads = [(seed, seed.head(side, kind)) for seed in seeds]
    return [
      seed.share(side, kind, head) - seed.share(side, kind, head, 'fixed')
      for seed, head in heads
    ]

  def mean_share(side, seed):
    return np.mean([seed.share(side, kind, seed.head(side, kind)) for kind in KINDS])

  apart = []
  for seed in seeds:
    gender, number = KINDS.index('gender'), KINDS.index('number')
    more_gender = np.subtract(*seed.lost('cross')[:, [gender, number]].T)  # [heads]
    apart.append(
      more_gender[seed.head('cross', 'gender')] - more_gender[seed.head('cross', 's')]
    )

  def right(kind):
    return lambda run: 100 * run.final(f'agreement/accuracy_{kind}')

  return [
    *(
      judged(
        f'{number}. {kind} {SIDES[side]}: head minus best fixed distance (points)',
        [(1, above_fixed(side, kind))],
        above=0,
        tests=len(KINDS),
      )
      for number, side in ((1, 'decoder'), (2, 'cross'))
      for kind in KINDS
    ),
    *(
      judged(
        f'3. looks {where}: head minus head before training (points)',
        [
          (sign, [mean_share(side, seed) for seed in group])
          for sign, group in ((1, seeds), (-1, untrained))
        ],
        above=0,
        tests=len(SIDES),
      )
      for side, where in SIDES.items()
    ),
    judged(
      '4. gender minus number lost: head for gender minus head for s (points)',
      [(1, apart)],
      above=0,
    ),
    *(
      judged(
        f'5. {kind} right, {MANY} heads minus one (points)',
        versus(best, MANY, 1, right(kind)),
        above=0,
        tests=len(KINDS),
      )
      for kind in KINDS
    ),
    *(
      judged(
        f'6. lost {where}: head of a role minus other heads (points)',
        [(1, [seed.excess_loss(side) for seed in seeds])],
        above=0,
        tests=len(SIDES),
      )
      for side, where in SIDES.items()
    ),
  ]


def _variant(run):
  return UNTRAINED if run.config['steps'] == 1 else run.config['model']['heads']


PAPER = []
TIME = 'about 15 minutes of one CPU core for the sweep, as a population (estimated)'
