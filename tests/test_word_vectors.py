"""Small runs of word vectors: training, resuming, sharding and use."""

import json
from pathlib import Path
import shutil
import unicodedata

import numpy as np
import pytest

from seqlab import cli
from seqlab.tasks.word2vec import WordPrediction
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.engines import make_engine
from seqlab.train.loop import train
from seqlab.word_vectors import open_vectors

TOPICS = (
  ['river', 'lake', 'water', 'boat', 'fish'],
  ['king', 'queen', 'crown', 'throne', 'castle'],
)


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  """A text of two topics with one sentence per line."""
  path = tmp_path_factory.mktemp('text') / 'text.txt'
  random = np.random.default_rng(0)
  lines = [random.choice(TOPICS[i % 2], 6) for i in range(600)]
  path.write_text(''.join(f'{" ".join(line)}\n' for line in lines), 'utf-8')
  return path


@pytest.fixture(scope='module')
def experiment(text):
  return {
    'task': 'tasks.word2vec:WordPrediction',
    'seed': 0,
    'steps': 8,
    'corpus': {'path': str(text), 'heldout': 10},
    'vocabulary': {'min_count': 1},
    'batching': {'streams': 8, 'length': 64, 'subsample': 0.0},
    'model': {
      'kind': 'skipgram',
      'width': 8,
      'window': 2,
      'block': 16,
      'objective': {'kind': 'negative', 'negatives': 2, 'pool': 8},
    },
    'hyper': {'peak': 0.05},
    'schedule': {'kind': 'linear'},
    'mesh': {'devices': 1},
    'evals': {'heldout': {'type': 'heldout', 'every': 4, 'words': 300}},
    'save_every': 4,
  }


@pytest.fixture(scope='module')
def run(experiment, tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs') / 'sgns'
  train(experiment, folder)
  return folder


def _rows(folder):
  lines = (folder / 'metrics.jsonl').read_text('utf-8').splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if not k.startswith('speed/')}
    for line in lines
  ]


def _tables(config, folder, mesh):
  """Returns the tables after two steps on a mesh."""
  config = config | {'mesh': mesh}
  task = WordPrediction.from_config(config, folder / 'vocabulary')
  engine = make_engine(config, task, steps=8)
  state = engine.init(0)
  for k in range(2):
    state, _ = engine.step(state, engine.put(task.batches('train').batch(k, seed=0)))
  return state.params


def test_held_out_loss_falls(run):
  losses = [row['heldout/loss'] for row in _rows(run) if 'heldout/loss' in row]
  assert losses[1] < losses[0]


def test_nothing_is_compiled_during_training(run):
  assert {row['compiles'] for row in _rows(run) if 'compiles' in row} == {0}


def test_words_of_a_topic_are_neighbours(run):
  vectors = open_vectors(str(run))
  assert {w for w, _ in vectors.neighbours('king', 4)} == set(TOPICS[1]) - {'king'}


