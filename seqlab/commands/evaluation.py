"""Verbs that score runs and files."""

import argparse
from collections.abc import Iterable
import json
from pathlib import Path

from seqlab.commands.shared import (
  SEARCH,
  TOKENIZERS,
  Parser,
  Verb,
  analogy_options,
  bootstrap_options,
  ensemble_option,
  from_option,
  given,
  imports,
  prepare,
  search,
  search_options,
  split,
  split_option,
)


def evaluate(args: argparse.Namespace) -> None:
  """Scores a run: its translations, its word vectors, or its own evaluators."""
  with imports():
    prepare()
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
  options |= given(args, ('sets', 'restrict', 'method'))
  return evaluate_words(args.run_folder, trust=args.trust, **options)


def _evaluate_translations(args: argparse.Namespace) -> dict:
  from seqlab.use.translations import evaluate_translations

  options = dict(split=split(args), output=args.output, **search(args))
  options['measures'] = args.measures or ()
  return evaluate_translations(args.run_folder, trust=args.trust, **options)


def _evaluate_evaluators(args: argparse.Namespace) -> dict:
  from seqlab.use.evaluation import evaluate_run

  options = dict(split=args.split, average=args.average, choose=args.choose)
  return evaluate_run(
    args.run_folder, names=args.evals or (), trust=args.trust, **options
  )


def compare(args: argparse.Namespace) -> None:
  """Compares runs on a split by any measure, with intervals and p-values."""
  with imports():
    prepare()
    from seqlab.use.comparison import compare_runs

  compare_runs(
    args.run_folders,
    split=split(args),
    measure=args.measure,
    tokenizer=args.tokenize,
    test=args.test,
    samples=args.samples,
    trials=args.trials,
    seed=args.bootstrap_seed,
    trust=args.trust,
    **search(args),
  )


def bleu(args: argparse.Namespace) -> None:
  """Scores a file of translations against references; prints a line of JSON."""
  prepare()
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


def _evaluate_options(parser: Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  search_options(parser)
  ensemble_option(parser)
  split_option(parser)
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
  analogy_options(group)
  from_option(group)


def _compare_options(parser: Parser) -> None:
  add = parser.add_argument
  add('run_folders', metavar='RUN', nargs='+', help='baseline first')
  search_options(parser)
  split_option(parser)
  text = (
    'bleu (default), exact, cer, per, wer, word_errors, symbol_accuracy, chrf, chrf++, '
    'ter'
  )
  add('--measure', default='bleu', help=text)
  text = 'tokeniser of BLEU (default: that of the corpus)'
  add('--tokenize', choices=TOKENIZERS, help=text)
  text = 'paired bootstrap, or paired approximate randomisation'
  add('--test', choices=('bs', 'ar'), default='bs', help=text)
  add('--trials', type=int, default=10_000, help="trials of 'ar' (10,000)")
  bootstrap_options(parser, '--bootstrap-seed')


def _bleu_options(parser: Parser) -> None:
  add = parser.add_argument
  add('hypothesis', help='a plain or gzipped file, one sentence per line')
  add('references', nargs='+', help='files with the same number of lines')
  add('--tokenize', choices=TOKENIZERS, default='13a')
  add('--lowercase', action='store_true', help='score without case')
  add('--confidence', action='store_true', help='add the 95 %% interval')
  bootstrap_options(parser, '--seed')


# Kind of measurement of `evaluate` -> options that not all kinds have.
_EVALUATE = {
  'translations': (*SEARCH, 'ensemble', 'split', 'output', 'measures'),
  'word vectors': ('sets', 'restrict', 'method', 'source'),
  'evaluators': ('evals', 'split'),
}


_MEASURES = {
  'translations': _evaluate_translations,
  'word vectors': _evaluate_words,
  'evaluators': _evaluate_evaluators,
}


def _refuse(args: argparse.Namespace, names: Iterable[str], kind: str) -> None:
  """Raises ValueError for an option that belongs to another kind of measurement."""
  for name in given(args, sorted(names)):
    option = '--from' if name == 'source' else f'--{name.replace("_", "-")}'
    raise ValueError(
      f'{option} is for {kind}, which {args.run_folder} does not have: leave it out'
    )


VERBS = {
  'evaluate': Verb(evaluate, _evaluate_options),
  'compare': Verb(compare, _compare_options),
  'bleu': Verb(bleu, _bleu_options),
}
