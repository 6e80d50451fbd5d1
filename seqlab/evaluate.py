"""A finished run, put to use: scores on a split, translations of a stream.

All that is needed is the run's folder: `config.json`, `vocabulary/` and
`checkpoints/`. It may have been made on another machine.
"""

from collections.abc import Iterator, Mapping, Sequence
import datetime
import itertools
import json
from pathlib import Path
import sys
import time
from typing import Any, BinaryIO, Literal, NamedTuple, TextIO

import jax
import numpy as np
from rich.table import Table
import sacrebleu
from sacrebleu.metrics.bleu import BLEUScore

from seqlab.config import task_of
from seqlab.domains import Count, checked
from seqlab.io.console import console, print_table
from seqlab.io.files import append_line, check_output, replacing, write_text
from seqlab.metrics.bootstrap import Comparison, Seed
from seqlab.metrics.bootstrap import compare as significance
from seqlab.metrics.characters import piece_bytes
from seqlab.metrics.corpus import Lines, Pieces, corpus_statistics, signature
from seqlab.metrics.tokenizers import TOKENIZERS
from seqlab.models.ensemble import Ensemble
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.scorer import Scorer
from seqlab.tasks.translation import Translation
from seqlab.tasks.translator import Search, Translator, search_of
from seqlab.text.corpora import Corpus
from seqlab.text.lines import BadLine, is_blank, stream_lines
from seqlab.train.folder import RunFolder
from seqlab.train.restore import restore
from seqlab.types import Variables

_CHUNK = 1_000  # lines of a stream that are translated together
_NAMED = 10  # lines that went wrong whose reasons are told; of the others the numbers

Run = str | Path
Choice = Literal['last', 'best']  # of checkpoints


@checked
def load(
  run: Run, *, average: Count = 1, choose: Choice = 'last', trust: bool = False
) -> tuple[RunFolder, Translation, Variables, list[int]]:
  """Opens a run's folder.

  Args:
    run: the folder.
    average: how many checkpoints' parameters to average (Vaswani et al. 2017,
      section 6.1).
    choose: the 'last' ones or the 'best' ones.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Returns:
    The folder, the task, the variables, and the steps they come from.
  """
  folder, task = _open(run, trust)
  variables, steps = restore(folder, task, average=average, choose=choose)
  return folder, task, variables, steps


def _open(run: Run, trust: bool) -> tuple[RunFolder, Translation]:
  folder = RunFolder.open(run, trust=trust)
  if not (folder.vocabulary / 'vocabularies.json').is_file():
    raise FileNotFoundError(f'{run} has no vocabulary yet; train first')
  with folder.explained():
    return folder, task_of(folder.config).restore(folder.config, folder.vocabulary)


@checked
def evaluate(
  run: Run,
  *,
  split: str,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  output: str | Path | None = None,
  ensemble: Sequence[Run] = (),
  trust: bool = False,
) -> dict[str, Any]:
  """Translates a split and prints its scores.

  BLEU is counted twice, on the device from the ids of pieces and by sacreBLEU from
  the text, and both have to agree to the last integer. On a corpus that is already
  tokenised the paper's convention, BLEU of the tokens as they are, comes first, and
  that of the standard tokeniser beside it.

  Args:
    run: the run's folder.
    split: name of a split of its corpus.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    options: of the search, see `tasks.translator.Search`.
    output: a file for the translations, one per line. Its folder is made.
    ensemble: further runs, whose models decode together with this one's.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Returns:
    What was printed: scores by signature, and how they were made. It is also
    added to `evaluations.jsonl` in the run's folder, with the text's fingerprint;
    each sentence's statistics are kept beside it, in `evaluations/<split>.npz`. Where
    one may only read, that is left out, and said.

  Raises:
    ValueError: an option, `split` or `output` is wrong, before anything is loaded; or
      a line was too long, after all scores were printed.
    ArithmeticError: the two ways disagree.
  """
  search = search_of(options)
  opened = _open(run, trust)
  (folder, task), refused = opened, _Refused('line', f'split {split!r}')
  text = task.corpus.read(split)
  if output:
    _check_output(Path(output), folder, task.corpus)
  found = _evaluate(
    *(opened, split, text, average, choose, search, refused, output),
    ensemble=ensemble,
    trust=trust,
  )
  _print(found.result)
  _keep(folder, found)
  if found.not_written:
    raise found.not_written
  refused.report('counted as empty')
  return found.result