def test_an_interrupted_run_has_the_same_result(experiment, run, tmp_path):
  train(experiment | {'steps': 8, 'minutes': 1e-9}, tmp_path)  # stops after a step
  assert Checkpoints(tmp_path / 'checkpoints', read_only=True).steps()[-1] < 8
  config = json.loads((tmp_path / 'config.json').read_text('utf-8'))
  train(config | {'minutes': None}, tmp_path, force=True)
  one, other = (open_vectors(str(folder)).matrix for folder in (run, tmp_path))
  np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
  'mesh',
  [
    {'data': 8},
    {'data': 2, 'tensor': 4},
    pytest.param({'data': 2, 'fsdp': 4}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_eight_devices_train_as_one(experiment, tmp_path, mesh):
  one = _tables(experiment, tmp_path, {'devices': 1})
  sharded = _tables(experiment, tmp_path, mesh)
  for name in one:
    np.testing.assert_allclose(sharded[name], one[name], rtol=1e-4, atol=1e-5)


def test_rows_of_a_table_are_sharded(experiment, tmp_path):
  config = experiment | {'mesh': {'data': 4, 'tensor': 2}}
  task = WordPrediction.from_config(config, tmp_path / 'vocabulary')
  words = make_engine(config, task, steps=8).init(0).params['words']
  assert words.shape == (10, 8)
  assert {shard.data.shape for shard in words.addressable_shards} == {(5, 8)}


@pytest.mark.parametrize('mesh', [{'data': 8}, {'data': 4, 'tensor': 2}], ids=str)
def test_devices_exchange_updates_and_not_tables(experiment, tmp_path, mesh):
  task = WordPrediction.from_config(
    experiment | {'mesh': mesh}, tmp_path / 'vocabulary'
  )
  engine = make_engine(experiment | {'mesh': mesh}, task, steps=8)
  compiled = engine.compile(task.batches('train').shapes[0])
  lines = compiled.as_text().splitlines()
  sums = [x.split('all-reduce(')[0] for x in lines if ' all-reduce(' in x]
  assert sums
  tables = f'f32[{10 // mesh.get("tensor", 1)},8]'
  assert not any(tables in x for x in sums)


@pytest.mark.parametrize('key', ['ema', 'optimizer', 'accumulate'])
def test_options_of_optimisers_are_refused(experiment, tmp_path, key):
  value = {'ema': 0.9, 'optimizer': {'kind': 'adam'}, 'accumulate': 2}[key]
  with pytest.raises(ValueError, match=f'updates its parameters itself: leave {key}'):
    train(experiment | {key: value}, tmp_path)


def test_evaluate_prints_scores_and_saves_them(run, tmp_path, capsys):
  pairs = tmp_path / 'pairs.tsv'
  pairs.write_text('king\tqueen\t9\nriver\tlake\t8\nking\tlake\t1\nking\tzebra\t2\n')
  assert cli.main(['evaluate', str(run), '--sets', str(pairs)]) == 0
  assert 'pairs' in capsys.readouterr().out
  row = json.loads((run / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1])
  (scores,) = row['scores'].values()
  assert (scores['covered'], scores['total']) == (3, 4)


@pytest.fixture
def pairs(tmp_path):
  path = tmp_path / 'pairs.tsv'
  path.write_text('king\tqueen\t9\nriver\tlake\t8\nking\tlake\t1\n')
  return str(path)


def _score(run, pairs, *options):
  """Returns the record that `evaluate` adds to the run's folder."""
  assert cli.main(['evaluate', str(run), '--sets', pairs, *options]) == 0
  return json.loads((run / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1])


def test_checkpoints_are_averaged_and_selected(run, pairs):
  assert _score(run, pairs)['steps'] == [8]
  assert _score(run, pairs, '--average', '2')['steps'] == [8, 4]
  matrix = open_vectors(str(run), average=2).matrix
  assert not np.array_equal(matrix, open_vectors(str(run)).matrix)


def test_words_are_found_in_another_spelling(tmp_path, capsys):
  path = tmp_path / 'v.txt'
  path.write_text('5 2\nёж 1 0\nкафé 2 1\nZoo 3 1\nzoo 1 3\nnone 0 1\n', 'utf-8')
  decomposed = [unicodedata.normalize('NFD', word) for word in ('ёж', 'Ёж', 'кафé')]
  argv = ['neighbours', str(path), *decomposed, 'Zoo', 'ZOO', '-n', '1']
  assert cli.main(argv) == 0
  asked = capsys.readouterr().out.splitlines()[::2]
  assert asked == ['ёж', 'ёж', 'кафé', 'Zoo', 'zoo']
  assert cli.main(['analogy', str(path), *decomposed]) == 0
  assert 'ёж is to ёж as кафé is to' in capsys.readouterr().out
  assert cli.main(['neighbours', str(path), 'ZOOS']) == 1
  assert "'ZOOS' is not among the 5 words" in capsys.readouterr().err


def test_an_undefined_score_is_null(run, tmp_path):
  (tmp_path / 'far.txt').write_text('moon sun 9\nstar dust 1\n')
  _score(run, str(tmp_path / 'far.txt'))
  line = (run / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1]
  row = json.loads(line, parse_constant=pytest.fail)
  assert row['scores']['far']['known'] == {'value': None, 'low': None, 'high': None}
  assert row['scores']['far']['covered'] == 0


def test_two_sets_of_the_same_name_are_refused(run, pairs, tmp_path, capsys):
  other = tmp_path / 'new' / 'pairs.txt'
  other.parent.mkdir()
  other.write_text('king queen 9\n')
  assert cli.main(['evaluate', str(run), '--sets', pairs, str(other)]) == 1
  error = capsys.readouterr().err
  assert f"two sets have the name 'pairs': {pairs} and {other}; leave one out" in error
  assert error.count('\n') == 1


@pytest.mark.parametrize(
  'option',
  [
    *(['--beam', '3'], ['--alpha', '0'], ['--top-k', '3'], ['--seed', '0']),
    *(['--split', 'test'], ['--output', 'x.txt'], ['--ensemble', 'other']),
  ],
  ids=lambda x: x[0],
)
def test_options_of_translations_are_refused_for_vectors(run, option, capsys):
  assert cli.main(['evaluate', str(run), *option]) == 1
  message = f'{option[0]} is for translations, which {run} does not have: leave it out'
  assert capsys.readouterr().err == f'seqlab evaluate: {message}\n'


@pytest.mark.parametrize('option', ['--sets=ws353', '--restrict=9', '--method=add'])
def test_options_of_vectors_are_refused_for_translations(finished, option, capsys):
  assert cli.main(['evaluate', str(finished), option]) == 1
  error = capsys.readouterr().err
  assert (
    f'{option.split("=")[0]} is for word vectors, which {finished} does not have'
    in error
  )


@pytest.mark.parametrize('option', ['--average 2', '--choose best'])
def test_options_of_checkpoints_are_refused_for_a_file(tmp_path, pairs, option, capsys):
  (tmp_path / 'v.txt').write_text('2 1\nking 1\nqueen 2\n')
  argv = ['evaluate', str(tmp_path / 'v.txt'), '--sets', pairs, *option.split()]
  assert cli.main(argv) == 1
  assert f'without checkpoints: leave out {option}' in capsys.readouterr().err


def test_neighbours_are_printed(run, capsys):
  assert cli.main(['neighbours', str(run), 'river', '-n', '2']) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == 'river'
  assert {line.split()[1] for line in lines[1:]} < set(TOPICS[0])


def test_an_unknown_word_is_an_error_of_one_line(run, capsys):
  assert cli.main(['analogy', str(run), 'king', 'quen', 'river']) == 1
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert "did you mean 'queen'" in error


def test_vectors_are_exported_and_imported(run, tmp_path, capsys):
  file = str(tmp_path / 'vectors.bin')
  assert cli.main(['vectors', str(run), '--to', file]) == 0
  assert cli.main(['neighbours', file, 'king', '-n', '1']) == 0
  assert capsys.readouterr().out.split()[2] in TOPICS[1]


@pytest.fixture
def glove(tmp_path):
  path = tmp_path / 'g.txt'
  path.write_text('king 1 0\nqueen 2 0.1\nriver 0 1\nsea 0.2 1\n')
  return str(path)


def test_files_of_glove_are_read_with_from(glove, tmp_path, pairs, capsys):
  assert cli.main(['neighbours', glove, 'king']) == 1
  assert '--from glove' in capsys.readouterr().err
  format = ['--from', 'glove']
  assert cli.main(['neighbours', glove, 'king', *format, '-n1']) == 0
  assert capsys.readouterr().out.split()[2] == 'queen'
  assert cli.main(['analogy', glove, 'king', 'queen', 'river', *format]) == 0
  assert cli.main(['evaluate', glove, '--sets', pairs, *format]) == 0
  assert cli.main(['vectors', glove, '--to', f'{tmp_path}/v.txt', *format]) == 0
  assert (tmp_path / 'v.txt').read_text().startswith('4 2\nking 1.0 0.0\n')


def test_a_folder_of_the_projector_is_read(glove, tmp_path, pairs, capsys):
  folder = str(tmp_path / 'projector')
  assert cli.main(['vectors', glove, '--from', 'glove', '--to', folder]) == 0
  assert cli.main(['neighbours', folder, 'king', '-n1']) == 0
  assert capsys.readouterr().out.split()[2] == 'queen'
  assert cli.main(['evaluate', folder, '--sets', pairs]) == 0
  assert cli.main(['neighbours', folder, 'king', '--from', 'glove']) == 1
  assert f"{folder} is a folder; 'glove' is read from" in capsys.readouterr().err


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['gone.bin'], 'there are no vectors at gone.bin'),
    (['gone.txt.gz'], 'there are no vectors at gone.txt.gz'),
    (['gone', '--from=glove'], 'there are no vectors at gone'),
    (['gone'], 'gone is not a run'),
  ],
  ids=str,
)
@pytest.mark.parametrize('verb', ['evaluate', 'neighbours'])
def test_a_missing_run_or_file_is_named(verb, argv, message, capsys):
  words = ['king'] if verb == 'neighbours' else []
  assert cli.main([verb, argv[0], *words, *argv[1:]]) == 1
  assert f'seqlab {verb}: {message}' in capsys.readouterr().err


