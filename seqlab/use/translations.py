"""Scores of a run on a split: translated, and compared with the reference."""

from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from seqlab.decoding.config import DecodingConfig, make_decoding
from seqlab.domains import Count, checked
from seqlab.io.console import console
from seqlab.io.files import check_output, write_text
from seqlab.tasks.interface import Translates, needs
from seqlab.tasks.references import categories_of, references_of, writable
from seqlab.tasks.translator import search_dtype
from seqlab.text.corpora import Corpus
from seqlab.train.folder import RunFolder
from seqlab.train.restore import restore
from seqlab.use.ensembles import join_models, make_translator
from seqlab.use.measures import (
  Counted,
  chosen_measures,
  measures_of,
  shown_score,
)
from seqlab.use.records import record_evaluation, timestamp
from seqlab.use.refused import RefusedLines
from seqlab.use.runs import Choice, Run, open_run
from seqlab.use.scores import corpus_scores, sacrebleu_metric


@checked
def evaluate_translations(
  run: Run,
  *,
  split: str,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  output: str | Path | None = None,
  ensemble: Sequence[Run] = (),
  measures: Sequence[str] = (),
  trust: bool = False,
) -> dict[str, Any]:
  """Translates a split and prints its scores.

  The scores are those that `measures` names, or that evaluators of kind 'outputs' of
  the experiment name, of each category too; otherwise BLEU and chrF.

  BLEU is counted twice, on the device from the ids of pieces and by sacreBLEU from the
  text, and both have to agree to the last integer. On a corpus that is already
  tokenised, BLEU by the paper's convention, of the tokens as they are, comes first, and
  then that of the standard tokeniser.

  Args:
    run: the folder of the run.
    split: name of a split of its corpus.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how outputs are found, see `decoding.config`.
    output: a file for the translations, one per line. Its folder is made.
    ensemble: further runs, whose models decode together with this one's.
    measures: names of measures; see `metrics.measures.make_measures`.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Returns:
    What was printed: scores by signature, and how they were made. It is also
    added to `evaluations.jsonl` in the folder of the run, with the text's fingerprint;
    each sentence's statistics are kept in `evaluations/<split>.npz`. Where the folder
    is read-only, a warning says so.

  Raises:
    ValueError: an option, `split` or `output` is wrong, or the task cannot translate,
      before anything is loaded; or a line was too long, after all scores were printed.
    ArithmeticError: the two ways disagree.
  """
  decoding = make_decoding(options)
  folder, task = open_run(run, trust=trust)
  source = needs(task, Translates).corpus.read(split)[0]
  text = source, references_of(task.corpus, split)
  sacrebleu_metric(task.corpus.convention)  # an unknown one is named as such
  if measures:
    chosen = chosen_measures(folder.config, task, measures)
  else:
    chosen = measures_of(folder.config, task)
  if output:
    _check_output(Path(output), folder, task.corpus)
  system = System(folder, task, average, choose, decoding, ensemble, trust)
  refused = RefusedLines('line', f'split {split!r}')
  evaluation = evaluate_system(
    system, split, text, refused, output=output, measures=chosen
  )
  _print(evaluation.result)
  record_evaluation(folder, evaluation.result, evaluation.statistics, name=split)
  if evaluation.not_written:
    raise evaluation.not_written
  refused.report('counted as empty')
  return evaluation.result


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


@dataclasses.dataclass(frozen=True)
class System:
  """A run that translates, and how it is to do so.

  Attributes:
    folder: the folder of the run.
    task: its task.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    decoding: how outputs are found.
    ensemble: further runs.
    trust: see `RunFolder.open`.
  """

  folder: RunFolder
  task: Translates
  average: int
  choose: Choice
  decoding: DecodingConfig
  ensemble: Sequence[Run] = ()
  trust: bool = False


class Evaluation(NamedTuple):
  """Results of an evaluation.

  Attributes:
    result: what is printed and recorded.
    statistics: measure, or tokeniser of BLEU -> integers of each sentence, [R,
      columns]; BLEU is of the corpus's convention, of 13a, and of the tokeniser that
      was asked for; these names end with '-lc' where case is ignored.
    not_written: why the translations could not be written, if so.
    hypotheses: the translations.
  """

  result: dict[str, Any]
  statistics: dict[str, np.ndarray]
  not_written: OSError | None
  hypotheses: list[str]