def _check_output(path: Path, folder: RunFolder, corpus: Corpus) -> None:
  """Raises an error, before any work, if translations could not be written there."""
  check_output(path)
  if not path.is_file():
    return
  if any(other.is_file() and path.samefile(other) for other in corpus.inputs()):
    raise ValueError(
      f'--output {path} is a file of the corpus, which it would replace: name another'
    )
  inside = path.resolve().is_relative_to(folder.path.resolve())
  if inside and path.suffix != '.txt':
    raise ValueError(f"--output {path} is one of the run's own files: name another")


class _Evaluation(NamedTuple):
  """What an evaluation finds.

  Attributes:
    result: what is printed and recorded.
    statistics: tokeniser -> statistics of each sentence, [R, 10]; of the corpus's
      convention, of 13a, and of the tokeniser that was asked for.
    not_written: why the translations could not be written, if so.
  """

  result: dict[str, Any]
  statistics: dict[str, np.ndarray]
  not_written: OSError | None


def _evaluate(
  opened: tuple[RunFolder, Translation],
  split: str,
  text: tuple[list[str], list[str]],
  average: int,
  choose: str,
  search: Search,
  refused: '_Refused',
  output: str | Path | None = None,
  *,
  tokenizer: str | None = None,
  ensemble: Sequence[Run] = (),
  trust: bool = False,
) -> _Evaluation:
  """Translates the source side of `text`, and scores it by its reference."""
  (folder, task), (source, reference) = opened, text
  convention, fingerprint = task.corpus.convention, task.corpus.fingerprint(split)
  _bleu(convention)  # unknown ones, and those whose package is missing, fail now
  variables, steps = restore(folder, task, average=average, choose=choose)
  model, variables = _joined(task, variables, ensemble, average, choose, trust)
  translator = _translator(task, model, variables, search)
  started = time.perf_counter()
  ids = translator.best_ids(source)
  seconds = time.perf_counter() - started
  refused.add(0, len(source), translator.refused)
  hypotheses = task.vocabularies.target.decode(ids)
  not_written = None
  if output:
    try:
      write_text(output, ''.join(f'{line}\n' for line in hypotheses))
    except OSError as error:  # raised once the scores are printed
      not_written = error
  wanted = (convention, '13a', *([tokenizer] if tokenizer else []))
  statistics = _statistics(ids, task, reference, wanted)
  result = {
    'split': split,
    'lines': len(hypotheses),
    'skipped': task.corpus.skipped(split),
    **({'refused': len(refused)} if refused else {}),
    'scores': scores(hypotheses, reference, convention, statistics),
    'steps': steps,
    **({'ensemble': [str(run) for run in ensemble]} if ensemble else {}),
    'search': {k: v for k, v in vars(search).items() if v is not None},
    'seconds': round(seconds, 2),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'text': fingerprint,
  }
  return _Evaluation(result, statistics, not_written)


def _keep(folder: RunFolder, found: _Evaluation) -> None:
  """Adds an evaluation to the run's folder, or says that it could not."""
  try:
    line = json.dumps(found.result, ensure_ascii=False)
    append_line(folder.path / 'evaluations.jsonl', line)
    kept = folder.path / 'evaluations' / f'{found.result["split"]}.npz'
    kept.parent.mkdir(exist_ok=True)
    with replacing(kept) as temporary, temporary.open('wb') as file:
      np.savez_compressed(file, **found.statistics)
    folder.send()
  except OSError as error:
    print(
      f'{folder.name}: this evaluation is not recorded there: {error}', file=sys.stderr
    )


def _statistics(
  ids: list[np.ndarray], task: Translation, reference: list[str], wanted: Sequence[str]
) -> dict[str, np.ndarray]:
  """For each wanted tokeniser that the device has, each sentence's ten integers."""
  outputs = Pieces(ids, piece_bytes(task.vocabularies.target.surfaces()))
  lines = [Lines([line.encode('utf-8') for line in reference])]
  return {
    name: corpus_statistics(outputs, lines, tokenizer=name)
    for name in dict.fromkeys(wanted)
    if name in TOKENIZERS
  }


