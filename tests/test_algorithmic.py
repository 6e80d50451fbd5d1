"""The experiment on strings of Delétang et al. 2023, and its report."""

import importlib.util
import json
from pathlib import Path

import pytest

from seqlab.experiment import load_experiment
from seqlab.report.runs import read_run
from seqlab.text import algorithmic
from seqlab.text.corpora import open_corpus
from seqlab.train.loop import train

FILE = Path(__file__).parents[1] / 'experiments' / 'algorithmic' / 'deletang2023.py'


@pytest.fixture(scope='module')
def experiment():
  spec = importlib.util.spec_from_file_location('deletang2023', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_a_search_may_write_exactly_the_symbols_of_the_answer(experiment):
  assert [*experiment.TASKS] == [*algorithmic.TASKS]
  for task, (a, b) in experiment.TASKS.items():
    corpus = open_corpus(kind='algorithmic', task=task, train=1, per_length=1)
    for string, answer in zip(*corpus.read('test'), strict=True):
      source, target = (len(x.split()) + 1 for x in (string, answer))  # with EOS
      # One symbol more after a duplicate string, which is not compared.
      spare = int(task == 'duplicate_string')
      assert a * source + b == target + spare


def _write(folder, name, accuracy, **config):
  """Writes a run whose accuracies at lengths 10, 20, ... are those of a function."""
  run = folder / name
  run.mkdir()
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  row = {'step': 10, 'valid/symbol_accuracy': 1.0, 'test/symbol_accuracy': accuracy(70)}
  for upper in range(10, 101, 10):
    split = 'valid' if upper <= 40 else 'test'
    row[f'{split}/symbol_accuracy/{upper - 9}-{upper}'] = accuracy(upper)
  (run / 'metrics.jsonl').write_text(json.dumps(row) + '\n', 'utf-8')
  return read_run(run)


def test_the_report_has_means_and_the_best_seed(experiment, tmp_path):
  runs = []
  corpus = {'kind': 'algorithmic', 'task': 'parity_check'}
  for seed, score in enumerate((0.5, 0.7, 0.9)):
    model = {'kind': 'recurrent', 'cell': 'rnn'}
    accuracy = lambda n, score=score: 1.0 if n <= 40 else score  # noqa: E731
    config = dict(seed=seed, corpus=corpus, model=model)
    runs.append(_write(tmp_path, f'rnn-{seed}', accuracy, **config))
  config = dict(seed=0, corpus=corpus, model={'kind': 'transformer'})
  runs.append(_write(tmp_path, 'transformer', lambda n: 0.5, **config))
  experiment.report(runs, tmp_path)
  lines = (tmp_path / 'table.md').read_text('utf-8').splitlines()
  cells = [[x.strip() for x in line.strip('|').split('|')] for line in lines[2:]]
  assert cells == [
    [
      'parity_check',
      'rnn',
      '1.000 ± 0.000',
      '0.700 ± 0.200',
      '0.900',
      'yes',
      'yes',
      '3',
    ],
    ['parity_check', 'transformer', '1.000', '0.500', '0.500', 'no', 'no', '1'],
  ]
  assert {x.name for x in tmp_path.glob('accuracy-*')} == {
    'accuracy-parity_check.png',
    'accuracy-parity_check.svg',
  }


@pytest.mark.slow
def test_the_report_on_small_runs(experiment, tmp_path):
  runs = []
  for model in experiment.MODELS:
    config = load_experiment(f'{FILE}:smoke,task=reverse_string,model={model}')
    train(config, tmp_path / model)
    runs.append(read_run(tmp_path / model))
  experiment.report(runs, tmp_path)
  text = (tmp_path / 'table.md').read_text('utf-8')
  assert [text.count(f' {model} ') for model in experiment.MODELS] == [1] * 4
  assert (tmp_path / 'accuracy-reverse_string.png').is_file()
