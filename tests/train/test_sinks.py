"""Sinks: what they show, and that none of them disturbs a run."""

import gc
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboardX import proto

from seqlab.config import with_defaults
from seqlab.evaluators.attention import tiles
from seqlab.results.origin import origin_of
from seqlab.results.signature import configuration_digest
from seqlab.train.checks import check_experiment
from seqlab.train.folder import RunFolder, differences, open_folder
from seqlab.train.loop import train
from seqlab.train.sinks import background
from seqlab.train.sinks.interface import Sink
from seqlab.train.writer import Writer, read_metrics
from seqlab.trust import foreign_names

HANG = threading.Event()


class Hanging(Sink):
  def metrics(self, step, row):
    HANG.wait()


class Raising(Sink):
  def __init__(self, step=2):
    self._step = step

  def metrics(self, step, row):
    if step == self._step:
      raise ConnectionError('no network')


class Noting(Sink):
  calls = None

  def __init__(self, folder, start, *, label='x'):
    self.folder, self.start, self.label = folder, start, label
    Noting.calls = []

  def __getattribute__(self, name):
    if name in ('configuration', 'metrics', 'text', 'image', 'flush', 'close'):
      return lambda *arguments: Noting.calls.append((name, self.label, *arguments))
    return super().__getattribute__(name)


class Clearing(Sink):
  def configuration(self, config):
    config.clear()

  def metrics(self, step, row):
    row.clear()


def _path(sink):
  return f'{sink.__module__}:{sink.__qualname__}'


@pytest.fixture
def hanging(monkeypatch):
  """The path of a sink that hangs until the test is over."""
  monkeypatch.setattr(background, '_CLOSE_SECONDS', 0.2)
  HANG.clear()
  yield _path(Hanging)
  HANG.set()
  for thread in threading.enumerate():
    if thread.name == 'seqlab-sink':
      thread.join(5)
  assert not background.is_stuck()


def _writer(folder, sinks, said=None, **options):
  say = None if said is None else said.append
  return Writer(open_folder(folder, {'sinks': sinks}), say=say, **options)


def test_a_sink_gets_everything_in_order(tmp_path):
  writer = _writer(tmp_path, [{'kind': _path(Noting), 'label': 'y'}])
  writer.write(1, {'loss': 2.0})
  image = np.zeros((1, 1, 3), np.uint8)
  writer.show(
    1, 'valid', SimpleNamespace(samples=('a', 'b'), images=lambda: {'i': image})
  )
  writer.write(1, {'bleu': 3.0})
  writer.flush()
  writer.close()
  Noting.calls[2] = (*Noting.calls[2][:-1], Noting.calls[2][-1].tolist())
  assert Noting.calls == [
    ('configuration', 'y', {'sinks': [{'kind': _path(Noting), 'label': 'y'}]}),
    ('text', 'y', 1, 'valid/samples', 'a\nb'),
    ('image', 'y', 1, 'valid/i', image.tolist()),
    ('metrics', 'y', 1, {'loss': 2.0, 'bleu': 3.0}),
    ('flush', 'y'),
    ('close', 'y'),
  ]


def test_a_sink_that_hangs_or_raises_does_not_disturb_a_run(tmp_path, hanging):
  said = []
  writer = _writer(tmp_path, [hanging, _path(Raising), _path(Noting)], said)
  started = time.monotonic()
  for step in range(1, 2_001):
    writer.write(step, {'loss': 1.0})
    time.sleep(0 if step % 100 else 1e-3)  # lets the sink of this test keep up
  writer.flush()
  writer.close()
  assert time.monotonic() - started < 10
  assert len(read_metrics(tmp_path / 'metrics.jsonl')) == 2_000
  assert len(Noting.calls) > 1_000
  raised, behind, given_up = (x for x in said if 'Noting' not in x)
  assert 'Raising has failed and is left out: ConnectionError: no network' in raised
  assert 'Hanging is 1,000 calls behind' in behind
  assert 'Hanging did not end in 0 s and is given up' in given_up
  assert background.is_stuck()


def test_what_a_sink_does_to_its_arguments_has_no_effect(tmp_path):
  folder = open_folder(tmp_path, {'sinks': [_path(Clearing), _path(Noting)]})
  config = json.dumps(folder.config)
  writer = Writer(folder)
  writer.write(1, {'loss': 1.0})
  writer.close()
  assert Noting.calls[1] == ('metrics', 'x', 1, {'loss': 1.0})
  assert json.dumps(Noting.calls[0][2]) == config == json.dumps(folder.config)


def test_a_sink_that_cannot_be_made_is_left_out(tmp_path):
  said = []
  writer = _writer(tmp_path, [{'kind': _path(Raising), 'step': 1}, 'wandb_'], said)
  writer.write(1, {'loss': 1.0})
  writer.close()
  raised, unknown = sorted(said)
  assert 'no network' in raised
  assert "unknown sinks.1 'wandb_'; did you mean 'wandb'?" in unknown


@pytest.mark.slow
def test_a_run_with_sinks_that_fail_ends_as_one_without(
  finished, tiny, tmp_path, hanging, capsys
):
  config = tiny | {'sinks': [hanging, _path(Raising)]}
  train(config, tmp_path / 'run')
  rows, expected = (
    [
      {k: v for k, v in row.items() if not k.startswith('speed/')}
      for row in read_metrics(folder / 'metrics.jsonl')
    ]
    for folder in (tmp_path / 'run', finished)
  )
  assert rows == expected
  out = capsys.readouterr().out
  assert 'Raising has failed' in out
  assert 'Hanging did not end' in out
  assert not (tmp_path / 'run' / 'events').exists()


