"""Launching with Slurm: the script, and a real Slurm where it is installed."""

import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from launch import slurm, slurm_array, sweep
from launch.slurm import minutes
from launch.slurm_array import my_jobs, run_many
from launch.trials import Trial, plan, write_state
from seqlab.report.runs import read_run

TEXT = """
import ml_collections


def get_config(arg=None):
  return ml_collections.ConfigDict({config!r})


def sweep(add):
  {adds}
"""
ODD = 'a "b" \'c\' $(HOME) $d `e`\n# f: {g}'


def _experiment(folder, config, adds='add(seed=1)'):
  file = folder / 'mine.py'
  file.write_text(TEXT.format(config=config, adds=adds), 'utf-8')
  return str(file)


@pytest.fixture
def empty(tmp_path):
  """An experiment that is never run."""
  return _experiment(tmp_path, {'task': 'none', 'text': '', 'seed': 0})


@pytest.fixture
def programs(tmp_path, monkeypatch):
  """programs(name=lines): puts scripts of bash in place of Slurm's commands."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')

  def make(**lines):
    for name, text in lines.items():
      (folder / name).write_text(f'#!{shutil.which("bash")}\n{text}\n')
      (folder / name).chmod(0o755)

  return make


def _script(capsys, experiment, *options, workdir='runs/mine'):
  assert slurm.main([experiment, '--workdir', workdir, '--dry-run', *options]) == 0
  return capsys.readouterr().out


@pytest.mark.parametrize(
  ('srun', 'state', 'status', 'requeued'),
  [
    ('exit 75', 'RUNNING', 75, True),
    ('kill -TERM $PPID; sleep 0.1; exit 75', 'RUNNING', 75, True),
    ('exit 75', 'COMPLETING', 75, False),  # cancelled, or requeued by others
    ('exit 0', 'RUNNING', 0, False),
    ('exit 137', 'RUNNING', 137, False),
  ],
)
def test_a_job_that_stopped_on_request_is_requeued(
  srun, state, status, requeued, empty, capsys, programs, tmp_path
):
  programs(
    srun=srun, squeue=f'echo {state}', scontrol=f'echo "$@" > {tmp_path}/requeued'
  )
  text = _script(capsys, empty)
  environ = os.environ | {'SLURM_JOB_ID': '12'}
  assert subprocess.run(['bash', '-c', text], env=environ).returncode == status
  requests = tmp_path / 'requeued'
  assert (
    requests.read_text() if requests.exists() else ''
  ) == 'requeue 12\n' * requeued


def test_any_text_reaches_the_processes_unchanged(empty, capsys, programs, tmp_path):
  programs(srun=f'printf "%s\\0" "$TEXT" "$@" > {tmp_path}/got', squeue='')
  options = (f'--config.text={ODD}', f'--env=TEXT={ODD}')
  text = _script(capsys, empty, *options, workdir='runs/50% of "it"')
  subprocess.run(['bash', '-c', text], env=os.environ | {'SLURM_JOB_ID': '1'})
  text, *words = (tmp_path / 'got').read_text().split('\0')[:-1]
  assert text == ODD
  assert words[-6:] == [
    *('seqlab.cli', 'train', empty, '--workdir', 'runs/50% of "it"'),
    f'--config.text={ODD}',
  ]
  # Slurm replaces %t by the number of the process, and %% by %.
  assert '--output=runs/50%% of "it"/logs/process-%t.log' in words


def test_a_process_has_all_gpus_of_its_node_or_one(empty, capsys):
  text = _script(capsys, empty, '--nodes', '2', '--gpus-per-node', '4')
  assert 'export JAX_LOCAL_DEVICE_IDS=0,1,2,3\n' in text
  assert '#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n' in text
  options = ('--gpus-per-node', '4', '--processes-per-node')
  text = _script(capsys, empty, *options, '4')
  assert 'JAX_LOCAL_DEVICE_IDS' not in text  # JAX assigns one GPU to each process
  assert slurm.main([empty, '--workdir', 'runs', *options, '3']) == 1
  assert '3 processes cannot share 4 GPUs' in capsys.readouterr().err


def test_options_of_sbatch_are_passed_on(empty, capsys):
  options = ('--partition', 'gpu', '--grace', '300', '--mem', '64G', '--time', '2-12')
  extra = ('--sbatch=--constraint=a100|h100', '--sbatch=--exclusive')
  lines = _script(capsys, empty, *options, *extra, '--cpus-per-task', '8').splitlines()
  assert {
    *('#SBATCH --partition=gpu', '#SBATCH --signal=TERM@300', '#SBATCH --mem=64G'),
    *("#SBATCH --constraint='a100|h100'", '#SBATCH --exclusive', '#SBATCH --requeue'),
    *('#SBATCH --time=2-12', 'export SRUN_CPUS_PER_TASK=8'),
  } <= set(lines)


@pytest.mark.parametrize(
  ('limit', 'expected'),
  [
    *(('90', 90), ('1:30', 2), ('24:00:00', 1440), ('0:0:1', 1)),
    *(('2-12', 3600), ('1-0:30', 1470), ('1-0:0:30', 1441)),
  ],
)
def test_time_limits(limit, expected):
  assert minutes(limit) == expected


@pytest.mark.parametrize('limit', ['', '-5', '1:2:3:4', 'an hour', '1-'])
def test_an_invalid_time_limit_is_refused(limit):
  with pytest.raises(ValueError, match='is not a time limit'):
    minutes(limit)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--config.sed=1'], "no key 'sed'; did you mean 'seed'"),
    (['--sbatch=nodelist=a'], '--sbatch=nodelist=a should be written'),
    (['--name=a\nb'], '--job-name: .* has a line break'),
    (['--time=soon'], '--time soon is not a time limit'),
    ([], 'there is no command sbatch here: run this where Slurm'),
  ],
)
def test_mistakes_show_before_anything_is_submitted(
  options, message, empty, tmp_path, capsys, monkeypatch
):
  monkeypatch.setenv('PATH', '')
  assert slurm.main([empty, '--workdir', str(tmp_path / 'run'), *options]) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert re.match(f'launch.slurm: .*{message}', line)


# The runner of sweeps, with commands that replace Slurm's.
@pytest.fixture
def queue(tmp_path, programs, monkeypatch):
  """Returns a file with the output of squeue, and one with the scripts for sbatch."""
  pytest.importorskip('submitit')
  monkeypatch.setattr(slurm_array, '_MIN_PAUSE', 0.01)
  listed, requests = tmp_path / 'squeue', tmp_path / 'sbatch'
  listed.write_text('')
  sbatch = f'cat "$1" >> {requests}; echo Submitted batch job 5'
  programs(squeue=f'cat {listed}', sbatch=sbatch, srun='')
  return listed, requests


def _trials(folder, n):
  names = [f'seed={i}' for i in range(n)]
  return [Trial('mine.py', x, folder / 'mine' / x, {'seed': x}, {}) for x in names]


def _run(trials, **options):
  ended = {}
  run_many(trials, lambda trial, state: ended.update({trial.name: state}), **options)
  return ended


def test_a_job_that_died_is_a_failed_trial_with_slurms_reason(tmp_path, queue):
  listed, requests = queue
  first, second, third = trials = _trials(tmp_path, 3)
  write_state(_made(first), {'status': 'failed', 'reason': 'of an earlier try'})
  listed.write_text('5_0|OUT_OF_MEMORY|OutOfMemory|n1\n5_1|NODE_FAIL|None|n2\n')
  states = _run(trials, workers=2, options='--partition gpu --gpus-per-node 1')
  reasons = [states[trial.name]['reason'] for trial in trials]
  assert reasons[0].startswith(
    'its job 5_0 of Slurm ended on n1 as OUT_OF_MEMORY (OutOfMemory); the last lines of '
  )
  assert f'{tmp_path}/slurm/5_0_0_log.out may say why' in reasons[0]
  assert 'ended on n2 as NODE_FAIL' in reasons[1]
  assert 'ended as GONE' in reasons[2]
  assert f'It never started: is {third.folder} visible on the node?' in reasons[2]
  assert {trial.state['status'] for trial in trials} == {'failed'}
  lines = requests.read_text().splitlines()
  assert {'#SBATCH --array=0-2%2', '#SBATCH --gpus-per-node=1'} <= set(lines)
  assert '#SBATCH --time=1440' in lines
  assert second.state['overrides'] == second.overrides


def _made(trial):
  trial.folder.mkdir(parents=True, exist_ok=True)
  return trial.folder


def test_a_trial_with_a_job_is_not_submitted_again(
  tmp_path, queue, monkeypatch, capsys
):
  listed, requests = queue
  first, second = trials = _trials(tmp_path, 2)
  (_made(first) / 'slurm.json').write_text('{"job": "4_7", "log": "log"}')
  (_made(second) / 'slurm.json').write_text('{"job": "4_8", "log": "log"}')
  listed.write_text('4_7|PENDING|Priority|\n4_8|FAILED|None|n1\n5|RUNNING|None|n1\n')

  def sleep(seconds):  # in the meantime
    write_state(first.folder, {'status': 'finished'})
    write_state(second.folder, {'status': 'finished'})
    listed.write_text('4_7|COMPLETED|None|n1\n5|COMPLETED|None|n1\n')

  monkeypatch.setattr(slurm_array.time, 'sleep', sleep)
  assert _run(trials) == {trial.name: {'status': 'finished'} for trial in trials}
  assert json.loads((first.folder / 'slurm.json').read_text())['job'] == '4_7'
  assert json.loads((second.folder / 'slurm.json').read_text())['job'] == '5'
  assert requests.read_text().count('#!/bin/bash') == 1
  shown = capsys.readouterr().out
  assert '1 trials already have a job of Slurm' in shown
  assert 'trials wait in the queue: Priority\n' in shown


def test_an_interrupted_sweep_leaves_its_jobs(tmp_path, queue, monkeypatch, capsys):
  queue[0].write_text('5_0|RUNNING|None|n1\n5_1|RUNNING|None|n1\n')

  def interrupt(seconds):
    raise KeyboardInterrupt

  monkeypatch.setattr(slurm_array.time, 'sleep', interrupt)
  with pytest.raises(KeyboardInterrupt):
    _run(_trials(tmp_path, 2))
  assert 'jobs of Slurm continue; `scancel 5` ends them' in capsys.readouterr().err


def test_a_controller_that_does_not_answer_is_asked_again(
  tmp_path, queue, programs, monkeypatch
):
  (trial,) = _trials(tmp_path, 1)
  listed = queue[0]
  monkeypatch.setattr(slurm_array, '_MAX_PAUSE', 0.01)
  silent = (
    f'[ -s {listed} ] && {{ echo >> {tmp_path}/n; [ $(wc -l < {tmp_path}/n) = 3 ] '
  )
  programs(squeue=f'{silent} || {{ echo out of reach >&2; exit 1; }}; }}; cat {listed}')
  programs(sbatch=f'echo "5|FAILED|None|n1" > {listed}; echo Submitted batch job 5')
  assert 'as FAILED' in _run([trial])[trial.name]['reason']
  assert (tmp_path / 'n').read_text() == '\n' * 3


@pytest.mark.parametrize(
  'options', ['--partitoin gpu', '--time soon', '--gpus-per-node 0']
)
def test_wrong_options_of_jobs_are_refused(options, tmp_path, queue):
  with pytest.raises(ValueError, match=r'--slurm: |--time soon'):
    _run(_trials(tmp_path, 1), options=options)


# A real Slurm.
@pytest.fixture(scope='module')
def cluster():
  """Starts a Slurm of one node with four cores."""
  folder = Path(tempfile.mkdtemp(prefix='slurm-'))  # paths of sockets must be short
  script = str(Path(__file__).with_name('slurm.sh'))
  try:
    started = subprocess.run(
      [script, 'start', folder], stderr=subprocess.PIPE, text=True
    )
    if started.returncode:
      pytest.skip(f'no Slurm here: {started.stderr.strip()}')
    with pytest.MonkeyPatch.context() as patch:
      patch.setenv('SLURM_CONF', str(folder / 'slurm.conf'))
      yield folder
  finally:
    subprocess.run([script, 'stop', folder], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def test_slurm_reads_the_script(cluster, empty, tmp_path, capsys):
  workdir = str(tmp_path / '50% of "it\'s" # $d')
  text = _script(capsys, empty, '--name', ODD.replace('\n', ' '), workdir=workdir)
  job = _sbatch('--hold', text=text)
  shown = subprocess.run(
    ['scontrol', 'show', 'job', job], capture_output=True, text=True
  ).stdout
  subprocess.run(['scancel', job], check=True)
  assert f'JobName={ODD.replace(chr(10), " ")}\n' in shown
  # Some versions print %% unchanged.
  assert f'StdOut={workdir}/logs/slurm-{job}.log\n' in shown.replace('%%', '%')
  assert 'TimeLimit=1-00:00:00 ' in shown
  assert 'Requeue=1' in shown


def test_options_of_sbatch_reach_slurm(cluster, empty, tmp_path, capsys):
  command = [empty, '--workdir', str(tmp_path / 'runs')]
  assert slurm.main([*command, '--partition', 'moon']) == 1
  assert (
    'sbatch refused it: sbatch: error: invalid partition' in capsys.readouterr().err
  )
  pytest.importorskip('submitit')
  with pytest.raises(RuntimeError, match=r'refused the jobs: .*invalid partition'):
    _run(_trials(tmp_path, 2), options='--partition moon')


def _sbatch(*options, text):
  command = ['sbatch', '--parsable', *options]
  done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True)
  assert done.returncode == 0
  return done.stdout.strip()


def _wait(description, condition, seconds=300):
  """Waits until a condition holds; returns the last value."""
  end = time.monotonic() + seconds
  while not (value := condition()):
    assert time.monotonic() < end, f'{description}: not within {seconds} s'
    time.sleep(0.05)
  return value


def _saved(folder, step=1):
  names = (path.name for path in (folder / 'checkpoints').glob('*'))
  return any(name.isdigit() and int(name) >= step for name in names)


def _job(trial):
  return json.loads((trial.folder / 'slurm.json').read_text())


def _resumed(log):
  """Returns the steps from which a run resumed; they are those at which it stopped."""
  text = Path(log).read_text()
  went_on = re.findall('resuming from the checkpoint of step ([0-9,]+)', text)
  assert went_on == re.findall('stopped at step ([0-9,]+)', text), 'it lost steps'
  return [int(step.replace(',', '')) for step in went_on]


def _config(tiny, **changes):
  """Returns `tiny` without the parts that take long to compile."""
  options = dict(evals={}, keep_best=None, save_every=100)
  return tiny | options | changes


def _steps(folder):
  return [row['step'] for row in read_run(folder).rows]


@pytest.mark.slow  # four trials in processes
def test_a_sweep_as_an_array_with_a_trial_preempted(cluster, tiny, tmp_path):
  pytest.importorskip('submitit')
  steps = 1800
  config = _config(tiny, steps=steps)
  adds = 'for seed in range(4): add(seed=seed)'
  experiment, runs = _experiment(tmp_path, config, adds), tmp_path / 'runs'
  command = [experiment, '--workdir', str(runs), '--on', 'slurm', '--slurm=--time 30']
  started = subprocess.Popen(
    [sys.executable, '-m', 'launch.sweep', *command], stderr=subprocess.PIPE, text=True
  )
  trials = plan(experiment, runs)
  _wait('checkpoints', lambda: all(_saved(trial.folder) for trial in trials))
  jobs = [_job(trial) for trial in trials]
  (number,) = {job['job'].partition('_')[0] for job in jobs}
  assert [job['job'] for job in jobs] == [f'{number}_{i}' for i in range(4)]

  # Only the sweep is interrupted, not its jobs.
  started.send_signal(signal.SIGINT)
  assert f'`scancel {number}` ends them' in started.communicate()[1]
  assert started.returncode == 130
  queued = my_jobs()
  assert [queued[job['job']].state for job in jobs] == ['RUNNING'] * 4

  # All cores are in use: one trial has to be preempted.
  high = ('--partition=high', '--output=/dev/null')
  _sbatch(*high, text='#!/bin/sh\nsleep 3\n')
  assert sweep.main(command) == 0
  assert [_job(trial) for trial in trials] == jobs
  assert all(trial.finished for trial in trials)
  went_on = [_resumed(job['log']) for job in jobs]
  assert sorted(map(len, went_on)) == [0, 0, 0, 1]
  assert [_steps(trial.folder) for trial in trials] == [[*range(1, steps + 1)]] * 4


@pytest.mark.slow  # three trials in processes
def test_jobs_that_end_badly_are_failed_trials(cluster, tiny, tmp_path, monkeypatch):
  pytest.importorskip('submitit')
  (tmp_path / 'ends_its_process.py').write_text('import os\nos.kill(os.getpid(), 9)\n')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  adds = "add(task='ends_its_process:Task'), add(steps=10**6), add(steps=1500)"
  experiment = _experiment(tmp_path, _config(tiny, steps=1), adds)
  runs = tmp_path / 'runs'
  dies, cancelled, warned = trials = plan(experiment, runs)
  command = [experiment, '--workdir', str(runs), '--on', 'slurm', '--workers', '3']
  started = subprocess.Popen(
    [sys.executable, '-m', 'launch.sweep', *command], stderr=subprocess.PIPE, text=True
  )
  _wait('checkpoints', lambda: _saved(cancelled.folder) and _saved(warned.folder))
  subprocess.run(['scancel', _job(cancelled)['job']], check=True)
  # The signal that precedes the time limit.
  subprocess.run(['scancel', '--signal=USR2', _job(warned)['job']], check=True)
  error = started.communicate()[1]
  assert started.returncode == 1
  assert re.search(rf'failed: {dies.folder}: .* as FAILED \(NonZeroExitCode\)', error)
  assert re.search(rf'failed: {cancelled.folder}: .* as CANCELLED', error)
  assert [trial.state['status'] for trial in trials] == ['failed', 'failed', 'finished']
  assert len(_resumed(_job(warned)['log'])) == 1
  assert _steps(warned.folder) == [*range(1, 1501)]


@pytest.mark.slow  # two processes, twice
def test_a_run_in_two_processes_is_requeued_and_resumes(
  cluster, tiny, tmp_path, capsys
):
  steps = 200
  config = _config(tiny, steps=steps, save_every=20, mesh={'data': -1})
  experiment, folder = _experiment(tmp_path, config), tmp_path / 'run'
  command = [experiment, '--workdir', str(folder), '--processes-per-node', '2']
  assert slurm.main([*command, '--time', '30']) == 0
  job = re.match(r'Submitted batch job (\d+)\n', capsys.readouterr().out)[1]
  _wait('a checkpoint', lambda: _saved(folder))
  subprocess.run(['scancel', '--signal=TERM', job], check=True)
  _wait('the end', lambda: not my_jobs()[job].alive)
  assert my_jobs()[job].state == 'COMPLETED'
  logs = [folder / 'logs' / f'process-{i}.log' for i in range(2)]
  assert _resumed(logs[0]) == _resumed(logs[1])
  assert len(_resumed(logs[0])) == 1
  assert 'process 1 of 2 on ' in logs[1].read_text()
  assert _steps(folder) == [*range(1, steps + 1)]
