r"""Attention without the masks of padding and of packed sentences: what leaks, what it costs.

  python -m launch.sweep experiments/lecture/padding.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/padding.py:rows=packed,masked=no --workdir runs/packed

The lecture: "чтобы декодер учитывал только те слова, которые он уже выдал, - будем
использовать маску в аттеншне" (a mask in attention lets the decoder see only the words that
it has produced). mask.py takes that mask away. The same kind of mask hides two more things:
padding, where rows have one sentence each and are as wide as the longest, and the other
sentences of a row, where rows are packed (Krell et al. 2021,
https://arxiv.org/abs/2107.02027, call what leaks there cross-contamination). Each is shown to
attention here, in training and, for padding, in decoding too.

A leak is the change of the states of random sentences, relative to the states: by as many
positions of padding as words in the source, or by another pair of sentences before it in the
row. BLEU on 'test' is measured in batches of one shape, with as much padding as in training,
and in up to three shapes, with less; no sentence has more words than those of training.
Models have 230,144 parameters. Padded batches have 768 positions and packed ones 512, with
24 and about 35 sentences, and only the same rows are compared. Each variant gets 800 updates,
three learning rates and three seeds; the rate with the best mean BLEU on 'valid' counts. The
sizes were chosen by a trial with packed rows and their mask on 'valid', where BLEU was 41,
and the learning rates by the best one of mask.py there, 1e-2; the bounds are ours.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs:
1. With its mask padding changes the states by less than 0.1 %, and so do packed sentences.
2. Without it padding changes them by more than 1 %, and packed sentences by more than 5 %.
3. Without the mask of padding BLEU in one shape is within 4 of that with it: padding is one
   more token, and can be learnt to be ignored.
4. It then depends on the padding: BLEU in several shapes minus that in one is lower than with
   the mask, since there is less padding than in training.
5. Without the mask of packed sentences BLEU is lower by more than 2: the words of a sentence
   are to be found among those of others in training, and alone in decoding.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import bars
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table

# Rows -> kind of batching, positions of a batch, and of a row.
ROWS = {'padded': ('buckets', 768, 32), 'packed': ('packed', 512, 64)}
MASKED = {'yes': True, 'no': False}
OPTION = {'padded': 'mask_padding', 'packed': 'mask_segments'}
LEAK = {'padded': 'padding', 'packed': 'packing'}
PEAKS = (5e-3, 1e-2, 2e-2)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'rows': ROWS, 'masked': MASKED}, rows='padded', masked='yes')
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 800

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=300, test=1_000, max_words=10)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  kind, tokens, max_length = ROWS[arg.rows]
  c.batching = dict(kind=kind, tokens=tokens, shapes=1, max_length=max_length)

  # Model
  c.model = dict(kind='transformer', width=64, mlp_width=128, heads=4, layers=2)
  c.model.update(unroll=2, mask_padding=True, mask_segments=True)
  c.model[OPTION[arg.rows]] = MASKED[arg.masked]

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=5e-3, label_smoothing=0.1)
  c.schedule = dict(kind='linear', warmup=80)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', beam=1, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.tight = dict(kind='translation', split='test', beam=1, shapes=3)
  c.evals.leak = dict(kind='neighbours')
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.update(width=16, mlp_width=32, layers=1)
  c.evals.tight.shapes = 2
  c.schedule.warmup = 10


def sweep(add):
  for rows in ROWS:
    for masked in MASKED:
      for peak in PEAKS:
        for seed in range(3):
          arg = f'rows={rows},masked={masked}'
          add(seed=seed, arg=arg, **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _variant, 'valid/bleu')
  best = {v: best[v] for rows in ROWS for m in MASKED if (v := (rows, m)) in best}
  bars(
    folder / 'bleu',
    {
      label: {
        f'{rows}, masked: {masked}': [of(run) for run in members]
        for (rows, masked), members in best.items()
      }
      for label, of in (('one shape', _bleu), ('several shapes', _tight))
    },
    'BLEU on test, greedy',
    title='With and without the masks of padding and packing',
    digits=1,
  )
  rows = [
    [
      *(*variant, chosen(members, PEAKS)),
      *([of(run) for run in members] for of in (_bleu, _tight)),
      *([_leak(run, kind) for run in members] for kind in LEAK),
    ]
    for variant, members in best.items()
  ]
  columns = [
    *('rows', 'masked', 'peak'),
    *(Column('BLEU, one shape', digits=1), Column('BLEU, several shapes', digits=1)),
    Column('change by padding (%)', digits=2),
    Column('change by packing (%)', digits=2),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _verdicts(best):
  def leak(number, rows, masked, **bounds):
    terms = [(1, [_leak(run, rows) for run in best.get((rows, masked), ())])]
    label = f'{number}. change by {LEAK[rows]} (%), masked: {masked}'
    return judged(label, terms, tests=2, **bounds)

  def change(of, rows):
    return versus(best, (rows, 'no'), (rows, 'yes'), of)

  def moved(run):
    return _tight(run) - _bleu(run)

  return [
    *(leak(1, rows, 'yes', below=0.1) for rows in ROWS),
    leak(2, 'padded', 'no', above=1),
    leak(2, 'packed', 'no', above=5),
    judged(
      '3. BLEU, padded, without minus with', change(_bleu, 'padded'), above=-4, below=4
    ),
    judged(
      '4. BLEU of several shapes minus one, without minus with',
      change(moved, 'padded'),
      below=0,
    ),
    judged('5. BLEU, packed, without minus with', change(_bleu, 'packed'), below=-2),
  ]


def _bleu(run):
  return run.final('test/bleu')


def _tight(run):
  return run.final('tight/bleu')


def _leak(run, rows):
  return 100 * run.final(f'leak/{LEAK[rows]}')


def _variant(run):
  kinds = {kind: rows for rows, (kind, *_) in ROWS.items()}
  rows = kinds[run.config['batching']['kind']]
  return rows, 'yes' if run.config['model'][OPTION[rows]] else 'no'


PAPER = []
TIME = (
  'about 15 minutes of one CPU core for the sweep, as a population (estimated from the '
  'time of one trial)'
)
