"""`seqlab experiments` prints one line per experiment at any width."""

import json
import os
from pathlib import Path
import pty
import subprocess
import sys

import pytest

import seqlab
from seqlab.experiment_list import align, print_experiments, read_experiments

ROOT = Path(seqlab.__file__).parents[1]
TEXT = '''"""What this experiment shows.

And more.
"""


def get_config(arg=None):
  return {}


PAPER = [
  Row(metric='test/bleu', value=41.02, of='A', url='https://a.org', tolerance=0.5),
  Row(
    metric='test/exact',
    value=0.138,
    of='B',
    url='https://b.org',
    tolerance=0.03,
    args='split=length',
  ),
]
TIME = '2 hours\\ton a CPU'
'''


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'mine.py').write_text(TEXT, 'utf-8')
  (tmp_path / 'deeper').mkdir()
  plain = 'def get_config(arg=None):\n  return {}\n'
  (tmp_path / 'deeper' / 'plain.py').write_text(plain, 'utf-8')
  return tmp_path


def test_a_pipe_gets_complete_texts_in_one_line_per_experiment(folder, capsys):
  print_experiments(folder)
  _, plain, mine = capsys.readouterr().out.splitlines()
  assert plain.split() == [str(folder / 'deeper' / 'plain.py'), '-', '-', '-']
  assert mine.split() == [
    str(folder / 'mine.py'),
    *('41.02', 'test/bleu,', '0.138', 'test/exact:split=length'),
    *('2', 'hours', 'on', 'a', 'CPU'),
    *('What', 'this', 'experiment', 'shows.'),
  ]


def test_tsv_has_one_tab_between_columns(folder, capsys):
  print_experiments(folder, 'tsv')
  head, *lines = [line.split('\t') for line in capsys.readouterr().out.splitlines()]
  assert head == ['experiment', 'paper', 'time', 'title']
  assert lines == [
    [str(folder / 'deeper' / 'plain.py'), '-', '-', '-'],
    [
      str(folder / 'mine.py'),
      *('41.02 test/bleu, 0.138 test/exact:split=length', '2 hours on a CPU'),
      'What this experiment shows.',
    ],
  ]


def test_json_keeps_numbers(folder, capsys):
  print_experiments(folder, 'json')
  plain, mine = json.loads(capsys.readouterr().out)
  assert plain == {
    'path': str(folder / 'deeper' / 'plain.py'),
    **dict(title='', paper=[], time=''),
  }
  assert [row['value'] for row in mine['paper']] == [41.02, 0.138]
  assert mine['paper'][1]['args'] == 'split=length'


@pytest.mark.parametrize('width', [40, 60, 80, 100, 200])
def test_a_terminal_shows_whole_paths_and_no_line_is_wrapped(width):
  rows = [entry.texts() for entry in read_experiments(ROOT / 'experiments')]
  rows = [(path.removeprefix(f'{ROOT}/'), *texts) for path, *texts in rows]
  lines = align(rows, width)
  assert [line.split()[0] for line in lines] == [path for path, *_ in rows]
  assert max(map(len, lines)) <= width
  assert ('…' in ''.join(lines)) == (width > 40)  # at 40 only the paths have room
  assert ('41.02' in ''.join(lines)) == (width > 40)
  assert ('Skip-gram' in ''.join(lines)) == (width > 80)


def test_the_width_is_that_of_the_terminal(folder):
  code = 'import sys; from seqlab.cli import main; sys.exit(main(sys.argv[1:]))'
  terminal, stdout = pty.openpty()
  process = subprocess.Popen(
    [sys.executable, '-c', code, 'experiments', str(ROOT / 'experiments/lecture')],
    **dict(stdout=stdout, env={**os.environ, 'COLUMNS': '100', 'TERM': 'xterm'}),
  )
  os.close(stdout)
  printed = b''
  try:
    while chunk := os.read(terminal, 4096):
      printed += chunk
  except OSError:  # Linux says so when the process has closed its side
    pass
  assert process.wait() == 0
  lines = printed.decode().splitlines()
  assert len(lines) == 1 + len(list((ROOT / 'experiments/lecture').glob('*.py')))
  assert max(map(len, lines)) <= 100


def test_a_listing_executes_nothing(tmp_path, capsys):
  ran = tmp_path / 'ran'
  code = f'"""Shows [/docs]."""\nopen({str(ran)!r}, "w")\n'
  get_config = 'def get_config(arg=None):\n  pass\n'
  (tmp_path / 'x.py').write_text(f'{code}TIME = len("ab")\n{get_config}', 'utf-8')
  (tmp_path / 'helper.py').write_text(code, 'utf-8')  # no experiment
  (tmp_path / 'broken.py').write_text('def get_config(:\n', 'utf-8')
  (tmp_path / '.hidden').mkdir()
  (tmp_path / '.hidden' / 'y.py').write_text(f'{code}{get_config}', 'utf-8')
  print_experiments(tmp_path, 'tsv')
  _, broken, x = [line.split('\t') for line in capsys.readouterr().out.splitlines()]
  assert not ran.exists()
  assert broken[0] == str(tmp_path / 'broken.py')
  assert 'cannot be read' in broken[3]
  assert x == [str(tmp_path / 'x.py'), '-', '-', 'Shows [/docs].']


def test_a_paper_that_cannot_be_read_is_shown_in_its_place(folder, capsys):
  text = TEXT[: TEXT.index('PAPER')] + "PAPER = {'test/bleu': 41.02}\n"
  (folder / 'mine.py').write_text(text, 'utf-8')
  print_experiments(folder, 'json')
  _, mine = json.loads(capsys.readouterr().out)
  assert mine['paper'] == []
  assert 'is not a list of rows: write PAPER = [Row(' in mine['problem']


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'there is no folder .*nowhere'):
    print_experiments(tmp_path / 'nowhere')
