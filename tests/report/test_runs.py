import json
import math

import numpy as np
import pytest

from seqlab.report.runs import (
  best_by,
  chosen,
  curves,
  differing,
  diverged,
  group,
  left_out,
  read_run,
  read_runs,
  short_names,
)


def test_a_run_has_its_config_its_overrides_and_its_metrics(make_run):
  run = read_run(make_run('a', [1.0, 3.0, 2.0], status='finished', seed=4))
  assert run.config['seed'] == 4
  assert run.overrides == {'seed': 4}
  assert run.series('valid/bleu') == ([10, 20, 30], [1.0, 3.0, 2.0])
  assert run.final('valid/bleu') == 2.0
  assert run.best('valid/bleu') == 3.0
  assert run.best('valid/bleu', 'min') == 1.0
  assert run.seconds == 7.5


def test_null_is_not_a_number_and_is_never_the_best(make_run):
  run = read_run(make_run('a', [1.0, None]))
  assert math.isnan(run.final('valid/bleu'))
  assert run.best('valid/bleu') == 1.0


def test_a_last_line_that_was_cut_off_is_left_out(make_run):
  folder = make_run('a', [1.0, 2.0])
  metrics = folder / 'metrics.jsonl'
  metrics.write_text(metrics.read_text('utf-8')[:-5], 'utf-8')
  assert read_run(folder).final('valid/bleu') == 1.0


def test_a_missing_metric_is_named(make_run):
  run = read_run(make_run('a', [1.0]))
  with pytest.raises(
    ValueError, match=r"no metric 'valid/blue'; did you mean 'valid/b"
  ):
    run.final('valid/blue')


def test_runs_are_found_in_subfolders_and_in_order(make_run, tmp_path):
  folders = [make_run(name, [1.0]) for name in ('b/c/d', 'b/a', 'a')]
  assert [run.path for run in read_runs(tmp_path)] == folders[::-1]
  assert [run.path for run in read_runs(folders[0])] == folders[:1]


def test_trials_that_are_not_finished_are_left_out(make_run, tmp_path):
  for status in ('finished', 'failed', 'running'):
    make_run(status, [1.0], status=status)
  assert [run.path.name for run in read_runs(tmp_path)] == ['finished']
  assert len(read_runs(tmp_path, unfinished=True)) == 3


def test_omitted_runs_have_a_reason(make_run, tmp_path):
  (make_run('failed', [1.0], status='failed') / 'trial.json').write_text(
    json.dumps({'status': 'failed', 'reason': 'ValueError: no\nmore'})
  )
  make_run('cut', [1.0, 2.0], steps=30)
  make_run('early', [1.0, 2.0], steps=30, patience=1)
  make_run('whole', [1.0, 2.0], steps=20)
  assert left_out([tmp_path]) == {
    tmp_path / 'cut': 'at step 20 of 30',
    tmp_path / 'failed': 'failed: ValueError: no',
  }
  assert [run.path.name for run in read_runs(tmp_path)] == ['early', 'whole']
  with pytest.raises(FileNotFoundError, match=r'only\n.*cut: at step 20 of 30'):
    read_runs(tmp_path / 'cut')


@pytest.mark.parametrize('read', [read_run, read_runs])
def test_a_folder_without_runs_is_named(tmp_path, read):
  with pytest.raises(FileNotFoundError, match=r'there is no .*nowhere'):
    read(tmp_path / 'nowhere')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(FileNotFoundError, match=r'empty.*config\.json'):
    read(tmp_path / 'empty')


def test_runs_are_grouped_over_seeds_by_what_differs(make_run, tmp_path):
  for cell in ('lstm', 'gru'):
    for seed in (0, 1):
      make_run(
        f'{len(cell)}{seed}', [1.0], seed=seed, model={'cell': cell, 'layers': 2}
      )
  runs = read_runs(tmp_path)
  assert differing(runs) == ['model.cell']
  groups = group(runs)
  assert {k: [r.config['seed'] for r in v] for k, v in groups.items()} == {
    ('gru',): [0, 1],
    ('lstm',): [0, 1],
  }
  assert list(group(runs, by=['model.layers', 'model.cell'])) == [
    (2, 'gru'),
    (2, 'lstm'),
  ]


def test_a_key_that_some_runs_lack_is_none_there(make_run, tmp_path):
  make_run('a', [1.0], model={'layers': 2})
  make_run('b', [1.0], model={'layers': 2, 'cells': ['gru', 'lstm']})
  assert list(group(read_runs(tmp_path))) == [(None,), (('gru', 'lstm'),)]


def test_runs_that_are_not_repetitions_are_refused(make_run, tmp_path):
  make_run('a', [1.0], hyper={'peak': 1.0})
  make_run('b', [1.0], hyper={'peak': 2.0})
  with pytest.raises(ValueError, match=r'the same seed, and differ in hyper\.peak'):
    group(read_runs(tmp_path), by=[])


def test_a_key_that_no_run_has_is_named(make_run, tmp_path):
  make_run('a', [1.0], model={'cell': 'gru'})
  with pytest.raises(ValueError, match=r"'model.sell'; did you mean 'model.cell'"):
    group(read_runs(tmp_path), by=['model.sell'])


