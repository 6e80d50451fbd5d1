"""Runs the trials of a sweep as one job array of Slurm.

  python -m launch.sweep experiments/multi30k/transformer.py --workdir /shared/runs \
    --on slurm --workers 8 --slurm='--partition gpu --gpus-per-node 1 --time 4:00:00'

submitit writes the script, submits it, and requeues a trial that has to stop. A trial
stops on SIGTERM (preemption) or on submitit's signal (shortly before the time limit):
it writes a checkpoint, from which it resumes when its job starts again.

The sweep only watches the jobs. Ctrl-C ends the sweep and leaves the jobs: the same
command waits for those that still exist, and submits trials that are not finished and
have no job. slurm.json in a trial's folder has the number of the job, as for `scancel`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
import shlex
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from launch.machine import environment
from launch.options import need
from launch.slurm import WHERE, add_resources, check_path, minutes, resources
from launch.trials import Trial, read_json, run_trial, write_idle_state
from seqlab.io.files import write_text

# States of a job that may still run.
_ALIVE = {
  *('PENDING', 'RUNNING', 'SUSPENDED', 'CONFIGURING', 'COMPLETING', 'STOPPED'),
  *('REQUEUED', 'REQUEUE_FED', 'REQUEUE_HOLD', 'SPECIAL_EXIT', 'RESV_DEL_HOLD'),
  *('RESIZING', 'SIGNALING', 'STAGE_OUT'),
}
_MIN_PAUSE, _MAX_PAUSE = 1.0, 15.0  # seconds between two requests to the queue
_PATIENCE = 1800.0  # seconds that Slurm's controller may not answer
_MAX_TIMEOUTS = 1000  # times that a trial may reach its time limit


class Job(NamedTuple):
  """A job of Slurm: its state, the reason for it, and the nodes."""

  state: str = 'GONE'
  reason: str = ''
  nodes: str = ''

  @property
  def alive(self) -> bool:
    """Whether it may still run."""
    return self.state in _ALIVE


def run_many(
  trials: Sequence[Trial],
  on_end: Callable[[Trial, dict[str, Any]], None],
  *,
  workers: int | None = None,
  force: bool = False,
  options: str = '',
) -> None:
  """Runs trials as one job array, except for those that have a job already.

  A trial whose job dies counts as failed, with Slurm's reason; the others continue. The
  jobs continue, too, if this function is interrupted.

  Args:
    trials: trials to run.
    on_end: called with each trial that ended, and its state.
    workers: number of trials that run at a time; by default Slurm decides.
    force: run in folders that a different experiment made.
    options: options of `launch.slurm.add_resources`, as on a command line.

  Raises:
    FileNotFoundError: Slurm's commands are not on this machine.
    ValueError: the options are wrong.
    RuntimeError: Slurm refuses the jobs, or does not answer for half an hour.
  """
  args = _read(options)
  need('sbatch', WHERE)
  queue = my_jobs()
  jobs = {job: t for t in trials if queue.get(job := _job_of(t), Job()).alive}
  if jobs:
    print(f'{len(jobs)} trials already have a job of Slurm', flush=True)
  submitted = {trial.folder for trial in jobs.values()}
  new = [trial for trial in trials if trial.folder not in submitted]
  if new:
    jobs |= _submit(new, args, workers, force)
  try:
    _watch(jobs, on_end)
  except KeyboardInterrupt:
    numbers = ' '.join(sorted({job.partition('_')[0] for job in jobs}))
    print(
      f'\nsweep: the jobs of Slurm continue; `scancel {numbers}` ends them',
      file=sys.stderr,
    )
    raise


def my_jobs() -> dict[str, Job]:
  """Asks squeue for the user's jobs, including those that ended some minutes ago.

  (sacct would need an accounting database, which not every cluster has.)

  Returns:
    Number -> job; '12_3' is task 3 of array 12.

  Raises:
    RuntimeError: Slurm does not answer.
  """
  command = ['squeue', '--me', '--array', '--states=all', '--noheader']
  done = subprocess.run(
    [*command, '--format=%i|%T|%r|%N'], capture_output=True, text=True
  )
  if done.returncode:
    raise RuntimeError(f'squeue: {done.stderr.strip()}')
  rows = (line.strip().split('|') for line in done.stdout.splitlines())
  return {number: Job(*rest) for number, *rest in rows}


@dataclasses.dataclass(frozen=True)
class Training:
  """One trial as a function for submitit, which pickles it."""

  experiment: str
  overrides: Mapping[str, Any]
  folder: Path
  force: bool

  def __call__(self) -> None:
    """Trains; requeues the job if the trial had to stop."""
    import submitit

    job = submitit.JobEnvironment()
    notice = signal.Signals[f'SIG{job.USR_SIG}']
    requeue = signal.getsignal(notice)  # submitit's, which ends the process at once
    # The step has to end first, and a checkpoint to be written.
    signal.signal(notice, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    state = run_trial(self.experiment, self.overrides, self.folder, force=self.force)
    if state['status'] != 'stopped':
      return
    print(state['reason'], flush=True)
    # In any other state Slurm is ending the job, and decides whether to requeue it.
    if my_jobs().get(job.job_id, Job()).state == 'RUNNING':
      requeue(notice, None)
    sys.exit(os.EX_TEMPFAIL)

  def checkpoint(self) -> Any:
    """Returns what submitit runs next time: the same, since the folder has the rest."""
    from submitit.helpers import DelayedSubmission

    return DelayedSubmission(self)


def _read(options: str) -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog='--slurm', allow_abbrev=False, add_help=False)
  parser.error = _refuse
  add_resources(parser)
  try:
    words = shlex.split(options)
  except ValueError as error:  # a quotation mark without its partner
    raise ValueError(f'--slurm: {error}') from None
  args = parser.parse_args(words)
  minutes(args.time), resources(args)
  return args


def _refuse(message: str) -> None:
  raise ValueError(f'--slurm: {message}; `python -m launch.slurm --help` lists them')


def _submit(
  trials: Sequence[Trial], args: argparse.Namespace, workers: int | None, force: bool
) -> dict[str, Trial]:
  """Submits one array; returns the trial of each of its jobs."""
  folder = trials[0].folder.absolute().parent.parent / 'slurm'
  if '%' in check_path(folder):  # submitit does not escape it
    raise ValueError(f'Slurm interprets the % in {folder}: use another --workdir')
  executor = _executor(folder)
  name = f'seqlab-{trials[0].folder.parent.name}'
  executor.update_parameters(job_name=name, **_parameters(args, workers or len(trials)))
  calls = []
  for trial in trials:
    # A later state in `trial.json` is then the job's, not one of an earlier sweep.
    write_idle_state(trial, status='waiting', reason=None)
    folder = trial.folder.absolute()
    calls.append(Training(trial.experiment, trial.overrides, folder, force))
  try:
    submitted = executor.submit_array(calls)
  except RuntimeError as error:
    raise RuntimeError(f'Slurm refused the jobs: {str(error).strip()}') from None
  jobs = {job.job_id: t for job, t in zip(submitted, trials, strict=True)}
  for job, trial in jobs.items():
    log = str(executor.folder / f'{job}_0_log.out')
    write_text(trial.folder / 'slurm.json', json.dumps({'job': job, 'log': log}))
  number = submitted[0].job_id.partition('_')[0]
  print(f'job {number} of Slurm: {len(jobs)} trials', flush=True)
  return jobs


def _executor(folder: Path) -> Any:
  try:
    import submitit
  except ImportError:
    raise RuntimeError(
      "--on slurm needs submitit: pip install 'seqlab[launch]'"
    ) from None
  return submitit.SlurmExecutor(folder, max_num_timeout=_MAX_TIMEOUTS)


def _parameters(args: argparse.Namespace, at_once: int) -> dict[str, Any]:
  """Returns the options of submitit."""
  changed = {k: v for k, v in environment().items() if k not in os.environ}
  cores = args.cpus_per_task
  return dict(
    time=minutes(args.time),
    signal_delay_s=args.grace,
    array_parallelism=at_once,
    stderr_to_stdout=True,
    wckey=None,
    # The trial handles Slurm's SIGTERM; the shell has to wait for it.
    setup=[
      'trap : TERM',
      *(f'export {k}={shlex.quote(v)}' for k, v in changed.items()),
    ],
    # srun does not inherit this from sbatch.
    srun_args=[f'--cpus-per-task={cores}'] if cores else None,
    additional_parameters={'requeue': True, **resources(args)},
  )


def _watch(
  jobs: dict[str, Trial], on_end: Callable[[Trial, dict[str, Any]], None]
) -> None:
  """Removes jobs that ended from `jobs`, until it is empty."""
  pause, answered, waiting = _MIN_PAUSE, time.monotonic(), ''
  while jobs:
    try:
      queue, answered = my_jobs(), time.monotonic()
    except RuntimeError:  # Slurm's controller may be restarting
      if time.monotonic() - answered > _PATIENCE:
        raise
      time.sleep(_MAX_PAUSE)
      continue
    for number, trial in list(jobs.items()):
      job = queue.get(number, Job())
      if not job.alive:
        state = _final_state(trial, number, job)
        del jobs[number]
        on_end(trial, state)
    before, waiting = waiting, _reasons([queue[n] for n in jobs if n in queue])
    if waiting and waiting != before:
      print(f'trials wait in the queue: {waiting}', flush=True)
    time.sleep(pause if jobs else 0)
    pause = min(1.5 * pause, _MAX_PAUSE)


def _reasons(jobs: Sequence[Job]) -> str:
  """Returns the reasons why jobs wait, such as Resources or PartitionTimeLimit."""
  reasons = {job.reason for job in jobs if job.state == 'PENDING'}
  return ', '.join(sorted(reasons - {'None'}))


def _final_state(trial: Trial, number: str, job: Job) -> dict[str, Any]:
  """Returns the state of a trial whose job has ended, with the reason of a failure."""
  until = time.monotonic() + 60
  final = ('finished', 'failed')
  while job.state == 'COMPLETED' and trial.state.get('status') not in final:
    if time.monotonic() > until:
      break
    time.sleep(1)  # a shared disk may show a file of another machine later
  state = trial.state
  if state.get('status') in final:
    return state
  log = _note(trial).get('log', 'its log')
  never = state.get('status') == 'waiting'
  hint = f'. It never started: is {trial.folder} visible on the node?' if never else ''
  where = f' on {job.nodes}' if job.nodes else ''
  slurm_reason = f' ({job.reason})' if job.reason not in ('', 'None') else ''
  reason = (
    f'its job {number} of Slurm ended{where} as {job.state}{slurm_reason}; the last '
    f'lines of {log} may say why{hint}'
  )
  return write_idle_state(trial, status='failed', reason=reason)


def _job_of(trial: Trial) -> str:
  """Returns the number of the trial's last job; '' if it never had a job."""
  return str(_note(trial).get('job', ''))


def _note(trial: Trial) -> dict[str, Any]:
  """Returns the contents of the trial's slurm.json; empty if it never had a job.

  Raises:
    ValueError: the file is damaged.
  """
  return read_json(trial.folder / 'slurm.json')
