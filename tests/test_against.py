"""`seqlab bench --against`: turns, contenders in processes of their own, tables."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from seqlab import cli
from seqlab.bench import libraries, own
from seqlab.bench.against import (
  Comparison,
  _check_model,
  choose_batches,
  compare,
  sizes_of,
)
from seqlab.bench.libraries import Installed, Library, find_libraries
from seqlab.bench.measure import Subject
from seqlab.bench.record import Result, markdown, replace_section
from seqlab.bench.turns import (
  Load,
  Spread,
  Turn,
  busy_ticks,
  ratio_of,
  session_ticks,
  speed_of,
  take_turns,
)
from seqlab.bench.worker import Worker
from seqlab.config import with_defaults
from seqlab.experiment import load_experiment
from seqlab.models.transformer import Transformer
from seqlab.tasks import task_of

NAMES = ('yoyodyne', 'torch')
QUIET, NOISY = 0.0, 0.5


class Scripted:
  """A contender whose turns are given, the last one repeatedly."""

  def __init__(self, *turns):
    self.turns = list(turns)

  def turn(self):
    return self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]


def test_busy_time_counts_all_but_idle_and_waiting():
  total, idle = 'cpu  101 21 31 4001 501 7 8 9 91 11', 'cpu1 1 1 1 1 1 1 1 1 1 1'
  stat = f'{total}\ncpu0 100 20 30 4000 500 6 7 8 90 10\n{idle}\n'
  assert busy_ticks(stat, [0]) == 100 + 20 + 30 + 6 + 7 + 8
  assert busy_ticks(stat, [0, 1]) == busy_ticks(stat, [0]) + 6


def test_time_of_a_session_has_that_of_ended_children():
  stat = '41 (a (b) c) S 40 41 {session} 0 -1 4194560 1 2 3 4 50 6 70 8 20 0 1 0'
  assert session_ticks(stat.format(session=40), 40) == 50 + 6 + 70 + 8
  assert session_ticks(stat.format(session=39), 40) == 0


def test_the_share_of_others_is_what_the_session_did_not_use(monkeypatch):
  monkeypatch.setattr('seqlab.bench.turns.all_cores', lambda: [0, 1])
  start, end = Load(clock=10, busy=100, own=50), Load(clock=20, busy=115, own=61)
  assert end.others_since(start) == pytest.approx(4 / 20)
  assert Load(20, 115, 66).others_since(start) == 0  # the clocks of both tick apart


def test_disturbed_turns_are_left_out_and_taken_again():
  fast = Scripted(Turn(1.0, NOISY), Turn(10.0, QUIET), Turn(20.0, QUIET))
  slow = Scripted(Turn(5.0, QUIET))
  turns = take_turns({'fast': fast, 'slow': slow}, turns=2)
  assert [turn.speed for turn in turns['fast']] == [1, 10, 20]
  assert speed_of(turns['fast']) == Spread(12.5, 15, 17.5)
  # Of the second and third round; the first one was disturbed.
  assert ratio_of(turns['fast'], turns['slow']) == Spread(2.5, 3, 3.5)


def test_a_machine_that_is_never_quiet_ends_the_rounds():
  turns = take_turns({'a': Scripted(Turn(1.0, NOISY))}, turns=3)['a']
  assert len(turns) == 6
  assert speed_of(turns) is None
  assert ratio_of(turns, turns) is None


def test_a_table_names_counts_and_ratios():
  turns = {
    'seqlab float32': [Turn(30.0, QUIET), Turn(30.0, QUIET)],
    'seqlab bfloat16': [Turn(20.0, QUIET), Turn(20.0, QUIET)],
    'other': [Turn(15.0, QUIET), Turn(1.0, NOISY)],
    'disturbed': [Turn(1.0, NOISY), Turn(1.0, NOISY)],
  }
  facts = {name: {'parameters': 1234, 'versions': {'other': '1.5'}} for name in turns}
  facts['other']['first_loss'] = 9.2103
  result = Result('training', 'tokens/s', 'a batch', turns, facts)
  assert result.best_own == 'seqlab float32'
  record = dict(command='c', date='d', commit='e', cores=2, processor='p')
  lines = markdown(result, record).splitlines()
  assert 'Versions: other 1.5.' in lines[0]
  assert lines[-2] == (
    '| other | 15 (15 to 15) | 2.00 (2.00 to 2.00) | 1 of 2 | 1,234 | 9.21 |'
  )
  assert lines[-1].startswith('| disturbed | no quiet turn | no quiet turn | 0 of 2 |')
  assert [row['left_out'] for row in result.rows()] == [0, 0, 1, 2]
  json.dumps(result.rows())


def test_a_section_is_replaced_where_its_markers_are():
  text = replace_section('# Speed', 'a', 'one')
  text = replace_section(text, 'b', 'two')
  text = replace_section(text, 'a', 'three')
  assert text == (
    '# Speed\n\n<!-- bench a -->\nthree\n<!-- end of bench a -->\n\n'
    '<!-- bench b -->\ntwo\n<!-- end of bench b -->\n'
  )
  with pytest.raises(ValueError, match='has no'):
    replace_section('<!-- bench a -->\n', 'a', 'x')


def test_a_table_without_an_end_is_refused_before_anything_is_measured(tmp_path):
  table, experiment = tmp_path / 'speed.md', 'experiments/agreement/transformer.py'
  begin = f'<!-- bench decoding, beam 5 {experiment} --steps=1 -->'
  table.write_text(f'# Speed\n{begin}\n', 'utf-8')
  options = dict(against=['no-such-library'], output=str(tmp_path / 'speed.json'))
  with pytest.raises(ValueError, match=f'{table}: the marker .*decoding.* has no'):
    compare(experiment, ['--steps=1'], table=str(table), **options)


def test_a_missing_library_is_an_error_that_says_how_to_install_it(monkeypatch):
  missing = Library('no-such-distribution', 'no-such-distribution==1.0')
  monkeypatch.setattr(libraries, 'LIBRARIES', {'missing': missing})
  with pytest.raises(ValueError, match=r'pip install no-such-distribution==1\.0'):
    find_libraries(['missing'])
  with pytest.raises(ValueError, match=r'/nowhere/python is not a program'):
    find_libraries(['missing=/nowhere/python'])
  with pytest.raises(ValueError, match=r"'missin'; did you mean 'missing'"):
    find_libraries(['missin'])


def test_without_a_name_the_libraries_are_listed(capsys):
  assert cli.main(['bench', '--against']) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line.partition(':')[0] for line in lines] == [*libraries.LIBRARIES]


def test_options_of_comparisons_need_a_library(capsys):
  assert cli.main(['bench', '--turns=3']) == 1
  assert 'need --against' in capsys.readouterr().err


def test_models_that_other_libraries_lack_are_refused():
  with pytest.raises(ValueError, match=r"model\.positions is 'rotary'.*'sinusoidal'"):
    _check_model(Transformer(8, 8, positions='rotary'), {})
  with pytest.raises(ValueError, match='"transformer"'):
    _check_model(None, {})
  with pytest.raises(ValueError, match="'decoder', which no baseline has"):
    _check_model(Transformer(8, 8, tie='decoder'), {})


@pytest.mark.parametrize('options', [{'tie': 'none'}, {'unordered': 2}])
def test_tables_and_features_that_a_library_lacks_are_refused(options):
  model = Transformer(8, 8, **options)
  known = {name: Installed(libraries.LIBRARIES[name], 'python', '1') for name in NAMES}
  _check_model(model, {'yoyodyne': known['yoyodyne']})
  with pytest.raises(ValueError, match='the model of torch has one table'):
    _check_model(model, known)


CONTENDER = """
class Counter:
  def __init__(self, job):
    print('this is not an answer')
    self.size = job['size']
    if not self.size:
      raise ValueError('the size is zero')
  def facts(self):
    return {'parameters': self.size}
  def step(self):
    sum(range(100_000))
    return self.size
  def outputs(self):
    return [[1, 2]]
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
  """Returns a function that starts the contender above."""
  (tmp_path / 'counting.py').write_text(CONTENDER, 'utf-8')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  workers = []

  def start_counter(size):
    job = {'contender': 'counting:Counter', 'size': size}
    workers.append(Worker('counter', job, folder=tmp_path))
    return workers[-1]

  yield start_counter
  for worker in workers:
    worker.close()