@pytest.mark.parametrize('n', ['0', '-1'])
@pytest.mark.parametrize('verb', ['neighbours', 'analogy'])
def test_fewer_than_one_neighbour_is_refused(glove, verb, n, capsys):
  words = ['king'] if verb == 'neighbours' else ['king', 'queen', 'river']
  assert cli.main([verb, glove, *words, '-n', n, '--from', 'glove']) == 1
  assert f'n is {n}; it must be at least 1' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--restrict=0', '--restrict=-5', '--average=0'])
def test_options_outside_their_domain_are_refused(glove, pairs, option, capsys):
  assert cli.main(['evaluate', glove, '--from=glove', '--sets', pairs, option]) == 1
  assert 'it must be at least 1' in capsys.readouterr().err


@pytest.fixture
def alphabetical(tmp_path):
  """Vectors in another order than frequency, and a question about the last ones."""
  words = [*(f'a{i:05}' for i in range(30_000)), 'king', 'man', 'queen', 'woman']
  rows = ''.join(f'{word} {i % 7} {i % 11} 1\n' for i, word in enumerate(words))
  (tmp_path / 'v.txt').write_text(f'{len(words)} 3\n{rows}')
  (tmp_path / 'q.txt').write_text('man king woman queen\n')
  return str(tmp_path / 'v.txt'), str(tmp_path / 'q.txt')


