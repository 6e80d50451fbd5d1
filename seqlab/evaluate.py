"""A finished run, put to use: scores on a split, translations of a stream.

All that is needed is the run's folder: `config.json`, `vocabulary/` and
`checkpoints/`. It may have been made on another machine.
"""

from collections.abc import Iterator, Mapping
import datetime
import itertools
import json
from pathlib import Path
import sys
import time
from typing import Any, TextIO

from flax import linen as nn
import jax
from rich.console import Console
import sacrebleu

from seqlab.config import resolve
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
  task = resolve(config['task'])(config, folder.vocabulary)
  abstract = nn.unbox(jax.eval_shape(task.init, jax.random.key(0)))
  checkpoints = Checkpoints(
    folder.checkpoints,
    keep_best=config.get('keep_best'),
    best_mode=config.get('best_is', 'max'),
  )
  steps = checkpoints.choose(average, by=choose)
  variables = checkpoints.average(steps, abstract)
  return folder, task, jax.device_put(variables), steps


def evaluate(
  run: str,
  *,
  split: str,
  average: int = 1,
  choose: str = 'last',
  options: Mapping[str, Any] = {},  # never changed
  output: str | None = None,
) -> dict[str, Any]:
  """Translates a split and prints what sacreBLEU says of the text.

  On a corpus that is already tokenised the paper's convention, BLEU of the
  tokens as they are, comes first, and that of the standard tokeniser beside it.

  Args:
    run: the run's folder.
    split: name of a split of its corpus.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    options: of the search, see `tasks.translator.Search`.
    output: a file for the translations, one a line.

  Returns:
    What was printed: scores by signature, and how they were made. It is also
    added to `evaluations.jsonl` in the run's folder.
  """
  folder, task, variables, steps = load(run, average=average, choose=choose)
  source, reference = task.corpus.read(split)
  search = search_of(options)
  translator = Translator(task.model, variables, task.vocabularies, search)
  started = time.perf_counter()
  hypotheses = translator.translate(source)
  seconds = time.perf_counter() - started
  if len(hypotheses) != len(reference):
    raise AssertionError(f'{len(hypotheses)} outputs for {len(reference)} lines')
  if output:
    Path(output).write_text(''.join(f'{line}\n' for line in hypotheses), 'utf-8')

  result = {
    'split': split,
    'lines': len(hypotheses),
    'scores': scores(hypotheses, reference, task.corpus.convention),
    'steps': steps,
    'search': {k: v for k, v in vars(search).items() if v is not None},
    'seconds': round(seconds, 2),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }
  with open(folder.path / 'evaluations.jsonl', 'a', encoding='utf-8') as file:
    file.write(json.dumps(result, ensure_ascii=False) + '\n')
  _print(result)
  return result


def scores(
  hypotheses: list[str], reference: list[str], convention: str
) -> list[dict[str, Any]]:
  """BLEU by the corpus's convention and by the standard one, and chrF.

  Args:
    hypotheses: detokenised outputs.
    reference: as many.
    convention: sacreBLEU's name of the tokeniser that the corpus's papers use.

  Returns:
    A dict for each: name, score, signature and sacreBLEU's own line.
  """
  found = []
  for tokenizer in dict.fromkeys((convention, '13a')):
    metric = sacrebleu.BLEU(tokenize=tokenizer, force=True)
    score = metric.corpus_score(hypotheses, [reference])
    found.append((f'bleu ({tokenizer})', score, metric.get_signature()))
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


def _print(result: Mapping[str, Any]) -> None:
  console = Console(highlight=False, soft_wrap=True)
  console.print(
    f'{result["split"]}: {result["lines"]:,} lines in {result["seconds"]} s, beam '
    f'{result["search"]["beam"]}, checkpoints of steps {result["steps"]}'
  )
  for score in result['scores']:
    console.print(f'  {score["name"]:14s} {score["score"]:6.2f}   {score["signature"]}')
    console.print(f'{"":24s}{score["text"]}', style='dim')


def translate(
  run: str,
  lines: TextIO,
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
    lines: source sentences.
    out: where translations go; with `n_best` > 1, as `line ||| text ||| score`.
    average: how many checkpoints to average.
    choose: 'last' or 'best'.
    options: of the search, see `tasks.translator.Search`.
    n_best: translations of each line; at most the beam.
  """
  _, task, variables, _ = load(run, average=average, choose=choose)
  search = search_of(options)
  if n_best > search.beam:
    raise ValueError(f'a beam of {search.beam} has no {n_best} best: raise --beam')
  translator = Translator(task.model, variables, task.vocabularies, search)
  prompt = lines.isatty()
  count = 0
  for chunk in _chunks(lines, 1 if prompt else _CHUNK, prompt):
    for found in translator.n_best(chunk):
      if n_best == 1:
        print(found[0][0], file=out)
      for text, score in found[:n_best] if n_best > 1 else ():
        print(f'{count} ||| {text} ||| {score:.4f}', file=out)
      count += 1
    out.flush()


def _chunks(lines: TextIO, size: int, prompt: bool) -> Iterator[list[str]]:
  def read() -> Iterator[str]:
    while True:
      if prompt:
        print('> ', end='', file=sys.stderr, flush=True)
      line = lines.readline()
      if not line:
        return
      yield line.rstrip('\n').rstrip('\r')

  stream = read()
  while chunk := list(itertools.islice(stream, size)):
    yield chunk
