r"""Sentences without the marks of their ends and beginning: length and BLEU.

  python -m launch.sweep experiments/lecture/boundaries.py --on population \
    --workdir runs/studies
  seqlab train experiments/lecture/boundaries.py:without=target-end --workdir runs/endless

The lecture: "в конце последовательности энкодера - токен конца строки" (the encoder's
sequence ends with an end-of-sequence token), and "в начальном состоянии декодера на входе -
токен начала строки" (the decoder's first input is a beginning-of-sequence token). A decoder
also learns to write the token of the end, after which decoding stops. Here each of the three
is taken away: the encoder does not read EOS; the decoder's first input is another one than
BOS; the target's EOS has no weight in the loss. A vector of zeros in place of BOS is not
learnt, but marks the start as well, since no token has this vector. With an ordinary token in
its place no input marks the start, and only the decoder's state can. A model that does not
end continues to the limit of 1.5 times the source's tokens and 10. To see what is wrong with
its outputs besides, all outputs are also cut: they get 1.17 times the tokens of the source,
which is the ratio of the training pairs, and end there.

The model is an encoder-decoder with attention (Luong et al. 2015,
https://arxiv.org/abs/1508.04025), whose decoder starts from the encoder's last state; all
variants have 115,584 parameters. Each gets 800 updates, three learning rates and three seeds;
the rate with the best mean BLEU of cut outputs on 'valid' counts, and the rest is measured on
'test'. No sentence has more than eight words. The sizes were chosen by a trial with all marks
on 'valid', where BLEU was 18; the bounds are ours.

Each prediction is a bound on a difference of means. It is supported if the whole 95 % interval
over seeds (Welch; of a prediction's comparisons together, by Bonferroni's correction) is where
it was predicted, refuted if the whole interval is elsewhere, and otherwise not decided. The
report prints these verdicts. Seeds share the test sentences, whose sampling error the interval
does not contain.

Predicted before the runs:
1. Without the target's EOS outputs have more than 1.5 times the tokens of the references;
   with it, and without one of the others, between 0.9 and 1.1 times.
2. Without the target's EOS BLEU is lower.
3. Of cut outputs it is then within 4 of that with all marks: only the end is missing.
4. Without the source's EOS BLEU is within 4 of that with all marks, and so it is with zeros
   or with an ordinary token in place of BOS: the decoder knows where it starts, since its
   cells start from the encoder's.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.report.differences import PREDICTIONS, judged, versus
from seqlab.report.figures import bars
from seqlab.report.runs import best_by, chosen
from seqlab.report.tables import Column, table
from seqlab.types import BOS

WAS = 16  # id of the token 'был' (was), which one of seven Russian sentences has
# Whether the encoder reads EOS, what the decoder reads first (None: zeros), and the weight of
# the target's EOS.
WITHOUT = {
  'nothing': (True, BOS, 1.0),
  'source-end': (False, BOS, 1.0),
  'learnt-start': (True, None, 1.0),
  'start': (True, WAS, 1.0),
  'target-end': (True, BOS, 0.0),
}
NAMES = {
  'nothing': 'nothing',
  'source-end': "the source's EOS",
  'learnt-start': 'BOS (zeros)',
  'start': 'BOS (an ordinary token)',
  'target-end': "the target's EOS",
}
PEAKS = (5e-3, 1e-2, 2e-2)
CUT = (1.17, 0)  # tokens per token of the source, and besides


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, {'without': WITHOUT}, without='nothing')
  source_end, first_token, end_weight = WITHOUT[arg.without]
  c = ml_collections.ConfigDict()
  c.task = 'tasks.translation:Translation'
  c.seed, c.steps = 0, 800

  # Data
  c.corpus = dict(name='agreement', source='en', target='ru')
  c.corpus.update(train=30_000, valid=300, test=1_000, max_words=8)
  c.vocabulary = dict(kind='bpe', size=1_000, shared=True)
  c.batching = dict(kind='buckets', tokens=896, shapes=1, max_length=28)

  # Model
  c.model = dict(kind='recurrent', width=64, cell='gru', attention='dot')
  c.model.update(input_feeding=False, source_end=source_end, first_token=first_token)

  # Hyperparameters, which a sweep may vary without compiling again
  c.hyper = dict(peak=1e-2, label_smoothing=0.1, end_weight=end_weight)
  c.schedule = dict(kind='linear', warmup=80)
  c.optimizer = dict(kind='adam', clip=1.0)

  # Evaluation
  cut = dict(kind='full_length', length=CUT)
  c.evals = {}
  c.evals.valid = dict(kind='translation', split='valid', decoding=cut, shapes=1)
  c.evals.test = dict(kind='translation', split='test', beam=1, shapes=1)
  c.evals.cut = dict(kind='translation', split='test', decoding=cut, shapes=1)
  return c


def smoke(c: ml_collections.ConfigDict) -> None:
  c.steps = 20
  c.corpus.update(train=500, valid=100, test=100)
  c.vocabulary.size = 600
  c.model.width = 16
  c.schedule.warmup = 10


def sweep(add):
  for without in WITHOUT:
    for peak in PEAKS:
      for seed in range(3):
        add(seed=seed, arg=f'without={without}', **{'hyper.peak': peak})


def report(runs, folder):
  best = best_by(runs, _without, 'valid/bleu')
  best = {name: best[name] for name in WITHOUT if name in best}
  bars(
    folder / 'bleu',
    {
      label: {NAMES[name]: [of(run) for run in best[name]] for name in best}
      for label, of in (('as decoded', _bleu), ('cut', _cut))
    },
    'BLEU on test, greedy',
    xlabel='what is taken away',
    title='Without marks of beginning and end',
    digits=1,
  )
  rows = [
    [
      *(NAMES[name], chosen(members, PEAKS)),
      *([of(run) for run in members] for of in (_bleu, _ratio, _cut)),
    ]
    for name, members in best.items()
  ]
  columns = [
    *('without', 'peak', Column('BLEU, test', digits=2)),
    *(Column('length ratio', digits=3), Column('BLEU, cut', digits=2)),
  ]
  verdicts = table(_verdicts(best), PREDICTIONS)
  (folder / 'table.md').write_text(f'{table(rows, columns)}\n{verdicts}', 'utf-8')


def _verdicts(best):
  def ratio(name, **bounds):
    label = f'1. length ratio without {NAMES[name]}'
    terms = [(1, [_ratio(run) for run in best.get(name, ())])]
    return judged(label, terms, tests=len(WITHOUT), **bounds)

  def change(number, name, of, label, **bounds):
    terms = versus(best, name, 'nothing', of)
    return judged(f'{number}. {label}, without {NAMES[name]}', terms, **bounds)

  near = {'above': -4, 'below': 4}
  others = [name for name in WITHOUT if name not in ('nothing', 'target-end')]
  return [
    ratio('target-end', above=1.5),
    *(ratio(name, above=0.9, below=1.1) for name in ('nothing', *others)),
    change(2, 'target-end', _bleu, 'BLEU', below=0),
    change(3, 'target-end', _cut, 'BLEU, cut', **near),
    *(change(4, name, _bleu, 'BLEU', tests=len(others), **near) for name in others),
  ]


def _bleu(run):
  return run.final('test/bleu')


def _ratio(run):
  return run.final('test/length_ratio')


def _cut(run):
  return run.final('cut/bleu')


def _without(run):
  model, hyper = run.config['model'], run.config['hyper']
  options = model['source_end'], model['first_token'], hyper['end_weight']
  return next(name for name, x in WITHOUT.items() if x == options)


PAPER = []
TIME = (
  'about 17 minutes of one CPU core for the sweep, as a population (estimated from the '
  'time of one trial)'
)
