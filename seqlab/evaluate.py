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

from flax import linen as nn
import jax
from jax.sharding import SingleDeviceSharding
import numpy as np
from rich.console import Console
from rich.table import Table
import sacrebleu
from sacrebleu.metrics.bleu import BLEUScore

from seqlab.config import resolve
from seqlab.metrics.bootstrap import Comparison
from seqlab.metrics.bootstrap import compare as significance
from seqlab.metrics.characters import piece_bytes
from seqlab.metrics.corpus import Lines, Pieces, corpus_statistics, signature
from seqlab.metrics.tokenizers import TOKENIZERS
from seqlab.tasks.translation import Translation
from seqlab.tasks.translator import Translator, search_of
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.folder import RunFolder
from seqlab.types import Variables

_CHUNK = 1_000  # lines of a stream that are translated together


def load(
  run: str, *, average: int = 1, choose: str = 'last'
) -> tuple[RunFolder, Translation, Variables, list[int]]:
  """Opens a run's folder.

  Args:
    run: the folder.
    average: how many checkpoints' parameters to average (Vaswani et al. 2017,
      section 6.1).
    choose: the 'last' ones or the 'best' ones.

  Returns:
    The folder, the task, the variables, and the steps they come from.
  """
  folder = RunFolder.open(run)
  config = folder.config
  if not (folder.vocabulary / 'vocabularies.json').is_file():
    raise FileNotFoundError(f'{run} has no vocabulary yet; train first')
  task = resolve(config['task'])(config, folder.vocabulary)
  here = SingleDeviceSharding(jax.devices()[0])  # whatever the training ran on
  variables = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
    dict(nn.unbox(jax.eval_shape(lambda: task.init(jax.random.key(0))))),
  )
  params = 'ema' if config.get('ema') else 'params'
  part = {params: variables.pop('params'), 'collections': variables}
  checkpoints = Checkpoints(
    folder.checkpoints,
    keep_best=config.get('keep_best'),
    best_mode=config.get('best_is', 'max'),
    read_only=True,
    say=lambda text: print(text, file=sys.stderr),
  )
  steps, mean = checkpoints.average(average, part, by=choose)
  checkpoints.close()
  return folder, task, {'params': mean[params], **mean['collections']}, steps


