r"""Runs all trials of experiments, then their reports.

  python -m launch.sweep experiments/multi30k/transformer.py --workdir runs/studies
  python -m launch.sweep ... --report-to docs          # and keep its figures there
  python -m launch.sweep ... --report-only             # of the trials that are finished
  python -m launch.sweep ... --trials 40               # a search instead, see search.py
  python -m launch.sweep ... --trials 40 --storage postgresql://me@host/searches

An experiment's `sweep(add)` calls add(seed=1, **{'hyper.peak': 1e-3}) once per trial,
or add(arg='size=small', seed=1) to pass arguments to `get_config`. Any option of any
piece may be set, even if the file does not name it. `report(runs, folder)` writes
figures and table.md. The sweep writes rows.csv beside them as each trial ends, with the
final value of every metric of every finished trial. A file with `study(folder)` trains
nothing: it only writes these, every time. With --trials Optuna asks `search(trial)` for
that many trials in all; with a storage on a server many machines can do so at once. The
same command resumes a sweep that was interrupted.
"""

import argparse
from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import math
import os
from pathlib import Path
import shlex
import signal
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING, Any

from launch import population, slurm_array, workers
from launch.options import Parser, positive, whole
from launch.raw_rows import RawRows
from launch.reports import publish, report_files, shown_command, written_since
from launch.study import is_study, run_study
from launch.trials import (
  Trial,
  experiment_name,
  module_of,
  other_folders,
  plan,
  read_state,
  unfinished,
)
from seqlab.config import best_is
from seqlab.io.secrets import hide_url, scrub
from seqlab.report.runs import read_run
from seqlab.text.remote import is_remote
from seqlab.text.workers import all_cores
from seqlab.train.folder import RunFolder

if TYPE_CHECKING:
  from launch.search import HyperSearch

# Where trials can run: name -> function(trials, on_end, workers=, force=).
RUNNERS = {
  'local': workers.run_many,
  'population': population.run_many,
  'slurm': slurm_array.run_many,
}
_BATCH = 8  # trials of a search that a population or job array is given at a time
_REFUSALS = (ValueError, OSError, RuntimeError)
_SAME_NAME = 'two of the experiments have the same name: use one command for each'


@dataclasses.dataclass(frozen=True)
class Study:
  """An experiment, the folder of its trials, and the trials."""

  experiment: str
  folder: Path
  trials: list[Trial]

  @functools.cached_property
  def _rows(self) -> RawRows:
    return RawRows(self.folder)

  def write_rows(self) -> None:
    """Writes rows.csv of the trials that are finished now."""
    self._rows.update((trial.name, trial.folder) for trial in self.trials)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status: 1 after a failure, 130 if stopped."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = _arguments(argv)
  terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    return (sweep if args.trials is None else search)(args)
  except KeyboardInterrupt:
    command = shlex.join(['python', '-m', 'launch.sweep', *_shown(argv, args)])
    print(f'\nsweep: stopped. The same command resumes:\n  {command}', file=sys.stderr)
    return 130
  except Exception as error:
    if os.environ.get('SEQLAB_TRACEBACK') or not isinstance(error, _REFUSALS):
      # Python's own traceback would show secrets in the message of an error's cause.
      print(scrub(traceback.format_exc()), end='', file=sys.stderr)
    else:
      print(f'sweep: {scrub(str(error))}', file=sys.stderr)
    return 1
  finally:
    signal.signal(signal.SIGTERM, terminate)


def _shown(argv: Sequence[str], args: argparse.Namespace) -> list[str]:
  """Returns the words of the command, without the secrets of --storage."""
  if not args.storage:
    return [*argv]
  try:
    from launch.storage import hidden
  except ModuleNotFoundError:  # SQLAlchemy is installed with Optuna only
    hidden = hide_url
  return [word.replace(args.storage, hidden(args.storage)) for word in argv]


