"""One run in several real processes over loopback, in which processes may fail."""

import contextlib
import os
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from launch import local
from launch.local import Processes, main
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.loop import train
from seqlab.train.writer import read_metrics

NLL = {'type': 'perplexity', 'split': 'valid', 'every': 4, 'shapes': 1}
BLEU = {'type': 'translation', 'split': 'valid', 'every': 4, 'beam': 1}


def _config(tiny, **changes):
  """Returns `tiny` on all devices, with an evaluator that compiles quickly."""
  options = dict(mesh={'data': -1}, evals={'valid': NLL}, steps=8)
  options |= dict(keep_best='valid/nll', best_is='min', save_every=4)
  return tiny | options | changes


def _command(config, folder: Path, n: int = 2, *extra: str) -> list[str]:
  file = folder.parent / 'experiment.py'
  file.write_text(
    'import ml_collections\n\n\ndef get_config(arg=None):\n'
    f'  return ml_collections.ConfigDict({config!r})\n',
    'utf-8',
  )
  launch = [sys.executable, '-m', 'launch.local', '--processes', str(n), str(file)]
  return [*launch, '--workdir', str(folder), *extra]


def _run(config, folder: Path, n: int = 2, *extra: str) -> str:
  command = _command(config, folder, n, *extra)
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def _alone(config, folder: Path) -> list[dict[str, float]]:
  """Returns the rows of the same run by this process, on one device."""
  train(config | {'mesh': {'data': 1, 'devices': 1}}, folder)
  return _rows(folder)


def _rows(folder: Path) -> list[dict[str, float]]:
  return [
    {k: v for k, v in row.items() if not k.startswith('speed/')}
    for row in read_metrics(folder / 'metrics.jsonl')
  ]


def _same(rows, others) -> None:
  assert [row.keys() for row in rows] == [row.keys() for row in others]
  for row, other in zip(rows, others, strict=True):
    values = list(row.values()), [other[name] for name in row]
    np.testing.assert_allclose(*values, rtol=2e-4, err_msg=f'step {row["step"]}')


@pytest.fixture(scope='module')
def warm(tiny, finished):
  """An experiment that takes the encoder of another run and has a fresh decoder."""
  return _config(tiny, init={'run': str(finished), 'map': {'encoder': 'encoder'}})


@pytest.fixture(scope='module')
def two(warm, tmp_path_factory):
  """Returns the folder of a run in two processes, and its output."""
  folder = tmp_path_factory.mktemp('two') / 'run'
  return folder, _run(warm, folder)


def test_two_processes_have_the_losses_of_one(two, warm, tmp_path):
  _same(_rows(two[0]), _alone(warm, tmp_path))
  reports = [(folder / 'init.json').read_text('utf-8') for folder in (two[0], tmp_path)]
  assert reports[0] == reports[1]
  assert two[1].count('arrays (') == 1  # only process 0 says what the run begins with


def test_process_0_writes_the_folder(two):
  folder, shown = two
  assert [row['step'] for row in _rows(folder)] == list(range(1, 9))
  assert {row['compiles'] for row in _rows(folder)} == {0}
  assert len(list((folder / 'events').iterdir())) == 1
  assert (folder / 'config.json').is_file()
  assert (folder / 'train.log').read_text('utf-8').count('first step') == 1
  assert shown.count('first step') == 1


def test_the_log_of_each_process_is_kept(two):
  for i in range(2):
    text = (two[0] / 'logs' / f'process-{i}.log').read_text('utf-8')
    assert re.search(rf'process {i} of 2 on \S+, pid \d+', text)
    assert 'step 8: ' in text


def test_logs_of_a_run_in_a_bucket_are_on_this_machine(monkeypatch):
  monkeypatch.setenv('SEQLAB_CACHE', '/cache')
  assert local.logs_of('gs://mine/run') == Path('/cache/logs/gs/mine/run')
  assert local.logs_of('runs/mine') == Path('runs/mine/logs')


def test_a_dry_run_prints_the_commands(capsys):
  command = ['mine.py', '--workdir', 'runs', '--processes', '2', '--dry-run']
  assert main([*command, '--devices-per-process', '3', '--config.seed=5']) == 0
  first, second = capsys.readouterr().out.splitlines()
  assert ' JAX_PROCESS_ID=0 JAX_LOCAL_DEVICE_IDS=0,1,2 ' in first
  assert ' JAX_PROCESS_ID=1 JAX_LOCAL_DEVICE_IDS=3,4,5 ' in second
  assert second.endswith('seqlab.cli train mine.py --workdir runs --config.seed=5')


