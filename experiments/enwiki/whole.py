r"""The five methods of `roads.py` over all of enwiki2018, 300 wide: the README's table.

Beside them gensim's skip-gram, of the same text with the same settings.

  python -m launch.sweep experiments/enwiki/whole.py --workdir runs/studies

Levy, Goldberg and Dagan 2015, https://aclanthology.org/Q15-1016, on a text a fortieth
of theirs. This study is under revision: no method is tuned, no paired test is made, and ±
leaves out the standard errors of the sets.
"""

from pathlib import Path

import ml_collections

from seqlab.config import parse_arg
from seqlab.experiment import load_module

roads = load_module(Path(__file__).with_name('roads.py'))


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  arg = parse_arg(arg, road='sgns', d=300)
  return roads.get_config(f'road={arg.road},d={arg.d},parts=11')


smoke = roads.smoke


LINES = roads.MAIN | {"SGNS, gensim's": dict(arg='road=gensim')}


def sweep(add):
  for seed in roads.SEEDS:  # outermost: each further one narrows the error bars of all
    for changes in LINES.values():
      add(seed=seed, **changes)


def report(runs, folder):
  named = {
    label: members
    for label, changes in LINES.items()
    if (members := [run for run in runs if run.overrides['arg'] == changes['arg']])
  }
  text = f'{roads.scores(named)}\n{roads.coverage(runs[0])}\n'
  (folder / 'table.md').write_text(text, 'utf-8')


PAPER = {}
TIME = '130 minutes for the sweep on 2 CPU cores'