def sweep(args: argparse.Namespace) -> int:
  """Runs the trials that are not finished, and reports on all."""
  workdir = _folder_of(args)
  computed = [*filter(is_study, args.experiments)]
  studies = [
    Study(experiment, workdir / experiment_name(experiment), plan(experiment, workdir))
    for experiment in args.experiments
    if experiment not in computed
  ]
  if len({study.folder for study in studies}) < len(studies):
    raise ValueError(_SAME_NAME)
  if studies:
    _check_reports(args, studies)
  wrong = [file for file in computed if not _compute(file, args)]
  if not studies:
    return int(bool(wrong))
  trials = [trial for study in studies for trial in study.trials]
  with contextlib.ExitStack() as stack:
    for study in studies:
      study.folder.mkdir(parents=True, exist_ok=True)
      # A second sweep in the same folder would run the same trials.
      stack.enter_context(RunFolder(study.folder, {}).lock())
      _check_target(study.folder, args)
      _name_other_folders(study)
    todo = unfinished(trials, force=args.force)
    for study in studies:
      study.write_rows()
    if not args.report_only and todo:
      finished = len(trials) - len(todo)
      print(f'{finished} of {len(trials)} trials are finished', flush=True)
      _run(todo, studies, args)
    failed = [] if args.report_only else [t for t in trials if not t.finished]
    broken = [s.experiment for s in studies if not _report(s, args)]
  # After the reports, so that failures are the last lines that the user sees.
  for trial in failed:
    state = trial.state
    reason = state.get('reason') or f'its state is {state.get("status", "unknown")}'
    print(f'failed: {trial.folder}: {reason}', file=sys.stderr)
  finished = sum(trial.finished for trial in trials)
  print(f'{finished} of {len(trials)} trials are finished')
  if args.report_only and not finished:
    raise ValueError(
      f'no trial in {workdir} is finished, so there is nothing to report on: run the '
      'trials first, without --report-only'
    )
  return int(bool(failed or broken or wrong))


def _compute(file: str, args: argparse.Namespace) -> bool:
  """Runs a study that trains nothing; returns whether it succeeded."""
  try:
    run_study(file, args.workdir, args.report_to)
  except Exception as error:  # the others follow
    if not isinstance(error, _REFUSALS):
      traceback.print_exc()
    print(f'failed: {file}: {scrub(str(error))}', file=sys.stderr)
    return False
  return True


def _name_other_folders(study: Study) -> None:
  """Prints that a study has runs which are none of its trials, as after a change."""
  if others := other_folders(study.trials, study.folder):
    print(
      f'{study.folder} has {len(others)} runs that are none of the {len(study.trials)} '
      f'trials, such as {others[0].name}: their configuration is another, so they are '
      f'left as they are',
      flush=True,
    )


def _folder_of(args: argparse.Namespace) -> Path:
  """Returns the folder of the studies; raises ValueError if it is in a bucket."""
  if is_remote(args.workdir):
    raise ValueError(
      f'--workdir {hide_url(args.workdir)} is in a bucket: use a folder on a disk for '
      f'the studies of a sweep'
    )
  return Path(args.workdir)


def _check_reports(args: argparse.Namespace, studies: Sequence[Study]) -> None:
  """Refuses the options of reports if no experiment defines a report."""
  option = '--report-only' if args.report_only else '--report-to'
  given = args.report_only or args.report_to
  if given and not any(hasattr(module_of(s.experiment), 'report') for s in studies):
    names = ', '.join(study.experiment for study in studies)
    raise ValueError(
      f'{names} has no function report(runs, folder): leave {option} out, or add one'
    )


def _check_target(study: Path, args: argparse.Namespace) -> None:
  """Raises OSError or ValueError, before trials run, if --report-to cannot be used."""
  if not args.report_to:
    return
  folder = Path(args.report_to) / study.name
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise type(error)(
      f'--report-to {args.report_to} cannot be written to '
      f'({error.strerror or error}: {error.filename or folder}): use another folder'
    ) from None
  if folder.resolve() == study.resolve():
    raise ValueError(
      f'--report-to {args.report_to} is the folder of the study itself: use another one'
    )


