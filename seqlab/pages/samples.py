"""Outputs beside their references, with the differences marked."""

from collections.abc import Callable, Sequence
import difflib
from typing import NamedTuple

from seqlab.pages.html import Markup, element, joined

# What the lines under words mean.
MARKS = (
  'Words of an output that the reference does not have at that place have a wavy line; '
  'words of the reference that the first output does not have there have a double line. '
  'Where both are one word, its characters are marked.'
)


class Sample(NamedTuple):
  """One line of a split with the outputs of the runs.

  Attributes:
    number: number of the line, from 1.
    source: the source.
    references: the references; empty if there is none to compare with.
    outputs: for each run its output.
    scores: for each run the score of its output; empty if there are none.
  """

  number: int
  source: str
  references: Sequence[str]
  outputs: Sequence[str]
  scores: Sequence[float] = ()


def read_samples(text: str) -> list[Sample]:
  """Reads samples that an evaluator wrote in training.

  Lines '< ', '= ' and '> ' have a source, its references and an output, and an empty
  line ends them. Any other line is an output by itself, without a reference; up to a
  colon it names what the output belongs to, as a word before its neighbours.
  """
  samples, lines = [], {'<': [], '=': [], '>': []}
  for line in [*text.split('\n'), '']:
    if line[:1] in lines and line[1:2] == ' ':
      lines[line[0]].append(line[2:])
      continue
    if lines['>']:
      source = '\n'.join(lines['<'])
      samples.append(Sample(len(samples) + 1, source, lines['='], lines['>']))
      lines = {mark: [] for mark in lines}
    if line:
      source, colon, output = line.partition(': ')
      source, output = (source, output) if colon else ('', line)
      samples.append(Sample(len(samples) + 1, source, [], [output]))
  return samples


def samples_table(samples: Sequence[Sample], runs: Sequence[str]) -> Markup:
  """Returns a table that can be sorted by line, length and score.

  Words of an output that its reference does not have are marked, and words of the
  reference that the output does not have; in both by a line too, and not only by a
  colour.

  Args:
    samples: the lines.
    runs: name of each run.
  """
  has_scores = any(x.scores for x in samples)
  buttons = [('number', 'line'), ('length', 'length of the source')]
  if has_scores:
    several = len(runs) > 1
    buttons += [
      (f'score{i}', f'score of {run}' if several else 'score')
      for i, run in enumerate(runs)
    ]
  controls = element(
    'p',
    'Sort by ',
    *(
      element(
        'button', text, type='button', data_sort=key, aria_pressed=str(not i).lower()
      )
      for i, (key, text) in enumerate(buttons)
    ),
    element('span', class_='muted', aria_live='polite'),
    class_='sort',
  )
  items = [_item(sample, runs) for sample in samples]
  return element(
    'div', controls, element('ol', *items, class_='samples'), data_sorted=True
  )


def _item(sample: Sample, runs: Sequence[str]) -> Markup:
  keys = {'number': sample.number, 'length': len(sample.source.split())}
  keys |= {f'score{i}': round(x, 2) for i, x in enumerate(sample.scores)}
  # The first output decides which of several references is shown with its differences.
  nearest = max(
    sample.references or [''],
    key=lambda x: _matcher(x, sample.outputs[0]).ratio(),
  )
  lines = [_line('source', element('span', sample.source, dir='auto'))]
  if sample.references:
    lines.append(_line('reference', _marked(nearest, sample.outputs[0], 'del')))
  for i, output in enumerate(sample.outputs):
    name = runs[i] if len(runs) > 1 else 'output'
    score = f' {sample.scores[i]:.1f}' if sample.scores else ''
    # Without a reference nothing differs from it.
    other = nearest if sample.references else output
    lines.append(_line(f'{name}{score}', _marked(output, other, 'ins')))
  attributes = {f'data_{key}': value for key, value in keys.items()}
  return element('li', element('dl', *lines), value=sample.number, **attributes)


def _line(name: str, content: Markup) -> Markup:
  return element('div', element('dt', name), element('dd', content))


def _marked(text: str, other: str, tag: str) -> Markup:
  """Returns a text with the words marked that the other one does not have there."""
  space, divide = _units(text, other)
  units = divide(text)
  parts = []
  for kind, a, b, _, _ in _matcher(text, other).get_opcodes():
    if b > a:
      run = space.join(units[a:b])
      parts.append(run if kind == 'equal' else element(tag, run))
  spaced = [x for part in parts for x in (part, space)][:-1]
  return element('span', joined(spaced), dir='auto')


def _matcher(text: str, other: str) -> difflib.SequenceMatcher:
  _, divide = _units(text, other)
  return difflib.SequenceMatcher(None, divide(text), divide(other), autojunk=False)


def _units(text: str, other: str) -> tuple[str, Callable[[str], Sequence[str]]]:
  """Returns what is between the units that two texts are compared by, and a divider.

  The units are words, and characters if both texts are one word, as inflected forms.
  """
  if len(text.split()) == len(other.split()) == 1:
    return '', list
  return ' ', str.split
