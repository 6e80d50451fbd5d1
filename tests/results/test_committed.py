"""Each committed verdict follows from the raw rows before it."""

from pathlib import Path

import pytest

from seqlab.results.records import read_lines, values_before
from seqlab.results.verdicts import compare

RESULTS = Path(__file__).parents[2] / 'docs' / 'results'
FILES = sorted(RESULTS.glob('*.jsonl'))
FILES = [path for path in FILES if path.name != 'ledger.jsonl']


def check(path):
  lines = read_lines(path)
  for verdict in lines:
    if verdict['line'] == 'verdict':
      values = values_before(lines, verdict)
      assert {str(seed): x for seed, x in values.items()} == verdict['values']
      differs = bool(verdict['differs'])
      again = compare(
        verdict['paper'], verdict['tolerance'], [*values.values()], differs=differs
      )
      assert again.mean == verdict['mean']
      assert again.interval == pytest.approx(verdict['interval'])
      for name in ('n', 'relation', 'verdict'):
        assert getattr(again, name) == verdict[name], f'{path}: {verdict["row"]}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_committed_verdicts_follow_from_their_raw_rows(path):
  check(path)


def test_a_verdict_follows_from_the_rows_that_reproduce_writes(experiment, fake):
  experiment.reproduce()
  check(experiment.records)
  text = experiment.records.read_text()
  experiment.records.write_text(text.replace('"value": 0.51', '"value": 0.52'))
  with pytest.raises(AssertionError):
    check(experiment.records)
