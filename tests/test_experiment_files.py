"""Experiments by name, in a clone and in an installed package."""

from pathlib import Path

import pytest
from setuptools import Distribution

import seqlab
from seqlab import experiment_files
from seqlab.cli import main
from seqlab.experiment import split_name
from seqlab.experiment_files import find_experiment
from seqlab.experiment_list import print_experiments
from seqlab.packaging import BuildWithExperiments

ROOT = Path(seqlab.__file__).parents[1]
KNOWN = ROOT / 'experiments'


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize(
  ('name', 'arguments'),
  [
    ('multi30k/transformer', ''),
    ('multi30k/transformer:smoke', 'smoke'),
    ('experiments/multi30k/transformer.py:smoke,size=x:y', 'smoke,size=x:y'),
  ],
)
def test_names_lead_to_the_known_experiments(elsewhere, name, arguments):
  path = KNOWN / 'multi30k' / 'transformer.py'
  assert split_name(name) == (path, arguments)


def test_files_of_the_current_folder_come_first(elsewhere):
  own = Path('experiments', 'multi30k', 'transformer.py')
  own.parent.mkdir(parents=True)
  own.touch()
  assert find_experiment('multi30k/transformer') == own
  nearer = Path('multi30k', 'transformer.py')
  nearer.parent.mkdir()
  nearer.touch()
  assert find_experiment('multi30k/transformer') == nearer
  assert split_name('multi30k/transformer:size=x') == (nearer, 'size=x')


def test_what_is_no_experiment_is_named_as_it_was_written(elsewhere):
  assert split_name('none') == (Path('none'), '')
  assert split_name('no:where') == (Path('no:where'), '')
  assert find_experiment('x' * 5_000) is None


def test_the_known_experiments_are_listed_by_their_names(elsewhere, capsys):
  print_experiments(None, 'tsv')
  names = [line.split('\t')[0] for line in capsys.readouterr().out.splitlines()]
  assert 'multi30k/transformer' in names
  Path('experiments').mkdir()
  print_experiments(None, 'tsv')
  assert len(capsys.readouterr().out.splitlines()) == 1


def test_results_are_those_of_the_known_experiments_by_default(elsewhere, capsys):
  assert main(['results', '--results', 'mine']) == 0
  assert str(KNOWN / 'multi30k' / 'wu2021.py') in capsys.readouterr().out
  Path('experiments').mkdir()
  assert main(['results', '--results', 'mine']) == 0
  assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_package_contains_all_experiments(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)
  command = BuildWithExperiments(Distribution({'packages': []}))
  command.build_lib = str(tmp_path)
  command.ensure_finalized()
  inside = tmp_path / 'seqlab' / 'experiments'
  inside.mkdir(parents=True)
  (inside / 'removed.py').touch()  # by a build before the experiment was removed
  command.run()
  copied = {path.relative_to(inside) for path in inside.rglob('*.py')}
  assert copied == {path.relative_to(KNOWN) for path in KNOWN.rglob('*.py')}
  assert {*map(Path, command.get_outputs())} >= {inside / path for path in copied}
  monkeypatch.setattr(experiment_files, '_PACKAGE', tmp_path / 'seqlab')
  monkeypatch.chdir(tmp_path)
  path = inside / 'multi30k' / 'transformer.py'
  assert find_experiment('multi30k/transformer') == path