def test_a_contender_works_in_its_own_process(start, monkeypatch):
  monkeypatch.setattr('seqlab.bench.worker._SECONDS', 0.01)
  worker = start(7)
  worker.wait()
  assert worker.facts == {'parameters': 7}
  turn = worker.turn()
  assert turn.speed > 0
  assert turn.others >= 0  # ticks are too coarse for a bound in so short a turn
  assert worker.outputs() == [[1, 2]]


def test_a_contender_that_ends_is_an_error_with_its_last_words(start):
  with pytest.raises(RuntimeError, match=r'(?s)counter failed.*the size is zero'):
    start(0).wait()


DEMO = 'experiments/multi30k/transformer.py:smoke'  # one sentence per row


def installed(name):
  try:
    return find_libraries([name])
  except ValueError as error:
    pytest.skip(str(error))


PROBE = """
import numpy as np
from seqlab.bench.baselines.training import load_batches
from seqlab.bench.baselines.with_torch import HandWritten, smoothed_loss

class Probe:
  def __init__(self, job):
    with np.load(job['parameters']) as arrays:
      model = HandWritten(job['sizes'], 0.0, dict(arrays)).eval()
    source, target = load_batches(job['batches'])[0]
    self.loss = smoothed_loss(model(source, target), target, 0.1).item()
  def facts(self):
    return {'loss': self.loss}
  def step(self):
    return 1
"""


