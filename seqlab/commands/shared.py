"""What verbs of several modules share: their type, preparation, and common options."""

import argparse
from collections.abc import Callable, Iterable, Iterator
import contextlib
import gc
from typing import NamedTuple

# seqlab.metrics.tokenizers.TOKENIZERS, which needs JAX.
TOKENIZERS = ('13a', 'none', 'char')
Parser = argparse.ArgumentParser


class Verb(NamedTuple):
  """A verb.

  Attributes:
    run: function of the parsed arguments, and of the overrides if the verb has them;
      returns the exit status.
    options: adds the options to a parser.
    computes: whether it computes for long.
    has_overrides: whether options that the parser does not know, such as
      --config.seed=1, are overrides of an experiment. Other verbs refuse them.
  """

  run: Callable[..., int | None]
  options: Callable[[Parser], None]
  computes: bool = True
  has_overrides: bool = False


@contextlib.contextmanager
def imports() -> Iterator[None]:
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


def prepare(threads: int | None = None) -> None:
  """Applies the settings of JAX that every computing verb needs."""
  from seqlab.train.runtime import prepare

  prepare(threads, use_program_index=True)


def from_option(parser: argparse._ActionsContainer) -> None:
  """Adds the format of a file of word vectors."""
  text = (
    'format of a file: text, glove, binary, npz, fasttext, projector, gensim (by its '
    'name or content)'
  )
  parser.add_argument('--from', dest='source', metavar='FORMAT', help=text)


def analogy_options(parser: argparse._ActionsContainer) -> None:
  """Adds how analogies are answered."""
  add = parser.add_argument
  text = (
    'number of first words to answer among (evaluate: 30,000 of a run, all of a file)'
  )
  add('--restrict', type=int, help=text)
  add('--method', choices=('add', 'mul'), help='3CosAdd (the default) or 3CosMul')


def search_options(parser: Parser, *, sources: bool = True) -> None:
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
  checkpoint_options(parser)


def _translation_search_options(parser: Parser) -> None:
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


def checkpoint_options(parser: Parser) -> None:
  """Adds which checkpoints of a run are used."""
  add = parser.add_argument
  add('--average', type=int, default=1, help='checkpoints to average')
  add('--choose', choices=('last', 'best'), default='last', help='which checkpoints')
  _trust_option(parser)


def _trust_option(parser: argparse._ActionsContainer) -> None:
  text = 'allow a run whose config.json names code that is not part of seqlab'
  parser.add_argument('--trust', action='store_true', help=text)


def ensemble_option(parser: Parser) -> None:
  """Adds further runs, which decode together with the first."""
  text = 'more runs with the same vocabularies, whose log-probabilities are averaged'
  parser.add_argument('--ensemble', metavar='RUN', nargs='+', default=(), help=text)


def search(args: argparse.Namespace) -> dict:
  """Returns what `search_options` added, as arguments of functions that translate."""
  options = given(args, SEARCH)
  if 'max_length' in options:
    options['length'] = tuple(options.pop('max_length'))
  ensemble = {'ensemble': args.ensemble} if 'ensemble' in args else {}
  which = {'average': args.average, 'choose': args.choose}
  return {**which, 'options': options, **ensemble}


SEARCH = (
  *('decoding', 'beam', 'alpha', 'penalty', 'stop'),
  *('min_length', 'no_repeat_ngram', 'length_reward', 'coverage'),
  *('diverse_groups', 'diverse_strength', 'mbr', 'mbr_measure'),
  *('temperature', 'top_k', 'top_p', 'epsilon', 'seed', 'dtype', 'max_length'),
)


def given(args: argparse.Namespace, names: Iterable[str]) -> dict:
  """Returns the options that the user set."""
  given = {name: getattr(args, name, None) for name in names}
  return {name: x for name, x in given.items() if x not in (None, ())}


def split_option(parser: Parser) -> None:
  """Adds the part of the data."""
  parser.add_argument('--split', help='part of the data (test)')


def split(args: argparse.Namespace) -> str:
  """Returns the part of the data that the user chose, or test."""
  return 'test' if args.split is None else args.split


def bootstrap_options(parser: Parser, seed: str) -> None:
  """Adds the options of a bootstrap; `seed` is the option of its seed."""
  add = parser.add_argument
  add('--samples', type=int, default=1_000, help='samples of the bootstrap (1,000)')
  add(seed, type=int, default=0, help='seed of the bootstrap (0)')
