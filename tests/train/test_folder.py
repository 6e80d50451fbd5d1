"""The run's folder: who made it, and what it says if that was somebody else."""

import json

import pytest

from seqlab.train.folder import RunFolder, open_folder

CONFIG = {'steps': 5, 'hyper': {'peak': 0.1}, 'size': (1, 2)}


def test_the_configuration_is_kept(tmp_path):
  open_folder(tmp_path / 'run', CONFIG).keep_config()
  assert RunFolder.open(tmp_path / 'run').config == json.loads(json.dumps(CONFIG))


def test_the_same_experiment_may_come_again(tmp_path):
  open_folder(tmp_path, CONFIG).keep_config()
  open_folder(tmp_path, CONFIG)


def test_another_experiment_is_told_what_differs(tmp_path):
  open_folder(tmp_path, CONFIG).keep_config()
  other = {'steps': 6, 'hyper': {'peak': 0.1, 'dropout': 0.3}, 'size': (1, 2)}
  with pytest.raises(ValueError, match='made by a different experiment') as caught:
    open_folder(tmp_path, other)
  assert 'steps: 5 there, 6 now' in str(caught.value)
  assert 'hyper.dropout: nothing there, 0.3 now' in str(caught.value)
  assert 'peak' not in str(caught.value)
  assert '--force' in str(caught.value)


def test_what_is_left_to_the_default_is_no_difference(tmp_path):
  open_folder(tmp_path, CONFIG).keep_config()
  open_folder(tmp_path, CONFIG | {'accumulate': 1, 'patience': None})


def test_an_experiment_that_never_ran_leaves_no_claim(tmp_path):
  open_folder(tmp_path, CONFIG)
  open_folder(tmp_path, CONFIG | {'steps': 7})


def test_a_file_is_no_folder(tmp_path):
  (tmp_path / 'file').write_text('', 'utf-8')
  with pytest.raises(NotADirectoryError, match='is a file; name a folder'):
    open_folder(tmp_path / 'file', CONFIG)


def test_what_is_no_run_is_said(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'is no run.*seqlab train'):
    RunFolder.open(tmp_path)


def test_a_spoilt_configuration_is_said(tmp_path):
  (tmp_path / 'config.json').write_text('{"steps": ', 'utf-8')
  with pytest.raises(ValueError, match='is no JSON'):
    RunFolder.open(tmp_path)


def test_one_process_at_a_time(tmp_path):
  folder = open_folder(tmp_path, CONFIG)
  with (
    folder.lock(),
    pytest.raises(RuntimeError, match='another process'),
    folder.lock(),
  ):
    pass
  with folder.lock():
    pass
