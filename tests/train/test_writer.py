"""Rows of metrics, and lines on the terminal."""

import json
import math

import pytest

from seqlab.train.folder import open_folder
from seqlab.train.writer import Progress, Writer, read_metrics


def _folder(tmp_path):
  return open_folder(tmp_path, {})


def test_there_is_one_row_per_step(tmp_path):
  writer = Writer(_folder(tmp_path))
  writer.write(1, {'loss': 2.0})
  writer.write(1, {'bleu': 30.0})
  writer.write(2, {'loss': 1.0})
  writer.close()
  assert read_metrics(tmp_path / 'metrics.jsonl') == [
    {'step': 1, 'loss': 2.0, 'bleu': 30.0},
    {'step': 2, 'loss': 1.0},
  ]


def test_rows_of_repeated_steps_are_dropped(tmp_path):
  writer = Writer(_folder(tmp_path))
  for step in range(1, 6):
    writer.write(step, {'loss': step})
  writer.close()
  with (tmp_path / 'metrics.jsonl').open('a', encoding='utf-8') as file:
    file.write('{"step": 6, "lo')  # killed while it wrote
  Writer(_folder(tmp_path), start_step=3).close()
  rows = read_metrics(tmp_path / 'metrics.jsonl')
  assert [row['step'] for row in rows] == [1, 2, 3]


def test_nan_and_infinity_become_null(tmp_path):
  writer = Writer(_folder(tmp_path))
  writer.write(1, {'loss': math.nan, 'norm': math.inf})
  writer.close()
  text = (tmp_path / 'metrics.jsonl').read_text('utf-8')
  assert json.loads(text) == {'step': 1, 'loss': None, 'norm': None}


def test_flushed_rows_are_on_the_disk(tmp_path):
  writer = Writer(_folder(tmp_path))
  writer.write(1, {'loss': 1.0})
  assert read_metrics(tmp_path / 'metrics.jsonl') == []
  writer.flush()
  assert len(read_metrics(tmp_path / 'metrics.jsonl')) == 1
  writer.close()


def test_rows_wait_while_the_disk_is_full(small_disk, fill):
  folder = _folder(small_disk)
  writer, progress = Writer(folder), Progress(folder.log, total=9)
  filler = fill(small_disk)
  progress.message('the disk is full')
  for step in range(1, 400):
    writer.write(step, {'loss': step})
  with pytest.raises(OSError, match='No space'):
    writer.flush()
  filler.unlink()
  writer.flush()
  progress.message('it has room again')
  rows = read_metrics(folder.metrics)
  assert [row['step'] for row in rows] == list(range(1, 400))
  log = folder.log.read_text('utf-8')
  assert log.index('is full') < log.index('has room')
  writer.close()
  progress.close()


def test_without_a_terminal_there_are_plain_lines(tmp_path, capsys):
  progress = Progress(tmp_path / 'log', total=9, every=0.0)
  progress.start(0)
  row = {'loss': 1.5, 'speed/seconds': 0.5, 'speed/tokens_per_s': 100.0}
  progress.update(1, row)
  progress.close()
  out = capsys.readouterr().out
  assert 'step 1 of 9: loss 1.500, 100 tokens/s' in out
  assert '\x1b' not in out
  assert 'step 1 of 9' in (tmp_path / 'log').read_text('utf-8')
