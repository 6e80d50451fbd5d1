"""Translates and scores streams of lines; at a terminal, one line at a time."""

from collections.abc import Iterator, Mapping, Sequence
import itertools
import sys
from typing import Any, BinaryIO, NamedTuple, TextIO

from seqlab.decoding.config import (
  Beam,
  DecodingConfig,
  MinimumBayesRisk,
  make_decoding,
)
from seqlab.domains import Count, checked
from seqlab.tasks.interface import Generates, Translates, has, needs
from seqlab.tasks.required import Required
from seqlab.tasks.scorer import LineScorer
from seqlab.tasks.translator import Hypothesis
from seqlab.text.lines import BadLine, is_blank, stream_lines
from seqlab.use.alignment import Aligner, Selection
from seqlab.use.ensembles import join_models, make_scorer, make_translator
from seqlab.use.refused import RefusedLines
from seqlab.use.runs import Choice, Run, load_run

_CHUNK = 1_000  # lines of a stream that are translated together


@checked
def translate_stream(
  run: Run,
  lines: BinaryIO,
  out: TextIO,
  *,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  n_best: Count = 1,
  alignment: Selection | None = None,
  prefix: bool = False,
  phrases: bool = False,
  ensemble: Sequence[Run] = (),
  trust: bool = False,
) -> None:
  """Translates a stream, line for line.

  There is one line of output for each line of input, in their order. One that cannot
  be translated, since it is not UTF-8 or too long for the model or for memory, gives
  an empty line, and is named by its number once all others are translated.

  Args:
    run: the folder of the run.
    lines: source sentences, as `text.lines` defines lines; blank ones give empty ones.
    out: receives the translations; with `n_best` > 1, as `line ||| text ||| score`,
      lines counted from 0.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how outputs are found, see `decoding.config`.
    n_best: number of different translations of each line; at most the number of
      hypotheses of the search. The number of lines that have fewer is printed last.
    alignment: attention by which words are aligned; None for no alignment. With it,
      each line ends with ` ||| 0-0 1-2`, see `use.alignment`.
    prefix: whether each line has a tab after the source, and then text with which its
      translation begins: whole words, or nothing. It is a part of the translation.
    phrases: whether each line has further tabs, and after each of them a phrase of whole
      words that its translation contains, in any order.
    ensemble: further runs, whose models decode together with this one's.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is outside its domain or the beam is too narrow for `n_best`,
      before anything is loaded; the task cannot translate, or show its attention if it
      is asked for; the input is packed or in another encoding; or lines could not be
      translated.
  """
  decoding = make_decoding(options)
  if alignment is not None and ensemble:
    raise ValueError(
      'an alignment is of the attention of one model: leave --ensemble or --alignment out'
    )
  if n_best > decoding.num_hypotheses:
    raise ValueError(
      f'n_best is {n_best}, and the search has {decoding.num_hypotheses} hypotheses per '
      f'line: {_advice(decoding)}'
    )
  which = dict(average=average, choose=choose, trust=trust)
  folder, task, variables, _ = load_run(run, **which)
  model, variables = join_models(needs(task, Translates), variables, ensemble, **which)
  aligner = None if alignment is None else Aligner(task, variables, alignment)
  translator = make_translator(task, model, variables, decoding, folder.config)
  refused, fewer = RefusedLines('line', 'the input'), 0
  for first, chunk, bad in _chunks(lines):
    required: dict[int, Required] = {}
    if prefix or phrases:
      fields = _Fields(_num_parts(task), prefix, phrases)
      chunk, required = fields.read(chunk, bad)
    hypotheses = translator.hypotheses(chunk, first=first, required=required)
    shown = [best[:n_best] for best in hypotheses]
    ends = itertools.repeat('') if aligner is None else _ends(aligner, chunk, shown)
    for number, best in enumerate(shown, first):
      for x in best:
        text = x.text if n_best == 1 else f'{number} ||| {x.text} ||| {x.score:.4f}'
        print(f'{text}{next(ends)}', file=out)
      i = number - first
      blank = is_blank(chunk[i])
      fewer += len(best) < n_best and not blank and i not in translator.refused
    # After each chunk, since a reader of a pipe would otherwise wait for the end.
    out.flush()
    refused.add(first, len(chunk), translator.refused | bad)
  if fewer:
    print(
      f'{fewer:,} of {refused.total:,} lines have fewer than {n_best} different '
      f'translations among {decoding.num_hypotheses} hypotheses: {_advice(decoding)}',
      file=sys.stderr,
    )
  if aligner is not None and aligner.refused:
    print(
      f'{len(aligner.refused):,} translations have no alignment: {aligner.refused[0]}',
      file=sys.stderr,
    )
  refused.report('translated as an empty line')


def _advice(decoding: DecodingConfig) -> str:
  """Returns how a search gets more hypotheses."""
  if isinstance(decoding, MinimumBayesRisk):
    return 'raise --mbr'
  return 'raise --beam' if isinstance(decoding, Beam) else 'search with --beam or --mbr'


def _ends(
  aligner: Aligner, sources: Sequence[str], best: Sequence[Sequence[Hypothesis]]
) -> Iterator[str]:
  """Yields ` ||| 0-0 1-2` for every translation of every line."""
  pairs = [
    (source, x.ids)
    for source, several in zip(sources, best, strict=True)
    for x in several
  ]
  for text in aligner.align(pairs):
    yield f' ||| {text}'


