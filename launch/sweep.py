r"""Runs all trials of experiments, then their reports.

  python -m launch.sweep experiments/multi30k/transformer.py --workdir runs/studies
  python -m launch.sweep ... --report-to docs          # and keep its figures there
  python -m launch.sweep ... --report-only             # of the trials that are finished
  python -m launch.sweep ... --trials 40               # a search instead, see search.py
  python -m launch.sweep ... --trials 40 --storage postgresql://me@host/searches

An experiment's `sweep(add)` calls add(seed=1, **{'hyper.peak': 1e-3}) once a trial,
or add(arg='size=small', seed=1) where `get_config` is to make another experiment; its
`report(runs, folder)` writes figures and table.md. With --trials its `search(trial)` is
asked for that many in all, by Optuna: with a storage on a server, by any number of
sweeps at once, on many machines. What was interrupted goes on with the same command.
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
import shutil
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

from launch import population, slurm_array, workers
from launch.trials import (
  Trial,
  experiment_name,
  module_of,
  plan,
  read_state,
  unfinished,
)
from seqlab.report.runs import Run, read_run
from seqlab.text.workers import all_cores
from seqlab.train.folder import RunFolder

if TYPE_CHECKING:
  from launch.search import Search

# Where trials can run: name -> function(trials, done, workers=, force=).
RUNNERS = {
  'local': workers.run_many,
  'population': population.run_many,
  'slurm': slurm_array.run_many,
}
_AT_ONCE = 8  # trials of a search that are given to those which take many
_KEPT = ('.png', '.svg', '.md')
_REFUSALS = (ValueError, OSError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class Study:
  """An experiment, the folder of its trials, and the trials."""

  experiment: str
  folder: Path
  trials: list[Trial]


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status: 1 if anything failed, 130 if stopped."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = _arguments(argv)
  terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    return (sweep if args.trials is None else search)(args)
  except _REFUSALS as error:
    if os.environ.get('SEQLAB_TRACEBACK'):
      raise
    print(f'sweep: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    again = shlex.join(['python', '-m', 'launch.sweep', *argv])
    print(f'\nsweep: stopped. The same command goes on:\n  {again}', file=sys.stderr)
    return 130
  finally:
    signal.signal(signal.SIGTERM, terminate)


def sweep(args: argparse.Namespace) -> int:
  """Plans, runs what is left, reports."""
  workdir = Path(args.workdir)
  studies = [
    Study(experiment, workdir / experiment_name(experiment), plan(experiment, workdir))
    for experiment in args.experiments
  ]
  if len({study.folder for study in studies}) < len(studies):
    raise ValueError('an experiment is named twice, or two of one name; run them apart')
  trials = [trial for study in studies for trial in study.trials]
  with contextlib.ExitStack() as stack:
    for study in studies:
      study.folder.mkdir(parents=True, exist_ok=True)
      # One sweep at a time.
      stack.enter_context(RunFolder(study.folder, {}).lock())
    left = unfinished(trials, force=args.force)
    if not args.report_only and left:
      print(
        f'{len(trials) - len(left)} of {len(trials)} trials are finished', flush=True
      )
      _run(left, len(trials), args)
    failed = [] if args.report_only else [t for t in trials if not t.finished]
    broken = [s.experiment for s in studies if not _report(s, args)]
  for trial in failed:
    print(f'failed: {trial.folder}: {trial.state["reason"]}', file=sys.stderr)
  print(f'{sum(t.finished for t in trials)} of {len(trials)} trials are finished')
  return int(bool(failed or broken))


def search(args: argparse.Namespace) -> int:
  """Searches with one experiment after another, and reports."""
  try:
    from launch.search import Search
  except ModuleNotFoundError as error:
    raise RuntimeError(
      f"a search needs {error.name}, which is not installed: pip install 'seqlab[launch]'"
    ) from None
  workdir, options = Path(args.workdir), dict(trials=args.trials, seed=args.seed)
  options |= dict(url=args.storage, prunes=args.on == 'local', force=args.force)
  good = True
  for experiment in args.experiments:
    with Search(experiment, workdir, **options) as study:
      if not args.report_only:
        _search(study, args)
      good &= _report_search(experiment, study, args)
  return int(not good)


def _search(study: 'Search', args: argparse.Namespace) -> None:
  def done(trial: Trial, state: dict[str, Any]) -> None:
    text = study.done(trial, state)
    print(f'[{study.ended}/{args.trials}] {trial.name}: {text}', flush=True)

  study.begin()
  print(f'{study.ended} of {args.trials} trials have ended', flush=True)
  while study.wait():
    if args.on == 'local':
      n = min(args.workers or len(all_cores()), args.trials)
      options = dict(workers=n, stop=study.hopeless, force=args.force)
      workers.run_from(study.take, done, **options)
    elif trials := study.take_many(args.workers or _AT_ONCE):
      _runner(args)(trials, done)


def _report_search(experiment: str, study: 'Search', args: argparse.Namespace) -> bool:
  """Writes the table and the figures; whether all went well."""
  wrote = study.report()
  if args.report_to and wrote:
    found = (read_state(study.folder / f'{number:04d}') for number in study.latest())
    states = [state for state in found if 'device' in state]
    _publish(experiment, study.folder, wrote, states, args)
  failed = study.failed
  for name, reason in failed.items():
    print(f'failed: {study.folder / name}: {reason}', file=sys.stderr)
  listed = ', '.join(map(str, wrote))
  print(f'{study.summary}{f": {listed}" if wrote else ""}')
  return not failed


def _runner(args: argparse.Namespace) -> Callable[..., None]:
  """Runs what it is given, as the options say."""
  options = dict(workers=args.workers, force=args.force)
  more = {'options': args.slurm} if args.on == 'slurm' else {}
  return functools.partial(RUNNERS[args.on], **options, **more)


def _run(left: list[Trial], total: int, args: argparse.Namespace) -> None:
  ended = total - len(left)

  def done(trial: Trial, state: dict[str, Any]) -> None:
    nonlocal ended
    ended += 1
    if state['status'] == 'finished':
      text = f'{state["seconds"]:.0f} s{_headline(read_run(trial.folder))}'
    else:
      text = f'failed: {state["reason"].splitlines()[0]}'
    print(f'[{ended}/{total}] {trial.name}: {text}', flush=True)

  _runner(args)(left, done)


def _headline(run: Run) -> str:
  """The best value of the metric by which the run kept its best, or its last loss."""
  name = run.config.get('keep_best')
  if name and run.has(name):
    return f', {name} {run.best(name, run.config["best_is"]):.4g}'
  return f', loss {run.final("loss"):.4g}' if run.has('loss') else ''


def _report(study: Study, args: argparse.Namespace) -> bool:
  """Calls the experiment's own `report`, if it has one; whether that went well."""
  report = getattr(module_of(study.experiment), 'report', None)
  runs = [read_run(trial.folder) for trial in study.trials if trial.finished]
  if report is None or not runs:
    return True
  before = _written(study.folder)
  try:
    report(runs, study.folder)
  except Exception:  # the reports of the other experiments are still wanted
    traceback.print_exc()
    print(f'failed: the report of {study.experiment}', file=sys.stderr)
    return False
  wrote = [
    path for path, at in _written(study.folder).items() if before.get(path) != at
  ]
  print(f'report of {len(runs)} trials: {", ".join(map(str, wrote)) or "no files"}')
  if args.report_to:
    states = [trial.state for trial in study.trials if trial.finished]
    _publish(study.experiment, study.folder, wrote, states, args)
  return True


