"""Verbs that use the model of a run on text."""

import argparse
import sys
from typing import Any

from seqlab.commands.shared import (
  Parser,
  Verb,
  checkpoint_options,
  ensemble_option,
  given,
  imports,
  prepare,
  search,
  search_options,
)


def translate(args: argparse.Namespace) -> None:
  """Translates standard input, line by line."""
  with imports():
    prepare()
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
    **search(args),
  )


def synthesize(args: argparse.Namespace) -> None:
  """Translates a split or a file into a corpus, over all devices; can be resumed."""
  with imports():
    prepare()
    from seqlab.use.synthesis import synthesize

  synthesize(
    args.run_folder,
    args.corpus,
    split=args.split,
    file=args.input,
    back=args.back,
    tag=args.tag,
    trust=args.trust,
    **search(args),
  )


def export(args: argparse.Namespace) -> None:
  """Writes the model of a run for other programs: StableHLO or CTranslate2."""
  with imports():
    prepare()
    from seqlab.export.runs import export_run

  folder = export_run(
    args.run_folder,
    args.folder,
    to=args.to,
    batch_sizes=args.batch_sizes,
    lengths=args.lengths,
    quantization=args.quantization,
    trust=args.trust,
    **search(args),
  )
  print(f'written: {folder}')


def attend(args: argparse.Namespace) -> None:
  """Shows where a run attends in a sentence: a page, a figure, alignments."""
  with imports():
    prepare()
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
    **search(args),
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
  for name in given(args, ('layer', 'heads', 'unit')):
    raise ValueError(f'--{name} chooses an alignment: add --alignment, or leave it out')
  return None


def generate(args: argparse.Namespace) -> None:
  """Continues prompts with a language model."""
  with imports():
    prepare()
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
    **search(args),
  )


def score(args: argparse.Namespace) -> None:
  """Scores translations (source, tab, target) or lines: log p, tab, pieces."""
  with imports():
    prepare()
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


def _translate_options(parser: Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  search_options(parser)
  ensemble_option(parser)
  add('--n-best', type=int, default=1, help='translations per line')
  text = 'each line has a tab and the first words of its translation after the source'
  add('--prefix', action='store_true', help=text)
  text = 'then a tab before each phrase that the translation contains'
  add('--phrases', action='store_true', help=text)
  _alignment_options(parser)


def _attend_options(parser: Parser) -> None:
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
  search_options(parser)


def _alignment_options(parser: Parser) -> None:
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


def _synthesize_options(parser: Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  add('corpus', metavar='CORPUS', help='folder of the new corpus')
  add('--split', help="split of the run's corpus whose sources are translated")
  text = 'in place of a split: a file with one sentence per line, plain or gzipped'
  add('--input', metavar='FILE', help=text)
  text = 'the translations are the sources of the new corpus (back-translation)'
  add('--back', action='store_true', help=text)
  add('--tag', default='', help="a word before each source, such as '<BT>'")
  search_options(parser)
  ensemble_option(parser)


def _export_options(parser: Parser) -> None:
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
  search_options(parser)
  ensemble_option(parser)


def _generate_options(parser: Parser) -> None:
  add = parser.add_argument
  add('run_folder', metavar='RUN', help="the run's folder")
  text = 'texts to continue; - for every line of standard input (default: a new text)'
  add('--prompt', nargs='+', metavar='TEXT', default=('',), help=text)
  add('--length', type=int, default=256, help='tokens to generate (256)')
  add('--samples', type=int, default=1, help='texts per prompt (1)')
  add('--format', choices=('text', 'json'), default='text')
  search_options(parser, sources=False)  # --length instead of --max-length


def _score_options(parser: Parser) -> None:
  parser.add_argument('run_folder', metavar='RUN', help="the run's folder")
  checkpoint_options(parser)
  ensemble_option(parser)


VERBS = {
  'translate': Verb(translate, _translate_options),
  'attend': Verb(attend, _attend_options),
  'synthesize': Verb(synthesize, _synthesize_options),
  'export': Verb(export, _export_options),
  'generate': Verb(generate, _generate_options),
  'score': Verb(score, _score_options),
}
