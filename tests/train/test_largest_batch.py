"""`batching.tokens='auto'`: a run that takes the largest batch that fits."""

import json
import types

import pytest

from seqlab.compile.memory import program_bytes
from seqlab.config import with_defaults
from seqlab.experiment import load_experiment
from seqlab.train import largest_batch
from seqlab.train.checks import check_experiment
from seqlab.train.engines import make_engine
from seqlab.train.folder import differences, open_folder
from seqlab.train.largest_batch import with_largest_batch
from seqlab.train.loop import train
from seqlab.train.setup import prepare

_BATCHING = {'kind': 'buckets', 'tokens': 'auto', 'shapes': 2, 'max_length': 10}
_UNIT = 8 * 10


@pytest.fixture
def auto(tiny):
  return with_defaults(tiny | {'batching': _BATCHING})


@pytest.fixture
def limit(monkeypatch):
  """Sets the memory that a device states, in bytes."""

  def set_limit(size):
    monkeypatch.setattr(largest_batch, 'memory_limit', lambda: size)

  return set_limit


def test_devices_that_do_not_state_their_memory_are_refused(auto, tmp_path):
  check_experiment(auto)
  with pytest.raises(ValueError, match=r'do not state its size \(CPUs never do\)'):
    train(auto, tmp_path)
  assert not (tmp_path / 'config.json').exists()


def test_an_experiment_that_sets_a_number_keeps_it(tiny, tmp_path):
  folder = open_folder(tmp_path, tiny)
  assert with_largest_batch(folder) is folder


def test_a_run_that_resumes_has_the_batch_that_it_chose(auto, tmp_path):
  folder = open_folder(tmp_path, auto)
  chosen = auto | {'batching': _BATCHING | {'tokens': 320}}
  (tmp_path / 'config.json').write_text(json.dumps(chosen))
  assert open_folder(tmp_path, auto).config['batching']['tokens'] == 320
  assert differences(chosen, auto) == []
  assert folder.config['batching']['tokens'] == 'auto'
  other = auto | {'batching': _BATCHING | {'shapes': 3}}
  with pytest.raises(ValueError, match=r'batching\.shapes: 2 there, 3 now'):
    open_folder(tmp_path, other)
  # Another experiment takes the folder over, and has a batch of its own.
  forced = open_folder(tmp_path, other, force=True)
  assert forced.config['batching']['tokens'] == 'auto'


def test_whatever_makes_batches_without_a_run_needs_a_number(auto, tmp_path):
  with pytest.raises(ValueError, match='set a number for everything else'):
    prepare(open_folder(tmp_path, auto))


def test_the_command_line_sets_auto_and_a_number():
  file = 'experiments/multi30k/transformer.py'
  config = load_experiment(file, ['--config.batching.tokens=auto'])
  assert config['batching']['tokens'] == 'auto'
  both = ['--config.batching.tokens=auto', '--config.batching.tokens=512']
  assert load_experiment(file, both)['batching']['tokens'] == 512
  with pytest.raises(ValueError, match='should be a int'):
    load_experiment(file, ['--config.batching.tokens=all'])


def _sized(monkeypatch, size):
  """Lets programs take `size(rows, width)` bytes; returns the shapes compiled for."""
  shapes = []

  def make(config, task, steps):
    del config, task, steps
    definition = types.SimpleNamespace(check=lambda shapes: None)
    return types.SimpleNamespace(definition=definition, compile=compile)

  def compile(batch):
    shapes.append(batch['source'].shape)
    return size(*shapes[-1])

  monkeypatch.setattr(largest_batch, 'make_engine', make)
  monkeypatch.setattr(largest_batch, 'program_bytes', lambda program: program)
  return shapes


def _narrow(rows, width):
  return 1000 + 20 * rows


def _wide(rows, width):
  return 1000 + rows * width**2


@pytest.mark.parametrize(('size', 'largest'), [(_narrow, 0), (_wide, 1)])
def test_programs_of_all_shapes_fit(auto, tmp_path, monkeypatch, limit, size, largest):
  def sizes(tokens):
    config = auto | {'batching': _BATCHING | {'tokens': tokens}}
    _, batches, _ = prepare(open_folder(tmp_path, config, force=True))
    return [size(*batch['source'].shape) for batch in batches.shapes]

  compiled = _sized(monkeypatch, size)
  limit(3000)
  folder = with_largest_batch(open_folder(tmp_path, auto))
  tokens = folder.config['batching']['tokens']
  assert tokens % _UNIT == 0
  assert sizes(tokens).index(max(sizes(tokens))) == largest
  assert max(sizes(tokens)) <= 0.9 * 3000 < max(sizes(tokens + _UNIT))
  assert len(compiled) <= 8


def test_an_epoch_has_about_one_batch_per_shape_at_least(
  auto, tmp_path, monkeypatch, limit
):
  _sized(monkeypatch, lambda rows, width: rows * width)
  limit(10**9)
  folder = with_largest_batch(open_folder(tmp_path, auto))
  _, batches, _ = prepare(folder)
  epoch = batches.report['target_tokens']
  assert epoch / 2 - _UNIT < folder.config['batching']['tokens'] <= epoch / 2


def test_too_little_memory_is_refused(auto, tmp_path, monkeypatch, limit):
  _sized(monkeypatch, lambda rows, width: 1000)
  limit(1000)
  with pytest.raises(ValueError, match='not even a batch of 80 tokens fits'):
    with_largest_batch(open_folder(tmp_path, auto))


@pytest.mark.slow
def test_a_run_chooses_the_largest_batch_and_resumes_with_it(
  auto, tmp_path, limit, capsys
):
  limit(1_000_000)
  config = auto | {'steps': 2, 'evals': {}, 'keep_best': None}
  folder = train(config, tmp_path / 'run')
  assert 'the largest batch that fits is batching.tokens=' in capsys.readouterr().out
  recorded = json.loads((tmp_path / 'run/config.json').read_text())
  assert recorded['batching']['tokens'] == folder.config['batching']['tokens']
  task, batches, timetable = prepare(folder)
  engine = make_engine(folder.config, task, timetable.steps)
  needed = max(program_bytes(engine.compile(batch)) for batch in batches.shapes)
  assert 0.8 * 900_000 < needed <= 900_000
  limit(1)  # another device
  assert train(config | {'steps': 2}, tmp_path / 'run').config == folder.config
