"""Compares runs on one split: any measure with intervals and p-values."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from rich.table import Table

from seqlab.decoding.config import make_decoding
from seqlab.domains import Count, OneOf, checked
from seqlab.io.console import print_table
from seqlab.metrics.bootstrap import Comparison, Seed, compare
from seqlab.metrics.measures import (
  BLEU,
  MEASURES,
  Measure,
  TextMeasure,
  check_tokenizer,
  signature,
)
from seqlab.tasks.interface import Task, Translates, needs
from seqlab.tasks.references import references_of
from seqlab.use.measures import chosen_measures, shown_score
from seqlab.use.records import record_evaluation
from seqlab.use.refused import RefusedLines
from seqlab.use.runs import Choice, Run, open_run
from seqlab.use.translations import System, evaluate_system


@checked
def compare_runs(
  runs: Sequence[Run],
  *,
  split: str,
  measure: Annotated[str, OneOf(MEASURES)] = 'bleu',
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
  """Evaluates runs on one split, and tests whether their differences are significant.

  Args:
    runs: folders; the first is the baseline.
    split: name of a split of their corpus.
    measure: what is compared; see `metrics.measures.make_measures`. Its options, such
      as a separator, are those of the baseline's experiment, where that names the
      measure.
    tokenizer: tokeniser of BLEU, '13a', 'none' or 'char'; by default the corpus's
      convention.
    test: 'bs' or 'ar', see `metrics.bootstrap.compare`.
    samples: number of bootstrap samples.
    trials: number of trials of approximate randomisation.
    seed: integer seed of the test.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how outputs are found, see `decoding.config`.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is outside its domain, a run cannot translate, the runs have
      different references, there are fewer than two, or the device has no such
      tokeniser: nothing has been translated then. Or lines were too long, after the
      table was printed.
  """
  decoding = make_decoding(options)
  if len(runs) < 2:
    raise ValueError(f'comparing needs two runs or more, and got {len(runs)}')
  opened = [open_run(run, trust=trust) for run in runs]
  # Before anything is translated, since that may take an hour.
  texts = _texts_of(runs, [task for _, task in opened], split)
  tokenizer = tokenizer or opened[0][1].corpus.convention
  if measure == 'bleu':
    check_tokenizer(tokenizer)
    compared, chosen, key = BLEU(tokenizer), {}, tokenizer
  else:
    baseline, task = opened[0]
    chosen, key = chosen_measures(baseline.config, task, [measure]), measure
    compared = chosen[measure]
  statistics, refusals = [], []
  for run, (folder, task), text in zip(runs, opened, texts, strict=True):
    refusals.append(RefusedLines('line', f'split {split!r}, by {run},'))
    system = System(folder, task, average, choose, decoding, trust=trust)
    evaluation = evaluate_system(
      system, split, text, refusals[-1], tokenizer=tokenizer, measures=chosen
    )
    # Now, since a later run may fail, and translating takes long.
    record_evaluation(folder, evaluation.result, evaluation.statistics, name=split)
    statistics.append(evaluation.statistics[key])
  options = dict(test=test, samples=samples, trials=trials, seed=seed)
  comparisons = compare(statistics, score=compared.score, **options)
  references = max(map(len, texts[0][1]), default=1)
  shown = {'bs': samples, 'ar': trials if test == 'ar' else None, 'seed': seed}
  shown = {name: x for name, x in shown.items() if x is not None}
  _print_table(runs, comparisons, measure, _caption(compared, references, shown))
  for refused in refusals:
    refused.report('counted as empty')
  return comparisons


def _texts_of(
  runs: Sequence[Run], tasks: Sequence[Task], split: str
) -> list[tuple[Sequence[str], Sequence[tuple[str, ...]]]]:
  """Returns each run's sources and references of a split.

  Raises:
    ValueError: the references are not the same for all runs.
  """
  texts = []
  for run, task in zip(runs, tasks, strict=True):
    corpus = needs(task, Translates).corpus
    texts.append((corpus.read(split)[0], references_of(corpus, split)))
    if texts[-1][1] != texts[0][1]:
      raise ValueError(f'{run} and {runs[0]} have different references in {split}')
  return texts


def _caption(
  compared: Measure | TextMeasure, references: int, test: Mapping[str, int]
) -> str:
  """Returns the signature of a comparison: the measure, then the numbers of the test."""
  if isinstance(compared, BLEU):
    return signature(references=references, tokenizer=compared.tokenizer, **test)
  fields = (f'{name}:{x}' for name, x in test.items())
  return '|'.join(filter(None, (compared.describe(references), *fields)))


def _print_table(
  runs: Sequence[Run], comparisons: Sequence[Comparison], measure: str, caption: str
) -> None:
  name = 'BLEU' if measure == 'bleu' else measure
  table = Table('system', f'{name} (mean ± 95 %)', 'p', caption=caption)
  for run, x in zip(runs, comparisons, strict=True):
    p = (
      'baseline' if x.p_value is None else f'{x.p_value:.4f}{"*" * (x.p_value < 0.05)}'
    )
    score, mean, ci = (shown_score(measure, y) for y in (x.score, x.mean, x.ci))
    table.add_row(str(run), f'{score} ({mean} ± {ci})', p)
  print_table(table)
