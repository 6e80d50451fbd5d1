"""A run keeps the dtype that it began with, and its folder says which."""

import contextlib
import json

from flax import linen as nn
import pytest

from seqlab.config import with_defaults
from seqlab.report.runs import read_run
from seqlab.tasks.interface import Task
from seqlab.train.folder import RunFolder
from seqlab.train.loop import train
from seqlab.train.machine import dtype_in_use, fix_dtype, record_machine
from seqlab.train.mesh import make_mesh
from seqlab.train.population import train_population


class _Model(nn.Module):
  dtype: str = 'auto'


class _Task(Task):
  def __init__(self, dtype='auto'):
    self.model = _Model(dtype)


def _fixed(folder, **options):
  task = _Task(**options)
  fix_dtype(task, RunFolder(folder, {}))
  return task.model.dtype


@pytest.fixture
def _bfloat16_is_fast(monkeypatch):
  monkeypatch.setenv('SEQLAB_CPU_DTYPE', 'bfloat16')


@pytest.mark.usefixtures('_bfloat16_is_fast')
def test_a_run_that_begins_gets_the_fast_dtype_and_keeps_a_chosen_one(tmp_path):
  assert _fixed(tmp_path) == 'bfloat16'
  assert _fixed(tmp_path, dtype='float32') == 'float32'


@pytest.mark.usefixtures('_bfloat16_is_fast')
def test_a_run_is_resumed_in_the_dtype_that_it_began_with(tmp_path, capsys):
  (tmp_path / 'machine.json').write_text('{"dtype": "float32"}', 'utf-8')
  assert _fixed(tmp_path) == 'float32'
  assert 'began in float32 and continues in it' in capsys.readouterr().out


@pytest.mark.usefixtures('_bfloat16_is_fast')
def test_a_run_of_an_older_version_began_in_float32(tmp_path):
  (tmp_path / 'config.json').write_text('{}', 'utf-8')
  assert _fixed(tmp_path) == 'float32'


@pytest.mark.usefixtures('_bfloat16_is_fast')
def test_a_use_of_a_run_has_the_dtype_of_this_machine():
  assert dtype_in_use(_Task().model) == 'bfloat16'
  assert dtype_in_use(_Task('float32').model) == 'float32'
  assert dtype_in_use(object()) is None


@pytest.mark.usefixtures('_bfloat16_is_fast')
def test_a_trained_run_says_its_dtype(tiny, tmp_path):
  config = with_defaults({**tiny, 'steps': 1, 'evals': {}, 'keep_best': None})
  folder = train(config, tmp_path / 'run')
  machine = json.loads((folder.path / 'machine.json').read_text('utf-8'))
  assert machine['dtype'] == 'bfloat16'
  assert 'products in bfloat16' in folder.log.read_text('utf-8')
  assert read_run(folder.path).flat['model.dtype'] == 'bfloat16'


@pytest.mark.parametrize('start', [train, lambda c, f: train_population([c], [f])])
def test_the_dtype_is_recorded_before_the_folder_is_a_run(
  start, point, bucket, tmp_path, monkeypatch
):
  def stop(folder):
    raise RuntimeError('the machine is lost')

  monkeypatch.setattr(RunFolder, 'write_config', stop)
  for name in (str(tmp_path / 'run'), 's3://bucket/run'):
    with contextlib.suppress(RuntimeError):
      start(point, name)
  for folder in (tmp_path / 'run', bucket.path / 'run'):
    assert (folder / 'machine.json').is_file()
    assert not (folder / 'config.json').exists()


def test_a_run_that_is_forced_into_another_dtype_records_it(tmp_path):
  folder, mesh = RunFolder(tmp_path, {}), make_mesh(devices=1)
  for dtype in ('float32', 'bfloat16', 'bfloat16'):
    record_machine(folder, mesh, _Task(dtype))
  assert _fixed(tmp_path) == 'bfloat16'
