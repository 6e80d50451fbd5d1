"""The `seqlab` command: a verb, a function, no logic.

Each verb imports what it needs, so that `seqlab --help` needs no JAX.
"""

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import sys

_REFUSALS = (ValueError, FloatingPointError, OSError, RuntimeError)


# glibc gives large buffers back to the kernel at every free, and a step on a CPU then
# spends up to half its time on fresh pages. Huge pages and one arena that keeps its
# memory mend that; the allocator reads this once, when the process starts.
_MALLOC = ':'.join(
  f'glibc.malloc.{name}'
  for name in (
    *('hugetlb=1', 'arena_max=1', 'mmap_max=0'),
    *('trim_threshold=1000000000000', 'top_pad=268435456'),
  )
)
_COMPUTING = ('train', 'evaluate', 'compare', 'translate', 'bleu', 'bench')


def _keep_memory(verb: str) -> None:
  """Starts this command anew under `_MALLOC`, unless the user set tunables."""
  if (
    verb in _COMPUTING
    and sys.platform == 'linux'
    and not os.environ.get('GLIBC_TUNABLES')
  ):
    environment = os.environ | {'GLIBC_TUNABLES': _MALLOC}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit status.

  What the user can mend ends in one line on stderr and status 1, without a
  traceback; set SEQLAB_TRACEBACK=1 to see it all the same.
  """
  if hasattr(sys.stdout, 'reconfigure'):  # whatever the locale, text is UTF-8
    sys.stdout.reconfigure(encoding='utf-8')
  args, rest = _parser().parse_known_args(argv)
  if rest and args.verb != 'train':
    _parser().error(f'unrecognized arguments: {" ".join(rest)}')
  if argv is None:
    _keep_memory(args.verb)
  try:
    args.run(args, rest)
  except _REFUSALS as error:
    if os.environ.get('SEQLAB_TRACEBACK'):
      raise
    print(f'seqlab {args.verb}: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f'\nseqlab {args.verb}: interrupted', file=sys.stderr)
    return 130
  return 0


def train(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Trains an experiment, or goes on with it."""
  from seqlab.experiment import load_experiment
  from seqlab.train.loop import train

  config = load_experiment(args.experiment, rest)
  _prepare()
  folder = train(config, args.workdir, force=args.force)
  print(f'done: {folder.path}')


def evaluate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Scores a run on a split."""
  del rest
  _prepare()
  from seqlab.evaluate import evaluate

  evaluate(
    args.run_folder,
    split=args.split,
    average=args.average,
    choose=args.choose,
    options=_search(args),
    output=args.output,
  )


def compare(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Compares runs on a split: BLEU with intervals and p-values."""
  del rest
  _prepare()
  from seqlab.evaluate import compare

  compare(
    args.run_folders,
    split=args.split,
    tokenizer=args.tokenize,
    test=args.test,
    samples=args.samples,
    trials=args.trials,
    seed=args.bootstrap_seed,
    average=args.average,
    choose=args.choose,
    options=_search(args),
  )