@pytest.mark.parametrize(
  ('options', 'known', 'note'),
  [
    ([], 1, 'analogies among all 30,004 words'),
    (['--restrict', '30000'], 0, 'analogies among the 30,000 first of 30,004 words'),
    (['--restrict', '99999'], 1, 'analogies among all 30,004 words'),
  ],
)
def test_the_table_names_the_words_that_were_searched(
  alphabetical, options, known, note, capsys
):
  file, questions = alphabetical
  assert cli.main(['evaluate', file, '--sets', questions, *options]) == 0
  out = capsys.readouterr().out
  assert note in ' '.join(out.split())
  (row,) = (x.split('│') for x in out.splitlines() if x.startswith('│ q '))
  assert int(row[4]) == known


def test_a_vector_of_zeros_has_no_neighbours(tmp_path, capsys):
  path = tmp_path / 'v.txt'
  path.write_text('3 2\nking 1 0\npad 0 0\nqueen 1 1\n')
  assert cli.main(['neighbours', str(path), 'pad']) == 1
  assert "the vector of 'pad' is all 0" in capsys.readouterr().err
  assert cli.main(['analogy', str(path), 'king', 'queen', 'pad']) == 1
  assert "the vector of 'pad' is all 0" in capsys.readouterr().err


def test_a_vocabulary_without_other_words_is_reported(tmp_path, capsys):
  path = tmp_path / 'v.txt'
  path.write_text('1 2\nking 1 0\n')
  assert cli.main(['neighbours', str(path), 'king']) == 1
  assert 'has one word only' in capsys.readouterr().err
  path.write_text('3 2\nking 1 0\nqueen 1 1\nman 0 1\n')
  assert cli.main(['analogy', str(path), 'man', 'king', 'queen']) == 1
  assert 'there are none besides these three' in capsys.readouterr().err


def test_a_target_that_cannot_be_written_is_refused_before_reading(tmp_path, capsys):
  (tmp_path / 'file').write_text('mine')
  target = str(tmp_path / 'file' / 'v.bin')
  assert cli.main(['vectors', str(tmp_path / 'gone.txt'), '--to', target]) == 1
  assert 'file is a file, not a folder' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['[a]', 'a:b', 'a,b', 'a b', '[bold]', 'a\nb'])
