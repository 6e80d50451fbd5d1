"""Reports of the studies of word vectors, from small real runs of their trials."""

import os
from pathlib import Path
import statistics

import pytest

from seqlab.experiment import load_experiment, load_module
from seqlab.report.runs import read_run
from seqlab.train.loop import train

FOLDER = Path(__file__).parents[1] / 'experiments' / 'enwiki'

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not os.environ.get('SEQLAB_DATA'), reason='needs real data'),
]


def _report(name, trials, folder, *options):
  """Trains trials of a study, and returns its report's folder and text, and its runs.

  Args:
    name: name of the study.
    trials: argument and overrides of each; every one has two seeds.
    folder: empty folder.
    options: overrides of all.
  """
  runs = []
  for arg, changes in trials:
    for seed in (0, 1):
      path = folder / f'{len(runs)}'
      overrides = [f'{key}={value}' for key, value in changes.items()]
      # Eight pretended devices wait for each other, and starve on a busy machine.
      overrides += [f'seed={seed}', 'mesh.data=1', 'mesh.devices=1', *options]
      flags = [f'--config.{option}' for option in overrides]
      separator = ',' if arg else ''
      train(load_experiment(f'{FOLDER / name}.py:{arg}{separator}smoke', flags), path)
      run = read_run(path)
      run.overrides.update(({'arg': arg} if arg else {}) | changes)
      runs.append(run)
  report = folder / 'report'
  report.mkdir()
  load_module(FOLDER / f'{name}.py').report(runs, report)
  return report, (report / 'table.md').read_text('utf-8'), runs


def _cells(line):
  return [cell.strip(' *') for cell in line.strip('|').split('|')]


def _rows(text):
  """Returns the rows of the first table: label -> title of the column -> text."""
  titles, _, *rows = map(_cells, text.split('\n\n')[0].splitlines())
  return {row[0]: dict(zip(titles, row, strict=True)) for row in rows}


def _mean(cell):
  return float(cell.partition(' ')[0].strip('* '))


def test_the_windows(tmp_path):
  trials = [
    (arg, {'hyper.peak': peak})
    for arg in ('window=1,epochs=6.00', 'window=10,epochs=1.09')
    for peak in (0.025, 0.1)
  ]
  trials += [(f'method=svd,window={w}', {}) for w in (1, 10)]
  report, text, runs = _report('window', trials, tmp_path, 'vocabulary.max_size=3000')
  rows = _rows(text)
  assert [*rows] == [
    *('SVD of PPMI, 1', 'SVD of PPMI, 10'),
    *('SGNS, equal pairs, 1', 'SGNS, equal pairs, 10'),
  ]
  for label, args in (
    ('SVD of PPMI, 10', trials[5:]),
    ('SGNS, equal pairs, 1', trials[:2]),
  ):
    by_rate = {}
    for run in runs:
      if run.overrides['arg'] == args[0][0]:
        by_rate.setdefault(run.overrides.get('hyper.peak'), []).append(run)
    if len(by_rate) > 1:
      loss = {
        peak: statistics.fmean(run.final('heldout/loss') for run in members)
        for peak, members in by_rate.items()
      }
      best = min(loss, key=loss.get)
      assert rows[label]['peak'] == f'{best:g}'
    else:
      (best,) = by_rate
    chosen = by_rate[best]
    means = {
      name: statistics.fmean(run.final(f'similarity/{name}') for run in chosen)
      for name in ('ws353-sim', 'simlex', 'ws353-rel', 'men')
    }
    assert _mean(rows[label]['MEN']) == pytest.approx(means['men'], abs=6e-4)
    similar = (means['ws353-sim'] + means['simlex']) / 2
    related = (means['ws353-rel'] + means['men']) / 2
    lean = _mean(rows[label]['mean of similarity, less that of relatedness'])
    assert lean == pytest.approx(similar - related, abs=6e-4)
    assert rows[label]['n'] == '2'
  verdicts = [
    line for line in text.splitlines() if line.startswith(('| lean', '| SimLex'))
  ]
  assert len(verdicts) == 4  # each for singular vectors and for equal pairs
  assert {_cells(line)[-1] for line in verdicts} <= {
    *('supported', 'refuted', 'not decided'),
  }
  assert 'Nearest words, SVD of PPMI, window 1, seed 0:\n\n- ' in text
  for figure in ('sets-svd', 'sets-sgns-pairs', 'lean'):
    assert (report / f'{figure}.png').is_file()


