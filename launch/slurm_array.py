"""Runs the trials of a sweep as one job array of Slurm.

  python -m launch.sweep experiments/multi30k/transformer.py --workdir /shared/runs \
    --on slurm --workers 8 --slurm='--partition gpu --gpus-per-node 1 --time 4:00:00'

submitit writes the script, submits it, and has a trial that was told to stop requeued.
A trial is told by SIGTERM (preemption) or submitit's signal (the time limit is near);
it writes a checkpoint, and goes on from there when its job starts again.

The sweep only watches. Ctrl-C ends it and leaves the jobs: the same command waits for
those that are still there, and submits what has neither ended well nor a job. slurm.json
in a trial's folder has the job's number, for `scancel` too.
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
from launch.trials import Trial, leave, read_json, run_trial
from seqlab.io.files import write_text

# Of a job that has not ended for good.
_ALIVE = {
  *('PENDING', 'RUNNING', 'SUSPENDED', 'CONFIGURING', 'COMPLETING', 'STOPPED'),
  *('REQUEUED', 'REQUEUE_FED', 'REQUEUE_HOLD', 'SPECIAL_EXIT', 'RESV_DEL_HOLD'),
  *('RESIZING', 'SIGNALING', 'STAGE_OUT'),
}
_SOONEST, _LATEST = 1.0, 15.0  # seconds between two looks at the queue
_PATIENCE = 1800.0  # seconds that Slurm's controller may be out of reach
_TIMEOUTS = 1000  # times that a trial may come to its time limit


class Job(NamedTuple):
  """What Slurm says of a job: its state, why it is in it, and where it runs."""

  state: str = 'GONE'
  reason: str = ''
  nodes: str = ''

  @property
  def alive(self) -> bool:
    """Whether it has still to end."""
    return self.state in _ALIVE


def run_many(
  trials: Sequence[Trial],
  done: Callable[[Trial, dict[str, Any]], None],
  *,
  workers: int | None = None,
  force: bool = False,
  options: str = '',
) -> None:
  """Runs trials as one job array, except for those that have a job already.

  A trial whose job dies counts as failed, with Slurm's reason; the others go on. If
  this is interrupted the jobs go on.

  Args:
    trials: what to run.
    done: called with each trial that ended, and its state.
    workers: how many at a time; by default as many as Slurm finds room for.
    force: run in folders that a different experiment made.
    options: of `launch.slurm.add_resources`, as one types them.

  Raises:
    FileNotFoundError: Slurm's commands are not here.
    ValueError: the options are wrong.
    RuntimeError: Slurm refuses the jobs, or does not answer for half an hour.
  """
  args = _read(options)
  need('sbatch', WHERE)
  found = jobs_of_mine()
  jobs = {job: t for t in trials if found.get(job := _job_of(t), Job()).alive}
  if jobs:
    print(f'{len(jobs)} trials have a job of Slurm that goes on', flush=True)
  begun = {trial.folder for trial in jobs.values()}
  fresh = [trial for trial in trials if trial.folder not in begun]
  if fresh:
    jobs |= _submit(fresh, args, workers, force)
  try:
    _watch(jobs, done)
  except KeyboardInterrupt:
    numbers = ' '.join(sorted({job.partition('_')[0] for job in jobs}))
    print(
      f'\nsweep: the jobs of Slurm go on; `scancel {numbers}` ends them',
      file=sys.stderr,
    )
    raise


def jobs_of_mine() -> dict[str, Job]:
  """The user's jobs that Slurm remembers, which it does for minutes after their end.

  Returns:
    Number -> job; '12_3' is task 3 of array 12. By squeue, as there is not everywhere
    an accounting for sacct to ask.

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
    """Trains; if it was told to stop, has the job put back into the queue."""
    import submitit

    here = submitit.JobEnvironment()
    notice = signal.Signals[f'SIG{here.USR_SIG}']
    requeue = signal.getsignal(notice)  # submitit's, which ends the process at once
    # First the step has to end and a checkpoint to be written.
    signal.signal(notice, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    state = run_trial(self.experiment, self.overrides, self.folder, force=self.force)
    if state['status'] != 'stopped':
      return
    print(state['reason'], flush=True)
    # If it is not running any more Slurm is ending it, and knows whether it comes back.
    if jobs_of_mine().get(here.job_id, Job()).state == 'RUNNING':
      requeue(notice, None)
    sys.exit(os.EX_TEMPFAIL)

  def checkpoint(self) -> Any:
    """What submitit shall run next time: the same, as the folder has all else."""
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
  if '%' in check_path(folder):  # which submitit does not write as %%
    raise ValueError(f'Slurm interprets the % in {folder}: use another --workdir')
  executor = _executor(folder)
  name = f'seqlab-{trials[0].folder.parent.name}'
  executor.update_parameters(job_name=name, **_parameters(args, workers or len(trials)))
  calls = []
  for trial in trials:
    # So that what is there afterwards is the job's.
    leave(trial, status='waiting', reason=None)
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
  return submitit.SlurmExecutor(folder, max_num_timeout=_TIMEOUTS)


def _parameters(args: argparse.Namespace, at_once: int) -> dict[str, Any]:
  """The options as submitit wants them."""
  own = {k: v for k, v in environment().items() if k not in os.environ}
  cores = args.cpus_per_task
  return dict(
    time=minutes(args.time),
    signal_delay_s=args.grace,
    array_parallelism=at_once,
    stderr_to_stdout=True,
    wckey=None,
    # Slurm's SIGTERM is for the trial: this shell waits for it.
    setup=['trap : TERM', *(f'export {k}={shlex.quote(v)}' for k, v in own.items())],
    # srun wants to be told what sbatch was told.
    srun_args=[f'--cpus-per-task={cores}'] if cores else None,
    additional_parameters={'requeue': True, **resources(args)},
  )


def _watch(
  jobs: dict[str, Trial], done: Callable[[Trial, dict[str, Any]], None]
) -> None:
  """Takes out of `jobs` what has ended, until there is nothing left."""
  pause, answered, waiting = _SOONEST, time.monotonic(), ''
  while jobs:
    try:
      found, answered = jobs_of_mine(), time.monotonic()
    except RuntimeError:  # its controller may be starting anew
      if time.monotonic() - answered > _PATIENCE:
        raise
      time.sleep(_LATEST)
      continue
    for number, trial in list(jobs.items()):
      job = found.get(number, Job())
      if not job.alive:
        state = _state(trial, number, job)
        del jobs[number]
        done(trial, state)
    before, waiting = waiting, _waiting([found[n] for n in jobs if n in found])
    if waiting and waiting != before:
      print(f'trials wait in the queue: {waiting}', flush=True)
    time.sleep(pause if jobs else 0)
    pause = min(1.5 * pause, _LATEST)


def _waiting(jobs: Sequence[Job]) -> str:
  """For what jobs wait, such as Resources, or a time limit that is too long."""
  reasons = {job.reason for job in jobs if job.state == 'PENDING'}
  return ', '.join(sorted(reasons - {'None'}))


def _state(trial: Trial, number: str, job: Job) -> dict[str, Any]:
  """The state of a trial whose job has ended; why it failed, if that did."""
  until = time.monotonic() + 60
  over = ('finished', 'failed')
  while job.state == 'COMPLETED' and trial.state.get('status') not in over:
    if time.monotonic() > until:
      break
    time.sleep(1)  # what another machine wrote may be seen a little later
  state = trial.state
  if state.get('status') in over:
    return state
  log = _note(trial).get('log', 'its log')
  never = state.get('status') == 'waiting'
  see = f'. It never began: does the node see {trial.folder}?' if never else ''
  where = f' on {job.nodes}' if job.nodes else ''
  why = f' ({job.reason})' if job.reason not in ('', 'None') else ''
  reason = (
    f'its job {number} of Slurm ended{where} as {job.state}{why}; the last lines of '
    f'{log} may say why{see}'
  )
  return leave(trial, status='failed', reason=reason)


def _job_of(trial: Trial) -> str:
  """The number of the job that it was last given; an empty string if it never had one."""
  return str(_note(trial).get('job', ''))


def _note(trial: Trial) -> dict[str, Any]:
  """What slurm.json says of the trial's job; empty if it never had one.

  Raises:
    ValueError: the file is damaged.
  """
  return read_json(trial.folder / 'slurm.json')
