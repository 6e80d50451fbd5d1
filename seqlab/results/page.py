"""The page of results, `docs/results.md`."""

from collections.abc import Sequence

from seqlab.results.origin import short_name
from seqlab.results.state import Result

_INTRODUCTION = """# Results of papers, reproduced

`make results` makes this page; `seqlab results` prints the same table. A row is one
published number, written into its experiment before the run: what is measured, on which
split, with which options, and the tolerance within which it counts as reproduced.

- **here** is the mean over the seeds ± half of Student's 95 % interval. The interval
  decides nothing.
- **verdict** is `reproduced` where the difference of the mean from the published value is
  at most the tolerance, otherwise `above` or `below`. It is `different protocol` where the
  row says what differs from the paper; how the mean compares then follows in brackets.
- **evaluations** counts how often the split was evaluated with finished runs, by
  `seqlab reproduce` or by hand; one per seed is the least.
- **stale** says why a result no longer belongs to the experiment as it is now.

`seqlab reproduce EXPERIMENT --results FOLDER` repeats all rows of an experiment, and
`--rows NAME` some of them. The raw rows, one line per seed with its value, commit, digests
of the data, machine, times and commands, are in [results/](results/README.md), with the
configuration and the curves of each run.
"""


def page(results: Sequence[Result]) -> str:
  """Returns the page in Markdown: a table, and then what rows say in words."""
  parts = [_INTRODUCTION, _table(results)]
  parts += [text for result in results if (text := _words(result))]
  return '\n'.join(parts)


def _table(results: Sequence[Result]) -> str:
  head = ('experiment', 'row', 'paper', 'here', 'n', 'verdict', 'evaluations', 'date')
  lines = [head, ('---',) * len(head), *map(_cells, results)]
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _cells(result: Result) -> tuple[str, ...]:
  row = result.row
  path, name, _, here, n, state, stale, evaluations, date = map(
    _escaped, result.texts()
  )
  raw = f'results/{short_name(result.experiment)}.jsonl'
  return (
    f'[{path.removeprefix("experiments/").removesuffix(".py")}]({raw})'
    if result.seeds
    else path.removeprefix('experiments/').removesuffix('.py'),
    f'`{name}`',
    f'{row.value:g} ± {row.tolerance:g} ([{_escaped(row.of)}]({row.url}))',
    here,
    n,
    state if stale == '-' else f'{state}; **stale**: {stale}',
    evaluations,
    date,
  )


def _words(result: Result) -> str:
  """Returns what a row says in words, as a paragraph; empty if it says nothing."""
  row = result.row
  said = {
    'Equal': row.equal,
    'Differs': row.differs,
    'Predicted before the run': row.prediction,
    'Options of the evaluation': f'`{row.evaluate}`' if row.evaluate else '',
  }
  lines = [f'- {label}: {text}' for label, text in said.items() if text]
  if not lines:
    return ''
  name = f'{result.experiment} `{row.name}`'
  return '\n'.join([f'## {name}\n', *lines, ''])


def _escaped(text: str) -> str:
  """Returns text for a cell of a table, where a bar would end the cell."""
  return text.replace('|', '\\|').replace('\n', ' ')
