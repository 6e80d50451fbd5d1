"""Measurements of a device beside their estimates, in tiny sizes on the CPU."""

import dataclasses
import json
import subprocess
from types import SimpleNamespace

import pytest

from launch import check_device
from launch.check_device import SIZES, as_table, main, run_part
from seqlab.layers import attention

BASE = {'base': SIZES['tiny'].models['base']}
TINY = dataclasses.replace(SIZES['tiny'], models=BASE)


@pytest.mark.parametrize(
  ('name', 'rows'),
  [
    ('training', ['training step, base']),
    ('decoding', ['step of beam search, base']),
    (
      'attention',
      ['attention, xla', 'attention, cudnn', 'attention, xla, dropout 0.1'],
    ),
    pytest.param(
      *('evaluation', ['evaluation, base', 'share of BLEU']),
      marks=pytest.mark.slow,  # 20 seconds
    ),
  ],
)
def test_each_part_measures_on_any_device(monkeypatch, name, rows):
  monkeypatch.setattr(check_device, '_SECONDS', 0.0)
  part = run_part(name, TINY)
  assert part['error'] is None
  assert {*rows} <= {row['name'] for row in part['rows']}
  assert all(row['passed'] is not False for row in part['rows'])
  assert rows[0] in as_table([part])
  json.dumps(part, allow_nan=False)


def _fail_to_attend(*args):
  raise RuntimeError('not implemented')


def test_a_failure_of_the_attention_that_every_device_has_is_an_error(monkeypatch):
  monkeypatch.setattr(attention, 'softmax_attention', _fail_to_attend)
  assert run_part('attention', TINY)['error'] == 'RuntimeError: not implemented'


def test_attention_with_wrong_bits_or_without_dropout_is_not_correct(monkeypatch):
  def kept(query, key, value, bias, mask, dropout):
    return softmax_attention(query, key, value, bias, mask, None)

  softmax_attention = attention.softmax_attention
  monkeypatch.setattr(attention, 'softmax_attention', kept)
  rows = run_part('attention', TINY)['rows']
  passed = {row['name']: row['passed'] for row in rows}
  assert passed['attention, xla']
  assert passed['attention, xla, dropout 0.1'] is False


@pytest.mark.parametrize('at', [0, -1])
def test_attention_with_a_result_that_is_not_a_number_is_not_correct(monkeypatch, at):
  def broken(*args):
    return softmax_attention(*args).at[at].set(float('nan'))

  softmax_attention = attention.softmax_attention
  monkeypatch.setattr(attention, 'softmax_attention', broken)
  assert run_part('attention', TINY)['rows'][0]['passed'] is False


def _measure_and_fail(sizes):
  yield check_device.Row('first', 1.0, 'ms', estimate=0.5, passed=False)
  raise RuntimeError('out of memory\nand more')


def test_a_part_that_fails_keeps_what_it_has_measured(monkeypatch):
  monkeypatch.setitem(check_device.PARTS, 'training', _measure_and_fail)
  part = run_part('training', TINY)
  table = as_table([part])
  assert 'FAILED: RuntimeError: out of memory' in table
  assert table.splitlines()[1].split() == ['first', '1', 'ms', '0.5', '2.00', '-', 'NO']


def test_a_part_that_is_killed_does_not_end_the_others(monkeypatch, tmp_path, capsys):
  def run(command, **options):
    name = command[command.index('--within') + 1]
    if name == 'training':
      return SimpleNamespace(returncode=-9)
    if name == 'decoding':
      raise subprocess.TimeoutExpired(command, options['timeout'])
    part = {'part': name, 'rows': [], 'error': None}
    with open(command[command.index('--json') + 1], 'w', encoding='utf-8') as file:
      json.dump(part, file)
    return SimpleNamespace(returncode=0)

  monkeypatch.setattr(check_device.subprocess, 'run', run)
  path = tmp_path / 'check.json'
  assert main(['--json', str(path)]) == 1
  printed = capsys.readouterr().out
  assert 'FAILED: it ended by SIGKILL' in printed
  assert 'FAILED: it took more than the' in printed
  errors = [part['error'] for part in json.loads(path.read_text('utf-8'))]
  assert [bool(error) for error in errors] == [True, True, False, False]


def test_a_part_is_not_started_when_no_time_is_left(monkeypatch, capsys):
  monkeypatch.setattr(check_device.subprocess, 'run', None)
  assert main(['--minutes', '0', '--part', 'decoding']) == 1
  assert 'it was not started' in capsys.readouterr().out