def _joined(
  task: Translation,
  variables: Variables,
  runs: Sequence[Run],
  average: int,
  choose: str,
  trust: bool,
) -> tuple[Seq2Seq, Any]:
  """The task's model, or the ensemble that it makes with those of other runs."""
  if not runs:
    return task.model, variables
  models, each = [task.model], [variables]
  for run in runs:
    _, other, found, _ = load(run, average=average, choose=choose, trust=trust)
    mine, theirs = task.vocabularies, other.vocabularies
    if (mine.source.fingerprint, mine.target.fingerprint) != (
      theirs.source.fingerprint,
      theirs.target.fingerprint,
    ):
      raise ValueError(
        f'{run} has other vocabularies: an ensemble needs models of the same words; '
        'train them on one corpus with the same vocabulary section'
      )
    if other.reverse_source != task.reverse_source:
      raise ValueError(
        f'{run} reads sources in another direction: batching.reverse_source'
      )
    models.append(other.model)
    each.append(found)
  return Ensemble(models), tuple(each)


def _translator(
  task: Translation, model: Seq2Seq, variables: Any, search: Search
) -> Translator:
  return Translator(
    model,
    variables,
    task.vocabularies,
    search,
    reverse_source=task.reverse_source,
  )


def scores(
  hypotheses: list[str],
  reference: list[str],
  convention: str,
  statistics: Mapping[str, np.ndarray] = {},  # never changed
) -> list[dict[str, Any]]:
  """BLEU by the corpus's convention, the standard one and others, and chrF.

  Where the convention is 'none' the text is tokenised already, and the standard
  tokeniser finds it so: its number is not comparable with one of raw text.

  Args:
    hypotheses: detokenised outputs.
    reference: as many.
    convention: sacreBLEU's name of the tokeniser that the corpus's papers use.
    statistics: from the device, [R, 10] for each tokeniser that it counted by.

  Returns:
    A dict for each: name, score, signature and sacreBLEU's own line.

  Raises:
    ArithmeticError: the device counted otherwise than sacreBLEU.
  """
  found = []
  for tokenizer in dict.fromkeys((convention, '13a', *statistics)):
    metric = _bleu(tokenizer)
    score = metric.corpus_score(hypotheses, [reference])
    if tokenizer in statistics:
      _agree(tokenizer, score, statistics[tokenizer].sum(axis=0))
    name = f'bleu ({tokenizer})'
    if convention == 'none' and tokenizer != 'none':
      name = f'bleu ({tokenizer}, of tokens)'
    found.append((name, score, metric.get_signature()))
  metric = sacrebleu.CHRF()
  found.append(
    ('chrF', metric.corpus_score(hypotheses, [reference]), metric.get_signature())
  )
  return [
    {
      'name': name,
      'score': score.score,
      'signature': str(signature),
      'text': str(score),
    }
    for name, score, signature in found
  ]


def _bleu(tokenizer: str) -> sacrebleu.BLEU:
  """sacreBLEU's BLEU with one of its tokenisers.

  Raises:
    ValueError: it has none of that name, or needs a package that is not installed.
  """
  known = sacrebleu.BLEU.TOKENIZERS
  if tokenizer not in known:
    raise ValueError(
      f'corpus.convention is {tokenizer!r}; sacreBLEU knows {", ".join(known)}'
    )
  try:
    return sacrebleu.BLEU(tokenize=tokenizer, force=True)
  except Exception as error:  # each tokeniser has its own kind
    raise ValueError(f'sacreBLEU cannot tokenise by {tokenizer!r}: {error}') from None


def _agree(tokenizer: str, score: BLEUScore, statistics: np.ndarray) -> None:
  text = [*score.counts, *score.totals, score.sys_len, score.ref_len]
  if statistics.tolist() != text:
    raise ArithmeticError(
      f'BLEU ({tokenizer}) on the device is made of {statistics.tolist()}, and of '
      f'{text} by sacreBLEU of the text: one of them is wrong. Please report it, with '
      'the vocabulary and the output'
    )