def evaluate(
  run: str,
  *,
  split: str,
  average: int = 1,
  choose: str = 'last',
  options: Mapping[str, Any] = {},  # never changed
  output: str | None = None,
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

  Returns:
    What was printed: scores by signature, and how they were made. It is also
    added to `evaluations.jsonl` in the run's folder; each sentence's statistics
    are kept beside it, in `evaluations/<split>.npz`.

  Raises:
    ArithmeticError: the two ways disagree.
  """
  result, _ = _evaluate(run, split, average, choose, options, output)
  _print(result)
  return result


def _evaluate(
  run: str,
  split: str,
  average: int,
  choose: str,
  options: Mapping[str, Any],
  output: str | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """The result, and by tokeniser the statistics of each sentence, [R, 10]."""
  folder, task, variables, steps = load(run, average=average, choose=choose)
  source, reference = task.corpus.read(split)
  translator = _translator(task, variables, options)
  search = translator.search
  started = time.perf_counter()
  ids = translator.best_ids(source)
  seconds = time.perf_counter() - started
  hypotheses = task.vocabularies.target.decode(ids)
  statistics = _statistics(ids, task, reference)
  if output:
    Path(output).write_text(''.join(f'{line}\n' for line in hypotheses), 'utf-8')

  result = {
    'split': split,
    'lines': len(hypotheses),
    'skipped': task.corpus.skipped.get(split, 0),
    'scores': scores(hypotheses, reference, task.corpus.convention, statistics),
    'steps': steps,
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
  return result, statistics


def _statistics(
  ids: list[np.ndarray], task: Translation, reference: list[str]
) -> dict[str, np.ndarray]:
  """For each tokeniser that the device has, each sentence's ten integers."""
  outputs = Pieces(ids, piece_bytes(task.vocabularies.target.surfaces()))
  lines = [Lines([line.encode('utf-8') for line in reference])]
  wanted = dict.fromkeys((task.corpus.convention, '13a'))
  return {
    name: corpus_statistics(outputs, lines, tokenizer=name)
    for name in wanted
    if name in TOKENIZERS
  }


def _translator(
  task: Translation, variables: Variables, options: Mapping[str, Any]
) -> Translator:
  return Translator(
    task.model,
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
  """BLEU by the corpus's convention and by the standard one, and chrF.

  Where the convention is 'none' the text is tokenised already, and the standard
  tokeniser finds it so: its number is not comparable with one of raw text.

  Args:
    hypotheses: detokenised outputs.
    reference: as many.
    convention: sacreBLEU's name of the tokeniser that the corpus's papers use.
    statistics: from the device, [R, 10] for each tokeniser that it has.

  Returns:
    A dict for each: name, score, signature and sacreBLEU's own line.

  Raises:
    ArithmeticError: the device counted otherwise than sacreBLEU.
  """
  found = []
  for tokenizer in dict.fromkeys((convention, '13a')):
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

  Raises:
    ValueError: the runs have different references, or there are fewer than two.
  """
  if len(runs) < 2:
    raise ValueError(f'comparing needs two runs or more, and got {len(runs)}')
  systems, first = [], None
  for run in runs:
    folder = RunFolder.open(run)
    task = resolve(folder.config['task'])(folder.config, folder.vocabulary)
    reference = task.corpus.read(split)[1]
    tokenizer = tokenizer or task.corpus.convention
    if first is not None and reference != first:
      raise ValueError(f'{run} and {runs[0]} have different references in {split}')
    first = reference
    _, statistics = _evaluate(run, split, average, choose, options)
    if tokenizer not in statistics:
      raise ValueError(f'tokenizer={tokenizer!r} is not one of {", ".join(statistics)}')
    systems.append(statistics[tokenizer])
  found = significance(systems, test=test, samples=samples, trials=trials, seed=seed)
  more = {'bs': samples, 'ar': trials if test == 'ar' else None, 'seed': seed}
  more = {name: value for name, value in more.items() if value is not None}
  table = Table(
    'system', 'BLEU (mean ± 95 %)', 'p', caption=signature(tokenizer=tokenizer, **more)
  )
  for run, x in zip(runs, found, strict=True):
    p = (
      'baseline' if x.p_value is None else f'{x.p_value:.4f}{"*" * (x.p_value < 0.05)}'
    )
    table.add_row(str(run), f'{x.score:.2f} ({x.mean:.2f} ± {x.ci:.2f})', p)
  Console(highlight=False).print(table)
  return found


def _print(result: Mapping[str, Any]) -> None:
  console = Console(highlight=False, soft_wrap=True)
  console.print(
    f'{result["split"]}: {result["lines"]:,} lines in {result["seconds"]} s, beam '
    f'{result["search"]["beam"]}, checkpoints of steps {result["steps"]}'
  )
  if result['skipped']:
    console.print(f"  {result['skipped']:,} lines left out: corpus.empty='skip'")
  for score in result['scores']:
    console.print(f'  {score["name"]:22s} {score["score"]:6.2f}   {score["signature"]}')
    console.print(f'{"":32s}{score["text"]}', style='dim')


def translate(
  run: str,
  lines: BinaryIO,
  out: TextIO,
  *,
  average: int = 1,
  choose: str = 'last',
  options: Mapping[str, Any] = {},  # never changed
  n_best: int = 1,
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

  Raises:
    ValueError: a line is not UTF-8, or the beam is too narrow for `n_best`.
  """
  _, task, variables, _ = load(run, average=average, choose=choose)
  translator = _translator(task, variables, options)
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
