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
from typing import Any, BinaryIO, TextIO

import jax
import numpy as np
from rich.table import Table
import sacrebleu
from sacrebleu.metrics.bleu import BLEUScore

from seqlab.config import resolve
from seqlab.io.console import console, print_table
from seqlab.metrics.bootstrap import Comparison
from seqlab.metrics.bootstrap import compare as significance
from seqlab.metrics.characters import piece_bytes
from seqlab.metrics.corpus import Lines, Pieces, corpus_statistics, signature
from seqlab.metrics.tokenizers import TOKENIZERS
from seqlab.models.ensemble import Ensemble
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.scorer import Scorer
from seqlab.tasks.translation import Translation
from seqlab.tasks.translator import Translator, search_of
from seqlab.train.folder import RunFolder
from seqlab.train.restore import restore
from seqlab.types import Variables

_CHUNK = 1_000  # lines of a stream that are translated together


def load(
  run: str, *, average: int = 1, choose: str = 'last', trust: bool = False
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


def _open(run: str, trust: bool) -> tuple[RunFolder, Translation]:
  folder = RunFolder.open(run, trust=trust)
  if not (folder.vocabulary / 'vocabularies.json').is_file():
    raise FileNotFoundError(f'{run} has no vocabulary yet; train first')
  return folder, resolve(folder.config['task'])(folder.config, folder.vocabulary)


def evaluate(
  run: str,
  *,
  split: str,
  average: int = 1,
  choose: str = 'last',
  options: Mapping[str, Any] = {},  # never changed
  output: str | None = None,
  ensemble: Sequence[str] = (),
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
    output: a file for the translations, one a line.
    ensemble: further runs, whose models decode together with this one's.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Returns:
    What was printed: scores by signature, and how they were made. It is also
    added to `evaluations.jsonl` in the run's folder; each sentence's statistics
    are kept beside it, in `evaluations/<split>.npz`.

  Raises:
    ArithmeticError: the two ways disagree.
  """
  opened = _open(run, trust)
  text = opened[1].corpus.read(split)
  more = dict(options=options, output=output, ensemble=ensemble, trust=trust)
  result, _ = _evaluate(opened, split, text, average, choose, **more)
  _print(result)
  return result


def _evaluate(
  opened: tuple[RunFolder, Translation],
  split: str,
  text: tuple[list[str], list[str]],
  average: int,
  choose: str,
  *,
  options: Mapping[str, Any],
  output: str | None = None,
  tokenizer: str | None = None,
  ensemble: Sequence[str] = (),
  trust: bool = False,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Translates the source side of `text`, and scores it by its reference.

  Returns:
    The result, and by tokeniser the statistics of each sentence, [R, 10]; by the
    corpus's convention, by 13a, and by `tokenizer` if that is another one.
  """
  (folder, task), (source, reference) = opened, text
  variables, steps = restore(folder, task, average=average, choose=choose)
  model, variables = _joined(task, variables, ensemble, average, choose, trust)
  translator = _translator(task, model, variables, options)
  search = translator.search
  started = time.perf_counter()
  ids = translator.best_ids(source)
  seconds = time.perf_counter() - started
  hypotheses = task.vocabularies.target.decode(ids)
  wanted = (task.corpus.convention, '13a', *([tokenizer] if tokenizer else []))
  statistics = _statistics(ids, task, reference, wanted)
  if output:
    Path(output).write_text(''.join(f'{line}\n' for line in hypotheses), 'utf-8')

  result = {
    'split': split,
    'lines': len(hypotheses),
    'skipped': task.corpus.skipped.get(split, 0),
    'scores': scores(hypotheses, reference, task.corpus.convention, statistics),
    'steps': steps,
    **({'ensemble': list(ensemble)} if ensemble else {}),
    'search': {k: v for k, v in vars(search).items() if v is not None},
    'seconds': round(seconds, 2),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }
  with open(folder.path / 'evaluations.jsonl', 'a', encoding='utf-8') as file:
    file.write(json.dumps(result, ensure_ascii=False) + '\n')
  kept = folder.path / 'evaluations' / f'{split}.npz'
  kept.parent.mkdir(exist_ok=True)
  np.savez_compressed(kept, **statistics)
  folder.send()
  return result, statistics


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
  runs: Sequence[str],
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
  task: Translation, model: Seq2Seq, variables: Any, options: Mapping[str, Any]
) -> Translator:
  return Translator(
    model,
    variables,
    task.vocabularies,
    search_of(options),
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
    metric = sacrebleu.BLEU(tokenize=tokenizer, force=True)
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


def _agree(tokenizer: str, score: BLEUScore, statistics: np.ndarray) -> None:
  text = [*score.counts, *score.totals, score.sys_len, score.ref_len]
  if statistics.tolist() != text:
    raise ArithmeticError(
      f'BLEU ({tokenizer}) on the device is made of {statistics.tolist()}, and of '
      f'{text} by sacreBLEU of the text: one of them is wrong. Please report it, with '
      'the vocabulary and the output'
    )


def compare(
  runs: Sequence[str],
  *,
  split: str,
  tokenizer: str | None = None,
  test: str = 'bs',
  samples: int = 1_000,
  trials: int = 10_000,
  seed: int = 0,
  average: int = 1,
  choose: str = 'last',
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
    ValueError: the runs have different references, there are fewer than two, or the
      device has no such tokeniser. Nothing has been translated then.
  """
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
  systems = []
  for run, text in zip(opened, texts, strict=True):
    _, statistics = _evaluate(
      run, split, text, average, choose, options=options, tokenizer=tokenizer
    )
    systems.append(statistics[tokenizer])
  found = significance(systems, test=test, samples=samples, trials=trials, seed=seed)
  more = {'bs': samples, 'ar': trials if test == 'ar' else None, 'seed': seed}
  more = {name: value for name, value in more.items() if value is not None}
  _print_comparison(runs, found, signature(tokenizer=tokenizer, **more))
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


def translate(
  run: str,
  lines: BinaryIO,
  out: TextIO,
  *,
  average: int = 1,
  choose: str = 'last',
  options: Mapping[str, Any] = {},  # never changed
  n_best: int = 1,
  ensemble: Sequence[str] = (),
  trust: bool = False,
) -> None:
  """Translates a stream, line for line; at a terminal, one line at a time.

  Args:
    run: the run's folder.
    lines: source sentences in UTF-8, ending at \\n; empty ones give empty ones.
    out: where translations go; with `n_best` > 1, as `line ||| text ||| score`.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    options: of the search, see `tasks.translator.Search`.
    n_best: translations of each line; at most the beam.
    ensemble: further runs, whose models decode together with this one's.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: a line is not UTF-8, or the beam is too narrow for `n_best`.
  """
  _, task, variables, _ = load(run, average=average, choose=choose, trust=trust)
  model, variables = _joined(task, variables, ensemble, average, choose, trust)
  translator = _translator(task, model, variables, options)
  beam = translator.search.beam
  if n_best > beam:
    raise ValueError(f'a beam of {beam} has no {n_best} best: raise --beam')
  prompt = lines.isatty()
  count = 0
  for chunk in _chunks(lines, 1 if prompt else _CHUNK, prompt):
    for found in translator.n_best(chunk, first=count):
      if n_best == 1:
        print(found[0][0], file=out)
      for text, score in found[:n_best] if n_best > 1 else ():
        print(f'{count} ||| {text} ||| {score:.4f}', file=out)
      count += 1
    out.flush()


def score(
  run: str,
  lines: BinaryIO,
  out: TextIO,
  *,
  average: int = 1,
  choose: str = 'last',
  ensemble: Sequence[str] = (),
  trust: bool = False,
) -> None:
  """Scores given translations: for each line log p in nats, a tab, and its pieces.

  The log-probability of the whole target is the sum over its pieces, the end of the
  sentence among them; divided by their number and negated it is the cross-entropy.

  Args:
    run: the run's folder.
    lines: a source, a tab and a target in UTF-8, ending at \\n.
    out: where scores go, a line for each.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    ensemble: further runs, whose models score together with this one's.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: a line is not UTF-8, or has not one tab.
  """
  _, task, variables, _ = load(run, average=average, choose=choose, trust=trust)
  model, variables = _joined(task, variables, ensemble, average, choose, trust)
  scorer = Scorer(
    model, variables, task.vocabularies, reverse_source=task.reverse_source
  )
  prompt, count = lines.isatty(), 0
  for chunk in _chunks(lines, 1 if prompt else _CHUNK, prompt):
    pairs = [tuple(line.split('\t')) for line in chunk]
    for number, pair in enumerate(pairs, count + 1):
      if len(pair) != 2:
        raise ValueError(
          f'line {number:,} of the input has {len(pair) - 1} tabs: write a source, one '
          'tab, and a target, as `paste source.txt target.txt` does'
        )
    for logp in scorer.score(pairs):
      print(f'{logp.sum():.4f}\t{len(logp)}', file=out)
    count += len(chunk)
    out.flush()


def _chunks(lines: BinaryIO, size: int, prompt: bool) -> Iterator[list[str]]:
  def read() -> Iterator[str]:
    for number in itertools.count(1):
      if prompt:
        print('> ', end='', file=sys.stderr, flush=True)
      line = lines.readline()
      if not line:
        return
      try:
        yield line.decode('utf-8').removesuffix('\n').removesuffix('\r')
      except UnicodeDecodeError as error:
        raise ValueError(
          f'line {number:,} of the input is not UTF-8 at its byte {error.start:,}; '
          f'convert it, as in `iconv -f latin1 -t utf-8`'
        ) from None

  stream = read()
  while chunk := list(itertools.islice(stream, size)):
    yield chunk