@checked
def compare(
  runs: Sequence[Run],
  *,
  split: str,
  tokenizer: str | None = None,
  test: Literal['bs', 'ar'] = 'bs',
  samples: Count = 1_000,
  trials: Count = 10_000,
  seed: Seed = 0,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  trust: bool = False,
) -> list[Comparison]:
  """Evaluates runs on one split, and says how sure their differences are.

  Args:
    runs: folders; the first is the baseline.
    split: name of a split of their corpus.
    tokenizer: '13a', 'none' or 'char'; by default the corpus's convention.
    test: 'bs' or 'ar', see `metrics.bootstrap.compare`.
    samples: bootstrap samples.
    trials: of approximate randomisation.
    seed: of the draw.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    options: of the search.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is outside its domain, the runs have different references,
      there are fewer than two, or the device has no such tokeniser: nothing has been
      translated then. Or lines were too long, after the table was printed.
  """
  search = search_of(options)
  if len(runs) < 2:
    raise ValueError(f'comparing needs two runs or more, and got {len(runs)}')
  opened = [_open(run, trust) for run in runs]
  texts = [task.corpus.read(split) for _, task in opened]
  for run, (_, reference) in zip(runs, texts, strict=True):
    if reference != texts[0][1]:
      raise ValueError(f'{run} and {runs[0]} have different references in {split}')
  tokenizer = tokenizer or opened[0][1].corpus.convention
  if tokenizer not in TOKENIZERS:
    raise ValueError(
      f'BLEU with tokenizer={tokenizer!r} cannot be computed on the device; choose one '
      f'of {", ".join(TOKENIZERS)}'
    )
  systems, refusals = [], []
  for run, each, text in zip(runs, opened, texts, strict=True):
    refusals.append(_Refused('line', f'split {split!r}, by {run},'))
    found = _evaluate(
      each, split, text, average, choose, search, refusals[-1], tokenizer=tokenizer
    )
    _keep(each[0], found)
    systems.append(found.statistics[tokenizer])
  found = significance(systems, test=test, samples=samples, trials=trials, seed=seed)
  more = {'bs': samples, 'ar': trials if test == 'ar' else None, 'seed': seed}
  more = {name: value for name, value in more.items() if value is not None}
  _print_comparison(runs, found, signature(tokenizer=tokenizer, **more))
  for refused in refusals:
    refused.report('counted as empty')
  return found


def _print_comparison(
  runs: Sequence[str], found: Sequence[Comparison], caption: str
) -> None:
  table = Table('system', 'BLEU (mean ± 95 %)', 'p', caption=caption)
  for run, x in zip(runs, found, strict=True):
    p = (
      'baseline' if x.p_value is None else f'{x.p_value:.4f}{"*" * (x.p_value < 0.05)}'
    )
    table.add_row(str(run), f'{x.score:.2f} ({x.mean:.2f} ± {x.ci:.2f})', p)
  print_table(table)


def _print(result: Mapping[str, Any]) -> None:
  out = console()
  out.print(
    f'{result["split"]}: {result["lines"]:,} lines in {result["seconds"]} s, beam '
    f'{result["search"]["beam"]}, checkpoints of steps {result["steps"]}'
  )
  if result['skipped']:
    out.print(f"  {result['skipped']:,} lines left out: corpus.empty='skip'")
  for score in result['scores']:
    out.print(f'  {score["name"]:22s} {score["score"]:6.2f}   {score["signature"]}')
    out.print(f'{"":32s}{score["text"]}', style='dim')


@checked
def translate(
  run: Run,
  lines: BinaryIO,
  out: TextIO,
  *,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  n_best: Count = 1,
  ensemble: Sequence[Run] = (),
  trust: bool = False,
) -> None:
  """Translates a stream, line for line; at a terminal, one line at a time.

  There is one line of output for each line of input, in their order. One that cannot
  be translated, since it is not UTF-8 or too long for the model or for memory, gives
  an empty line, and is named by its number once all others are translated.

  Args:
    run: the run's folder.
    lines: source sentences, as `text.lines` defines lines; blank ones give empty ones.
    out: where translations go; with `n_best` > 1, as `line ||| text ||| score`, lines
      counted from 0.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    options: of the search, see `tasks.translator.Search`.
    n_best: different translations of each line; at most the beam. Where the beam has
      fewer, that is said in the end.
    ensemble: further runs, whose models decode together with this one's.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is outside its domain or the beam is too narrow for `n_best`,
      before anything is loaded; the input is packed or in another encoding; or lines
      could not be translated.
  """
  search = search_of(options)
  if n_best > search.beam:
    raise ValueError(
      f'n_best is {n_best}, and a beam of {search.beam} has no so many: raise --beam'
    )
  _, task, variables, _ = load(run, average=average, choose=choose, trust=trust)
  model, variables = _joined(task, variables, ensemble, average, choose, trust)
  translator = _translator(task, model, variables, search)
  refused, fewer = _Refused('line', 'the input'), 0
  for first, chunk, bad in _chunks(lines):
    texts = translator.n_best(chunk, first=first)
    for number, found in enumerate(texts, first):
      if n_best == 1:
        print(found[0][0], file=out)
      for text, score in found[:n_best] if n_best > 1 else ():
        print(f'{number} ||| {text} ||| {score:.4f}', file=out)
      blank = is_blank(chunk[number - first])
      fewer += len(found) < n_best and not blank and number not in translator.refused
    out.flush()
    refused.add(first, len(chunk), translator.refused | bad)
  if fewer:
    print(
      f'{fewer:,} of {refused.total:,} lines have fewer than {n_best} different '
      f'translations in a beam of {search.beam}: raise --beam',
      file=sys.stderr,
    )
  refused.report('translated as an empty line')


