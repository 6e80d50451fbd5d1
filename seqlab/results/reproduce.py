"""Reproduces the rows of an experiment: trains, evaluates once, compares, records.

Training and evaluation are the commands `seqlab train` and `seqlab evaluate`, which
anyone can run alone; this module decides which of them are still needed.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
import datetime
import json
import os
from pathlib import Path
import shlex
import signal
import sys
import threading
import time
from typing import Any

from seqlab.config import suggest
from seqlab.experiment import split_name
from seqlab.io.files import check_output
from seqlab.results import ledger
from seqlab.results.commands import Commands, StoppingError
from seqlab.results.measurement import Measurement, grouped
from seqlab.results.origin import read_origin, short_name, stated
from seqlab.results.paper import read_paper
from seqlab.results.provenance import commit, copy_logs, machine, run_facts
from seqlab.results.records import Line, Records, add_line, read_lines
from seqlab.results.row import Row
from seqlab.results.runs import PlannedRun, folder_name, plan_runs
from seqlab.results.signature import Signature
from seqlab.results.verdicts import judge


class RunError(Exception):
  """A command of a run ended with an error, so that its seed has no value."""


def reproduce(
  experiment: str,
  *,
  rows: Sequence[str] = (),
  seeds: Sequence[int] | None = None,
  workdir: Path,
  results: Path,
  parallel: int = 1,
  dry_run: bool = False,
  check: Callable[[Sequence[str]], None] = lambda words: None,
) -> int:
  """Runs all that the rows of an experiment still need, and writes verdicts.

  Args:
    experiment: path of the file; after a colon the arguments of the wanted rows.
    rows: names of rows, see `Row.name`; all if empty.
    seeds: seeds to run now; all of each row if None.
    workdir: folder of the runs.
    results: folder of the registry.
    parallel: number of runs at a time.
    dry_run: print the commands and run nothing.
    check: raises ValueError if words are not those of a command of seqlab.

  Returns:
    An exit status: 0; 1 if a run failed; 75 after SIGTERM and 130 after ctrl-C, when
    the same command resumes.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: PAPER or an option is wrong, or a run in `workdir` is another one; in
      that case nothing has been run.
  """
  if parallel < 1:
    raise ValueError(f'--parallel is {parallel}: write 1 or more')
  path, args = split_name(experiment)
  paper = read_paper(path)
  chosen = choose_rows(paper, path, args, rows)
  runs = plan_runs(path, chosen, workdir, seeds)
  for run in runs:
    run.check_folder()
    for measurement, measured in grouped(run.rows).items():
      check(measurement.command(str(run.folder), measured))
  reproduction = Reproduction(path, results, Commands(parallel), log=parallel > 1)
  if dry_run:
    for run in runs:
      for words in reproduction.needed(run):
        print(shlex.join(['seqlab', *words]))
    return 0
  check_output(
    results / short_name(path) / 'x', '--results'
  )  # before hours of training
  check_output(results / f'{short_name(path)}.jsonl', '--results')
  return reproduction.reproduce(runs, chosen, parallel)


def choose_rows(
  paper: Sequence[Row], path: Path, args: str, names: Iterable[str]
) -> list[Row]:
  """Returns the rows that are asked for by their arguments and names.

  A row is chosen if it has all of the arguments, such as 'split=simple' of
  'split=simple,model=lstm'.

  Raises:
    ValueError: there is none, or a name is unknown.
  """
  if not paper:
    raise ValueError(f'{path} has no rows: add PAPER = [Row(...)] to it')
  chosen = [row for row in paper if row.has_args(args)]
  if not chosen:
    known = ', '.join(dict.fromkeys(row.args or '(none)' for row in paper))
    raise ValueError(f'no row of {path} has the arguments {args!r} (there: {known})')
  known = [row.name for row in chosen]
  for name in names:
    if name not in known:
      raise ValueError(
        f'{path} has no row {name!r}{suggest(name, known)} (there: {", ".join(known)})'
      )
  return [row for row in chosen if not names or row.name in names]


class Reproduction:
  """Runs and records for one experiment; its runs may be in several threads."""

  def __init__(self, path: Path, results: Path, commands: Commands, *, log: bool):
    """Reads what is on record.

    Args:
      path: the experiment's file.
      results: folder of the registry.
      commands: runs commands.
      log: write the output of training to a file in the folder of the run.
    """
    self._name, self._results = short_name(path), results
    self._records = Records(results, self._name)
    self._commands, self._log = commands, log
    self._lock = threading.Lock()

  def missing(self, run: PlannedRun) -> list[Row]:
    """Returns the rows of a run whose value is not on record."""
    return [
      row
      for row in run.rows
      if run.seed not in self._records.valid_seeds(row, run.signature)
    ]

  def needed(self, run: PlannedRun) -> list[list[str]]:
    """Returns the commands that a run still needs, without `seqlab`."""
    if not (rows := self.missing(run)):
      return []
    searches = grouped(rows).items()
    folder = str(run.folder)
    return [run.command, *(x.command(folder, measured) for x, measured in searches)]

  def reproduce(
    self, runs: Sequence[PlannedRun], rows: Sequence[Row], parallel: int
  ) -> int:
    """Runs what is missing, and adds verdicts; returns an exit status."""
    todo = [run for run in runs if self.missing(run)]
    self._report_known(runs, todo)
    with self._commands.handle_signals(), ThreadPoolExecutor(parallel) as pool:
      failures = [*filter(None, pool.map(self._run, todo))]
    self._records = Records(self._results, self._name)  # others may have added seeds
    signatures = {run.args: run.signature for run in runs}
    for row in rows:
      if row.args in signatures:
        self._judge(row, signatures[row.args])
    for failure in failures:
      print(f'failed: {failure}', file=sys.stderr)
    if self._commands.received is not None:
      print('stopped; the same command resumes', file=sys.stderr)
      is_ctrl_c = self._commands.received == signal.SIGINT
      return 130 if is_ctrl_c else os.EX_TEMPFAIL
    return int(bool(failures))

  def _report_known(
    self, runs: Sequence[PlannedRun], todo: Sequence[PlannedRun]
  ) -> None:
    if known := len(runs) - len(todo):
      print(
        f'{known} of {len(runs)} runs are on record in {self._results}, and not run '
        'again (--results FOLDER records your own in another folder)',
        flush=True,
      )

  def _run(self, run: PlannedRun) -> str | None:
    """Trains and evaluates a run; returns why it failed, None if it did not."""
    try:
      self._train(run)
      with self._lock:  # others may have added seeds
        self._records = Records(self._results, self._name)
      for measurement, rows in grouped(self.missing(run)).items():
        self._evaluate(run, measurement, rows)
    except StoppingError:
      return None
    except (RunError, ValueError, OSError) as error:
      return f'{run.name}: {error}'
    return None

  def _train(self, run: PlannedRun) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / 'reproduce.log' if self._log else None
    print(f'{run.name}: {shlex.join(["seqlab", *run.command])}', flush=True)
    self._check(self._commands.run(run.command, log), run.command, log)
    run.check_folder()  # the file may have been edited since the runs were planned
    copy_logs(run.folder, self._results / self._name / _file_name(run))

  def _evaluate(
    self, run: PlannedRun, measurement: Measurement, rows: Sequence[Row]
  ) -> None:
    words = measurement.command(str(run.folder), rows)
    before, started = len(ledger.evaluations(run.folder)), time.monotonic()
    self._check(self._commands.run(words), words, None)
    seconds = time.monotonic() - started
    new = ledger.evaluations(run.folder)[before:]
    if not new:
      raise RunError(f'{run.folder}/evaluations.jsonl has no record of the evaluation')
    self._enter_in_ledger(run, measurement, rows)
    if measurement.kind == 'outputs' and new[-1].get('split') != measurement.split:
      raise RunError(f'the last evaluation is of {new[-1].get("split")!r}')
    values = [(row, measurement.value(row, new[-1])) for row in rows]
    for row, value in values:
      line = _seed_line(run, row, value, new[-1], words, seconds)
      with self._lock:
        self._records.add(line | commit())
      print(
        f'{run.name}: {row.name} is {value:.6g}, published {row.value:g}', flush=True
      )

  def _check(self, status: int, words: Sequence[str], log: Path | None) -> None:
    """Raises RunError if a command ended with an error."""
    if status:
      where = f'; {log} has its output' if log else ''
      command = shlex.join(['seqlab', *words])
      raise RunError(f'`{command}` ended with status {status}{where}')

  def _enter_in_ledger(
    self, run: PlannedRun, measurement: Measurement, rows: Sequence[Row]
  ) -> None:
    evals = run.config.get('evals', {})
    split = measurement.data_split(evals)
    line = {
      'experiment': self._name,
      'args': run.args,
      'seed': run.seed,
      'split': split,
      'rows': [row.name for row in rows],
      'on_record': ledger.count_evaluations(run.folder, split, evals),
      'first': ledger.evaluations(run.folder)[0].get('date'),  # it identifies the run
      'in_training': ledger.count_in_training(run.folder, split, evals),
      'date': _now(),
      **commit(),
    }
    add_line(self._results / ledger.NAME, line)

  def _judge(self, row: Row, signature: Signature) -> None:
    """Adds a verdict if all seeds of a row have a value, and it would be a new one."""
    seeds = self._records.valid_seeds(row, signature)
    if len(seeds) < row.seeds:
      return
    if len({json.dumps(line['data'], sort_keys=True) for line in seeds.values()}) > 1:
      print(
        f'{row.name}: seeds have other data, so there is no verdict', file=sys.stderr
      )
      return
    last = self._records.verdict(row)
    lines = read_lines(self._results / ledger.NAME)
    line = verdict_line(row, seeds, signature)
    split = seeds[0]['split']
    line |= {
      'split': split,
      'evaluations': ledger.total(lines, self._name, row.args, split),
    }
    if last is None or any(last.get(key) != x for key, x in line.items()):
      self._records.add(line | {'date': _now()} | commit())
    interval = '' if line['interval'] is None else f' ± {line["interval"]:.2g}'
    print(
      f'{row.name}: {line["mean"]:.4g}{interval} (n = {line["n"]}), published '
      f'{row.value:g}: {line["verdict"]}'
    )


def verdict_line(row: Row, seeds: dict[int, Line], signature: Signature) -> Line:
  """Returns the verdict on a row as a line of its records, without a date."""
  values = {str(seed): line['value'] for seed, line in seeds.items()}
  judged = judge(row, [*values.values()])
  return {
    'line': 'verdict',
    **_identity(row),
    'values': values,
    **judged._asdict(),
    'paper': row.value,
    'tolerance': row.tolerance,
    'of': row.of,
    'url': row.url,
    'equal': row.equal,
    'differs': row.differs,
    'prediction': row.prediction,
    'signature': signature._asdict(),
  }


def _seed_line(
  run: PlannedRun,
  row: Row,
  value: float,
  record: dict[str, Any],
  words: Sequence[str],
  seconds: float,
) -> Line:
  facts, origin = run_facts(run.folder), read_origin(run.folder)
  if 'text' in record:  # the digest of the split that was evaluated
    facts['data'] = {record['split']: record['text'], **facts['data']}
  return {
    'line': 'seed',
    **_identity(row),
    'seed': run.seed,
    'value': value,
    # As when training began, if that is known: a later change stays visible.
    **stated(row),
    **(origin.rows.get(row.name, {}) if origin else {}),
    'steps': record.get('steps'),
    'evaluation': record,
    'split': Measurement.of(row).data_split(run.config.get('evals', {})),
    'signature': run.signature._asdict(),
    **facts,
    'evaluation_seconds': round(seconds, 1),
    'machine': machine(),
    'trained_at': origin and {'commit': origin.commit, 'dirty': origin.dirty},
    'train_command': shlex.join(['seqlab', *run.command]),
    'command': shlex.join(['seqlab', *words]),
    'date': _now(),
  }


def _identity(row: Row) -> Line:
  return {
    'row': row.name,
    'metric': row.metric,
    'args': row.args,
    'evaluate': row.evaluate,
  }


def _file_name(run: PlannedRun) -> str:
  return f'{folder_name(run.args)}-seed-{run.seed}'


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