@pytest.mark.slow
def test_the_loss_of_the_model_in_pytorch_is_that_of_this_project(
  tmp_path, monkeypatch
):
  python = installed('torch')['torch'].python
  config = with_defaults(load_experiment(DEMO, ['--config.model.dtype=float32']))
  task = task_of(config).from_config(config, tmp_path / 'vocabulary')
  comparison = Comparison(Subject(DEMO, config, task), (), {}, tmp_path, 1, None)
  batches = choose_batches(comparison.subject)
  own.save_batches(tmp_path / 'batches.npz', batches)
  (tmp_path / 'probing.py').write_text(PROBE, 'utf-8')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  job = {
    'contender': 'probing:Probe',
    'parameters': str(comparison.parameters),
    'sizes': sizes_of(task.model),
    'batches': str(tmp_path / 'batches.npz'),
  }
  worker = Worker('probe', job, folder=tmp_path, python=python)
  try:
    worker.wait()
  finally:
    worker.close()
  variables = own.load_variables(str(comparison.parameters))
  loss = task.loss(variables, batches[0], None, {'label_smoothing': 0.1})
  assert worker.facts['loss'] == pytest.approx(float(loss.value / loss.weight), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['torch', 'joeynmt', 'fairseq', 'yoyodyne'])
def test_training_starts_alike_in_all_libraries(tmp_path, name):
  installed(name)
  output = str(tmp_path / 'bench.json')
  (result,) = compare(DEMO, against=[name], output=output, only='training', turns=1)
  own_facts = result.facts['seqlab float32']
  for contender, facts in result.facts.items():
    entropy = 1.0 if contender == 'JoeyNMT' else 0.0  # of smoothed labels, about
    loss = facts['first_loss'] + entropy
    assert loss == pytest.approx(own_facts['first_loss'], abs=0.6), contender
    if name != 'yoyodyne':  # it does not tie its output weights
      assert facts['parameters'] == pytest.approx(own_facts['parameters'], rel=0.05)


@pytest.mark.slow
def test_yoyodyne_reads_features_without_an_order(tmp_path):
  if not os.environ.get('SEQLAB_DATA'):
    pytest.skip('needs real data: set SEQLAB_DATA')
  installed('yoyodyne')
  experiment = 'experiments/inflection/sigmorphon2017.py:smoke'
  options = dict(output=str(tmp_path / 'bench.json'), only='training', turns=1)
  (result,) = compare(experiment, against=['yoyodyne'], **options)
  ours, theirs = result.facts['seqlab float32'], result.facts['yoyodyne']
  assert theirs['first_loss'] == pytest.approx(ours['first_loss'], abs=0.6)
  assert theirs['parameters'] == pytest.approx(ours['parameters'], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ctranslate2', 'joeynmt'])
def test_other_libraries_decode(tmp_path, monkeypatch, name):
  installed(name)
  monkeypatch.setattr('seqlab.bench.against._LINES', 16)
  output = str(tmp_path / 'bench.json')
  results = compare(DEMO, against=[name], output=output, only='decoding', turns=1)
  assert [result.part for result in results] == ['decoding, beam 1', 'decoding, beam 5']
  assert all(len(result.turns) > 1 for result in results)


def test_packed_batches_are_refused():
  batch = {x: np.ones((1, 2)) for x in ('source', 'target', 'source_segment')}
  packed = SimpleNamespace(
    batches=SimpleNamespace(steps_per_epoch=1, batch=lambda k, seed: batch),
    task=SimpleNamespace(tokens=lambda batch: 1, flops=lambda batch: 1),
  )
  with pytest.raises(ValueError, match=r"set batching\.kind='buckets'"):
    choose_batches(packed)
