"""Verbs that train, plan and measure."""

import argparse
from collections.abc import Sequence
import os
import sys

from seqlab.commands.shared import Parser, Verb, given, imports, prepare


def train(args: argparse.Namespace, rest: Sequence[str]) -> int:
  """Trains an experiment, or resumes it."""
  with imports():
    from seqlab.experiment import load_experiment
    from seqlab.results.beside import print_after_training
    from seqlab.results.origin import origin_of
    from seqlab.train.cluster import cluster
    from seqlab.train.loop import train
    from seqlab.train.processes import Stopped

  config = load_experiment(args.experiment, rest)
  origin = origin_of(args.experiment, rest)
  prepare(config.get('threads'))
  try:
    with cluster():
      folder = train(config, args.workdir, force=args.force, origin=origin)
  except Stopped as stopped:
    print(f'seqlab train: {stopped}', file=sys.stderr)
    return os.EX_TEMPFAIL  # 75: a scheduler should start this command again
  print(f'done: {folder.name}')
  print_after_training(folder.path)
  return 0


def plan(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Predicts time and memory of an experiment on more devices than there are."""
  from seqlab.experiment import load_experiment

  config = load_experiment(args.experiment, rest)
  variants = {
    variant: load_experiment(args.experiment, [*rest, *_overrides(variant)])
    for variant in args.compare or ()
  }
  prepare()
  from seqlab.plan import plan_experiment

  plan_experiment(
    config,
    args.devices,
    args.chip or (),
    what=args.what,
    format=args.format,
    compiler=args.compiler,
    variants=variants,
    fit=args.fit,
  )


def _overrides(variant: str) -> list[str]:
  """Returns the options of a variant: 'model.remat=full model.unroll=1'."""
  return [f'--config.{x.removeprefix("--config.")}' for x in variant.split()]


def bench(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Measures start-up, input, training, decoding and the like."""
  from seqlab.experiment import load_experiment

  if args.against is not None:
    return _bench_against(args, rest)
  if rest or args.run_folder or args.turns or args.table:
    raise ValueError('--config, --run, --turns and --table need --against')
  prepare(load_experiment(args.experiment).get('threads'))
  from seqlab.bench.run import run_bench

  run_bench(args.experiment, output=args.output, only=args.only)


def _bench_against(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from seqlab.bench.libraries import describe_libraries

  if not args.against:
    print('\n'.join(describe_libraries()))
    return
  prepare()
  from seqlab.bench.against import compare

  options = dict(against=args.against, output=args.output, only=args.only)
  options |= given(args, ('turns', 'table'))
  options['run'] = args.run_folder
  compare(args.experiment, rest, **options)


def _train_options(parser: Parser) -> None:
  add = parser.add_argument
  text = 'a file, or a name that `seqlab experiments` lists; :arguments may follow'
  add('experiment', help=text)
  add('--workdir', required=True, help='folder of the run')
  add(
    '--force',
    action='store_true',
    help='use a folder of another experiment or text; estimators are fitted anew',
  )
  parser.epilog = 'Any value of the experiment can be set: --config.hyper.peak=1e-3'


def _plan_options(parser: Parser) -> None:
  add = parser.add_argument
  add('experiment', help='a file; :arguments for it may follow')
  text = 'number of devices; several numbers are compared'
  add('--devices', type=int, nargs='+', required=True, metavar='N', help=text)
  text = 'h100, v5e, ...: compiled by its own compiler where that is installed (extras '
  text += 'tpu, cuda); by default all with a data sheet, by a stand-in'
  add('--chip', nargs='+', help=text)
  text = "the training step, or the program of the experiment's translation evaluator"
  add('--what', choices=('train', 'evaluate'), default='train', help=text)
  text = "'model.remat=full model.unroll=1': a variant to compare; several in a row"
  add('--compare', nargs='+', metavar='OPTIONS', help=text)
  text = 'find the largest batching.tokens that fits the memory of the chip'
  add('--fit', action='store_true', help=text)
  add('--format', choices=('text', 'json'), default='text')
  text = 'stand-in: the CPU compiler even where that of the chip is installed'
  add('--compiler', choices=('auto', 'stand-in'), default='auto', help=text)
  parser.epilog = 'As with train, any value can be set: --config.mesh.fsdp=8'


def _bench_options(parser: Parser) -> None:
  add = parser.add_argument
  add('experiment', nargs='?', default='experiments/agreement/transformer.py')
  add('--output', default='bench.json', help='the same numbers as JSON')
  add('--only', metavar='PART', help='one measurement, such as train, bleu or words')
  add(
    '--against',
    nargs='*',
    metavar='LIBRARY[=PYTHON]',
    help='compare with libraries, such as torch; without a value, list them',
  )
  add('--run', dest='run_folder', help='with --against: a run to decode with')
  add('--turns', type=int, help='with --against: undisturbed turns of each (9)')
  add(
    '--table', metavar='FILE', help='with --against: write tables into a Markdown file'
  )


VERBS = {
  'train': Verb(train, _train_options, has_overrides=True),
  'plan': Verb(plan, _plan_options, has_overrides=True),
  'bench': Verb(bench, _bench_options, has_overrides=True),
}