# How the launcher reports the exits of its processes, which are small programs here.
WAITS = 'import time; print("up", flush=True); time.sleep(60)'
STOPS = 'os.kill(os.getpid(), 19)'
WAITS_FOR_STOP = """
import psutil, time
def stopped():
  processes = psutil.Process().parent().children()
  return any(process.status() == psutil.STATUS_STOPPED for process in processes)
while not stopped():
  time.sleep(0.01)
"""


def _end(programs, logs, monkeypatch, patience=0.5) -> int:
  """Runs one program per process, by its index; returns the exit status."""
  monkeypatch.setattr(local, '_FAILED', patience)
  monkeypatch.setattr(local, '_DONE', patience)
  choose = 'import os; exec(os.environ["PROGRAM"])'
  settings = [{'PROGRAM': program} for program in programs]
  return Processes([sys.executable, '-c', choose], settings, logs).run()


@pytest.mark.parametrize(
  ('programs', 'status'),
  [
    (['pass', 'pass'], 0),
    (['raise SystemExit(75)', 'raise SystemExit(75)'], 75),
    (['os.kill(os.getpid(), 15)', WAITS], 75),
  ],
)
def test_successful_exits(programs, status, tmp_path, monkeypatch, capsys):
  assert _end(programs, tmp_path, monkeypatch) == status
  assert not capsys.readouterr().err


@pytest.mark.parametrize(
  ('programs', 'message'),
  [
    (['os.abort()', 'os.kill(os.getpid(), 9)', WAITS], 'process 1 on .* by SIGKILL'),
    ([WAITS, 'raise SystemExit(3)'], 'process 1 on .* with status 3'),
    (['pass', WAITS], 'process 1 on .* did not end after the others'),
    # JAX aborts process 0 when process 1 does not answer.
    (['os.abort()', WAITS], 'process 1 on .* did not answer the others'),
    (
      [f'{WAITS_FOR_STOP}os.abort()', STOPS],
      r'process 1 on .* was suspended \(SIGSTOP\) and did not answer',
    ),
    (
      [f'{WAITS_FOR_STOP}os._exit(3)', STOPS],
      'process 0 on .* with status 3, while process 1 was suspended',
    ),
  ],
)
def test_the_processes_that_failed_are_named(
  programs, message, tmp_path, monkeypatch, capsys
):
  before = psutil.Process().children()
  assert _end(programs, tmp_path, monkeypatch) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert re.search(message, line)
  assert f'process-{re.search(message[8:9], message)[0]}.log may say why' in line
  assert set(psutil.Process().children()) <= set(before), 'one is still running'