def test_names_are_used_and_shown_literally(tmp_path, pairs, name, capsys):
  source = tmp_path / f'{name}.txt'
  source.write_text('3 2\nking 1 0\nqueen 2 0.1\nlake 0 1\n')
  target = tmp_path / name / f'{name}.bin'
  assert cli.main(['vectors', str(source), '--to', str(target)]) == 0
  sets = tmp_path / name / f'{name}.tsv'
  sets.write_text(Path(pairs).read_text())
  capsys.readouterr()
  assert cli.main(['evaluate', str(target), '--sets', str(sets)]) == 0
  assert ''.join(name.split()) in ''.join(capsys.readouterr().out.split())
  assert [p.name for p in (tmp_path / name).iterdir() if p != sets] == [target.name]


def test_a_run_whose_file_of_evaluations_cannot_be_written_is_scored(
  run, pairs, tmp_path, capsys
):
  folder = shutil.copytree(run, tmp_path / 'run')
  (folder / 'evaluations.jsonl').unlink(missing_ok=True)
  (folder / 'evaluations.jsonl').mkdir()
  assert cli.main(['evaluate', str(folder), '--sets', pairs]) == 0
  out, error = capsys.readouterr()
  assert 'pairs' in out
  assert 'this evaluation is not recorded there' in error


def test_from_is_refused_for_runs(run, finished, capsys):
  assert cli.main(['evaluate', str(run), '--from', 'text']) == 1
  assert 'is a run, not a file: leave out --from text' in capsys.readouterr().err
  assert cli.main(['evaluate', str(finished), '--from', 'text']) == 1
  assert '--from is for word vectors' in capsys.readouterr().err


def test_a_run_without_vectors_is_refused(finished, capsys):
  assert cli.main(['neighbours', str(finished), 'king']) == 1
  assert 'the task Translation cannot give word vectors' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('section', 'key', 'value', 'message'),
  [
    ('model', 'output_vectors', 'none', r"unknown model\.output_vectors 'none'"),
    ('model', 'objective', {'kind': 'hinge'}, r"unknown model\.objective 'hinge'"),
    ('model', 'wdith', 3, r'unknown key model\.wdith'),
    ('vocabulary', 'size', 3, r'unknown key vocabulary\.size'),
    ('vocabulary', 'max_size', 0, r'vocabulary\.max_size is 0'),
    ('vocabulary', 'max_types', -1, r'vocabulary\.max_types is -1'),
    ('vocabulary', 'phrases', {'thresholds': 9}, r'phrases\.thresholds is 9'),
    ('model', 'width', 2_000_000_000, r'the tables of 10 words take 149\.0 GiB, and'),
    (
      'batching',
      'formula',
      'mine',
      r"batching\.formula is 'mine'; it must be 'word2vec' or 'levy'",
    ),
    ('corpus', 'path', 'nowhere.txt', r'no file or folder nowhere\.txt'),
  ],
)
def test_wrong_values_are_refused(experiment, tmp_path, section, key, value, message):
  wrong = experiment | {section: experiment[section] | {key: value}}
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    train(wrong, tmp_path)


def test_another_text_than_at_the_start_is_refused(experiment, tmp_path):
  text = tmp_path / 'text.txt'
  text.write_bytes(Path(experiment['corpus']['path']).read_bytes())
  mine = experiment | {'corpus': {'path': str(text), 'heldout': 10}}
  train(mine | {'minutes': 1e-9}, tmp_path / 'run')
  text.write_text(f'{text.read_text("utf-8")}another line\n', 'utf-8')
  with pytest.raises(ValueError, match=r'has changed since .*/text\.sha256'):
    train(mine | {'minutes': None}, tmp_path / 'run', force=True)


@pytest.mark.parametrize(
  ('section', 'key', 'value', 'message'),
  [
    ('batching', 'group', 0, r'batching\.group is 0'),
    (
      'batching',
      'size',
      6,
      r'batching\.size is 6, .* not a multiple of model\.groups, 4',
    ),
    ('model', 'width', 0, r'model\.width is 0; it must be at least 1'),
  ],
)
def test_wrong_values_of_glove_are_refused(
  methods, tmp_path, section, key, value, message
):
  wrong = methods['glove'] | {section: methods['glove'][section] | {key: value}}
  with pytest.raises(ValueError, match=message):
    train(wrong, tmp_path)


