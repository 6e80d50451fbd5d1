"""The outputs of several runs on one split, with what they are compared with."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from seqlab.decoding.config import make_decoding
from seqlab.domains import Count, checked
from seqlab.tasks.interface import Translates, needs
from seqlab.tasks.references import references_of
from seqlab.use.measures import measures_of
from seqlab.use.records import record_evaluation
from seqlab.use.refused import RefusedLines
from seqlab.use.runs import Choice, Run, open_run
from seqlab.use.translations import System, evaluate_system


class Outputs(NamedTuple):
  """Outputs of runs on one split.

  Attributes:
    sources: the sources.
    references: one or more references of each line.
    hypotheses: name of a run -> its outputs.
    training: the target side of the training text; None if it cannot be read here.
    convention: the tokeniser of BLEU by which papers on this corpus count.
    refused: lines of each run that could not be translated, and count as empty.
  """

  sources: list[str]
  references: list[tuple[str, ...]]
  hypotheses: dict[str, list[str]]
  training: list[str] | None
  convention: str
  refused: Sequence[RefusedLines] = ()


@checked
def outputs_of(
  runs: Sequence[Run],
  split: str,
  *,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  trust: bool = False,
) -> Outputs:
  """Translates a split with each run, and records the scores in its folder.

  Args:
    runs: folders of the runs.
    split: name of a split of their corpus.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how outputs are found, see `decoding.config`.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is wrong, a run cannot translate, or the runs have different
      sources or references; nothing has been translated then.
  """
  decoding = make_decoding(options)
  opened = {str(run): open_run(run, trust=trust) for run in runs}
  corpora = {run: needs(task, Translates).corpus for run, (_, task) in opened.items()}
  texts = {
    run: (corpus.read(split)[0], references_of(corpus, split))
    for run, corpus in corpora.items()
  }
  first = next(iter(texts.values()))
  for run, text in texts.items():
    if text != first:
      raise ValueError(
        f'{run} and {next(iter(texts))} have different texts in {split}: '
        'write separate reports, or leave --split out'
      )
  hypotheses, refusals = {}, []
  for run, (folder, task) in opened.items():
    system = System(folder, task, average, choose, decoding, trust=trust)
    refused = RefusedLines('line', f'split {split!r}, by {run},')
    measures = measures_of(folder.config, task)
    evaluation = evaluate_system(system, split, first, refused, measures=measures)
    record_evaluation(folder, evaluation.result, evaluation.statistics, name=split)
    refusals.append(refused)
    hypotheses[run] = evaluation.hypotheses
  corpus = next(iter(corpora.values()))
  return Outputs(*first, hypotheses, _training(corpus), corpus.convention, refusals)


def _training(corpus: Any) -> list[str] | None:
  try:
    return corpus.read('train')[-1]
  except (OSError, ValueError, RuntimeError):  # it was left on another machine
    return None