def test_a_suspended_process_is_reported_while_the_others_wait(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(local, '_SUSPENDED', 0.2)
  resumes = (
    'import signal, subprocess, sys; code = '
    '"import os, sys, time; time.sleep(1.5); os.kill(int(sys.argv[1]), 18)"; '
    'subprocess.Popen([sys.executable, "-c", code, str(os.getpid())]); '
    'os.kill(os.getpid(), 19)'
  )
  assert _end(['pass', resumes], tmp_path, monkeypatch, patience=60.0) == 0
  error = capsys.readouterr().err
  assert re.fullmatch(
    r'launch\.local: process 1 is suspended, and the others wait for it: '
    r'`kill -CONT \d+` lets it continue\n',
    error,
  )


LAUNCHES = """
import os, pathlib, sys
from launch.local import Processes
program = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'
if len(sys.argv) > 2:
  program = 'import signal; signal.signal(15, lambda *_: os._exit(75)); ' + program
settings = [dict(os.environ)] * 2
command = [sys.executable, '-c', 'import os; ' + program]
sys.exit(Processes(command, settings, pathlib.Path(sys.argv[1])).run())
"""


@pytest.fixture
def launched(tmp_path):
  """launched(words): starts a launcher in its own session, and two processes."""
  started = []

  def launch(*words, nohup=False):
    command = [sys.executable, '-c', LAUNCHES, str(tmp_path), *words]
    # If the tests run under nohup, the processes inherit that SIGHUP is ignored.
    command = [*(['nohup'] if nohup else ['env', '--default-signal=HUP']), *command]
    launcher = subprocess.Popen(
      command,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
      text=True,
    )
    started.append(launcher)
    logs = [tmp_path / f'process-{i}.log' for i in range(2)]
    while not all(log.is_file() and log.read_text().strip() for log in logs):
      assert launcher.poll() is None
      time.sleep(0.01)
    processes = [psutil.Process(int(log.read_text())) for log in logs]
    started.extend(processes)
    return launcher, processes

  yield launch
  for process in started:
    with contextlib.suppress(psutil.NoSuchProcess):
      process.kill()
  started[0].wait()
  started[0].stdout.close()


@pytest.mark.skipif(sys.platform != 'linux', reason='needs PR_SET_PDEATHSIG')
def test_no_process_outlives_a_launcher_that_was_killed(launched):
  launcher, processes = launched()
  launcher.kill()
  assert not psutil.wait_procs(processes, timeout=5)[1]


def test_a_closed_terminal_asks_the_processes_to_save(launched):
  launcher, processes = launched('saves')
  launcher.send_signal(signal.SIGHUP)
  assert launcher.wait(timeout=60) == 75
  assert not psutil.wait_procs(processes, timeout=5)[1]


def test_with_nohup_a_closed_terminal_ends_no_process(launched):
  launcher, processes = launched('saves', nohup=True)
  launcher.stdout.close()  # the terminal is closed
  launcher.send_signal(signal.SIGHUP)
  time.sleep(0.5)
  assert launcher.poll() is None
  assert all(process.is_running() for process in processes)


@pytest.mark.parametrize(
  'option',
  [
    *('--processes=0', '--processes=-1', '--processes=two', '--processes=1.5'),
    *('--devices-per-process=0', '--devices-per-process=-1', '--port=0'),
    *('--port=65536', '--port=-1', '--port=abc', '--port='),
  ],
)
def test_options_outside_their_domain_are_refused(option, capsys):
  with pytest.raises(SystemExit):
    main(['mine.py', '--workdir', 'runs', '--processes', '2', option])
  name = option.partition('=')[0]
  assert re.search(rf'error: argument {name}: it is .*; it must be', _err(capsys))


def _err(capsys):
  return capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(capsys, tmp_path):
  command = ['mine.py', '--workdir', str(tmp_path / 'run'), '--processes', '2']
  with socket.create_server(('127.0.0.1', 0)) as other:
    port = other.getsockname()[1]
    assert main([*command, '--port', str(port)]) == 1
  line = f'launch.local: port {port} of this machine cannot be used (Address already'
  assert _err(capsys).startswith(line)
  assert not (tmp_path / 'run').exists()


def test_a_workdir_that_is_a_file_is_one_line(capsys, tmp_path):
  (tmp_path / 'file').write_text('')
  command = ['mine.py', '--workdir', str(tmp_path / 'file'), '--processes', '2']
  assert main(command) == 1
  (line,) = _err(capsys).splitlines()
  assert line.startswith('launch.local: ')
  assert str(tmp_path / 'file') in line


def test_sigterm_is_passed_on(tmp_path, monkeypatch):
  hears = (
    'import signal, time; signal.signal(15, lambda *_: os._exit(75)); '
    'os.kill(os.getppid(), 15) if os.environ["ME"] == "1" else None; time.sleep(60)'
  )
  programs = [f'os.environ["ME"] = "{i}"; {hears}' for i in range(2)]
  assert _end(programs, tmp_path, monkeypatch) == 75


def _wait_for(folder: Path, step: int, process: subprocess.Popen) -> None:
  """Waits for a checkpoint of this step or a later one."""
  while not any(
    path.name.isdigit() and int(path.name) >= step
    for path in (folder / 'checkpoints').glob('*')
  ):
    assert process.poll() is None, 'it ended before it could be stopped'
    time.sleep(0.005)


def _pid(folder: Path, i: int) -> int:
  text = (folder / 'logs' / f'process-{i}.log').read_text('utf-8')
  return int(re.findall(r'pid (\d+)', text)[-1])


@pytest.mark.slow  # four processes, twice
@pytest.mark.parametrize('mesh', [{'data': -1}, {'data': 1, 'fsdp': 2, 'tensor': 2}])
def test_four_processes_have_the_losses_and_the_bleu_of_one(mesh, tiny, tmp_path):
  config = _config(tiny, evals={'valid': NLL, 'bleu': BLEU})
  _run(config | {'mesh': mesh}, tmp_path / 'four', 4)
  _same(_rows(tmp_path / 'four'), _alone(config, tmp_path / 'one'))
  samples = [tmp_path / n / 'samples' / 'bleu-00000008.txt' for n in ('four', 'one')]
  assert samples[0].read_text('utf-8') == samples[1].read_text('utf-8')


@pytest.mark.slow  # three runs of two processes
@pytest.mark.parametrize('victim', [0, 1])
def test_killed_and_relaunched_equals_uninterrupted(victim, tiny, tmp_path):
  config = _config(tiny, steps=60, save_every=5, evals={}, keep_best=None)
  _run(config, tmp_path / 'whole')
  folder = tmp_path / 'cut'
  process = subprocess.Popen(
    _command(config, folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
  )
  _wait_for(folder, 10, process)
  os.kill(_pid(folder, victim), signal.SIGKILL)
  killed = time.monotonic()
  error = process.communicate()[1].decode()
  assert time.monotonic() - killed < 60
  assert process.returncode == 1
  assert re.search(rf'process {victim} on \S+ was ended by SIGKILL', error)
  stopped = Checkpoints(folder / 'checkpoints', read_only=True).latest
  seen = read_metrics(folder / 'metrics.jsonl')[-1]['step']
  assert 10 <= stopped < 60
  assert seen - stopped <= 2 * 5  # a checkpoint that was being written is lost too
  assert f'resuming from the checkpoint of step {stopped}' in _run(config, folder)
  assert _rows(folder) == _rows(tmp_path / 'whole')


def _stop(config, folder: Path, after: str, receiver: str) -> int:
  """Sends SIGTERM after process 0 printed a text; returns the checkpoint's step."""
  process = subprocess.Popen(
    _command(config, folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
  )
  while after not in process.stdout.readline().decode():
    assert process.poll() is None, 'it ended before it could be stopped'
  os.kill(process.pid if receiver == 'launcher' else _pid(folder, 1), signal.SIGTERM)
  process.communicate()
  assert process.returncode == 75
  stopped = Checkpoints(folder / 'checkpoints', read_only=True).latest
  for i in range(2):
    text = (folder / 'logs' / f'process-{i}.log').read_text('utf-8')
    assert f'stopped at step {stopped:,} of 100,000, as SIGTERM asked' in text
  return stopped


@pytest.mark.slow  # three runs of two processes
def test_sigterm_to_any_stops_all_at_the_same_step(tiny, tmp_path):
  config = _config(tiny, steps=100_000, save_every=50_000, evals={}, keep_best=None)
  folder = tmp_path / 'run'
  stopped = _stop(config, folder, 'first step', 'process 1')
  # Long before it takes its first step.
  assert _stop(config, folder, 'data: ', 'launcher') == stopped + 1
  override = f'--config.steps={stopped + 3}'
  assert 'resuming from the checkpoint' in _run(config, folder, 2, override, '--force')
  assert [row['step'] for row in _rows(folder)] == list(range(1, stopped + 4))


@pytest.mark.slow  # runs of two, one and four processes
def test_a_run_resumes_in_fewer_and_in_more_processes(tiny, tmp_path):
  config = _config(tiny, steps=12)
  for n, steps in ((2, 4), (1, 8), (4, 12)):
    _run(config, tmp_path / 'run', n, f'--config.steps={steps}', '--force')
  _same(_rows(tmp_path / 'run'), _alone(config, tmp_path / 'one'))


@pytest.mark.slow  # two processes
def test_without_a_launcher_the_others_end_and_name_the_killed_process(tiny, tmp_path):
  config = _config(tiny, steps=100_000, evals={}, keep_best=None)
  folder = tmp_path / 'run'
  command = _command(config, folder)
  launch, rest = command[:3], command[3:]
  shown = subprocess.run(
    [*launch, *rest, '--dry-run'], capture_output=True, text=True, check=True
  )
  both = [
    subprocess.Popen(line, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for line in (f'exec {text}' for text in shown.stdout.splitlines())
  ]
  while b'first step' not in both[0].stdout.readline():
    assert both[0].poll() is None
  both[1].kill()
  killed = time.monotonic()
  text = both[0].communicate()[0].decode()
  both[1].communicate()
  assert time.monotonic() - killed < 60
  assert both[0].returncode == 1
  assert re.search(r'process 0 of 2 on \S+: process 1 on \S+ did not answer', text)