@pytest.fixture(scope='module')
def methods(experiment):
  """An experiment for each method that counts."""
  base = {k: experiment[k] for k in ('seed', 'vocabulary', 'mesh')}
  base['corpus'] = {'path': experiment['corpus']['path']}
  counts = {'window': 3, 'weights': 'linear'}
  pmi = base | {'counts': counts, 'pmi': {'smoothing': 0.75}}
  svd = {'task': 'tasks.estimators.svd:SingularVectors'}
  pairs = {'batching': {'size': 8, 'group': 4}, 'schedule': {'kind': 'constant'}}
  model = {'width': 4, 'groups': 4, 'x_max': 10.0}
  return {
    'ppmi': pmi | {'task': 'tasks.estimators.ppmi:PPMIVectors'},
    'svd': pmi | svd | {'model': {'width': 4, 'block': 3, 'iterations': 3}},
    'glove': base
    | pairs
    | {'task': 'tasks.glove:GlobalVectors', 'steps': 90, 'save_every': 30}
    | {'model': model, 'counts': counts, 'hyper': {'peak': 0.05}},
  }


@pytest.mark.parametrize('method', ['ppmi', 'svd', 'glove'])
def test_each_counting_method_finds_the_topics(methods, tmp_path, method):
  train(methods[method], tmp_path)
  vectors = open_vectors(str(tmp_path))
  for topic in TOPICS:
    assert {w for w, _ in vectors.neighbours(topic[0], 4)} == {*topic[1:]}


def test_an_interrupted_run_of_glove_has_the_same_result(methods, tmp_path):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  train(methods['glove'], whole)
  train(methods['glove'] | {'minutes': 1e-9}, cut)
  train(methods['glove'] | {'minutes': None}, cut, force=True)
  one, other = (open_vectors(str(folder)).matrix for folder in (whole, cut))
  np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('method', ['svd', 'glove'])
def test_counting_on_eight_devices_has_the_result_of_one(methods, tmp_path, method):
  matrices = []
  for mesh in ({'devices': 1}, {'data': 8}):
    folder = tmp_path / str(len(matrices))
    train(methods[method] | {'mesh': mesh}, folder)
    matrices.append(open_vectors(str(folder)).matrix)
  np.testing.assert_allclose(*matrices, rtol=1e-3, atol=1e-4)


def test_lines_held_out_of_counting_are_refused(methods, experiment, tmp_path):
  with pytest.raises(ValueError, match=r'corpus\.heldout: all lines are counted'):
    train(methods['svd'] | {'corpus': experiment['corpus']}, tmp_path)


def test_too_few_iterations_are_refused(methods, tmp_path):
  model = {'width': 4, 'block': 3, 'iterations': 1}
  with pytest.raises(ValueError, match=r'model\.iterations is 1; .* must be 4 or more'):
    train(methods['svd'] | {'model': model}, tmp_path)


def test_more_dimensions_than_words_are_refused(methods, tmp_path):
  model = {'width': 40, 'block': 20, 'iterations': 2}
  with pytest.raises(
    ValueError, match=r'model\.width is 40, and .* lower model\.width'
  ):
    train(methods['svd'] | {'model': model}, tmp_path)