@checked
def score(
  run: Run,
  lines: BinaryIO,
  out: TextIO,
  *,
  average: Count = 1,
  choose: Choice = 'last',
  ensemble: Sequence[Run] = (),
  trust: bool = False,
) -> None:
  """Scores given translations: for each line log p in nats, a tab, and its pieces.

  The log-probability of the whole target is the sum over its pieces, the end of the
  sentence among them; divided by their number and negated it is the cross-entropy.
  A line that cannot be scored gives an empty line, as in `translate`.

  Args:
    run: the run's folder.
    lines: a source, a tab and a target, as `text.lines` defines lines.
    out: where scores go, one line for each.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    ensemble: further runs, whose models score together with this one's.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is outside its domain, or lines could not be scored: they are
      not UTF-8, have not one tab, or are too long.
  """
  _, task, variables, _ = load(run, average=average, choose=choose, trust=trust)
  model, variables = _joined(task, variables, ensemble, average, choose, trust)
  scorer = Scorer(
    model, variables, task.vocabularies, reverse_source=task.reverse_source
  )
  refused = _Refused('line', 'the input')
  for first, chunk, bad in _chunks(lines):
    pairs: dict[int, tuple[str, str]] = {}
    for i, line in enumerate(chunk):
      sides = ['' if is_blank(side) else side for side in line.split('\t')]
      if len(sides) == 2:
        pairs[i] = tuple(sides)
      elif i not in bad:
        bad[i] = (
          f'has {len(sides) - 1} tabs: write a source, one tab, and a target, as '
          '`paste source.txt target.txt` does'
        )
    found = dict(zip(pairs, scorer.score([*pairs.values()]), strict=True))
    numbers = [*pairs]
    bad |= {numbers[i]: reason for i, reason in scorer.refused.items()}
    for i in range(len(chunk)):
      logp = found.get(i)
      print('' if i in bad else f'{logp.sum():.4f}\t{len(logp)}', file=out)
    out.flush()
    refused.add(first, len(chunk), bad)
  refused.report('scored by an empty line')


class _Refused:
  """Lines for which there is no result, and why.

  Attributes:
    total: number of lines so far.
  """

  def __init__(self, kind: str, where: str):
    self.total, self._kind, self._where = 0, kind, where
    self._count, self._reasons = 0, {}
    self._others: list[int] = []

  def __len__(self) -> int:
    return self._count

  def add(self, first: int, lines: int, reasons: Mapping[int, str]) -> None:
    """Adds lines, the first of which has the number `first`, from 0."""
    self.total += lines
    self._count += len(reasons)
    for i in sorted(reasons):
      if len(self._reasons) < _NAMED:
        self._reasons[first + i + 1] = reasons[i]
      else:
        self._others.append(first + i + 1)

  def report(self, instead: str) -> None:
    """Raises ValueError if there are such lines; `instead` says what was done."""
    if not self._count:
      return
    told = [f'{n:,} of {self._where} {reason}' for n, reason in self._reasons.items()]
    numbers = ', '.join(f'{n:,}' for n in self._others)
    others = f'; and lines {numbers}' if numbers else ''
    raise ValueError(
      f'{self._kind} {f"; {self._kind} ".join(told)}{others} '
      f'({self._count:,} of {self.total:,} lines, {instead})'
    )


def _chunks(lines: BinaryIO) -> Iterator[tuple[int, list[str], dict[int, str]]]:
  """Number of its first line, lines, and for those that are not text, why.

  At a terminal each line is a chunk. In place of one that is no text there is ''.
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
