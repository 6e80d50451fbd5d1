"""Verbs on finished runs, the registry of paper results, and the list of experiments."""

import argparse
from collections.abc import Sequence
import contextlib
import io
from pathlib import Path
import sys

from seqlab.commands.shared import (
  Parser,
  Verb,
  imports,
  prepare,
  search,
  search_options,
)


def table(args: argparse.Namespace) -> None:
  """Prints a table of runs: what differs between them, and their results."""
  from seqlab.report.runs import left_out
  from seqlab.report.tables import summary

  options = dict(by=args.by, choose=args.choose, format=args.format)
  print(summary(args.run_folders, args.metric, **options), end='')
  for run, reason in left_out(args.run_folders).items():
    print(f'left out: {run}: {reason}', file=sys.stderr)


def report(args: argparse.Namespace) -> None:
  """Writes a page about runs: what they are, curves, scores, samples."""
  with imports():
    prepare()
    from seqlab.pages.report import write_report

  path = write_report(
    args.run_folders, args.output, split=args.split, trust=args.trust, **search(args)
  )
  print(f'written: {path}')


def experiments(args: argparse.Namespace) -> None:
  """Lists the experiments: the paper's number, time and title."""
  from seqlab.experiment_list import print_experiments

  print_experiments(args.folder and Path(args.folder), args.format)


def reproduce(args: argparse.Namespace) -> int:
  """Runs what the paper rows of an experiment need, and records the verdicts."""
  from seqlab.results.reproduce import reproduce

  return reproduce(
    args.experiment,
    rows=args.rows or (),
    seeds=args.seeds,
    workdir=Path(args.workdir),
    results=Path(args.results),
    parallel=args.parallel,
    dry_run=args.dry_run,
    check=_check_words,
  )


def _check_words(words: Sequence[str]) -> None:
  """Raises ValueError if words are not those of a command; see `Row.evaluate`."""
  from seqlab.cli import command_parser

  errors = io.StringIO()
  try:
    with contextlib.redirect_stderr(errors):
      command_parser().parse_args(words)
  except SystemExit:
    reason = errors.getvalue().strip().rpartition('error: ')[2]
    raise ValueError(
      f'`seqlab {" ".join(words)}` is no command: {reason}; correct Row.evaluate'
    ) from None


def results(args: argparse.Namespace) -> None:
  """Prints the paper rows of experiments, with the values here and the verdicts."""
  from seqlab.results.listing import print_results

  print_results(args.experiments, Path(args.results), args.format)


def completion(args: argparse.Namespace) -> None:
  """Prints a script that completes words of this command in a shell."""
  from seqlab.cli import command_parser
  from seqlab.experiment_files import known_names
  from seqlab.io.completion import script

  print(script(command_parser(), args.shell, known_names()))


def _table_options(parser: Parser) -> None:
  add = parser.add_argument
  add('run_folders', metavar='RUN', nargs='+', help='runs, or folders of runs')
  add(
    '--metric',
    nargs='+',
    help='columns (default: the metric by which runs keep the best)',
  )
  add('--by', nargs='+', help='keys that make rows (default: all that differ)')
  add('--choose', choices=('last', 'best'), default='last', help='which value')
  add('--format', choices=('markdown', 'csv', 'latex'), default='markdown')


def _report_options(parser: Parser) -> None:
  add = parser.add_argument
  add('run_folders', metavar='RUN', nargs='+', help='runs, or folders of runs')
  text = 'folder of the page, index.html'
  add('--output', metavar='FOLDER', required=True, help=text)
  text = 'also translate this part of the data, for samples and breakdowns'
  add('--split', help=text)
  search_options(parser)


def _experiments_options(parser: Parser) -> None:
  text = "folder of experiments (experiments, or else seqlab's own)"
  parser.add_argument('folder', nargs='?', help=text)
  parser.add_argument('--format', choices=('table', 'tsv', 'json'), default='table')


def _reproduce_options(parser: Parser) -> None:
  add = parser.add_argument
  text = 'a file with PAPER = [Row(...)]; :arguments choose the rows with these'
  add('experiment', help=text)
  text = 'names of rows, such as test/exact:split=length (all)'
  add('--rows', nargs='+', metavar='NAME', help=text)
  text = 'seeds to run now (all of each row)'
  add('--seeds', type=int, nargs='+', metavar='N', help=text)
  text = 'the runs are in <set>-<experiment>/<arguments>/seed-N below it'
  add('--workdir', default='runs/reproduce', help=f'{text} (runs/reproduce)')
  _results_option(parser)
  add('--parallel', type=int, default=1, help='runs at a time (1)')
  add('--dry-run', action='store_true', help='print the commands, and run nothing')


def _completion_options(parser: Parser) -> None:
  parser.add_argument('shell', choices=('bash', 'zsh', 'tcsh'))
  parser.epilog = 'bash: add `source <(seqlab completion bash)` to ~/.bashrc'


def _results_options(parser: Parser) -> None:
  text = "files, or folders of files (experiments, or else seqlab's own)"
  add = parser.add_argument
  add('experiments', nargs='*', metavar='EXPERIMENT', help=text)
  add('--format', choices=('text', 'json', 'md'), default='text')
  _results_option(parser)


def _results_option(parser: Parser) -> None:
  text = 'folder of the registry (docs/results)'
  parser.add_argument('--results', default='docs/results', help=text)


VERBS = {
  'table': Verb(table, _table_options, computes=False),
  'report': Verb(report, _report_options),
  'experiments': Verb(experiments, _experiments_options, computes=False),
  'reproduce': Verb(reproduce, _reproduce_options, computes=False),
  'results': Verb(results, _results_options, computes=False),
  'completion': Verb(completion, _completion_options, computes=False),
}
