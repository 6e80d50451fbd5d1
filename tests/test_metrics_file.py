"""Reading the rows of a run, whole or while they are written."""

import json

from seqlab.metrics_file import NewRows, read_metrics


def _line(step):
  return f'{json.dumps({"step": step, "loss": None})}\n'


def test_rows_are_read_once(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(_line(1) + _line(2))
  rows = NewRows(path)
  assert [row['step'] for row in rows.read()] == [1, 2]
  assert rows.read() == []
  with path.open('a') as file:
    file.write(_line(3)[:5])
    file.flush()
    assert rows.read() == []
    file.write(_line(3)[5:-1])
    file.flush()
    assert [row['step'] for row in rows.read()] == [3]
    file.write('\n' + _line(4))
  assert [row['step'] for row in rows.read()] == [4]
  assert [row['step'] for row in read_metrics(path)] == [1, 2, 3, 4]


def test_rows_of_a_file_that_was_cut_are_read_anew(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(_line(1) + _line(2))
  rows = NewRows(path)
  rows.read()
  (tmp_path / 'part').write_text(_line(1))
  (tmp_path / 'part').replace(path)
  assert [row['step'] for row in rows.read()] == [1]