def _publish(
  experiment: str,
  study: Path,
  wrote: list[Path],
  states: list[dict[str, Any]],
  args: argparse.Namespace,
) -> None:
  """Copies a report, and says in its table.md what made it."""
  folder = Path(args.report_to) / study.name
  folder.mkdir(parents=True, exist_ok=True)
  for path in wrote:
    shutil.copyfile(path, folder / path.name)
  if not states:  # of a search whose trials ran on other machines
    return
  words = ['python', '-m', 'launch.sweep', experiment, '--workdir', args.workdir]
  words += [] if args.trials is None else ['--trials', str(args.trials)]
  command = shlex.join([*words, '--report-to', args.report_to])
  devices = ' or '.join(sorted({state['device'] for state in states}))
  with open(folder / 'table.md', 'a', encoding='utf-8') as file:
    file.write(
      f'\nMade by `{command}`: {len(states)} trials on {devices} each, '
      f'{max(state["date"] for state in states)}, '
      f'{math.fsum(state["seconds"] for state in states) / 60:.1f} minutes in all.\n'
    )


def _written(folder: Path) -> dict[Path, int]:
  """The files of a report, and when each was written."""
  return {
    path: path.stat().st_mtime_ns
    for path in sorted(folder.iterdir())
    if path.suffix in _KEPT
  }


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
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
    type=_positive,
    help='trials at a time: processes, by default one a core, so name a number where '
    'there is a GPU; members of a population; jobs of Slurm that run at once',
  )
  about = 'of its jobs, such as --slurm="--partition gpu --time 4:00:00" (launch.slurm)'
  parser.add_argument('--slurm', metavar='OPTIONS', default='', help=about)
  parser.add_argument(
    '--force',
    action='store_true',
    help='go on from the checkpoints of trials that another experiment made',
  )
  parser.add_argument(
    '--trials', type=_positive, help='search: so many trials in all, by search(trial)'
  )
  parser.add_argument(
    '--storage',
    metavar='URL',
    help='of the database that keeps a search; by default it is a file in its folder. '
    'Better without a password, which others could read here: use ~/.pgpass',
  )
  parser.add_argument('--seed', type=int, help="of a search's sampler (0)")
  parser.add_argument(
    '--report-to', metavar='FOLDER', help='copy what the reports write to here'
  )
  parser.add_argument(
    '--report-only', action='store_true', help='run no trial; report on the finished'
  )
  return parser


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
  parser = _parser()
  args = parser.parse_args(argv)
  if args.trials is None:
    for name in ('storage', 'seed'):
      if getattr(args, name) is not None:
        parser.error(f'--{name} is of a search: say with --trials how many it has')
  args.seed = args.seed or 0
  return args


def _positive(text: str) -> int:
  if not text.isdecimal() or not int(text):
    raise argparse.ArgumentTypeError(f'{text} is no number of them; give 1 or more')
  return int(text)


if __name__ == '__main__':
  sys.exit(main())
