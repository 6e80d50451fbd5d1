"""Rows of the registry, and how they are read from a file."""

import pytest

from seqlab.results import Row
from seqlab.results.paper import read_paper

FIELDS = dict(
  metric='test/exact', value=0.138, of='A', url='https://a.org', tolerance=0.03
)


def write(folder, paper, before=''):
  path = folder / 'mine.py'
  path.write_text(f'{before}\n\ndef get_config(arg=None):\n  pass\n\n\n{paper}\n')
  return path


def test_a_row_has_a_name_a_split_and_a_measure():
  row = Row(**FIELDS | {'metric': 'gen/exact/active', 'args': 'model=lstm'})
  assert row.name == 'gen/exact/active:model=lstm'
  assert (row.split, row.measure) == ('gen', 'exact/active')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(metric='exact'), "write 'split/measure'"),
    (dict(metric='test/'), "write 'split/measure'"),
    (dict(value='41'), r"Row\.value is '41'"),
    (dict(value=float('nan')), 'is nan: write a number'),
    (dict(tolerance=0.0), r'is 0\.0: write a number above 0'),
    (dict(tolerance=True), r'Row\.tolerance is True'),
    (dict(seeds=0), 'is 0: write 1 or more'),
    (dict(seeds=1.0), r'Row\.seeds is 1\.0: write a int'),
    (dict(of=' '), 'is empty: name the paper'),
    (dict(url='arxiv.org'), 'write an address with https://'),
    (dict(evaluate="--alpha '1"), 'No closing quotation'),
    (dict(evaluate='--split=dev'), 'has --split, which the metric decides'),
  ],
)
def test_a_field_that_cannot_be_used_is_named(change, message):
  with pytest.raises(ValueError, match=message):
    Row(**FIELDS | change)


def test_evaluators_may_be_run_on_another_split():
  assert Row(**FIELDS | {'evaluate': '--evals valid --split test'})


def test_rows_are_read_without_executing_the_file(tmp_path):
  call = 'results.Row(' + ', '.join(f'{k}={v!r}' for k, v in FIELDS.items()) + ')'
  path = write(tmp_path, f'PAPER: list = [{call}]', before='raise SystemExit\n')
  assert read_paper(path) == [Row(**FIELDS)]
  assert read_paper(write(tmp_path, '')) == []


@pytest.mark.parametrize(
  ('paper', 'message'),
  [
    ("{'test/bleu': 41.02}", r'PAPER of .*mine\.py is not a list of rows: write PAPER'),
    ('[3]', r'line 7: 3 is not a Row\(\.\.\.\)'),
    ("[Row('test/bleu')]", "name the fields of Row, as in metric='test/bleu'"),
    ('[Row(metrik=1)]', "Row has no field 'metrik'; did you mean 'metric'?"),
    ("[Row(metric='test/bleu')]", 'Row needs value, of, url, tolerance'),
    ('[Row(value=1 + VALUE)]', r'value=1 \+ VALUE is computed'),
    (
      "[Row(metric='x', value=1.0, of='a', url='https://a', tolerance=1.0)]",
      "line 7: Row.metric is 'x'",
    ),
    (
      "[Row(metric='x/y', value=1.0, of='a', url='https://a', tolerance=1.0), "
      "Row(metric='x/y', value=2.0, of='b', url='https://a', tolerance=1.0)]",
      "two rows 'x/y'",
    ),
  ],
)
def test_a_malformed_paper_is_explained(tmp_path, paper, message):
  with pytest.raises(ValueError, match=message):
    read_paper(write(tmp_path, f'PAPER = {paper}'))


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='there is no experiment'):
    read_paper(tmp_path / 'nowhere.py')
