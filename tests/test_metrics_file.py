"""Reading the rows of a run, after it has ended or while it writes them."""

import json

import pytest

from seqlab import metrics_file
from seqlab.metrics_file import NewRows, cut, read_metrics


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


def test_rows_of_a_replaced_file_are_read_again(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(_line(1) + _line(2))
  rows = NewRows(path)
  rows.read()
  (tmp_path / 'part').write_text(_line(1))
  (tmp_path / 'part').replace(path)
  assert [row['step'] for row in rows.read()] == [1]


def _steps(path, say):
  return [row['step'] for row in read_metrics(path, say.append)]


DAMAGE = {
  'half a line': b'{"step": 2, "lo\n',
  'zeros': b'\0' * 5000 + b'\n',
  'not JSON': b'\xff\xfe junk\n',
  'a list': b'[1, 2]\n',
  'no step': b'{"loss": 1.0}\n',
  'a step that is a text': b'{"step": "2"}\n',
  'a value that is a text': b'{"step": 2, "loss": "1"}\n',
  'deep': b'[' * 100_000 + b'\n',
  'two rows in one line': b'{"step": 2}{"step": 3}\n',
  'zeros in a number': b'{"step": 2, "loss": 1\0\0.5}\n',
}


@pytest.mark.parametrize('line', DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_named_and_the_rows_after_it_are_read(tmp_path, line):
  path, messages = tmp_path / 'metrics.jsonl', []
  path.write_bytes(_line(1).encode() + line + _line(3).encode())
  assert _steps(path, messages) == [1, 3]
  assert len(messages) == 1
  assert f'{path}, line 2 is damaged' in messages[0]


def test_a_row_after_zeros_is_kept(tmp_path):
  path, messages = tmp_path / 'metrics.jsonl', []
  path.write_bytes(_line(1).encode() + b'\0' * 4096 + _line(2).encode())
  assert _steps(path, messages) == [1, 2]
  assert (
    'line 2 is damaged: 4,096 bytes of it are zero; the row after them is kept'
    in (messages[0])
  )


def test_a_line_longer_than_any_row_is_not_held_in_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(metrics_file, '_LONGEST', 100)
  path, messages = tmp_path / 'metrics.jsonl', []
  for size in (99, 100, 101, 200, 1000):
    path.write_bytes(_line(1).encode() + b'x' * size + b'\n' + _line(3).encode())
    assert _steps(path, messages) == [1, 3]
  assert len(messages) == 5
  assert messages[-1].endswith('it has 1,001 bytes; it is left out')


def test_line_numbers_continue_while_a_run_writes(tmp_path):
  path, messages = tmp_path / 'metrics.jsonl', []
  path.write_text(_line(1))
  rows = NewRows(path, messages.append)
  rows.read()
  with path.open('a') as file:
    file.write('junk\n' + _line(3))
  assert [row['step'] for row in rows.read()] == [3]
  assert 'line 2 is' in messages[0]


def test_cutting_keeps_rows_after_a_damaged_line(tmp_path):
  path, messages = tmp_path / 'metrics.jsonl', []
  text = _line(1) + 'junk\n' + _line(3) + _line(4) + _line(5) + '{"step": 6, "lo'
  path.write_text(text)
  cut(path, 4, messages.append)
  assert path.read_text() == _line(1) + _line(3) + _line(4)
  assert len(messages) == 1
  assert f'{path}, line 2 is damaged' in messages[0]
  assert (tmp_path / 'metrics.jsonl.damaged-1').read_text() == text
  cut(path, 3, messages.append)  # the file is no longer damaged
  assert path.read_text() == _line(1) + _line(3)
  assert len(messages) == 1
  assert len(list(tmp_path.iterdir())) == 2


def test_a_row_with_a_step_out_of_order_is_named(tmp_path):
  """A flipped bit turns step 2 into a later step, which `cut` would drop."""
  path, messages = tmp_path / 'metrics.jsonl', []
  path.write_text(_line(1) + _line(66) + _line(3) + _line(4))
  cut(path, 3, messages.append)
  assert path.read_text() == _line(1) + _line(3)
  assert 'line 2: its step is 66, and that of line 3 is 3' in messages[0]


def test_without_damage_there_are_no_messages(tmp_path, capsys):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(_line(1) + '\n' + _line(2) + '{"st')
  assert [row['step'] for row in read_metrics(path)] == [1, 2]
  cut(path, 2)
  assert capsys.readouterr() == ('', '')
