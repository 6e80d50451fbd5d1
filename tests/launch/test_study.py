"""`python -m launch.sweep` with studies that train nothing."""

import csv
from pathlib import Path

import pytest

from launch.sweep import main
from seqlab.experiment import load_experiment, load_module

ROOT = Path(__file__).parents[2]
TEXT = '''"""Counts."""


def study(folder):
  (folder / 'table.md').write_text('one\\n', 'utf-8')
  (folder / 'rows.csv').write_text('1\\n', 'utf-8')
  (folder / 'notes.txt').write_text('not for others', 'utf-8')
'''


def _run(path, folder, *options):
  return main([str(path), '--workdir', str(folder / 'studies'), *options])


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(TEXT, 'utf-8')
  return path


def test_its_files_are_copied_with_the_command_that_made_them(file, tmp_path):
  assert _run(file, tmp_path, '--report-to', str(tmp_path / 'docs')) == 0
  copied = tmp_path / 'docs' / 'mine'
  assert {path.name for path in copied.iterdir()} == {'table.md', 'rows.csv'}
  text = (copied / 'table.md').read_text('utf-8')
  assert text.startswith('one\n\nMade by `python -m launch.sweep ')


def test_a_study_that_writes_nothing_is_an_error(file, tmp_path, capsys):
  file.write_text('\ndef study(folder): ...', 'utf-8')
  assert _run(file, tmp_path) == 1
  assert 'wrote no figure and no table' in capsys.readouterr().err


def test_a_study_has_no_arguments(file, tmp_path, capsys):
  assert _run(f'{file}:size=small', tmp_path) == 1
  assert 'leave out :size=small' in capsys.readouterr().err


def test_a_study_is_not_searched(file, tmp_path, capsys):
  assert _run(file, tmp_path, '--trials', '2') == 1
  assert 'trains nothing to search for: leave out --trials' in capsys.readouterr().err


def test_a_study_that_fails_leaves_the_others(file, tmp_path, capsys):
  broken = tmp_path / 'broken.py'
  broken.write_text('\ndef study(folder): raise FileNotFoundError("no data")', 'utf-8')
  assert main([str(broken), str(file), '--workdir', str(tmp_path / 'studies')]) == 1
  streams = capsys.readouterr()
  assert f'failed: {broken}: no data' in streams.err
  assert 'report of' in streams.out


def test_a_study_cannot_be_trained(file):
  with pytest.raises(ValueError, match=r'get_config\(arg=None\); it trains nothing'):
    load_experiment(str(file))


@pytest.fixture(scope='module')
def rotation(tmp_path_factory):
  """Raw rows of the study of sinusoidal positions, by matrix and fitted positions."""
  folder = tmp_path_factory.mktemp('rotation')
  with pytest.MonkeyPatch.context() as patch:
    for name in ('heatmap', 'lines'):  # takes long, and is tested elsewhere
      patch.setattr(f'seqlab.report.figures.{name}', lambda *args, **options: [])
    assert _run(ROOT / 'experiments/lecture/rotation.py', folder) == 0
  with open(folder / 'studies' / 'lecture-rotation' / 'rows.csv', newline='') as file:
    _, *rows = csv.reader(file)
  return {(name, fitted): [*map(float, numbers)] for name, fitted, *numbers in rows}


def test_the_rotation_is_right_at_all_positions(rotation):
  early, late, _, turned = rotation['rotation by the frequencies', 'none']
  assert max(early, late) < 1e-9
  assert turned < 1e-12


@pytest.mark.parametrize('name', ['least squares', 'least squares, orthogonal'])
def test_a_fit_to_few_positions_does_not_extrapolate(rotation, name):
  early, late, from_rotation, _ = rotation[name, '64']
  assert early < 1e-6
  assert late > 0.1
  assert from_rotation > 0.1


@pytest.fixture(scope='module')
def bleu():
  """The study of BLEU as a module."""
  return load_module(ROOT / 'experiments/lecture/bleu.py', 'study')


LINE = [b' '.join(b'%d' % i for i in range(200))]


def _damaged(bleu, kind, rate):
  (line,) = bleu.damaged(LINE, kind, rate, seed=0)
  return line.decode('utf-8').split()


def test_all_kinds_damage_the_same_words(bleu):
  words = LINE[0].decode('utf-8').split()
  dropped = {*words} - {*_damaged(bleu, 'dropped', 0.2)}
  assert 20 < len(dropped) < 60
  repeated = _damaged(bleu, 'repeated', 0.2)
  assert {w for w in words if repeated.count(w) == 2} == dropped
  for kind in ('wrong ending', 'wrong word'):
    assert {*words} - {*_damaged(bleu, kind, 0.2)} == dropped
  shuffled = _damaged(bleu, 'shuffled', 0.2)
  assert sorted(shuffled) == sorted(words)
  moved = {w for w, other in zip(words, shuffled, strict=True) if w != other}
  assert moved <= dropped


def test_a_higher_rate_damages_the_words_of_a_lower_one_too(bleu):
  few, many = (_damaged(bleu, 'dropped', rate) for rate in (0.1, 0.3))
  assert {*many} < {*few}


def test_significant_pairs_are_counted_by_the_procedure_of_holm(bleu, monkeypatch):
  # Three comparisons: 0.01 < 0.05 / 3, but 0.03 > 0.05 / 2, so that 0.04 is not tested.
  results = [[None, 0.03, 0.01], [None, 0.04]]
  monkeypatch.setattr(
    bleu,
    'compare',
    lambda systems, samples: [type('', (), {'p_value': p}) for p in results.pop(0)],
  )
  assert bleu._distinguished([0, 0, 0]) == 1