def search(args: argparse.Namespace) -> int:
  """Searches with one experiment after another, and reports."""
  try:
    from launch.search import HyperSearch
    from launch.storage import checked_url
  except ModuleNotFoundError as error:
    raise RuntimeError(
      f"a search needs {error.name}, which is not installed: pip install 'seqlab[launch]'"
    ) from None
  if args.storage:
    checked_url(args.storage)
  if computed := [*filter(is_study, args.experiments)]:
    raise ValueError(f'{computed[0]} trains nothing to search for: leave out --trials')
  workdir, options = _folder_of(args), dict(trials=args.trials, seed=args.seed)
  options |= dict(url=args.storage, prunes=args.on == 'local', force=args.force)
  names = [experiment_name(experiment) for experiment in args.experiments]
  if len({*names}) < len(names):
    raise ValueError(_SAME_NAME)
  succeeded = True
  with contextlib.ExitStack() as stack:
    # All are opened before the first trial runs, so that an error in the last experiment
    # does not appear after hours.
    studies = [
      stack.enter_context(HyperSearch(experiment, workdir, **options))
      for experiment in args.experiments
    ]
    for study in studies:
      _check_target(study.folder, args)
    for experiment, study in zip(args.experiments, studies, strict=True):
      if not args.report_only:
        _search(study, args)
      succeeded &= _report_search(experiment, study, args)
    if args.report_only and not any(study.num_ended for study in studies):
      raise ValueError(
        f'no trial in {workdir} has ended, so there is nothing to report on: run trials '
        f'first, without --report-only'
      )
  return int(not succeeded)


def _search(study: 'HyperSearch', args: argparse.Namespace) -> None:
  rows = RawRows(study.folder)

  def on_end(trial: Trial, state: dict[str, Any]) -> None:
    text = study.finish(trial, state)
    print(f'[{study.num_ended}/{args.trials}] {trial.name}: {text}', flush=True)
    rows.update(_folders(study))

  study.queue.requeue_abandoned()
  print(f'{study.num_ended} of {args.trials} trials have ended', flush=True)
  while study.queue.wait_for_work():
    if args.on == 'local':
      n = min(args.workers or len(all_cores()), args.trials)
      options = dict(workers=n, should_stop=study.should_stop, force=args.force)
      workers.run_from(study.next_trial, on_end, **options)
    elif trials := study.next_trials(args.workers or _BATCH):
      _runner(args)(trials, on_end)


def _report_search(
  experiment: str, study: 'HyperSearch', args: argparse.Namespace
) -> bool:
  """Writes the table and the figures; returns whether no trial failed."""
  written, folders = study.report(), _folders(study)
  if written:
    rows = RawRows(study.folder)
    rows.update(folders)
    written += [rows.path] * rows.path.exists()
  if args.report_to and written:
    states = [read_state(folder) for _, folder in folders]
    states = [state for state in states if 'device' in state]
    _publish(experiment, study.folder, written, states, args)
  failures = study.failures
  for name, reason in failures.items():
    print(f'failed: {study.folder / name}: {reason}', file=sys.stderr)
  listed = ', '.join(map(str, written))
  print(f'{study.summary}{f": {listed}" if written else ""}')
  return not failures


def _folders(study: 'HyperSearch') -> list[tuple[str, Path]]:
  """Returns name and folder of each trial; other machines may have run some of them."""
  names = (f'{number:04d}' for number in sorted(study.queue.latest()))
  return [(name, study.folder / name) for name in names]


def _runner(args: argparse.Namespace) -> Callable[..., None]:
  """Returns the function that runs trials where the options say."""
  options = dict(workers=args.workers, force=args.force)
  if args.on == 'slurm':
    options['options'] = args.slurm
  return functools.partial(RUNNERS[args.on], **options)


def _run(
  trials: list[Trial], studies: Sequence[Study], args: argparse.Namespace
) -> None:
  study_of = {trial.folder: study for study in studies for trial in study.trials}
  total, ended = len(study_of), len(study_of) - len(trials)

  def on_end(trial: Trial, state: dict[str, Any]) -> None:
    nonlocal ended
    ended += 1
    if state['status'] == 'finished':
      text = f'{state["seconds"]:.0f} s{_headline(trial.folder)}'
    else:
      reason = (state.get('reason') or state['status']).splitlines() or ['']
      text = f'failed: {reason[0]}'
    print(f'[{ended}/{total}] {trial.name}: {text}', flush=True)
    study_of[trial.folder].write_rows()

  _runner(args)(trials, on_end)


