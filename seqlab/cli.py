"""The `seqlab` command: each verb is a function without any logic.

A verb imports what it needs when it runs, so that `seqlab --help` needs no JAX.
"""

import argparse
import atexit
from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
import gc
import io
import json
import os
from pathlib import Path
import signal
import sys
from typing import Any, NamedTuple

from seqlab.io.secrets import scrub

_REFUSALS = (ValueError, ArithmeticError, OSError, RuntimeError, MemoryError)

# glibc returns large buffers to the kernel at every free, and a step on a CPU then
# spends up to half its time on fresh pages. Huge pages and one arena that keeps its
# memory avoid that; the allocator reads these settings once, when the process starts.
MALLOC = ':'.join(
  f'glibc.malloc.{name}'
  for name in (
    *('hugetlb=1', 'arena_max=1', 'mmap_max=0'),
    *('trim_threshold=1000000000000', 'top_pad=268435456'),
  )
)


def _keep_memory(verb: str) -> None:
  """Restarts this command with `MALLOC`, unless the user has set tunables."""
  if (
    _VERBS[verb].computes
    and sys.platform == 'linux'
    and not os.environ.get('GLIBC_TUNABLES')
  ):
    environment = os.environ | {'GLIBC_TUNABLES': MALLOC}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit status.

  An error that the user can fix ends in one line on stderr and status 1, without a
  traceback; SEQLAB_TRACEBACK=1 shows the traceback.
  """
  if hasattr(sys.stdout, 'reconfigure'):
    # Text is UTF-8 whatever the locale; names of files may contain any other bytes.
    sys.stdout.reconfigure(encoding='utf-8', errors='surrogateescape')
  args, rest = _parser().parse_known_args(argv)
  if rest and args.verb not in ('train', 'plan', 'bench'):
    _parser().error(f'unrecognized arguments: {" ".join(rest)}')
  if argv is not None:
    return _status_of(args, rest)
  _keep_memory(args.verb)
  statuses: list[int] = []
  atexit.register(_end_without_teardown, statuses)  # the first one is called last
  statuses.append(_status_of(args, rest))
  _end_with_threads(*statuses)
  return statuses[0]


def _end_with_threads(status: int) -> None:
  """Ends this process now if a thread works on something that nothing waits for.

  XLA cannot be interrupted, and Python's own exit would wait for its thread. A sink that
  hangs may have asked Python to call it at the exit. All files are closed by now.
  """
  background = sys.modules.get('seqlab.train.background')
  sinks = sys.modules.get('seqlab.train.sinks.background')
  if (background and background.is_compiling()) or (sinks and sinks.is_stuck()):
    _end_now(status)


def _end_without_teardown(statuses: Sequence[int]) -> None:
  """Ends this process, if a verb has ended, without freeing each of its objects.

  To take the interpreter, the modules and XLA's devices apart takes a third of a second.
  Python has waited for the threads by now.
  """
  for status in statuses:
    _end_now(status)


def _end_now(status: int) -> None:
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):  # it was reported, or is closed
      stream.flush()
  os._exit(status)


@contextlib.contextmanager
def _imports() -> Iterator[None]:
  """Pauses the garbage collector while modules are imported.

  They make hundreds of thousands of objects that live until the end. The collector would
  look through all of them several times, which takes a quarter of a second.
  """
  gc.disable()
  try:
    yield
  finally:
    if not gc.get_freeze_count():
      gc.freeze()
    gc.enable()


def _status_of(args: argparse.Namespace, rest: Sequence[str]) -> int:
  """Runs a verb; prints an error that the user can fix, and returns the status."""
  try:
    status = args.run(args, rest) or 0
    sys.stdout.flush()
    return status
  except BrokenPipeError:  # the reader has closed the pipe, as `head` does
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE
  except _REFUSALS as error:
    if os.environ.get('SEQLAB_TRACEBACK'):
      raise
    reason = scrub(_reason_of(error, args.verb)) or type(error).__name__
    print(f'seqlab {args.verb}: {reason}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f'\nseqlab {args.verb}: interrupted', file=sys.stderr)
    return 130


def _reason_of(error: Exception, verb: str) -> str:
  """Returns the text of an error; if a device has no memory, with what takes it."""
  if 'RESOURCE_EXHAUSTED' not in str(error):
    return str(error)
  from seqlab.compile.memory import explain_out_of_memory, is_out_of_memory

  if not is_out_of_memory(error):
    return str(error)
  return explain_out_of_memory(error, _MEMORY_ADVICE.get(verb, _OTHER_MEMORY_ADVICE))


_MEMORY_ADVICE = {
  'train': 'Lower batching.tokens, set accumulate=2 or more (a batch is then computed in '
  "parts), model.remat='products' or 'full', or distribute the parameters over devices "
  'by mesh.fsdp. If an evaluator needs the memory, lower its option tokens. '
  '`seqlab plan EXPERIMENT --devices N --fit` finds the largest batching.tokens',
}
_OTHER_MEMORY_ADVICE = (
  'Lower --beam, --mbr or the number of --ensemble members, set --dtype bfloat16, or '
  'shorten the longest lines; for the evaluators of a run lower their option tokens'
)


def train(args: argparse.Namespace, rest: Sequence[str]) -> int:
  """Trains an experiment, or resumes it."""
  with _imports():
    from seqlab.experiment import load_experiment
    from seqlab.results.beside import print_after_training
    from seqlab.results.origin import origin_of
    from seqlab.train.cluster import cluster
    from seqlab.train.loop import train
    from seqlab.train.processes import Stopped

  config = load_experiment(args.experiment, rest)
  origin = origin_of(args.experiment, rest)
  _prepare(config.get('threads'))
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
  _prepare()
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


def evaluate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Scores a run: its translations, its word vectors, or its own evaluators."""
  del rest
  with _imports():
    _prepare()
    from seqlab.results.beside import print_after_evaluation
    from seqlab.train.vectors import names_vectors
    from seqlab.use.evaluation import default_measure

  if args.evals is not None:
    measure = 'evaluators'
  elif names_vectors(args.run_folder, args.source):
    measure = 'word vectors'
  else:
    measure = default_measure(args.run_folder, trust=args.trust)
  for name, options in _EVALUATE.items():
    if name != measure:
      _refuse(args, set(options) - set(_EVALUATE[measure]), name)
  record = _MEASURES[measure](args)
  print_after_evaluation(Path(args.run_folder), record)