def _events(folder):
  """Returns the values of all events in a folder, in order."""
  values = []
  for file in sorted((folder / 'events').iterdir()):
    content = file.read_bytes()
    while content:
      size = int.from_bytes(content[:8], 'little')
      event = proto.event_pb2.Event.FromString(content[12 : 12 + size])
      content = content[16 + size :]
      values += [(event.step, value) for value in event.summary.value]
  return values


def test_tensorboard_shows_scalars_texts_images_and_options(tmp_path):
  config = {'keep_best': 'valid/bleu', 'hyper': {'peak': 0.5}, 'names': ['a', 'b']}
  writer = Writer(open_folder(tmp_path, config))
  image = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
  shown = SimpleNamespace(samples=('< a', '= b'), images=lambda: {'cross': image})
  writer.show(3, 'valid', shown)
  writer.write(3, {'loss': 1.5})
  writer.close()
  experiment, begin, text, picture, scalar, end = _events(tmp_path)
  hparams = proto.plugin_hparams_pb2.HParamsPluginData
  data = [
    hparams.FromString(x.metadata.plugin_data.content)
    for _, x in (experiment, begin, end)
  ]
  assert [x.name.tag for x in data[0].experiment.metric_infos] == ['loss', 'valid/bleu']
  options = data[1].session_start_info.hparams
  assert options['hyper.peak'].number_value == 0.5
  assert options['names'].string_value == "['a', 'b']"
  assert data[2].HasField('session_end_info')
  assert text[1].tensor.string_val == [b'    < a\n    = b']
  assert (text[0], text[1].tag) == (3, 'valid/samples/text_summary')
  assert (picture[1].image.height, picture[1].image.width) == (4, 2)
  assert picture[1].image.encoded_image_string.startswith(b'\x89PNG')
  assert (scalar[0], scalar[1].tag, scalar[1].simple_value) == (3, 'loss', 1.5)


def test_a_full_disk_loses_events_and_closes_their_file(small_disk, fill):
  said = []
  writer = _writer(small_disk / 'run', None, said)
  fill(small_disk)
  image = np.random.default_rng(0).integers(0, 256, (99, 99, 3)).astype(np.uint8)
  writer.show(1, 'x', SimpleNamespace(samples=(), images=lambda: {'noise': image}))
  writer.close()
  (message,) = said
  assert 'sink tensorboard has failed and is left out: OSError: [Errno 28]' in message
  gc.collect()  # warns of a file that is still open


def test_maps_of_attention_are_drawn_side_by_side():
  weights = np.zeros((1, 2, 1, 3))
  weights[0, 1, 0, 2] = 1
  image = tiles(weights)
  assert image.shape == (8 + 2, 2 * (3 * 8 + 2), 3)
  assert (image[2:, 2 : 2 + 24] == 255).all()
  assert (image[2:, -8:] == 0).all()
  assert (image[:2] == (70, 130, 180)).all()


@pytest.mark.parametrize(
  ('sinks', 'message'),
  [
    ('wandb', r"sinks is 'wandb'; it must be a list of sinks, as in \['tensorboard', "),
    (['wand'], "unknown sinks.0 'wand'; did you mean 'wandb'"),
    (
      [{'kind': 'wandb', 'projekt': 'x'}],
      r'unknown key sinks\.0\.projekt; did you mea',
    ),
    (
      [{'kind': 'wandb', 'mode': 'x'}],
      r"sinks\.0\.mode is 'x'; it must be 'online' or",
    ),
    (['pathlib:Path'], r'sinks\.0: Path must be a class that inherits from .*:Sink'),
  ],
)
def test_wrong_sinks_are_refused(tiny, sinks, message):
  with pytest.raises(ValueError, match=message):
    check_experiment(tiny | {'sinks': sinks})


def test_sinks_are_no_part_of_an_experiment(tiny, tmp_path):
  """A run may be followed elsewhere after it resumes; using it needs no trust."""
  config = tiny | {'sinks': [_path(Noting)]}
  assert differences(config, tiny) == []
  assert configuration_digest(config) == configuration_digest(tiny)
  assert [*foreign_names(config)] == []
  open_folder(tmp_path, with_defaults(config)).write_config()
  assert json.loads((tmp_path / 'config.json').read_text())['sinks'] == [_path(Noting)]
  assert RunFolder.open(tmp_path).config['sinks'] == [_path(Noting)]
  assert 'sinks' not in with_defaults(tiny | {'sinks': None})
  words = ['sinks=[]', 'sinks.0.mode=offline', 'profile=(1, 2)', 'seed=1', 'steps=3']
  origin = origin_of('agreement/transformer', [f'--config.{x}' for x in words])
  assert origin['overrides'] == ['--config.steps=3']


@pytest.mark.slow
def test_wandb_continues_a_run_offline(tmp_path):
  pytest.importorskip('wandb')
  for start in (0, 2):
    sinks, said = [{'kind': 'wandb', 'mode': 'offline', 'tags': ['t']}], []
    writer = _writer(tmp_path, sinks, said, start_step=start)
    image = np.zeros((4, 4, 3), np.uint8)
    shown = SimpleNamespace(samples=('< a',), images=lambda image=image: {'i': image})
    writer.show(start + 1, 'valid', shown)
    writer.write(start + 1, {'loss': 1.5})
    writer.close()
    assert said == []
  runs = [*(tmp_path / 'wandb').glob('offline-run-*')]
  assert len({run.name.rpartition('-')[2] for run in runs}) == 1
  assert len(runs) == 2
  files = {file.suffix for run in runs for file in run.rglob('*') if file.is_file()}
  assert {'.wandb', '.png', '.html'} <= files
