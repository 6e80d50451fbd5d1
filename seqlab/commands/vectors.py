"""Verbs on word vectors."""

import argparse

from seqlab.commands.shared import (
  Parser,
  Verb,
  analogy_options,
  checkpoint_options,
  from_option,
  given,
  prepare,
)


def neighbours(args: argparse.Namespace) -> None:
  """Prints the words whose vectors are nearest to those of some words."""
  prepare()
  from seqlab.word_vectors import neighbours

  options = dict(format=args.source, **_vectors_of(args))
  neighbours(args.vectors, args.words, args.n, **options)


def analogy(args: argparse.Namespace) -> None:
  """Prints the words that are to the third as the second is to the first."""
  prepare()
  from seqlab.word_vectors import analogy

  options = given(args, ('method', 'restrict')) | _vectors_of(args)
  analogy(args.vectors, args.words, args.n, format=args.source, **options)


def vectors(args: argparse.Namespace) -> None:
  """Writes word vectors to a file for other tools, or converts such a file."""
  prepare()
  from seqlab.word_vectors import save

  options = dict(source=args.source, **_vectors_of(args))
  save(args.vectors, args.to, args.format, **options)


def align(args: argparse.Namespace) -> None:
  """Maps word vectors of one language to those of another, by a dictionary."""
  prepare()
  from seqlab.use.bilingual import align

  files = dict(dictionary=args.dictionary, evaluate=args.evaluate, output=args.output)
  options = dict(centre=args.centre, format=args.source, **_vectors_of(args))
  align(args.vectors, args.other, **files, **options)


def _vectors_of(args: argparse.Namespace) -> dict:
  """Returns the options that choose the vectors of a run."""
  return dict(average=args.average, choose=args.choose, trust=args.trust)


def _vectors_option(parser: Parser) -> None:
  parser.add_argument('vectors', metavar='RUN', help="the run's folder, or a file")
  from_option(parser)
  checkpoint_options(parser)


def _neighbours_options(parser: Parser) -> None:
  _vectors_option(parser)
  parser.add_argument('words', metavar='WORD', nargs='+')
  parser.add_argument('-n', type=int, default=10, help='number of words (10)')


def _analogy_verb_options(parser: Parser) -> None:
  _vectors_option(parser)
  text = 'A B C: the answer is to C as B is to A'
  parser.add_argument('words', metavar='WORD', nargs=3, help=text)
  parser.add_argument('-n', type=int, default=10, help='number of words (10)')
  analogy_options(parser)


def _vectors_options(parser: Parser) -> None:
  _vectors_option(parser)
  add = parser.add_argument
  text = (
    '.txt, .bin (word2vec, or fastText with n-grams; also .gz), .kv (gensim), .npz; a '
    'folder (projector)'
  )
  add('--to', metavar='FILE', required=True, help=text)
  add('--format', help='format (by the name of the file)')


def _align_options(parser: Parser) -> None:
  add = parser.add_argument
  text = 'vectors of the source language: the folder of a run, or a file'
  add('vectors', metavar='A', help=text)
  add('other', metavar='B', help='vectors of the target language')
  from_option(parser)
  checkpoint_options(parser)
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


VERBS = {
  'neighbours': Verb(neighbours, _neighbours_options),
  'analogy': Verb(analogy, _analogy_verb_options),
  'vectors': Verb(vectors, _vectors_options),
  'align': Verb(align, _align_options),
}
