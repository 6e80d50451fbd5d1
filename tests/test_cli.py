"""The `seqlab` command, as a user types it."""

import io
import json
import subprocess
import sys

import pytest

from seqlab.cli import main


def _stdin(monkeypatch, text):
  stream = io.TextIOWrapper(io.BytesIO(text.encode()), encoding='utf-8')
  monkeypatch.setattr(sys, 'stdin', stream)


def test_translate_reads_stdin_and_writes_stdout(finished, monkeypatch, capsys):
  _stdin(monkeypatch, 'w1 w2\n\n')
  assert main(['translate', str(finished), '--beam=1']) == 0
  assert capsys.readouterr().out.count('\n') == 2


def test_evaluate_prints_a_signature(finished, capsys):
  assert main(['evaluate', str(finished), '--split=test', '--beam=1']) == 0
  assert 'nrefs:1|case:mixed|eff:no|tok:13a' in capsys.readouterr().out


def test_experiments_are_listed(capsys):
  assert main(['experiments']) == 0
  out = capsys.readouterr().out
  assert 'multi30k' in out
  assert '41.02' in out


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['train', 'nowhere.py', '--workdir=x'], 'there is no experiment nowhere.py'),
    (['evaluate', 'nowhere'], 'nowhere is no run'),
    (['translate', 'nowhere'], 'nowhere is no run'),
    (['experiments', 'nowhere'], 'there is no folder nowhere'),
    (
      [
        *('train', 'experiments/agreement/transformer.py', '--workdir=x'),
        '--config.hyper.paek=1',
      ],
      "did you mean 'peak'",
    ),
    (
      ['train', 'experiments/agreement/transformer.py:smok', '--workdir=x'],
      "did you mean 'smoke'",
    ),
  ],
)
def test_what_a_user_can_mend_is_one_line_on_stderr(argv, message, capsys):
  assert main(argv) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.startswith(f'seqlab {argv[0]}: ')
  assert 'Traceback' not in error


def test_an_unknown_option_is_refused(capsys):
  with pytest.raises(SystemExit):
    main(['evaluate', 'run', '--beeam=3'])
  assert '--beeam=3' in capsys.readouterr().err


def test_help_needs_no_jax():
  code = (
    'import sys; from seqlab.cli import main\n'
    'try: main(["--help"])\n'
    'except SystemExit: pass\n'
    'sys.exit("jax" in sys.modules)'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0
  assert 'translate' in done.stdout


def test_the_benchmark_prints_a_table_and_writes_json(tmp_path, capsys):
  output = tmp_path / 'bench.json'
  argv = ['bench', 'experiments/agreement/transformer.py:smoke', '--only=feed']
  assert main([*argv, f'--output={output}']) == 0
  found = json.loads(output.read_text('utf-8'))
  assert {row['unit'] for row in found['rows']} == {'batches/s', 'target tokens/s'}
  assert all(row['value'] > 0 for row in found['rows'])
  assert 'batches/s' in capsys.readouterr().out
