"""Traces of a few steps, and the memory that a run takes."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from seqlab.config import direction
from seqlab.metrics_file import read_metrics
from seqlab.train.checks import check_experiment
from seqlab.train.device import peak_memory
from seqlab.train.loop import train
from seqlab.train.profile import Profile, check_profile


def _take(folder, config, start, stop):
  """Takes steps as the loop does; returns the messages."""
  said = []
  with Profile(config, folder, said.append) as profile:
    for step in range(start + 1, stop + 1):
      if profile.begins(step):
        profile.begin(step)
      with profile.step(step):
        jnp.ones(4).sum().block_until_ready()
      if profile.ends(step):
        profile.end(step)
  return said


def _events(folder):
  """Returns the events of the newest trace, as Perfetto reads them."""
  (*_, file) = sorted(folder.glob('profile/plugins/profile/*/perfetto_trace.json.gz'))
  return json.loads(gzip.decompress(file.read_bytes()))['traceEvents']


def _traced_steps(folder):
  """Returns the steps that the newest trace names."""
  steps = {x['args']['step_num'] for x in _events(folder) if x.get('name') == 'train'}
  return sorted(map(int, steps))


def test_a_trace_has_the_steps_that_were_asked_for(tmp_path):
  (said,) = _take(tmp_path, {'profile': [2, 3]}, 0, 5)
  assert said.startswith('profile: steps 2 to 3 are in ')
  assert 'perfetto_trace.json.gz: open it at https://ui.perfetto.dev' in said
  assert _traced_steps(tmp_path) == [2, 3]
  assert [*tmp_path.glob('profile/plugins/profile/*/*.xplane.pb')]


def test_a_run_that_resumes_or_ends_inside_traces_the_rest(tmp_path, monkeypatch):
  monkeypatch.setattr(jax.profiler, 'start_trace', lambda *args, **options: None)
  monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: None)
  (tmp_path / 'profile/plugins/profile/x').mkdir(parents=True)
  (tmp_path / 'profile/plugins/profile/x/perfetto_trace.json.gz').touch()
  config = {'profile': [2, 4]}
  assert _take(tmp_path, config, 2, 6)[0].startswith('profile: steps 3 to 4 are')
  (said,) = _take(tmp_path, config, 0, 3)
  assert said.startswith('profile: steps from 2 to the end of the run are')
  assert _take(tmp_path, config, 4, 6) == _take(tmp_path, {}, 0, 6) == []


def test_a_trace_that_fails_is_left_out(tmp_path, monkeypatch):
  def fail(*args, **options):
    raise RuntimeError('Only one profile may be run at a time.')

  monkeypatch.setattr(jax.profiler, 'start_trace', fail)
  (said,) = _take(tmp_path, {'profile': [2, 4]}, 0, 6)
  assert said == (
    'profile: there is no trace: RuntimeError: Only one profile may be run at a time.'
  )


@pytest.mark.parametrize('value', [100, (5, 3), (0, 3), (1, 2, 3), ('1', 2), 'all'])
def test_wrong_steps_are_refused(tiny, value):
  message = 'profile is .*; it must be the first and the last step of a trace, from 1'
  with pytest.raises(ValueError, match=message):
    check_experiment(tiny | {'profile': value})


def test_steps_that_the_run_does_not_have_are_refused():
  check_profile({'profile': [10, 12]}, 12)
  with pytest.raises(
    ValueError, match=r'profile is .10, 13., and the run has 12 steps'
  ):
    check_profile({'profile': [10, 13]}, 12)


def test_memory_is_that_of_the_process_on_a_cpu():
  (memory,) = peak_memory().values()
  assert [*peak_memory()] == ['speed/peak_process_bytes']
  assert 50e6 < memory < 1e12
  held = jnp.zeros(50_000_000, jnp.uint8) + 1
  assert peak_memory()['speed/peak_process_bytes'] >= memory
  assert direction('speed/peak_process_bytes') == 'min'
  del held


@pytest.mark.slow
def test_a_run_is_traced_and_its_rows_stay(finished, tiny, tmp_path):
  train(tiny | {'profile': (5, 6)}, tmp_path)
  rows, expected = (
    [
      {k: v for k, v in row.items() if not k.startswith('speed/')}
      for row in read_metrics(folder / 'metrics.jsonl')
    ]
    for folder in (tmp_path, finished)
  )
  assert rows == expected
  assert _traced_steps(tmp_path) == [5, 6]
  assert 'profile: steps 5 to 6 are in' in (tmp_path / 'train.log').read_text('utf-8')
  # Each step is a run of the compiled update, with all of its instructions.
  instructions = {}
  for event in _events(tmp_path):
    if event.get('args', {}).get('hlo_module') == 'jit__trace':
      assert event['dur'] >= 0
      instructions.setdefault(event['args']['run_id'], set()).add(event['name'])
  first, second = instructions.values()
  assert first == second
  assert any(name.startswith('dot') for name in first)
  # XProf reads the other file.
  (file,) = tmp_path.glob('profile/plugins/profile/*/*.xplane.pb')
  planes = jax.profiler.ProfileData.from_file(str(file)).planes
  names = {x.name for plane in planes for line in plane.lines for x in line.events}
  assert first <= names