def test_the_methods(tmp_path):
  trials = [
    *(('method=ppmi', {}), ('method=ppmi', {'pmi.smoothing': 1.0})),
    *(('method=svd', {'model.power': x}) for x in (0.0, 1.0)),
    *(('method=sgns', {'hyper.peak': x}) for x in (0.025, 0.1)),
  ]
  options = (
    'vocabulary.max_size=3000',
    "evals.similarity.sets=('men','simlex','google')",
  )
  report, text, runs = _report('methods', trials, tmp_path, *options)
  tables = [x for x in text.split('\n\n') if x.startswith('|')]
  tuned, every, differences, verdicts = map(_rows, tables)
  assert [*tuned] == ['PPMI, tuned', 'SVD, tuned', 'SGNS, tuned']
  assert [*every] == [
    *('PPMI', 'PPMI, not smoothed', 'SVD, p = 0', 'SVD, p = 1'),
    *('SGNS, peak 0.025', 'SGNS, peak 0.1'),
  ]
  for i, label in enumerate(every):
    members = runs[2 * i : 2 * i + 2]
    for name in ('men', 'simlex'):
      mean = statistics.fmean(run.final(f'similarity/{name}') for run in members)
      assert _mean(every[label][name]) == pytest.approx(mean, abs=6e-4)
  for method, row in tuned.items():
    of_method = [x for x in every if x.startswith(method.removesuffix(', tuned'))]
    best = max(of_method, key=lambda x: _mean(every[x]['men']))
    assert f'{method.removesuffix(", tuned")}: {best}' in text
    assert row['simlex'] == every[best]['simlex']
  gained = _mean(every['SVD, p = 0']['simlex']) - _mean(every['SVD, p = 1']['simlex'])
  shown = differences['SVD: p = 0, not 1']['simlex'].rstrip('*')
  assert float(shown) == pytest.approx(gained, abs=2e-3)
  verdict = verdicts['SVD: p = 0, not 1, simlex']
  assert (verdict['predicted'], verdict['difference']) == ('above 0', shown)
  assert 'Significantly above each other method on all 1 sets: ' in text
  for figure in ('pairs', 'analogies', 'density'):
    assert (report / f'{figure}.png').is_file()


def test_the_factorization(tmp_path):
  variants = {'k = 1, D = 100': (1, 100), 'k = 15, D = 100': (15, 100)}
  trials = [
    ('', {'model.objective.negatives': k, 'hyper.peak': peak, 'model.width': d})
    for k, d in variants.values()
    for peak in (0.025, 0.1)
  ]
  report, text, runs = _report('factorization', trials, tmp_path)
  rows = _rows(text)
  assert [*rows] == [*variants]
  for label, members in (('k = 1, D = 100', runs[:4]), ('k = 15, D = 100', runs[4:])):
    means = {
      peak: [
        statistics.fmean(run.final(f'factorization/{m}') for run in pair)
        for m in ('pearson', 'unseen')
      ]
      for peak, pair in (('0.025', members[:2]), ('0.1', members[2:]))
    }
    best = max(means, key=lambda peak: means[peak][0])
    assert rows[label]['peak'] == best
    assert _mean(rows[label]['correlation']) == pytest.approx(means[best][0], abs=6e-4)
    unseen = _mean(rows[label]['w · c of unseen pairs'])
    assert unseen == pytest.approx(means[best][1], abs=6e-3)
  verdicts = _rows(text[text.index('| prediction') :])
  assert (
    verdicts['unseen: k = 1, D = 100 minus k = 15, D = 100']['predicted'] == 'above 0'
  )
  for figure in ('by-epoch', 'pairs-k1-d100'):
    assert (report / f'{figure}.png').is_file()
