"""A report of finished runs: one page that needs nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from seqlab.io.files import check_output, write_text
from seqlab.pages.attention import EXPLANATION, NO_SCRIPT, attention_data
from seqlab.pages.breakdown import (
  frequency_groups,
  length_groups,
  scores_by_group,
  word_accuracy,
  word_counts,
)
from seqlab.pages.charts import bar_chart, legend
from seqlab.pages.curves import curves_section
from seqlab.pages.facts import facts_section
from seqlab.pages.html import Component, Markup, element, json_element, page
from seqlab.pages.samples import MARKS, Sample, read_samples, samples_table
from seqlab.pages.scores import (
  Recorded,
  paper_section,
  recorded_evaluations,
  scores_section,
  shared_score,
)
from seqlab.report.runs import Run, differing, group, left_out, read_runs, short_names
from seqlab.text.lines import words
from seqlab.use.attention import Shown, attend_run, option_name
from seqlab.use.outputs import Outputs, outputs_of

LARGEST = 5_000_000  # bytes of a page
_LARGEST_ATTENTION = 3_000_000  # bytes of weights, so that samples have room
_SAMPLES = 1_000  # lines that a page shows, at most
_FROM_TRAINING = 20  # lines of the samples of an evaluator


def write_report(
  folders: Sequence[str | Path],
  output: str | Path,
  *,
  split: str | None = None,
  **search: Any,
) -> Path:
  """Writes `index.html` with all that is known of some runs.

  Args:
    folders: folders of runs, or of many runs each.
    output: folder of the page, which is made.
    split: a split to translate now, for samples and breakdowns; None for what the
      folders already have.
    **search: further arguments of `use.outputs.outputs_of`.

  Returns:
    The path of the page.

  Raises:
    FileNotFoundError: a folder has no run.
    OSError: the page cannot be written there; before a split is translated.
    ValueError: a file is damaged, or see `use.outputs.outputs_of`; or, once the page is
      written, lines could not be translated.
  """
  path = Path(output) / 'index.html'
  if path.is_dir() or Path(output).is_file():
    raise ValueError(
      f'--output {output}: name a folder, in which {path.name} is written'
    )
  if split is None:
    _check_without_split(**search)
  runs = [run for x in folders for run in read_runs(x, unfinished=True)]
  names = _names(runs)
  check_output(path)  # now, and not after a split is translated
  outputs = attention = None
  if split is not None:
    outputs = outputs_of([run.path for run in runs], split, **search)
    attention = _attention_of(runs[0], outputs, search)
  samples = _SAMPLES
  while True:
    text = report_page(runs, names, split, outputs, attention, samples=samples)
    if len(text.encode()) <= LARGEST or samples <= 1:
      break
    samples //= 2
  write_text(path, text)
  for refused in outputs.refused if outputs else ():
    refused.report(f'counted as empty in {path}')
  return path


def _check_without_split(
  *,
  average: int = 1,
  choose: str = 'last',
  options: Mapping[str, Any] = {},  # never changed
  **others: Any,
) -> None:
  del others
  names = [
    *(['average'] if average != 1 else []),
    *(['choose'] if choose != 'last' else []),
    *options,
  ]
  if names:
    raise ValueError(
      f'{option_name(names[0])} has an effect only where a split is translated: add '
      '--split, or leave it out'
    )


def report_page(
  runs: Sequence[Run],
  names: Mapping[Path, str],
  split: str | None = None,
  outputs: Outputs | None = None,
  attention: Shown | str | None = None,
  *,
  samples: int = _SAMPLES,
) -> str:
  """Returns the page.

  Args:
    runs: the runs.
    names: folder of a run -> its name on the page.
    split: the split of `outputs`.
    outputs: outputs of all runs, if they were made.
    attention: attention of one line, or why there is none; None to leave it out.
    samples: largest number of lines that are shown.
  """
  groups = _groups(runs, names)
  evaluations = {run.path: recorded_evaluations(run.path) for run in runs}
  by_name = {names[path]: x for path, x in evaluations.items()}
  body = [
    element('h2', 'What the runs are' if len(runs) > 1 else 'What the run is'),
    *_unfinished(runs),
    *facts_section(runs),
    element('h2', 'Curves'),
    *curves_section(groups),
    element('h2', 'Scores'),
    *scores_section(by_name),
    *paper_section(groups, evaluations),
  ]
  if outputs is None:
    body += _samples_of_training(runs, names)
  else:
    renamed = {names[Path(run)]: x for run, x in outputs.hypotheses.items()}
    outputs = outputs._replace(hypotheses=renamed)
    statistics = {run: own[split] for run, own in by_name.items() if split in own}
    body += _breakdowns(split, outputs, statistics)
    body += _samples_of_split(split, outputs, samples)
  if attention is not None:
    body += _attention_section(attention)
  few = ', '.join(names.values()) if len(runs) < 4 else f'{len(runs)} runs'
  return page(
    f'Report of {few}', body, [Component.of('report'), Component.of('attention')]
  )


def _attention_of(run: Run, outputs: Outputs, search: Mapping[str, Any]) -> Shown | str:
  """Returns the attention of a run on the first line of middle length.

  Returns:
    Or why it cannot be shown: the model has none, or the line is blank or too long. The
    outputs are worth a page without it.
  """
  lengths = [len(words(x)) for x in outputs.sources]
  middle = int(np.quantile(lengths, 0.5, method='lower'))
  i = lengths.index(middle)
  target = outputs.hypotheses[str(run.path)][i]
  options = {k: x for k, x in search.items() if k != 'options'}
  try:
    return attend_run(run.path, outputs.sources[i], target=target, **options)
  except ValueError as error:
    return str(error)


def _attention_section(shown: Shown | str) -> list[Markup]:
  heading = element('h2', 'Attention in one line')
  if isinstance(shown, str):
    return [heading, element('p', f'Attention is not shown: {shown}.')]
  kind = 'cross' if 'cross' in shown.attended.maps else next(iter(shown.attended.maps))
  data = attention_data(shown.attended, kind)
  size = sum(len(x['weights']) for x in data['maps'])
  if size > _LARGEST_ATTENTION:
    text = (
      f'The attention in a line of middle length has {size / 1e6:,.1f} MB, and this page '
      f'holds {_LARGEST_ATTENTION / 1e6:,.1f} MB: '
    )
    command = f'seqlab attend {shown.run} TEXT --output FILE.html'
    end = ' writes a page of its own.'
    return [heading, element('p', text, element('code', command), end)]
  return [
    heading,
    element('p', f'{shown.run} reads its own output. {EXPLANATION}'),
    element('div', element('p', NO_SCRIPT), data_attention='attention-data'),
    json_element('attention-data', data),
  ]


def _names(runs: Sequence[Run]) -> dict[Path, str]:
  """Returns names of the runs: their folders, as short as they still differ."""
  for depth in range(1, 20):
    names = {run.path: '/'.join(run.path.absolute().parts[-depth:]) for run in runs}
    if len(set(names.values())) == len(names):
      break
  return names


def _groups(runs: Sequence[Run], names: Mapping[Path, str]) -> dict[str, list[Run]]:
  """Returns label -> runs that differ in the seed only."""
  if len(runs) == 1:
    return {names[runs[0].path]: [*runs]}
  keys = differing(runs)
  try:
    groups = group(runs, keys)
  except ValueError:  # two runs of one seed do not repeat each other
    return {names[run.path]: [run] for run in runs}
  if not keys:
    return {f'{len(runs)} seeds': [*runs]}
  short = short_names(keys)
  labels = {
    values: ', '.join(f'{short[k]}={v}' for k, v in zip(keys, values, strict=True))
    for values in groups
  }
  return {labels[values]: members for values, members in groups.items()}


def _unfinished(runs: Sequence[Run]) -> list[Markup]:
  reasons = left_out(run.path for run in runs)
  if not reasons:
    return []
  listed = '; '.join(f'{path}: {reason}' for path, reason in reasons.items())
  return [element('p', f'Not finished: {listed}.', class_='bad')]


def _samples_of_training(
  runs: Sequence[Run], names: Mapping[Path, str]
) -> list[Markup]:
  """Returns the samples of the last run of each evaluator in training.

  Runs whose samples have the same sources and references share a list.
  """
  lists: dict[tuple, dict[tuple[str, int], list[Sample]]] = {}
  for run in runs:
    files = sorted((run.path / 'samples').glob(f'*-{"[0-9]" * 8}.txt'))
    newest = {file.stem.rpartition('-')[0]: file for file in files}  # by evaluator
    for file in newest.values():
      samples = read_samples(file.read_text('utf-8'))[:_FROM_TRAINING]
      texts = tuple((x.source, tuple(x.references)) for x in samples)
      if texts:
        evaluator, _, step = file.stem.rpartition('-')
        key = names[run.path], int(step)
        lists.setdefault((evaluator, texts), {})[key] = samples
  if not lists:
    return []
  shown = []
  for (evaluator, _), by_run in lists.items():
    steps = {step for _, step in by_run}
    title, labels = evaluator, [f'{run}, step {step:,}' for run, step in by_run]
    if len(steps) == 1:
      title = f'{evaluator}, step {min(steps):,}'
      labels = [run for run, _ in by_run]
    if len(by_run) == 1 and len(runs) > 1:
      title = f'{title}, {labels[0]}'
    joint = [
      first._replace(outputs=[first.outputs[0], *(x.outputs[0] for x in others)])
      for first, *others in zip(*by_run.values(), strict=True)
    ]
    shown += [element('h3', title), samples_table(joint, labels)]
  hint = (
    'What the evaluators kept of their last run in training. With --split a report '
    'of a task with outputs decodes a whole split, and shows where they are right and '
    f'wrong. {MARKS}'
  )
  return [element('h2', 'Samples'), element('p', hint, class_='muted'), *shown]


def _samples_of_split(split: str, outputs: Outputs, limit: int) -> list[Markup]:
  """Returns lines of the split, with the chrF of each output."""
  runs = [*outputs.hypotheses]
  lines = [
    *zip(outputs.sources, outputs.references, *outputs.hypotheses.values(), strict=True)
  ]
  samples = []
  for i in _evenly(len(lines), limit):
    source, references, *hypotheses = lines[i]
    scores = [sacrebleu.sentence_chrf(x, list(references)).score for x in hypotheses]
    samples.append(Sample(i + 1, source, references, hypotheses, scores))
  of = f' of {len(lines):,}' if len(samples) < len(lines) else ''
  explanation = (
    f'{len(samples):,}{of} lines of {split}, with the chrF of each output. {MARKS}'
  )
  return [
    element('h2', 'Samples'),
    element('p', explanation, class_='muted'),
    samples_table(samples, runs),
  ]


def _evenly(count: int, limit: int) -> list[int]:
  """Returns at most `limit` numbers below `count`, with equal distances."""
  if count <= limit:
    return [*range(count)]
  return np.linspace(0, count - 1, limit).round().astype(int).tolist()


def _breakdowns(
  split: str, outputs: Outputs, evaluations: Mapping[str, Recorded]
) -> list[Markup]:
  """Returns charts of BLEU by length and of words by their frequency."""
  divide = _words_of(outputs.convention)
  references = [divide(x[0]) for x in outputs.references]
  charts = [*_by_length(references, evaluations)]
  notes = []
  if outputs.training is None:
    notes.append(
      'The training text is not on this machine, so that the frequencies of '
      'words are not known.'
    )
  else:
    group_of = frequency_groups(word_counts(map(divide, outputs.training)))
    accuracy = {
      run: word_accuracy([*map(divide, x)], references, group_of)
      for run, x in outputs.hypotheses.items()
    }
    charts.append(_frequency_chart(accuracy))
    notes.append(
      'The frequency of a word is the number of its occurrences in the target side of '
      'the training text; F1 counts how often words of the outputs are in the '
      'reference of their line, and how often words of the reference are in the output.'
    )
  if len(outputs.references[0]) > 1:
    notes.append('Of several references the first one counts here.')
  return [
    element('h2', f'Where the outputs are right, {split}'),
    element('p', ' '.join(notes), class_='muted'),
    legend([*outputs.hypotheses]),
    element('div', *charts, class_='charts'),
  ]


def _by_length(
  references: Sequence[Sequence[str]], evaluations: Mapping[str, Recorded]
) -> Iterable[Markup]:
  """Yields a chart of the first score that all runs have the integers of."""
  shared = shared_score([*evaluations.values()])
  if shared is not None and len(shared.statistics[0]) == len(references):
    groups = length_groups([len(x) for x in references])
    scores = {
      run: scores_by_group(groups, rows, shared.score)
      for run, rows in zip(evaluations, shared.statistics, strict=True)
    }
    yield bar_chart(shared.name, scores, xlabel='words of the reference')


def _frequency_chart(accuracy: dict[str, dict[str, float]]) -> Markup:
  """Returns bars of F1; a group of words that a run lacks has none."""
  names = dict.fromkeys(name for own in accuracy.values() for name in own)
  whole = {run: {n: own.get(n, 0.0) for n in names} for run, own in accuracy.items()}
  return bar_chart('F1 of words', whole, xlabel='frequency of the word in training')


def _words_of(convention: str) -> Callable[[str], list[str]]:
  """Returns a function that divides a line as BLEU's tokeniser does."""
  if convention == '13a':
    tokenizer = Tokenizer13a()
    return lambda line: tokenizer(line).split()
  return str.split