@pytest.mark.parametrize(('mode', 'peak'), [('max', 3), ('min', 1)])
def test_each_variant_gets_its_best_hyperparameters(make_run, tmp_path, mode, peak):
  for kind in 'ab':
    for rate, bleu in ((1, (4.0, 6.0)), (2, (5.0, math.nan)), (3, (5.0, 6.0))):
      for seed, last in enumerate(bleu):
        options = dict(model={'kind': kind}, hyper={'peak': rate}, seed=seed)
        make_run(f'{kind}{rate}{seed}', [9.0, last], **options)
    # A rate whose other seed diverged, and is not among the finished runs
    options = dict(model={'kind': kind}, hyper={'peak': 4}, seed=0)
    make_run(f'{kind}40', [9.0, 1.0 if mode == 'min' else 99.0], **options)
  runs = read_runs(tmp_path)
  best = best_by(runs, lambda run: run.config['model']['kind'], 'valid/bleu', mode)
  assert [*best] == ['a', 'b']
  for kind, members in best.items():
    assert [run.path.name for run in members] == [f'{kind}{peak}0', f'{kind}{peak}1']


def test_trials_that_diverged_are_those_that_ended_with_a_loss_that_is_not_finite(
  make_run,
):
  reasons = {'a': 'FloatingPointError: nan', 'b': 'OSError: full', 'c': None}
  for name, reason in reasons.items():
    folder = make_run(f'study/{name}', [1.0])
    state = {'status': 'failed' if reason else 'finished', 'reason': reason}
    (folder / 'trial.json').write_text(json.dumps(state), 'utf-8')
  assert [run.path.name for run in diverged(folder.parent)] == ['a']


@pytest.mark.parametrize(
  ('seed', 'text'), [(2, '2 (lowest)'), (4, '4'), (8, '8 (highest)')]
)
def test_a_value_at_an_end_of_its_grid_is_named(make_run, seed, text):
  run = read_run(make_run('a', [1.0], seed=seed))
  assert chosen([run], (4, 2, 8), 'seed') == text


def test_keys_with_the_same_short_name_keep_their_full_names():
  assert short_names(['seed', 'model.width', 'hyper.peak', 'embedding.width']) == {
    'seed': 'seed',
    'model.width': 'model.width',
    'hyper.peak': 'peak',
    'embedding.width': 'embedding.width',
  }


def test_arrays_are_those_of_the_last_evaluation(tmp_path):
  (tmp_path / 'config.json').write_text('{}', 'utf-8')
  (tmp_path / 'samples').mkdir()
  for step in (900, 1000):
    np.savez(tmp_path / 'samples' / f'heads-{step:08d}.npz', look=np.array([step]))
  assert read_run(tmp_path).arrays('heads')['look'].tolist() == [1000]
  with pytest.raises(FileNotFoundError, match='no attention'):
    read_run(tmp_path).arrays('attention')


def test_minutes_are_summed(tmp_path):
  (tmp_path / 'config.json').write_text('{}', 'utf-8')
  rows = ({'step': 1, 'speed/seconds': 30}, {'step': 2, 'speed/seconds': 60})
  text = ''.join(f'{json.dumps(row)}\n' for row in rows)
  (tmp_path / 'metrics.jsonl').write_text(text, 'utf-8')
  assert read_run(tmp_path).minutes == (0.5, 1.5)


@pytest.mark.parametrize('name', ['config.json', 'trial.json'])
@pytest.mark.parametrize('text', ['', '[1]', '{', '"text"'])
def test_a_damaged_file_is_named(make_run, name, text):
  folder = make_run('a', [1.0], status='finished')
  (folder / name).write_text(text, 'utf-8')
  with pytest.raises(ValueError, match=rf'{name} is (no JSON|damaged)'):
    read_run(folder)


@pytest.mark.parametrize('row', ['{"loss": 1}', '{"step": 1, "loss": "x"}'])
def test_a_row_without_a_step_or_numbers_is_left_out_by_name(make_run, row, capsys):
  folder = make_run('a', [1.0])
  with open(folder / 'metrics.jsonl', 'a', encoding='utf-8') as file:
    file.write(f'{row}\n')
  assert read_run(folder).final('valid/bleu') == 1.0
  assert f'{folder}/metrics.jsonl, line 2 is damaged' in capsys.readouterr().err


def test_the_name_of_an_evaluator_is_not_a_pattern(make_run):
  run = read_run(make_run('a', [1.0]))
  (run.path / 'samples').mkdir()
  for name, value in (('x[1]', 1), ('x', 2), ('x-y', 3), ('*', 4)):
    np.savez(run.path / 'samples' / f'{name}-00000010.npz', a=np.array(value))
  assert [int(run.arrays(name)['a']) for name in ('x[1]', 'x', '*')] == [1, 2, 4]


@pytest.mark.parametrize(
  ('model', 'expected'),
  [
    ({'dtype': 'float32'}, 'float32'),
    ({'dtype': 'auto'}, 'bfloat16'),
    ({}, 'bfloat16'),
  ],
)
def test_the_recorded_dtype_replaces_auto_only(make_run, model, expected):
  folder = make_run('a', [1.0], model=model)
  (folder / 'machine.json').write_text('{"dtype": "bfloat16"}', 'utf-8')
  assert read_run(folder).flat['model.dtype'] == expected


def test_curves_join_the_runs_of_one_seed(make_run):
  values = {(1, 0): 3.0, (1, 1): 5.0, (2, 2): 9.0, (2, 1): 6.0, (2, 0): 4.0}
  groups = {}
  for (x, seed), value in values.items():
    run = read_run(make_run(f'{x}-{seed}', [value], seed=seed))
    groups.setdefault(x, []).append(run)
  found = curves(groups, lambda run: run.final('valid/bleu'))
  assert found == [([1, 2], [3.0, 4.0]), ([1, 2], [5.0, 6.0])]
  assert curves({}, lambda run: 0.0) == []