@checked
def score_stream(
  run: Run,
  lines: BinaryIO,
  out: TextIO,
  *,
  average: Count = 1,
  choose: Choice = 'last',
  ensemble: Sequence[Run] = (),
  trust: bool = False,
) -> None:
  """Scores given translations, or the lines of a text under a language model.

  For each line of input there is a line with log p in nats, a tab, and the number of
  pieces. The log-probability of the whole target, or line, is the sum over its pieces,
  its end included; divided by their number and negated it is the cross-entropy.
  A line that cannot be scored gives an empty line, as in `translate_stream`.

  Args:
    run: the folder of the run.
    lines: a source, a tab and a target, as `text.lines` defines lines, with tabs
      between the parts of a source that has several; for a language model, text.
    out: receives the scores, one line per input line.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    ensemble: further runs, whose models score together with this one's.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is outside its domain, the task can neither translate nor
      generate, or lines could not be scored: they are not UTF-8, have not one tab, or
      are too long.
  """
  which = dict(average=average, choose=choose, trust=trust)
  _, task, variables, _ = load_run(run, **which)
  is_language_model = has(task, Generates)
  if is_language_model:
    if ensemble:
      raise ValueError('an ensemble scores translations only: leave --ensemble out')
    scorer = LineScorer(task, variables)
  else:
    translates = needs(task, Translates)
    model, variables = join_models(translates, variables, ensemble, **which)
    scorer = make_scorer(translates, model, variables)
    parts = _num_parts(translates)
  refused = RefusedLines('line', 'the input')
  for first, chunk, bad in _chunks(lines):
    examples = (
      dict(enumerate(chunk)) if is_language_model else _pairs(chunk, bad, parts)
    )
    scores = dict(zip(examples, scorer.score([*examples.values()]), strict=True))
    numbers = [*examples]
    bad |= {numbers[i]: reason for i, reason in scorer.refused.items()}
    for i in range(len(chunk)):
      logp = scores.get(i)
      print('' if i in bad else f'{logp.sum():.4f}\t{len(logp)}', file=out)
    # After each chunk, since a reader of a pipe would otherwise wait for the end.
    out.flush()
    refused.add(first, len(chunk), bad)
  refused.report('scored by an empty line')


def _num_parts(task: Translates) -> int:
  """Returns the number of parts of a source, which tabs divide."""
  return len(getattr(task.vocabularies.source, 'parts', (None,)))


class _Fields(NamedTuple):
  """Fields of a line between tabs: parts of the source, a prefix, and phrases.

  Attributes:
    parts: number of parts of the source.
    prefix: whether there is a prefix.
    phrases: whether there may be phrases.
  """

  parts: int
  prefix: bool
  phrases: bool

  def read(
    self, lines: Sequence[str], bad: dict[int, str]
  ) -> tuple[list[str], dict[int, Required]]:
    """Returns the sources, and line number -> what its translation has to contain.

    Args:
      lines: lines of text. One that is blank as a whole has no fields.
      bad: line number -> why it is not text. Lines with too few or too many tabs, and
        those that require something of the translation of a blank source, are added.
    """
    sources, required = [''] * len(lines), {}
    least = self.parts - 1 + self.prefix
    for i, line in enumerate(lines):
      fields = line.split('\t')
      tabs = len(fields) - 1
      if tabs < least or (tabs > least and not self.phrases):
        if i not in bad and not is_blank(line):
          bad[i] = f'has {tabs} tabs: write {self}'
        continue
      source = '\t'.join(fields[: self.parts])
      sources[i] = '' if is_blank(source) else source
      texts = ['' if is_blank(x) else x for x in fields[self.parts :]]
      prefix = texts.pop(0) if self.prefix else ''
      required[i] = Required(prefix, tuple(filter(None, texts)))
      if is_blank(source) and any(required[i]):
        bad[i] = (
          'has a blank source, and text that its translation has to contain: write a '
          'source'
        )
    return sources, required

  def __str__(self) -> str:
    source = f'the {self.parts} parts of a source' if self.parts > 1 else 'a source'
    prefix = ', one tab and the first words of its translation' * self.prefix
    phrases = ', and a tab before each phrase that it contains' * self.phrases
    return f'{source}{prefix}{phrases}'


def _pairs(
  lines: Sequence[str], bad: dict[int, str], parts: int
) -> dict[int, tuple[str, str]]:
  """Returns line number -> source and target; adds other lines to `bad`."""
  pairs: dict[int, tuple[str, str]] = {}
  for i, line in enumerate(lines):
    source, _, target = line.rpartition('\t')
    tabs = line.count('\t')
    if tabs == parts:
      pairs[i] = tuple('' if is_blank(side) else side for side in (source, target))
    elif i not in bad:
      several = f', with {parts} parts of the source' if parts > 1 else ''
      bad[i] = (
        f'has {tabs} tabs: write a source, one tab, and a target, as '
        f'`paste source.txt target.txt` does{several}'
      )
  return pairs


def _chunks(lines: BinaryIO) -> Iterator[tuple[int, list[str], dict[int, str]]]:
  """Yields the number of the first line, the lines, and why some are not text.

  At a terminal each line is a chunk. A line that is not text is replaced by ''.
  """
  prompt = lines.isatty()

  def ask() -> None:
    if prompt:
      print('> ', end='', file=sys.stderr, flush=True)

  stream, first = stream_lines(lines, before=ask), 0
  while chunk := list(itertools.islice(stream, 1 if prompt else _CHUNK)):
    bad = {i: x.reason for i, x in enumerate(chunk) if isinstance(x, BadLine)}
    yield first, ['' if isinstance(x, BadLine) else x for x in chunk], bad
    first += len(chunk)
