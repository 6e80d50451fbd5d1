"""Completion in a shell, tried in the shell."""

import shutil
import subprocess
import sys

import pytest

from seqlab import cli


def test_a_missing_library_is_named(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'shtab', None)
  assert cli.main(['completion', 'bash']) == 1
  error = capsys.readouterr().err
  assert "shtab is not installed: pip install 'seqlab[completion]'" in error


@pytest.mark.parametrize(
  ('words', 'expected'),
  [
    (['tra'], {'train', 'translate'}),
    (['translate', '--stop', ''], set()),
    (['plan', '--form'], {'--format'}),
    (['plan', '--format', ''], {'text', 'json'}),
    (['train', 'multi30k/tr'], {'multi30k/transformer'}),
    (['train', 'min'], {'mine', 'mine.py'}),  # a folder and a file
    (['evaluate', 'min'], {'mine'}),
    (['export', 'run', 'min'], {'mine'}),
    (['align', 'a.bin', 'min'], {'mine', 'mine.py', 'minute.txt'}),
    (['align', 'a', 'b', '--dictionary', 'minu'], {'minute.txt'}),
  ],
)
def test_bash_completes(words, expected, tmp_path, capsys):
  pytest.importorskip('shtab')
  if not shutil.which('bash'):
    pytest.skip('bash is not installed')
  assert cli.main(['completion', 'bash']) == 0
  (tmp_path / 'complete').write_text(capsys.readouterr().out)
  (tmp_path / 'here' / 'mine').mkdir(parents=True)
  (tmp_path / 'here' / 'mine.py').touch()
  (tmp_path / 'here' / 'minute.txt').touch()
  quoted = ' '.join(repr(word) for word in ['seqlab', *words])
  code = (
    f'source {tmp_path}/complete; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; '
    '_shtab_seqlab; printf "%s\\n" "${COMPREPLY[@]}"'
  )
  done = subprocess.run(
    ['bash', '-c', code], cwd=tmp_path / 'here', capture_output=True, text=True
  )
  assert done.stderr == ''
  assert {*done.stdout.split()} == expected


@pytest.mark.parametrize('shell', ['zsh', 'tcsh'])
def test_other_shells_have_a_script(shell, capsys):
  pytest.importorskip('shtab')
  assert cli.main(['completion', shell]) == 0
  out = capsys.readouterr().out
  assert 'reproduce' in out
  assert shell == 'tcsh' or 'multi30k/transformer' in out
