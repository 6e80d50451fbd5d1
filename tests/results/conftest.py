"""A small experiment with rows, and commands that compute nothing."""

import json
from pathlib import Path
from typing import ClassVar

import pytest

from seqlab.cli import main
from seqlab.config import with_defaults
from seqlab.experiment import load_experiment
from seqlab.results.commands import Commands, StoppingError
from seqlab.results.origin import origin_of
from seqlab.results.records import read_lines

TEXT = '''"""Reverses sequences."""

from seqlab.config import parse_arg
from seqlab.results import Row


def get_config(arg=None):
  arg = parse_arg(arg, width=8)
  evals = dict(valid=dict(kind='bits', split='valid', every=2))
  model = dict(kind='transformer', width=arg.width)
  config = dict(task='tasks.translation:Translation', seed=0, steps=4, model=model)
  return config | dict(corpus=dict(name='enwiki2018', part=(0, 1)), evals=evals)


PAPER = [
  Row(
    metric='test/exact', value=0.5, of='A', url='https://a.org', tolerance=0.05, seeds=2
  ),
  Row(
    metric='test/per', value=0.5, of='A', url='https://a.org', tolerance=0.05, seeds=2,
    differs='the text',
  ),
  Row(
    metric='valid/nll', value=9.0, of='B', url='https://b.org', tolerance=0.5,
    args='width=9', seeds=1,
  ),
]
'''


class FakeCommands(Commands):
  """Writes what training and evaluation would write.

  Attributes:
    called: words of each command.
    failing: words in a command that make it fail -> its exit status.
    values: scores of an evaluation, to which the seed is added in hundredths.
  """

  called: ClassVar = []
  failing: ClassVar = {}
  values: ClassVar = {'exact': 0.5, 'per': 0.6, 'valid/nll': 9.0}

  def run(self, words, log=None):
    self.called.append(list(words))
    for word, status in self.failing.items():
      if word in words:
        if status == 75:
          self.received = 15
          raise StoppingError
        return status
    {'train': self._train, 'evaluate': self._evaluate}[words[0]](*words[1:])
    return 0

  def _train(self, experiment, _, folder, seed):
    folder, config = Path(folder), load_experiment(experiment, [seed])
    _write(folder / 'config.json', with_defaults(config))
    _write(folder / 'experiment.json', origin_of(experiment, [seed]))
    _write(folder / 'machine.json', dict(device='cpu', devices=1, dtype='float32'))
    _write(folder / 'inputs.json', {'text': {'train': {'sha256': 'abc'}}})
    rows = [{'step': k, 'loss': 1.0, 'speed/seconds': 0.5} for k in range(1, 5)]
    rows[3]['valid/nll'] = 9.0
    (folder / 'metrics.jsonl').write_text(''.join(f'{json.dumps(x)}\n' for x in rows))

  def _evaluate(self, folder, *options):
    seed = int(folder[-1])
    scores = {name: value + seed / 100 for name, value in self.values.items()}
    record = {'date': 'today', 'steps': [4], 'scores': scores}
    if '--split' in options:
      record['split'], record['text'] = 'test', 'def'
      record['scores'] = [{'name': k, 'score': x} for k, x in scores.items()]
    with open(Path(folder) / 'evaluations.jsonl', 'a') as file:
      file.write(f'{json.dumps(record)}\n')


def _write(path, content):
  path.write_text(json.dumps(content))


@pytest.fixture
def fake(monkeypatch):
  """The class of commands that compute nothing, in place of the real one."""
  monkeypatch.setattr('seqlab.results.reproduce.Commands', FakeCommands)
  monkeypatch.setattr(FakeCommands, 'called', [])
  monkeypatch.setattr(FakeCommands, 'failing', {})
  monkeypatch.setattr(FakeCommands, 'values', dict(FakeCommands.values))
  return FakeCommands


class Experiment:
  """The file of an experiment, and its part of the registry.

  Attributes:
    path: its path.
    records: its raw rows.
  """

  records = Path('docs/results/small-reverse.jsonl')

  def __init__(self, path):
    self.path = path

  def __str__(self):
    return str(self.path)

  def reproduce(self, *options, args=''):
    """Runs `seqlab reproduce`, and returns its exit status."""
    return main(['reproduce', f'{self.path}{args}', *options])

  def change(self, old, new):
    """Replaces a text in the file."""
    text = self.path.read_text()
    assert old in text
    self.path.write_text(text.replace(old, new))

  def lines(self, kind):
    """Returns the raw rows of a kind."""
    return [line for line in read_lines(self.records) if line['line'] == kind]


@pytest.fixture
def experiment(tmp_path, monkeypatch):
  """An experiment with three rows; the working folder is its own."""
  monkeypatch.chdir(tmp_path)
  path = tmp_path / 'experiments' / 'small' / 'reverse.py'
  path.parent.mkdir(parents=True)
  path.write_text(TEXT)
  return Experiment(path.relative_to(tmp_path))