@pytest.fixture(scope='module')
def subwords(experiment, tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs') / 'subwords'
  model = experiment['model'] | {'subwords': {'minn': 3, 'maxn': 4, 'bucket': 99_991}}
  train(experiment | {'model': model, 'evals': {}}, folder)
  return folder


def test_unseen_words_have_vectors_of_their_ngrams(subwords, tmp_path, capsys):
  assert cli.main(['neighbours', str(subwords), 'Kings', 'king', '-n', '2']) == 0
  shown = capsys.readouterr().out.splitlines()
  assert shown[0] == 'kings (by its n-grams)'
  assert shown[1].split()[1] == 'king'
  assert shown[3] == 'king'
  assert cli.main(['analogy', str(subwords), 'king', 'kings', 'lakes']) == 0
  assert capsys.readouterr().out.startswith('king is to kings as lakes is to')
  assert cli.main(['neighbours', str(subwords), '日本語']) == 1
  assert 'no n-gram of it is known' in capsys.readouterr().err
  pairs = tmp_path / 'pairs.tsv'
  pairs.write_text('king\tkings\t9\nriver\tlake\t8\nking\tlakes\t1\nking\t日本語\t2\n')
  row = _score(subwords, str(pairs))['scores']
  assert (row['pairs']['covered'], row['pairs subwords']['covered']) == (1, 3)


def test_a_run_with_subwords_is_written_as_fasttext(subwords, tmp_path):
  path = tmp_path / 'v.bin'
  assert cli.main(['vectors', str(subwords), '--to', str(path)]) == 0
  ours, theirs = open_vectors(str(subwords)), open_vectors(path)
  np.testing.assert_array_equal(ours.matrix, theirs.matrix)
  words = ['kings', 'boats']
  np.testing.assert_array_equal(
    ours.including(words).matrix, theirs.including(words).matrix
  )


def test_options_that_do_not_fit_subwords_are_refused(experiment, tmp_path):
  for change, message in (
    ({'output_vectors': 'both'}, r"model\.subwords.* set it to 'words'"),
    ({'subwords': {'minm': 3}}, r'unknown key model\.subwords\.minm'),
    ({'subwords': {'bucket': 0}}, r'model\.subwords\.bucket is 0'),
  ):
    model = experiment['model'] | {'subwords': {}} | change
    with pytest.raises(ValueError, match=message):
      train(experiment | {'model': model}, tmp_path)


def test_the_best_checkpoints_of_a_run_are_chosen(run, capsys):
  argv = ['neighbours', str(run), 'king', '-n', '1']
  assert cli.main([*argv, '--average', '3']) == 1
  assert 'checkpoints' in capsys.readouterr().err
  assert cli.main([*argv, '--average', '2']) == 0
  averaged = capsys.readouterr().out
  cosine = open_vectors(run, average=2).neighbours('king', 1)[0][1]
  assert f'{cosine:.4f}' in averaged
  assert cli.main([*argv, '--choose', 'best']) == 1
  assert 'keep_best' in capsys.readouterr().err


def test_runs_and_files_in_a_bucket_are_used_as_those_on_a_disk(
  run, bucket, pairs, tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('SEQLAB_CACHE', str(tmp_path / 'cache'))
  shutil.copytree(run, bucket.path / 'run')
  local = open_vectors(run)
  for name in ('v.txt', 'v.npz', 'projector'):
    local.save(bucket.path / name)
  asked = ('king', '-n', '2')
  assert cli.main(['neighbours', str(run), *asked]) == 0
  expected = capsys.readouterr().out
  for name in ('run', 'run/', 'v.txt', 'v.npz', 'projector'):
    path = f's3://bucket/{name}'
    assert cli.main(['neighbours', path, *asked]) == 0
    assert capsys.readouterr().out == expected
    assert cli.main(['analogy', path, 'king', 'queen', 'lake']) == 0
    assert cli.main(['evaluate', path, '--sets', pairs]) == 0
    assert 'pairs' in capsys.readouterr().out
  lines = (bucket.path / 'run' / 'evaluations.jsonl').read_text('utf-8').splitlines()
  assert json.loads(lines[-1])['scores']['pairs']['covered'] == 3


def test_a_file_in_a_bucket_is_read_as_it_is_now(bucket, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('SEQLAB_CACHE', str(tmp_path / 'cache'))
  path = 's3://bucket/v.txt'
  assert cli.main(['neighbours', path, 'a']) == 1
  assert 'there is no file s3://bucket/v.txt' in capsys.readouterr().err
  for word in ('b', 'longer'):
    (bucket.path / 'v.txt').write_text(f'2 2\na 1 0\n{word} 1 1\n')
    assert cli.main(['neighbours', path, 'a']) == 0
    assert word in capsys.readouterr().out
  (bucket.path / 'v.txt').write_text('2 2\na 1 0\nb 1\n')
  assert cli.main(['neighbours', path, 'a']) == 1
  assert 'line 3 of s3://bucket/v.txt' in capsys.readouterr().err
  assert cli.main(['vectors', path, '--to', 's3://bucket/w.txt']) == 1
  assert 'written on a disk only' in capsys.readouterr().err