def _headline(folder: Path) -> str:
  """Returns the best value of the metric `keep_best`, or the last loss, as text."""
  try:
    run = read_run(folder)
  except (OSError, ValueError) as error:  # the other trials continue
    return f', and cannot be read: {error}'
  name = run.config.get('keep_best')
  if name and run.has(name):
    return f', {name} {run.best(name, best_is(run.config)):.4g}'
  return f', loss {run.final("loss"):.4g}' if run.has('loss') else ''


def _report(study: Study, args: argparse.Namespace) -> bool:
  """Calls the experiment's `report`, if it has one; returns whether it succeeded."""
  report = getattr(module_of(study.experiment), 'report', None)
  runs = [read_run(trial.folder) for trial in study.trials if trial.finished]
  if report is None or not runs:
    return True
  before = report_files(study.folder)
  try:
    report(runs, study.folder)
  except Exception:  # the reports of the other experiments follow
    traceback.print_exc()
    print(f'failed: the report of {study.experiment}', file=sys.stderr)
    return False
  study.write_rows()
  written = written_since(before, study.folder)
  print(f'report of {len(runs)} trials: {", ".join(map(str, written)) or "no files"}')
  if args.report_to:
    states = [trial.state for trial in study.trials if trial.finished]
    _publish(study.experiment, study.folder, written, states, args)
  return True


def _publish(
  experiment: str,
  study: Path,
  written: list[Path],
  states: list[dict[str, Any]],
  args: argparse.Namespace,
) -> None:
  """Copies a report, and adds to its table.md the command that made it."""
  made_by = ''
  if states:  # those of a search may have run on other machines
    words = ['python', '-m', 'launch.sweep', experiment, '--workdir', args.workdir]
    words += [] if args.trials is None else ['--trials', str(args.trials)]
    devices = ' or '.join(sorted({state['device'] for state in states}))
    made_by = (
      f'\nMade by {shown_command([*words, "--report-to", args.report_to])}: '
      f'{len(states)} trials on {devices} each, '
      f'{max(state["date"] for state in states)}, '
      f'{math.fsum(state["seconds"] for state in states) / 60:.1f} minutes in all.\n'
    )
  publish(written, Path(args.report_to) / study.name, made_by)


def _parser() -> argparse.ArgumentParser:
  parser = Parser(
    prog='python -m launch.sweep', description='Runs all trials of experiments.'
  )
  parser.add_argument(
    'experiments', metavar='EXPERIMENT', nargs='+', help='a file, maybe with :arguments'
  )
  parser.add_argument(
    '--workdir', required=True, help='each trial trains in EXPERIMENT/TRIAL below it'
  )
  parser.add_argument(
    '--on', choices=RUNNERS, default='local', help='where the trials run'
  )
  parser.add_argument(
    '--workers',
    type=positive,
    help='trials at a time: processes, by default one per core (set it on a machine '
    'with a GPU); members of a population; jobs of Slurm that run at once',
  )
  text = 'options of its jobs, such as --slurm="--partition gpu --time 4:00:00"'
  parser.add_argument('--slurm', metavar='OPTIONS', default='', help=text)
  parser.add_argument(
    '--force',
    action='store_true',
    help='resume from the checkpoints of trials that another experiment made',
  )
  parser.add_argument(
    '--trials', type=positive, help='search: number of trials in all, by search(trial)'
  )
  parser.add_argument(
    '--storage',
    metavar='URL',
    help='database that keeps a search; by default it is a file in its folder. Leave the '
    'password out, since other users can read the command: use ~/.pgpass or $PGPASSWORD',
  )
  parser.add_argument(
    '--seed', type=whole(0, 2**32 - 1), help="seed of a search's sampler (0)"
  )
  parser.add_argument(
    '--report-to', metavar='FOLDER', help='copy the files of the reports to this folder'
  )
  parser.add_argument(
    '--report-only',
    action='store_true',
    help='run no trial; report on the finished ones',
  )
  return parser


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
  parser = _parser()
  args = parser.parse_args(argv)
  if args.trials is None:
    for name in ('storage', 'seed'):
      if getattr(args, name) is not None:
        parser.error(f'--{name} is an option of a search: add --trials N')
  if args.slurm and args.on != 'slurm':
    parser.error('--slurm has no effect without --on slurm: add it')
  args.seed = args.seed or 0
  return args


if __name__ == '__main__':
  sys.exit(main())
