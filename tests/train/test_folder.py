"""The run's folder, and the errors if another experiment made it."""

import json

import pytest

from seqlab.train.folder import RunFolder, open_folder

CONFIG = {
  'task': 'tasks.translation:Translation',
  'seed': 0,
  'steps': 5,
  'hyper': {'peak': 0.1},
  'schedule': {'kind': 'constant'},
  'size': (1, 2),
}


def test_the_configuration_is_saved(tmp_path):
  open_folder(tmp_path / 'run', CONFIG).write_config()
  assert RunFolder.open(tmp_path / 'run').config == json.loads(json.dumps(CONFIG))


def test_the_same_experiment_may_use_the_folder_again(tmp_path):
  open_folder(tmp_path, CONFIG).write_config()
  open_folder(tmp_path, CONFIG)


def test_another_experiment_is_refused_with_the_differences(tmp_path):
  open_folder(tmp_path, CONFIG).write_config()
  other = CONFIG | {'steps': 6, 'hyper': {'peak': 0.1, 'dropout': 0.3}}
  with pytest.raises(ValueError, match='made by a different experiment') as caught:
    open_folder(tmp_path, other)
  assert 'steps: 5 there, 6 now' in str(caught.value)
  assert 'hyper.dropout: nothing there, 0.3 now' in str(caught.value)
  assert 'peak' not in str(caught.value)
  assert '--force' in str(caught.value)


def test_an_option_left_to_its_default_is_not_a_difference(tmp_path):
  open_folder(tmp_path, CONFIG).write_config()
  open_folder(tmp_path, CONFIG | {'accumulate': 1, 'patience': None})


def test_an_experiment_that_never_ran_does_not_claim_the_folder(tmp_path):
  open_folder(tmp_path, CONFIG)
  open_folder(tmp_path, CONFIG | {'steps': 7})


def test_a_file_is_not_a_folder(tmp_path):
  (tmp_path / 'file').write_text('', 'utf-8')
  with pytest.raises(NotADirectoryError, match='is a file; name a folder'):
    open_folder(tmp_path / 'file', CONFIG)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'is not a run.*seqlab train'):
    RunFolder.open(tmp_path)


_WHOLE = json.dumps(CONFIG).encode()


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'{"steps": ', 'is not JSON'),
    (b'', 'the file is empty'),
    (b'\0' * 4096, 'is not JSON'),
    (b'\xff\xfe\x00{', 'is not JSON'),
    (b'[' * 100_000, 'is not JSON'),
    (b'[1, 2]', 'a JSON list and not an object'),
    (b'null', 'a JSON NoneType and not an object'),
    (b'{"steps": 5}', "it has no 'task'"),
    (_WHOLE.replace(b'"tasks.translation:Translation"', b'[3]'), r'its task is \[3\]'),
    (_WHOLE.replace(b'{"peak": 0.1}', b'7'), 'its hyper is not a section'),
  ],
)
def test_a_damaged_configuration_is_named(tmp_path, content, message):
  (tmp_path / 'config.json').write_bytes(content)
  with pytest.raises(ValueError, match=message) as caught:
    RunFolder.open(tmp_path)
  assert str(caught.value).startswith(str(tmp_path / 'config.json'))


def test_a_damaged_configuration_is_replaced_on_request(tmp_path):
  (tmp_path / 'config.json').write_bytes(b'')
  with pytest.raises(ValueError, match=r'config\.json is damaged.*--force'):
    open_folder(tmp_path, CONFIG)
  open_folder(tmp_path, CONFIG, force=True).write_config()
  assert RunFolder.open(tmp_path).config == json.loads(json.dumps(CONFIG))


@pytest.mark.parametrize('change', [lambda b: b[:-1], lambda b: b.replace(b'x', b'y')])
def test_a_changed_vocabulary_is_named(tmp_path, change):
  folder = open_folder(tmp_path, CONFIG)
  folder.vocabulary.mkdir()
  file = folder.vocabulary / 'words.tsv'
  file.write_bytes(b'x\t3\n')
  folder.write_config()
  RunFolder.open(tmp_path)
  file.write_bytes(change(file.read_bytes()))
  for again in (
    lambda: RunFolder.open(tmp_path),
    lambda: open_folder(tmp_path, CONFIG),
  ):
    with pytest.raises(ValueError, match=r'vocabulary/words\.tsv has') as caught:
      again()
    assert str(caught.value).startswith(str(tmp_path))
  (folder.vocabulary / 'digests.json').unlink()
  RunFolder.open(tmp_path)


def test_the_message_names_the_version_that_wrote_the_folder(tmp_path):
  open_folder(tmp_path, CONFIG).write_config()
  folder = RunFolder.open(tmp_path)
  with (
    pytest.raises(
      ValueError, match=r"config\.json does not fit .* \(KeyError: 'corpus'\)"
    ),
    folder.explain_errors(),
  ):
    folder.config['corpus']
  with (
    pytest.raises(ValueError, match=r'config\.json: no section'),
    folder.explain_errors(),
  ):
    raise ValueError('no section')


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


def test_an_unknown_key_of_a_run_is_not_passed_over(tmp_path):
  """Such as `ema` after a bit of it has flipped."""
  text = json.dumps({'task': 'translation', 'seed': 0, 'emb': 0.5})
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match=r"config\.json: unknown key emb; .* 'ema'"):
    RunFolder.open(tmp_path).task_class()