def evaluate_system(
  system: System,
  split: str,
  text: tuple[list[str], list[tuple[str, ...]]],
  refused: RefusedLines,
  *,
  output: str | Path | None = None,
  tokenizer: str | None = None,
  measures: Mapping[str, Any] = {},  # never changed
) -> Evaluation:
  """Translates a split, and scores it by its references.

  Args:
    system: what translates.
    split: name of the split.
    text: its source and its references.
    refused: gets the lines that could not be translated.
    output: a file for the translations.
    tokenizer: a further tokeniser to count BLEU by.
    measures: name -> measure; without any, and for 'bleu', BLEU and chrF of sacreBLEU,
      with the tokeniser and the case of the measure.
  """
  task, (source, references) = system.task, text
  references = writable(task.vocabularies.target, references)
  convention, fingerprint = task.corpus.convention, task.corpus.fingerprint(split)
  sacrebleu_metric(convention)  # an unknown one, or a missing package, fails now
  which = dict(average=system.average, choose=system.choose)
  variables, steps = restore(system.folder, task, **which)
  model, variables = join_models(
    task, variables, system.ensemble, **which, trust=system.trust
  )
  translator = make_translator(
    task, model, variables, system.decoding, system.folder.config
  )
  started = time.perf_counter()
  ids = translator.best_ids(source)
  # The ids are on the host, so the devices have finished: this is the whole time.
  seconds = time.perf_counter() - started
  refused.add(0, len(source), translator.refused)
  hypotheses = task.vocabularies.target.decode(ids)
  not_written = _write(output, hypotheses) if output else None
  counted = Counted(task, ids, hypotheses, references)
  categories = categories_of(task.corpus, split)
  scores, statistics = counted.by_measures(measures, categories)
  if not measures or 'bleu' in measures:
    measure = measures.get('bleu')
    chosen = [x for x in (measure and measure.tokenizer, tokenizer) if x]
    lowercase = bool(measure and measure.lowercase)
    bleu = counted.by_tokenizers((convention, '13a', *chosen), lowercase=lowercase)
    scores += corpus_scores(
      hypotheses, counted.references, convention, bleu, lowercase=lowercase
    )
    # Counts without case are other ones than those that `compare` tests.
    statistics |= {f'{name}{"-lc" * lowercase}': rows for name, rows in bleu.items()}
  ensemble = [str(run) for run in system.ensemble]
  result = {
    'split': split,
    'lines': len(hypotheses),
    'skipped': task.corpus.skipped(split),
    **({'refused': len(refused)} if refused else {}),
    'scores': scores,
    'steps': steps,
    **({'ensemble': ensemble} if ensemble else {}),
    'search': system.decoding.record(),
    'seconds': round(seconds, 2),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'dtype': search_dtype(model, system.decoding.dtype),
    'date': timestamp(),
    'text': fingerprint,
  }
  return Evaluation(result, statistics, not_written, hypotheses)


def _write(output: str | Path, lines: Sequence[str]) -> OSError | None:
  """Writes lines; returns the error, which is raised once the scores are printed."""
  try:
    write_text(output, ''.join(f'{line}\n' for line in lines))
  except OSError as error:
    return error
  return None


def decoding_of(search: Mapping[str, Any]) -> str:
  """Returns 'beam 5', 'mbr 64', or the name of another kind of decoding.

  Args:
    search: how outputs were found, as an evaluation is recorded with it.
  """
  kind = search.get('kind', 'beam')  # the first edition recorded no kind
  return f'{kind} {search[kind]}' if kind in search else kind


def _print(result: Mapping[str, Any]) -> None:
  out = console()
  out.print(
    f'{result["split"]}: {result["lines"]:,} lines in {result["seconds"]} s, '
    f'{decoding_of(result["search"])}, checkpoints of steps {result["steps"]}'
  )
  if result['skipped']:
    out.print(f"  {result['skipped']:,} lines left out: corpus.empty='skip'")
  for score in result['scores']:
    value = shown_score(score['name'], score['score'])
    out.print(f'  {score["name"]:22s} {value:>6s}   {score["signature"]}', markup=False)
    out.print(f'{"":32s}{score["text"]}', style='dim')
