import csv

import pytest

from seqlab.cli import main
from seqlab.config import direction
from seqlab.report.tables import Column, mean_and_deviation, summary, table

ROWS = [['gru', [30.0, 32.0, 34.0], [5.5]], ['a|b_c', [30.0, 31.0], [4.5]]]
COLUMNS = ['cell', Column('bleu', 'max', 1), Column('loss', 'min', 2)]


def test_markdown_has_mean_deviation_best_and_n():
  assert table(ROWS, COLUMNS) == (
    '| cell   |           bleu |     loss |   n |\n'
    '| ------ | -------------: | -------: | --: |\n'
    '| gru    | **32.0 ± 2.0** |     5.50 | 1-3 |\n'
    r'| a\|b_c |     30.5 ± 0.7 | **4.50** | 1-2 |'
    '\n'
  )


def test_latex_is_escaped_and_bold_in_mathematics():
  assert table(ROWS, COLUMNS, format='latex').splitlines() == [
    r'\begin{tabular}{lrrr}',
    r'\toprule',
    r'cell & bleu & loss & n \\',
    r'\midrule',
    r'gru & $\mathbf{32.0 \pm 2.0}$ & $5.50$ & 1-3 \\',
    r'a|b\_c & $30.5 \pm 0.7$ & $\mathbf{4.50}$ & 1-2 \\',
    r'\bottomrule',
    r'\end{tabular}',
  ]


def test_csv_has_numbers_that_are_not_rounded():
  lines = list(csv.reader(table(ROWS, COLUMNS, format='csv').splitlines()))
  assert lines[0] == ['cell', 'bleu mean', 'bleu sd', 'loss mean', 'loss sd', 'n']
  assert lines[1] == ['gru', '32.0', '2.0', '5.5', '', '1-3']
  assert float(lines[2][2]) == mean_and_deviation([30.0, 31.0])[1]


def test_plain_numbers_need_no_n():
  assert table([['a', 1.0], ['b', 20.0]], ['x', 'y']).splitlines()[2:] == [
    '| a   |  1.00 |',
    '| b   | 20.00 |',
  ]


def test_means_that_are_printed_the_same_are_both_best():
  text = table([[1.001], [1.004], [0.5]], [Column('x', 'max', 2)])
  assert text.count('**1.00**') == 2
  assert text.count('**') == 4


def test_a_missing_number_and_nan_are_not_the_best():
  text = table([[[]], [[float('nan')]], [[2.0]]], [Column('x', 'min', 1)])
  assert [line.split('|')[1].strip() for line in text.splitlines()[2:]] == [
    '-',
    'nan',
    '**2.0**',
  ]


@pytest.mark.parametrize(
  ('rows', 'format', 'message'),
  [
    ([['a', 1.0]], 'html', "format is 'html'; it may be markdown, csv, latex"),
    ([['a']], 'csv', 'row 0 has 1 cells for 2 columns'),
  ],
)
def test_rows_of_the_wrong_length_are_named(rows, format, message):
  with pytest.raises(ValueError, match=message):
    table(rows, ['x', 'y'], format=format)


@pytest.mark.parametrize(
  ('metric', 'mode'),
  [
    ('loss', 'min'),
    ('valid/nll', 'min'),
    ('valid/nll_running', 'min'),
    ('speed/valid_seconds', 'min'),
    ('valid/bleu', 'max'),
    ('valid/bleu/closs', 'max'),
    *((f'valid/{name}', 'min') for name in ('cer', 'per', 'wer', 'word_errors', 'ter')),
    ('valid/per/loss', 'min'),
    ('valid/bpc', 'min'),
    ('dev/bits_per_character', 'min'),
    ('loss/accuracy', 'max'),
    ('valid/exact/error', 'max'),
    ('speed/tokens_per_second', 'max'),
  ],
)
def test_lower_is_better_for_losses_and_times(metric, mode):
  assert direction(metric) == mode


def _three(make_run):
  """Writes two runs of one learning rate, and one of another."""
  for name, peak, seed, values in (
    ('a', 0.1, 0, [9.0, 3.0]),
    ('b', 0.1, 1, [1.0, 5.0]),
    ('c', 0.2, 0, [2.0, 2.0]),
  ):
    make_run(name, values, seed=seed, hyper={'peak': peak})


def test_a_summary_finds_the_differing_keys_and_averages_over_seeds(make_run, tmp_path):
  _three(make_run)
  assert summary([tmp_path]).splitlines() == [
    '| peak |        valid/bleu |   n |',
    '| ---- | ----------------: | --: |',
    '| 0.1  | **4.000 ± 1.414** |   2 |',
    '| 0.2  |             2.000 |   1 |',
  ]


def test_a_summary_of_the_best_values(make_run, tmp_path):
  _three(make_run)
  assert '7.000 ± 2.828' in summary([tmp_path], choose='best')


def test_a_summary_prints_in_bold_what_the_runs_call_best(make_run, tmp_path):
  for name, value in (('a', 1.0), ('b', 2.0)):
    make_run(name, [value], best_is='min', task=name)
  assert '**1.000**' in summary([tmp_path / 'a', tmp_path / 'b'])


def test_a_summary_of_a_metric_that_no_run_has(make_run, tmp_path):
  _three(make_run)
  with pytest.raises(ValueError, match=r"no metric 'valid/blue'; did you mean"):
    summary([tmp_path], ['valid/blue'])


def test_the_verb_prints_a_table_and_says_what_it_leaves_out(
  make_run, tmp_path, capsys
):
  _three(make_run)
  make_run('d', [99.0], status='failed', seed=3, hyper={'peak': 0.1})
  argv = ['table', str(tmp_path), '--metric', 'valid/bleu', '--by', 'hyper.peak']
  assert main([*argv, '--format', 'latex']) == 0
  out, error = capsys.readouterr()
  assert out == (
    '\\begin{tabular}{lrr}\n\\toprule\n'
    'peak & valid/bleu & n \\\\\n\\midrule\n'
    '0.1 & $\\mathbf{4.000 \\pm 1.414}$ & 2 \\\\\n'
    '0.2 & $2.000$ & 1 \\\\\n'
    '\\bottomrule\n\\end{tabular}\n'
  )
  assert error == f'left out: {tmp_path / "d"}: failed\n'
  assert main([*argv, '--format', 'csv']) == 0
  assert capsys.readouterr().out == (
    'peak,valid/bleu mean,valid/bleu sd,n\n0.1,4.0,1.4142135623730951,2\n0.2,2.0,,1\n'
  )


def test_a_name_of_several_lines_is_one_cell():
  lines = table([['a|b\nc', 1.0]], ['x\r\ny', 'z']).splitlines()
  assert lines[0].split('|')[1].strip() == 'x y'
  assert r'| a\|b c |' in lines[2]
  assert len(lines) == 3