def _evaluate_words(args: argparse.Namespace) -> dict:
  from seqlab.word_vectors import evaluate_words

  options = dict(format=args.source, average=args.average, choose=args.choose)
  options |= _given(args, ('sets', 'restrict', 'method'))
  return evaluate_words(args.run_folder, trust=args.trust, **options)


def _evaluate_translations(args: argparse.Namespace) -> dict:
  from seqlab.use.translations import evaluate_translations

  options = dict(split=_split(args), output=args.output, **_search(args))
  options['measures'] = args.measures or ()
  return evaluate_translations(args.run_folder, trust=args.trust, **options)


def _evaluate_evaluators(args: argparse.Namespace) -> dict:
  from seqlab.use.evaluation import evaluate_run

  options = dict(split=args.split, average=args.average, choose=args.choose)
  return evaluate_run(
    args.run_folder, names=args.evals or (), trust=args.trust, **options
  )


def compare(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Compares runs on a split by any measure, with intervals and p-values."""
  del rest
  with _imports():
    _prepare()
    from seqlab.use.comparison import compare_runs

  compare_runs(
    args.run_folders,
    split=_split(args),
    measure=args.measure,
    tokenizer=args.tokenize,
    test=args.test,
    samples=args.samples,
    trials=args.trials,
    seed=args.bootstrap_seed,
    trust=args.trust,
    **_search(args),
  )


def bleu(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Scores a file of translations against references; prints a line of JSON."""
  del rest
  _prepare()
  from seqlab.metrics.corpus import bleu_of_files

  result = bleu_of_files(
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
  with _imports():
    _prepare()
    from seqlab.use.streams import translate_stream

  translate_stream(
    args.run_folder,
    sys.stdin.buffer,
    sys.stdout,
    n_best=args.n_best,
    alignment=_alignment(args),
    prefix=args.prefix,
    phrases=args.phrases,
    trust=args.trust,
    **_search(args),
  )


def synthesize(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Translates a split or a file into a corpus, over all devices; can be resumed."""
  del rest
  with _imports():
    _prepare()
    from seqlab.use.synthesis import synthesize

  synthesize(
    args.run_folder,
    args.corpus,
    split=args.split,
    file=args.input,
    back=args.back,
    tag=args.tag,
    trust=args.trust,
    **_search(args),
  )


def export(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Writes the model of a run for other programs: StableHLO or CTranslate2."""
  del rest
  with _imports():
    _prepare()
    from seqlab.export.runs import export_run

  folder = export_run(
    args.run_folder,
    args.folder,
    to=args.to,
    batch_sizes=args.batch_sizes,
    lengths=args.lengths,
    quantization=args.quantization,
    trust=args.trust,
    **_search(args),
  )
  print(f'written: {folder}')


def attend(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Shows where a run attends in a sentence: a page, a figure, alignments."""
  del rest
  with _imports():
    _prepare()
    from seqlab.pages.attention import check_options, show_attention
    from seqlab.use.attention import attend_run

  options = dict(
    kind=args.kind, selection=_selection(args), with_alignment=args.alignment
  )
  check_options(args.output, **options)
  shown = attend_run(
    args.run_folder,
    args.text,
    target=args.target,
    trust=args.trust,
    **_search(args),
  )
  show_attention(shown, args.output, **options)


def _selection(args: argparse.Namespace) -> Any:
  """Returns the `use.alignment.Selection` that `_alignment_options` describe."""
  from seqlab.use.alignment import Selection

  return Selection(layer=args.layer, heads=tuple(args.heads), unit=args.unit or 'word')


def _alignment(args: argparse.Namespace) -> Any:
  """Returns the `Selection` of `translate`; None without --alignment.

  Raises:
    ValueError: a part of it is given, and --alignment is not.
  """
  if args.alignment:
    return _selection(args)
  for name in _given(args, ('layer', 'heads', 'unit')):
    raise ValueError(f'--{name} chooses an alignment: add --alignment, or leave it out')
  return None


def generate(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Continues prompts with a language model."""
  del rest
  with _imports():
    _prepare()
    from seqlab.text.lines import text_lines
    from seqlab.use.generation import generate_text, prompts_of

  generate_text(
    args.run_folder,
    prompts_of(args.prompt, text_lines(sys.stdin.buffer)),
    sys.stdout,
    length=args.length,
    samples=args.samples,
    format=args.format,
    together=1 if sys.stdin.isatty() else 256,  # else an answer waits for 256 lines
    trust=args.trust,
    **_search(args),
  )


def score(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Scores translations (source, tab, target) or lines: log p, tab, pieces."""
  del rest
  with _imports():
    _prepare()
    from seqlab.use.streams import score_stream

  score_stream(
    args.run_folder,
    sys.stdin.buffer,
    sys.stdout,
    average=args.average,
    choose=args.choose,
    ensemble=args.ensemble,
    trust=args.trust,
  )


def neighbours(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Prints the words whose vectors are nearest to those of some words."""
  del rest
  _prepare()
  from seqlab.word_vectors import neighbours

  options = dict(format=args.source, **_vectors_of(args))
  neighbours(args.vectors, args.words, args.n, **options)


def analogy(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Prints the words that are to the third as the second is to the first."""
  del rest
  _prepare()
  from seqlab.word_vectors import analogy

  options = _given(args, ('method', 'restrict')) | _vectors_of(args)
  analogy(args.vectors, args.words, args.n, format=args.source, **options)


def vectors(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Writes word vectors to a file for other tools, or converts such a file."""
  del rest
  _prepare()
  from seqlab.word_vectors import save

  options = dict(source=args.source, **_vectors_of(args))
  save(args.vectors, args.to, args.format, **options)


def align(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Maps word vectors of one language to those of another, by a dictionary."""
  del rest
  _prepare()
  from seqlab.use.bilingual import align

  files = dict(dictionary=args.dictionary, evaluate=args.evaluate, output=args.output)
  options = dict(centre=args.centre, format=args.source, **_vectors_of(args))
  align(args.vectors, args.other, **files, **options)


def _vectors_of(args: argparse.Namespace) -> dict:
  """Returns the options that choose the vectors of a run."""
  return dict(average=args.average, choose=args.choose, trust=args.trust)


def table(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Prints a table of runs: what differs between them, and their results."""
  del rest
  from seqlab.report.runs import left_out
  from seqlab.report.tables import summary

  options = dict(by=args.by, choose=args.choose, format=args.format)
  print(summary(args.run_folders, args.metric, **options), end='')
  for run, reason in left_out(args.run_folders).items():
    print(f'left out: {run}: {reason}', file=sys.stderr)


def report(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Writes a page about runs: what they are, curves, scores, samples."""
  del rest
  with _imports():
    _prepare()
    from seqlab.pages.report import write_report

  path = write_report(
    args.run_folders, args.output, split=args.split, trust=args.trust, **_search(args)
  )
  print(f'written: {path}')


def experiments(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Lists the experiments: the paper's number, time and title."""
  del rest
  from seqlab.experiment_list import print_experiments

  print_experiments(args.folder and Path(args.folder), args.format)


def reproduce(args: argparse.Namespace, rest: Sequence[str]) -> int:
  """Runs what the paper rows of an experiment need, and records the verdicts."""
  del rest
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
  errors = io.StringIO()
  try:
    with contextlib.redirect_stderr(errors):
      _parser().parse_args(words)
  except SystemExit:
    reason = errors.getvalue().strip().rpartition('error: ')[2]
    raise ValueError(
      f'`seqlab {" ".join(words)}` is no command: {reason}; correct Row.evaluate'
    ) from None


def results(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Prints the paper rows of experiments, with the values here and the verdicts."""
  del rest
  from seqlab.results.listing import print_results

  print_results(args.experiments, Path(args.results), args.format)


def completion(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Prints a script that completes words of this command in a shell."""
  del rest
  from seqlab.experiment_files import known_names
  from seqlab.io.completion import script

  print(script(_parser(), args.shell, known_names()))


def bench(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Measures start-up, input, training, decoding and the like."""
  from seqlab.experiment import load_experiment

  if args.against is not None:
    return _bench_against(args, rest)
  if rest or args.run_folder or args.turns or args.table:
    raise ValueError('--config, --run, --turns and --table need --against')
  _prepare(load_experiment(args.experiment).get('threads'))
  from seqlab.bench.run import run_bench

  run_bench(args.experiment, output=args.output, only=args.only)


def _bench_against(args: argparse.Namespace, rest: Sequence[str]) -> None:
  from seqlab.bench.libraries import describe_libraries

  if not args.against:
    print('\n'.join(describe_libraries()))
    return
  _prepare()
  from seqlab.bench.against import compare

  options = dict(against=args.against, output=args.output, only=args.only)
  options |= _given(args, ('turns', 'table'))
  options['run'] = args.run_folder
  compare(args.experiment, rest, **options)


def _prepare(threads: int | None = None) -> None:
  """Applies the settings of JAX that every computing verb needs."""
  from seqlab.train.runtime import prepare

  prepare(threads, use_program_index=True)


# seqlab.metrics.tokenizers.TOKENIZERS, which needs JAX.
_TOKENIZERS = ('13a', 'none', 'char')
_Parser = argparse.ArgumentParser


def _train_options(parser: _Parser) -> None:
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


def _plan_options(parser: _Parser) -> None:
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


def _evaluate_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  _search_options(parser)
  _ensemble_option(parser)
  _split_option(parser)
  add('--output', help='also write the translations to this file')
  text = (
    'exact, cer, per, wer, word_errors, symbol_accuracy, bleu, chrf, chrf++, ter '
    '(those of its evaluators, or BLEU)'
  )
  add('--measures', nargs='+', metavar='NAME', help=text)
  text = "run the experiment's evaluators, all or these (default for other tasks)"
  add('--evals', nargs='*', metavar='NAME', help=text)
  group = parser.add_argument_group('for word vectors; RUN may be a file')
  group.add_argument('--sets', nargs='+', help='names, or files of pairs or questions')
  _analogy_options(group)
  _from_option(group)


def _compare_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folders', metavar='RUN', nargs='+', help='baseline first')
  _search_options(parser)
  _split_option(parser)
  text = (
    'bleu (default), exact, cer, per, wer, word_errors, symbol_accuracy, chrf, chrf++, '
    'ter'
  )
  add('--measure', default='bleu', help=text)
  text = 'tokeniser of BLEU (default: that of the corpus)'
  add('--tokenize', choices=_TOKENIZERS, help=text)
  text = 'paired bootstrap, or paired approximate randomisation'
  add('--test', choices=('bs', 'ar'), default='bs', help=text)
  add('--trials', type=int, default=10_000, help="trials of 'ar' (10,000)")
  _bootstrap_options(parser, '--bootstrap-seed')


def _translate_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  _search_options(parser)
  _ensemble_option(parser)
  add('--n-best', type=int, default=1, help='translations per line')
  text = 'each line has a tab and the first words of its translation after the source'
  add('--prefix', action='store_true', help=text)
  text = 'then a tab before each phrase that the translation contains'
  add('--phrases', action='store_true', help=text)
  _alignment_options(parser)


def _attend_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  add('text', metavar='TEXT', help='a source sentence; for a language model a text')
  text = "a translation that the model is made to read (default: the run's own)"
  add('--target', metavar='TEXT', help=text)
  text = 'a page (.html) with all layers and heads, or a figure (.png or .svg)'
  add('--output', metavar='FILE', help=f'write {text}')
  text = 'what is printed or drawn: cross (default if there is one), encoder, decoder'
  add('--kind', metavar='KIND', help=text)
  _alignment_options(parser)
  _search_options(parser)


def _alignment_options(parser: _Parser) -> None:
  add = parser.add_argument
  text = (
    'word alignments in Pharaoh form (0-0 1-2): to each target word the source word '
  )
  add('--alignment', action='store_true', help=f'{text}that gets most attention')
  add('--layer', type=int, metavar='N', help='decoder layer to use, from 1 (the last)')
  text = 'heads whose mean is used, from 1 (all)'
  add('--heads', type=int, nargs='+', metavar='N', default=(), help=text)
  text = 'what is aligned: words, made of their tokens, or tokens (word)'
  add('--unit', choices=('word', 'token'), help=text)


def _synthesize_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  add('corpus', metavar='CORPUS', help='folder of the new corpus')
  add('--split', help="split of the run's corpus whose sources are translated")
  text = 'in place of a split: a file with one sentence per line, plain or gzipped'
  add('--input', metavar='FILE', help=text)
  text = 'the translations are the sources of the new corpus (back-translation)'
  add('--back', action='store_true', help=text)
  add('--tag', default='', help="a word before each source, such as '<BT>'")
  _search_options(parser)
  _ensemble_option(parser)


def _export_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  add('folder', metavar='DIR', help='the new folder')
  text = 'the whole search, for a process that has only JAX; or for CTranslate2'
  add('--to', choices=('stablehlo', 'ctranslate2'), required=True, help=text)
  text = 'stablehlo: sentences in a batch; each number makes a program (1 16)'
  add('--batch-sizes', type=int, nargs='+', metavar='N', default=(), help=text)
  text = 'stablehlo: tokens of the longest sentence of a program (16 32 64 128)'
  add('--lengths', type=int, nargs='+', metavar='N', default=(), help=text)
  text = 'ctranslate2: weights in float32 (default) or int8'
  add('--quantization', choices=('float32', 'int8'), help=text)
  _search_options(parser)
  _ensemble_option(parser)


def _generate_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  text = 'texts to continue; - for every line of standard input (default: a new text)'
  add('--prompt', nargs='+', metavar='TEXT', default=('',), help=text)
  add('--length', type=int, default=256, help='tokens to generate (256)')
  add('--samples', type=int, default=1, help='texts per prompt (1)')
  add('--format', choices=('text', 'json'), default='text')
  _search_options(parser, sources=False)  # --length instead of --max-length


def _score_options(parser: _Parser) -> None:
  parser.add_argument('run_folder', metavar='RUN', help="the run's folder")
  _checkpoint_options(parser)
  _ensemble_option(parser)


def _vectors_option(parser: _Parser) -> None:
  parser.add_argument('vectors', metavar='RUN', help="the run's folder, or a file")
  _from_option(parser)
  _checkpoint_options(parser)


def _from_option(parser: argparse._ActionsContainer) -> None:
  text = (
    'format of a file: text, glove, binary, npz, fasttext, projector, gensim (by its '
    'name or content)'
  )
  parser.add_argument('--from', dest='source', metavar='FORMAT', help=text)


def _neighbours_options(parser: _Parser) -> None:
  _vectors_option(parser)
  parser.add_argument('words', metavar='WORD', nargs='+')
  parser.add_argument('-n', type=int, default=10, help='number of words (10)')


def _analogy_verb_options(parser: _Parser) -> None:
  _vectors_option(parser)
  text = 'A B C: the answer is to C as B is to A'
  parser.add_argument('words', metavar='WORD', nargs=3, help=text)
  parser.add_argument('-n', type=int, default=10, help='number of words (10)')
  _analogy_options(parser)


def _analogy_options(parser: argparse._ActionsContainer) -> None:
  add = parser.add_argument
  text = (
    'number of first words to answer among (evaluate: 30,000 of a run, all of a file)'
  )
  add('--restrict', type=int, help=text)
  add('--method', choices=('add', 'mul'), help='3CosAdd (the default) or 3CosMul')


def _vectors_options(parser: _Parser) -> None:
  _vectors_option(parser)
  add = parser.add_argument
  text = (
    '.txt, .bin (word2vec, or fastText with n-grams; also .gz), .kv (gensim), .npz; a '
    'folder (projector)'
  )
  add('--to', metavar='FILE', required=True, help=text)
  add('--format', help='format (by the name of the file)')


def _align_options(parser: _Parser) -> None:
  add = parser.add_argument
  text = 'vectors of the source language: the folder of a run, or a file'
  add('vectors', metavar='A', help=text)
  add('other', metavar='B', help='vectors of the target language')
  _from_option(parser)
  _checkpoint_options(parser)
  text = 'a word of A, a tab and its translation in B per line, to learn the map from'
  add('--dictionary', metavar='FILE', required=True, help=text)
  text = (
    'such pairs that the map is evaluated on: precision of the nearest translations'
  )
  add('--evaluate', metavar='FILE', help=text)
  text = 'folder for source.npz and target.npz, vectors in one space'
  add('--output', metavar='DIR', required=True, help=text)
  text = 'do not subtract the mean of the vectors of each language'
  add('--no-centre', dest='centre', action='store_false', help=text)


def _table_options(parser: _Parser) -> None:
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


def _report_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('run_folders', metavar='RUN', nargs='+', help='runs, or folders of runs')
  text = 'folder of the page, index.html'
  add('--output', metavar='FOLDER', required=True, help=text)
  text = 'also translate this part of the data, for samples and breakdowns'
  add('--split', help=text)
  _search_options(parser)


def _bleu_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('hypothesis', help='a plain or gzipped file, one sentence per line')
  add('references', nargs='+', help='files with the same number of lines')
  add('--tokenize', choices=_TOKENIZERS, default='13a')
  add('--lowercase', action='store_true', help='score without case')
  add('--confidence', action='store_true', help='add the 95 %% interval')
  _bootstrap_options(parser, '--seed')


def _experiments_options(parser: _Parser) -> None:
  text = "folder of experiments (experiments, or else seqlab's own)"
  parser.add_argument('folder', nargs='?', help=text)
  parser.add_argument('--format', choices=('table', 'tsv', 'json'), default='table')


def _reproduce_options(parser: _Parser) -> None:
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


def _completion_options(parser: _Parser) -> None:
  parser.add_argument('shell', choices=('bash', 'zsh', 'tcsh'))
  parser.epilog = 'bash: add `source <(seqlab completion bash)` to ~/.bashrc'


def _results_options(parser: _Parser) -> None:
  text = 'files, or folders of files (experiments)'
  add = parser.add_argument
  add(
    'experiments', nargs='*', metavar='EXPERIMENT', default=['experiments'], help=text
  )
  add('--format', choices=('text', 'json', 'md'), default='text')
  _results_option(parser)


def _results_option(parser: _Parser) -> None:
  text = 'folder of the registry (docs/results)'
  parser.add_argument('--results', default='docs/results', help=text)


def _bench_options(parser: _Parser) -> None:
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


def _search_options(parser: _Parser, *, sources: bool = True) -> None:
  """Adds the options of verbs that decode: checkpoints, and the kind of decoding.

  Args:
    parser: parser of the verb.
    sources: whether outputs have sources, by which their lengths are limited.
  """
  add = parser.add_argument
  text = 'beam, greedy, full_length, sampling, mbr, or a path module:name'
  add('--decoding', help=text)
  add('--beam', type=int, help='hypotheses per sentence (5)')
  add('--alpha', type=float, help='exponent of the length penalty (0.6)')
  add('--penalty', help='form of the length penalty: gnmt, or length as in fairseq')
  text = 'when a search ends: bound, or count, after enough outputs, as in fairseq'
  add('--stop', help=text)
  if sources:
    text = 'translations have at most A * tokens of the source + B tokens (1.5 10)'
    add('--max-length', type=float, nargs=2, metavar=('A', 'B'), help=text)
    _translation_search_options(parser)
  add('--temperature', type=float, help='sample instead of searching')
  add('--top-k', type=int, help='sample among the k likeliest tokens')
  add(
    '--top-p',
    type=float,
    help='sample among the likeliest tokens of this total probability',
  )
  add('--epsilon', type=float, help='sample among tokens of at least this probability')
  add('--seed', type=int, help='seed of sampling')
  add('--dtype', help='float32 or bfloat16, of the matrix products of the search')
  _checkpoint_options(parser)


def _translation_search_options(parser: _Parser) -> None:
  """Adds the options that a search has only where outputs have sources."""
  add = parser.add_argument
  add('--min-length', type=int, help='tokens before the end, at least (0)')
  text = 'no sequence of N tokens occurs twice in a translation'
  add('--no-repeat-ngram', type=int, metavar='N', help=text)
  text = 'added to the score for each token of a translation (0)'
  add('--length-reward', type=float, help=text)
  text = 'strength of the penalty for source tokens with little attention (0)'
  add('--coverage', type=float, metavar='BETA', help=text)
  text = 'groups of diverse beam search, a divisor of the beam (1)'
  add('--diverse-groups', type=int, help=text)
  text = 'what a token loses per use in an earlier group (0.5)'
  add('--diverse-strength', type=float, help=text)
  text = 'samples per sentence; the one that is most like the others is the translation'
  add('--mbr', type=int, metavar='SAMPLES', help=text)
  add('--mbr-measure', help='chrf (default) or bleu, by which samples are compared')


def _checkpoint_options(parser: _Parser) -> None:
  add = parser.add_argument
  add('--average', type=int, default=1, help='checkpoints to average')
  add('--choose', choices=('last', 'best'), default='last', help='which checkpoints')
  _trust_option(parser)


def _trust_option(parser: argparse._ActionsContainer) -> None:
  text = 'allow a run whose config.json names code that is not part of seqlab'
  parser.add_argument('--trust', action='store_true', help=text)


def _ensemble_option(parser: _Parser) -> None:
  text = 'more runs with the same vocabularies, whose log-probabilities are averaged'
  parser.add_argument('--ensemble', metavar='RUN', nargs='+', default=(), help=text)


def _search(args: argparse.Namespace) -> dict:
  """Returns what `_search_options` added, as arguments of functions that translate."""
  options = _given(args, _SEARCH)
  if 'max_length' in options:
    options['length'] = tuple(options.pop('max_length'))
  ensemble = {'ensemble': args.ensemble} if 'ensemble' in args else {}
  which = {'average': args.average, 'choose': args.choose}
  return {**which, 'options': options, **ensemble}


_SEARCH = (
  *('decoding', 'beam', 'alpha', 'penalty', 'stop'),
  *('min_length', 'no_repeat_ngram', 'length_reward', 'coverage'),
  *('diverse_groups', 'diverse_strength', 'mbr', 'mbr_measure'),
  *('temperature', 'top_k', 'top_p', 'epsilon', 'seed', 'dtype', 'max_length'),
)
# Kind of measurement of `evaluate` -> options that not all kinds have.
_EVALUATE = {
  'translations': (*_SEARCH, 'ensemble', 'split', 'output', 'measures'),
  'word vectors': ('sets', 'restrict', 'method', 'source'),
  'evaluators': ('evals', 'split'),
}
_MEASURES = {
  'translations': _evaluate_translations,
  'word vectors': _evaluate_words,
  'evaluators': _evaluate_evaluators,
}


def _given(args: argparse.Namespace, names: Iterable[str]) -> dict:
  """Returns the options that the user set."""
  given = {name: getattr(args, name, None) for name in names}
  return {name: x for name, x in given.items() if x not in (None, ())}


def _refuse(args: argparse.Namespace, names: Iterable[str], kind: str) -> None:
  """Raises ValueError for an option that belongs to another kind of measurement."""
  for name in _given(args, sorted(names)):
    option = '--from' if name == 'source' else f'--{name.replace("_", "-")}'
    raise ValueError(
      f'{option} is for {kind}, which {args.run_folder} does not have: leave it out'
    )


def _split_option(parser: _Parser) -> None:
  parser.add_argument('--split', help='part of the data (test)')


def _split(args: argparse.Namespace) -> str:
  return 'test' if args.split is None else args.split


def _bootstrap_options(parser: _Parser, seed: str) -> None:
  add = parser.add_argument
  add('--samples', type=int, default=1_000, help='samples of the bootstrap (1,000)')
  add(seed, type=int, default=0, help='seed of the bootstrap (0)')


class _Verb(NamedTuple):
  """A verb.

  Attributes:
    run: function of the parsed arguments and the unparsed ones; returns the exit status.
    options: adds the options to a parser.
    computes: whether it computes for long.
  """

  run: Callable[[argparse.Namespace, Sequence[str]], int | None]
  options: Callable[[_Parser], None]
  computes: bool = True


_VERBS = {
  'train': _Verb(train, _train_options),
  'plan': _Verb(plan, _plan_options),
  'evaluate': _Verb(evaluate, _evaluate_options),
  'compare': _Verb(compare, _compare_options),
  'translate': _Verb(translate, _translate_options),
  'attend': _Verb(attend, _attend_options),
  'synthesize': _Verb(synthesize, _synthesize_options),
  'export': _Verb(export, _export_options),
  'generate': _Verb(generate, _generate_options),
  'score': _Verb(score, _score_options),
  'neighbours': _Verb(neighbours, _neighbours_options),
  'analogy': _Verb(analogy, _analogy_verb_options),
  'vectors': _Verb(vectors, _vectors_options),
  'align': _Verb(align, _align_options),
  'bleu': _Verb(bleu, _bleu_options),
  'table': _Verb(table, _table_options, computes=False),
  'report': _Verb(report, _report_options),
  'experiments': _Verb(experiments, _experiments_options, computes=False),
  'reproduce': _Verb(reproduce, _reproduce_options, computes=False),
  'results': _Verb(results, _results_options, computes=False),
  'bench': _Verb(bench, _bench_options),
  'completion': _Verb(completion, _completion_options, computes=False),
}


def _parser() -> _Parser:
  parser = argparse.ArgumentParser(
    prog='seqlab', description='A laboratory for sequence learning in JAX/Flax.'
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
  for name, verb in _VERBS.items():
    text = verb.run.__doc__.splitlines()[0]
    sub = verbs.add_parser(name, help=text, description=text)
    sub.set_defaults(run=verb.run)
    verb.options(sub)
  return parser


if __name__ == '__main__':
  sys.exit(main())
