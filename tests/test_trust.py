"""The folder of another user's run does not execute its owner's code."""

import json
from pathlib import Path
import shutil
import sys

import pytest

from seqlab.cli import main
from seqlab.config import resolve
from seqlab.trust import check_names, known_paths
from seqlab.use.runs import load_run

OWN = """
from pathlib import Path

from seqlab.tasks.translation import Translation

Path({ran!r}).touch()


class Mine(Translation):
  pass


def score(query, memory):
  raise AssertionError('called')
"""


@pytest.fixture
def foreign_run(finished, tmp_path, monkeypatch):
  """Changes one key of a run's config.json; returns the folder and a file of code."""
  ran = tmp_path / 'ran'
  (tmp_path / 'somebodys_code.py').write_text(OWN.format(ran=str(ran)), 'utf-8')
  monkeypatch.syspath_prepend(tmp_path)
  folder = shutil.copytree(finished, tmp_path / 'run')

  def change(key, value):
    path = folder / 'config.json'
    config = json.loads(path.read_text('utf-8'))
    *sections, last = key.split('.')
    section = config
    for name in sections:
      section = section[name]
    section[last] = value
    path.write_text(json.dumps(config), 'utf-8')
    return folder, ran

  yield change
  sys.modules.pop('somebodys_code', None)


VERBS = {
  'translate': lambda run: ['translate', run],
  'score': lambda run: ['score', run],
  'evaluate': lambda run: ['evaluate', run, '--split', 'valid'],
  'compare': lambda run: ['compare', run, run, '--split', 'valid'],
  'neighbours': lambda run: ['neighbours', run, 'a'],
  'analogy': lambda run: ['analogy', run, 'a', 'b', 'c'],
  'vectors': lambda run: ['vectors', run, '--to', 'x.txt'],
}


@pytest.mark.parametrize('verb', VERBS)
@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('task', 'somebodys_code:Mine'),
    ('model.kind', 'somebodys_code:Mine'),
    ('model.attention', 'somebodys_code:score'),
  ],
)
def test_no_verb_runs_the_code_that_a_folder_names(
  foreign_run, capsys, verb, key, value
):
  folder, ran = foreign_run(key, value)
  assert main(VERBS[verb](str(folder))) == 1
  error = capsys.readouterr().err
  assert f'config.json names {key} {value!r}' in error
  assert '--trust' in error
  assert not ran.exists()


def test_no_verb_runs_the_code_of_a_member_of_an_ensemble(
  foreign_run, finished, capsys
):
  folder, ran = foreign_run('task', 'somebodys_code:Mine')
  arguments = [str(finished), '--split', 'valid', '--ensemble', str(folder)]
  assert main(['evaluate', *arguments]) == 1
  assert 'names task' in capsys.readouterr().err
  assert not ran.exists()


@pytest.mark.parametrize('name', ['cli:Path', 'setuptools:setup', 'config:resolve'])
def test_seqlabs_modules_give_no_access_to_other_code(foreign_run, name):
  folder, _ = foreign_run('task', name)
  with pytest.raises(ValueError, match='names task'):
    load_run(str(folder))


def test_a_trusted_folder_is_used(foreign_run):
  folder, ran = foreign_run('task', 'somebodys_code:Mine')
  _, task, _, _ = load_run(str(folder), trust=True)
  assert type(task).__name__ == 'Mine'
  assert ran.exists()


def test_the_command_takes_a_trusted_folder(foreign_run, capsys):
  folder, ran = foreign_run('task', 'somebodys_code:Mine')
  assert main(['evaluate', str(folder), '--split', 'valid', '--trust']) == 0
  assert 'bleu' in capsys.readouterr().out
  assert ran.exists()


def test_resuming_with_the_experiment_itself_needs_no_trust(
  tiny, foreign_run, tmp_path
):
  from seqlab.train.loop import train

  foreign_run('task', 'somebodys_code:Mine')
  config = {**tiny, 'task': 'somebodys_code:Mine', 'evals': {}, 'keep_best': None}
  train({**config, 'steps': 2}, tmp_path / 'own')
  folder = train({**config, 'steps': 2}, tmp_path / 'own')
  assert Path(folder.path, 'checkpoints', '2').is_dir()


@pytest.mark.parametrize('path', sorted(known_paths()))
def test_a_known_piece_resolves(path):
  assert callable(resolve(path))


def test_names_from_another_users_folder_are_those_of_seqlab():
  check_names({'task': 'tasks.translation:Translation', 'model': {}}, 'config.json')
  check_names({'model_name': 'seqlab.models.recurrent:Recurrent'}, 'config.json')
  check_names({'model': {'attention': None}}, 'config.json')
  check_names({'corpus': {'files': {'train': ['a:b', 'c:d']}}}, 'config.json')
  check_names({'evals': {'valid': {'type': 'translation'}}}, 'config.json')
  check_names({'vocabulary': {'kind': 'seqlab.text.subwords:BPE'}}, 'config.json')
  check_names({'model': {'objective': 'embeddings.objectives:Softmax'}}, 'config.json')


def test_functions_of_optax_and_jax_need_no_trust():
  check_names({'optimizer': {'kind': 'optax:lion', 'b1': 0.9}}, 'config.json')
  check_names({'schedule': 'optax:constant_schedule'}, 'config.json')
  check_names({'model': {'activation': 'jax.nn:relu6'}}, 'config.json')


@pytest.mark.parametrize(
  'config',
  [
    {'task': 'setuptools:setup'},
    {'corpus': {'kind': 'setuptools:setup'}},
    {'corpus': {'files': {}, 'normalize': ['nfc', 'setuptools:setup']}},
    {'vocabulary': {'kind': 'setuptools:setup'}},
    {'evals': {'valid': {'decoding': {'kind': 'setuptools:setup'}}}},
    {'task': 'cli:Path'},
    {'task': 'seqlab.cli:Path'},
    {'task': 'tasks.translation:Vocabularies'},
    {'model': {'kind': 'os:system'}},
    {'model_name': 'os:system'},
    {'model': {'attention': 'subprocess:run'}},
    {'model': {'attention': {'kind': 'subprocess:run'}}},
    {'model': {'positions': 'os:system'}},
    {'model': {'anything': ['a', {'kind': 'os:system'}]}},
    {'optimizer': {'kind': 'optax:jnp'}},
    {'optimizer': {'kind': 'optax:contrib'}},
    {'optimizer': {'kind': 'optax._src.alias:lion'}},
    {'model': {'activation': 'jax.nn:initializers'}},
    {'model': {'activation': 'jax:jit'}},
    {'vocabulary': {'kind': 'text.subwords:Path'}},
    {'evals': {'valid': {'kind': 'os:system', 'split': 'valid'}}},
    {'evals': {'valid': {'type': 'seqlab.cli:Path'}}},
  ],
)
def test_other_names_from_another_users_folder_are_refused(config):
  with pytest.raises(ValueError, match=r'run/config\.json names .* Add --trust'):
    check_names(config, 'run/config.json')
