"""Runs that the first edition made, at commit 4f4a78a, are used and resumed."""

import io
import json
from pathlib import Path
import shutil
import tarfile

import numpy as np
import pytest

from seqlab import cli
from seqlab.experiment import load_experiment
from seqlab.metrics_file import read_metrics
from seqlab.train.loop import train
from seqlab.upgrade import FORMAT, upgrade
from seqlab.use.streams import score_stream, translate_stream

FIXTURES = Path(__file__).parent / 'fixtures'
TRANSLATORS = ('transformer', 'recurrent')
ESTIMATORS = ('ppmi', 'svd', 'gensim')


@pytest.fixture
def runs(tmp_path, monkeypatch):
  """The folder of the experiment, its data and its three runs, as current folder."""
  return _extracted('first_edition.tar.gz', tmp_path, monkeypatch)


@pytest.fixture
def word_runs(tmp_path, monkeypatch):
  """The same of GloVe and of what today are estimators, with an experiment for all."""
  return _extracted('first_edition_words.tar.gz', tmp_path, monkeypatch)


def _extracted(name, folder, monkeypatch):
  with tarfile.open(FIXTURES / name) as archive:
    archive.extractall(folder, filter='data')
  monkeypatch.chdir(folder)
  return folder


def _lines(path):
  return Path(path).read_text('utf-8').splitlines()


@pytest.mark.parametrize('run', TRANSLATORS)
def test_a_run_translates_as_it_did(runs, run):
  source, out = '\n'.join(_lines('data/test.en')[:3]), io.StringIO()
  translate_stream(run, io.BytesIO(source.encode()), out, options={'beam': 2})
  assert out.getvalue() == Path(run, 'expected.txt').read_text('utf-8')


@pytest.mark.parametrize('run', TRANSLATORS)
def test_a_run_scores_as_it_did(runs, run):
  pairs = zip(_lines('data/test.en')[:3], _lines('data/test.ru')[:3], strict=True)
  lines = '\n'.join(map('\t'.join, pairs))
  out = io.StringIO()
  score_stream(run, io.BytesIO(lines.encode()), out)
  scores = [float(line.split('\t')[0]) for line in out.getvalue().splitlines()]
  expected = [float(line.split('\t')[0]) for line in _lines(f'{run}/scores.txt')]
  np.testing.assert_allclose(scores, expected, atol=2e-3)


def test_a_run_of_word_vectors_has_the_same_neighbours(runs, capsys):
  assert cli.main(['neighbours', 'words', 'the', '-n', '4']) == 0
  assert capsys.readouterr().out == Path('words/expected.txt').read_text('utf-8')


def _neighbours(run, capsys):
  capsys.readouterr()
  assert cli.main(['neighbours', run, 'the', '-n', '4']) == 0
  return capsys.readouterr().out


def test_a_run_of_glove_is_used_as_it_was(word_runs, capsys):
  assert _neighbours('glove', capsys) == Path('glove/expected.txt').read_text('utf-8')
  Path('pairs.tsv').write_text('the\ta\t9\nthe\tdog\t1\na\tdog\t2\n', 'utf-8')
  assert cli.main(['evaluate', 'glove', '--sets', 'pairs.tsv']) == 0
  row = json.loads(Path('glove/evaluations.jsonl').read_text('utf-8'))
  assert (row['steps'], row['scores']['pairs']['covered']) == ([8], 3)


@pytest.mark.parametrize('run', ESTIMATORS)
def test_a_run_of_an_estimator_is_refused_and_fits_again(word_runs, run, capsys):
  """Its result was a checkpoint of a training that had no effect, or was not kept."""
  Path('pairs.tsv').write_text('the\ta\t9\nthe\tdog\t1\na\tdog\t2\n', 'utf-8')
  for verb in (
    ['neighbours', run, 'the'],
    ['evaluate', run, '--sets', 'pairs.tsv'],
    ['evaluate', run, '--evals'],
  ):
    assert cli.main(verb) == 1
    assert f'seqlab train EXPERIMENT --workdir {run}' in capsys.readouterr().err
  train(load_experiment(f'experiment.py:method={run}'), run)
  neighbours = _neighbours(run, capsys)
  if run != 'gensim':  # whose seed was not that of the experiment
    assert neighbours == Path(run, 'expected.txt').read_text('utf-8')


def test_a_run_of_glove_resumes_as_it_would_have(word_runs):
  _check_resumes('glove', 'experiment.py:method=glove')


@pytest.mark.parametrize('run', [*TRANSLATORS, 'words'])
def test_a_run_resumes_as_it_would_have(runs, run):
  _check_resumes(run, f'experiment.py:model={run}')


def _check_resumes(run, experiment):
  before = [row['loss'] for row in read_metrics(Path(run, 'metrics.jsonl'))]
  shutil.rmtree(f'{run}/checkpoints/8')  # as if it had been stopped after step 4
  train(load_experiment(experiment), run)
  after = [row['loss'] for row in read_metrics(Path(run, 'metrics.jsonl'))]
  assert after[:4] == before[:4]
  np.testing.assert_allclose(after, before, rtol=1e-4)


def test_the_configuration_of_a_run_is_written_with_todays_keys(runs):
  config = json.loads(Path('transformer/config.json').read_text('utf-8'))
  assert config['evals']['valid']['type'] == 'translation'
  train(load_experiment('experiment.py'), 'transformer')  # finished: nothing to do
  kept = json.loads(Path('transformer/config.json').read_text('utf-8'))
  assert kept == {'format': FORMAT, **upgrade(config)}
  assert kept['model']['kind'] == 'transformer'