def bleu(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Scores a file of translations against references; prints a line of JSON."""
  del rest
  _prepare()
  from seqlab.metrics.corpus import bleu

  result = bleu(
    args.hypothesis,
    args.references,
    tokenizer=args.tokenize,
    lowercase=args.lowercase,
    confidence=args.confidence,
    samples=args.samples,
    seed=args.seed,
  )
  print(json.dumps(result))


def translate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Translates standard input, line by line."""
  del rest
  _prepare()
  from seqlab.evaluate import translate

  translate(
    args.run_folder,
    sys.stdin.buffer,
    sys.stdout,
    average=args.average,
    choose=args.choose,
    options=_search(args),
    n_best=args.n_best,
  )


def experiments(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Lists the experiments: paper, expected number, time."""
  del rest
  from seqlab.experiment import list_experiments

  list_experiments(Path(args.folder))


def bench(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Measures feed, training, decoding and start-up."""
  del rest
  _prepare()
  from seqlab.bench import bench

  bench(args.experiment, output=args.output, only=args.only)


def _prepare() -> None:
  """Settings of JAX that every computing verb wants."""
  import jax

  from seqlab.text.download import cache_dir

  if not jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', str(cache_dir() / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def _search(args: argparse.Namespace) -> dict:
  names = ('beam', 'alpha', 'temperature', 'top_k', 'top_p', 'seed')
  return {n: getattr(args, n) for n in names if getattr(args, n) is not None}


_TOKENIZERS = ('13a', 'none', 'char')


def _draws(parser: argparse.ArgumentParser, seed: str) -> None:
  parser.add_argument('--samples', type=int, default=1_000, help='bootstrap (1,000)')
  parser.add_argument(seed, type=int, default=0, help='of the bootstrap (0)')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='seqlab', description='A laboratory for sequence learning in JAX/Flax.'
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')

  def verb(function, name: str) -> argparse.ArgumentParser:
    text = function.__doc__.splitlines()[0]
    sub = verbs.add_parser(name, help=text, description=text)
    sub.set_defaults(run=function)
    return sub

  sub = verb(train, 'train')
  sub.add_argument('experiment', help='a file, and maybe :arguments for it')
  sub.add_argument('--workdir', required=True, help='folder of the run')
  sub.add_argument(
    '--force', action='store_true', help='use a folder that another experiment made'
  )
  sub.epilog = 'Any value of the experiment can be set: --config.hyper.peak=1e-3'

  searching = {'evaluate': evaluate, 'compare': compare, 'translate': translate}
  for name, function in searching.items():
    sub = verb(function, name)
    if name == 'compare':
      sub.add_argument('run_folders', metavar='RUN', nargs='+', help='baseline first')
    else:
      sub.add_argument('run_folder', metavar='RUN', help="the run's folder")
    sub.add_argument('--beam', type=int, help='hypotheses per sentence (5)')
    sub.add_argument('--alpha', type=float, help='length penalty (0.6)')
    sub.add_argument('--temperature', type=float, help='sample instead of searching')
    sub.add_argument('--top-k', type=int, help='sample among the k likeliest words')
    sub.add_argument('--top-p', type=float, help='sample among this much probability')
    sub.add_argument('--seed', type=int, help='of sampling')
    sub.add_argument('--average', type=int, default=1, help='checkpoints to average')
    sub.add_argument(
      '--choose', choices=('last', 'best'), default='last', help='which checkpoints'
    )
    if name != 'translate':
      sub.add_argument('--split', default='test', help='which part of the corpus')
    if name == 'evaluate':
      sub.add_argument('--output', help='also write the translations to this file')
    if name == 'compare':
      sub.add_argument('--tokenize', choices=_TOKENIZERS, help="(the corpus's own)")
      sub.add_argument(
        '--test',
        choices=('bs', 'ar'),
        default='bs',
        help='paired bootstrap, or paired approximate randomisation',
      )
      sub.add_argument('--trials', type=int, default=10_000, help="of 'ar' (10,000)")
      _draws(sub, '--bootstrap-seed')
    if name == 'translate':
      sub.add_argument('--n-best', type=int, default=1, help='translations per line')

  sub = verb(bleu, 'bleu')
  sub.add_argument('hypothesis', help='a plain or gzipped file, a sentence a line')
  sub.add_argument('references', nargs='+', help='files with as many lines')
  sub.add_argument('--tokenize', choices=_TOKENIZERS, default='13a')
  sub.add_argument('--lowercase', action='store_true', help='score without case')
  sub.add_argument('--confidence', action='store_true', help='add the 95 %% interval')
  _draws(sub, '--seed')

  sub = verb(experiments, 'experiments')
  sub.add_argument('folder', nargs='?', default='experiments', help='where they are')

  sub = verb(bench, 'bench')
  sub.add_argument(
    'experiment', nargs='?', default='experiments/agreement/transformer.py'
  )
  sub.add_argument('--output', default='bench.json', help='the same numbers as JSON')
  sub.add_argument('--only', choices=('start', 'feed', 'train', 'decode', 'bleu'))
  return parser


if __name__ == '__main__':
  sys.exit(main())
