r"""The methods of `methods.py` on all of enwiki2018, 300 dimensions.

The baseline is gensim's skip-gram, on the same text with the same settings.

  python -m launch.sweep experiments/enwiki/whole.py --workdir runs/studies

Levy, Goldberg and Dagan 2015, https://aclanthology.org/Q15-1016, on a text that is a
fortieth of theirs. No method is tuned and no paired test is made, so that the table does
not rank them. The recorded one is of an earlier version, which had GloVe too, with
settings that are not its own, and no interval over pairs.
"""

from pathlib import Path

import ml_collections

from seqlab.config import parse_arg
from seqlab.experiment import load_module

methods = load_module(Path(__file__).with_name('methods.py'))


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, method='sgns', d=300)
  return methods.get_config(
    f'method={arg.method},d={arg.d},parts=11,words=50000,epochs=5'
  )


def smoke(c: ml_collections.ConfigDict) -> None:
  methods.smoke(c)


LINES = methods.MAIN | {"SGNS, gensim's": dict(arg='method=gensim')}


def sweep(add):
  for seed in methods.SEEDS:  # outermost, so that an unfinished sweep has all methods
    for changes in LINES.values():
      add(seed=seed, **changes)


def report(runs, folder):
  named = {
    label: members
    for label, changes in LINES.items()
    if (members := [run for run in runs if run.overrides['arg'] == changes['arg']])
  }
  text = f'{methods.scores(named, methods.pair_scores(named))}\n{methods.coverage(runs[0])}\n'
  (folder / 'table.md').write_text(text, 'utf-8')


PAPER = []
TIME = '130 minutes for the sweep on 2 CPU cores'
