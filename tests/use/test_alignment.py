"""Alignments of attention that is written by hand."""

import numpy as np
import pytest

from seqlab.tasks.interface import Attended, AttentionMap, Side
from seqlab.use.alignment import Aligner, Selection, alignment, pharaoh

SOURCE = Side(['▁the', '▁bl', 'ue', '▁house', '</s>'], [0, 1, 1, 2, -1])
TARGET = Side(['▁la', '▁mai', 'son', '▁bleue', '</s>'], [0, 1, 1, 2, -1])
READ = Side(['<s>', '▁la', '▁mai', 'son', '▁bleue'], [-1, 0, 1, 1, 2])
# Rows are tokens of the target. 'blue' gets .3 + .4 from 'bleue', of two tokens; and most
# of 'la' is at the end of the sentence, which is no word.
LAST = [
  [0.30, 0.05, 0.05, 0.10, 0.50],
  [0.10, 0.30, 0.25, 0.35, 0.00],
  [0.00, 0.00, 0.00, 1.00, 0.00],
  [0.00, 0.30, 0.30, 0.40, 0.00],
  [0.00, 0.00, 0.00, 0.00, 1.00],
]
FIRST = np.eye(5)[[3, 3, 3, 3, 4]]  # every word looks at 'house'


def _attended(*heads_of_layers):
  weights = np.array(heads_of_layers, np.float32)
  sides = {'source': SOURCE, 'target': TARGET, 'read': READ}
  return Attended(sides, {'cross': AttentionMap(weights, 'target', 'source')})


def test_words_are_aligned_by_the_attention_of_all_their_tokens():
  assert pharaoh(alignment(_attended([LAST]), Selection())) == '0-0 1-2 2-1'


def test_tokens_are_aligned_one_by_one():
  pairs = alignment(_attended([LAST]), Selection(unit='token'))
  # The end may be looked at, and is then no pair; it is not aligned itself.
  assert pairs == [(0, 0), (3, 1), (3, 2), (3, 3)]


def test_layers_and_heads_are_chosen():
  attended = _attended([FIRST, LAST], [LAST, FIRST])
  house = [(2, 0), (2, 1), (2, 2)]
  assert alignment(attended, Selection(layer=1, heads=(1,))) == house
  assert alignment(attended, Selection(layer=1, heads=(2,))) != house
  assert alignment(attended, Selection(heads=(2,))) == house
  mean = Selection().weights(attended.maps['cross'])
  np.testing.assert_allclose(mean, (FIRST + LAST) / 2)
  assert Selection().describe(attended.maps['cross']) == 'layer 2, mean of 2 heads'


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'layer': 3}, '--layer 3: the model has 2'),
    ({'heads': (1, 4)}, '--heads 4: the model has 2'),
  ],
)
def test_a_layer_or_head_that_is_not_there_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    alignment(_attended([FIRST, LAST], [LAST, FIRST]), Selection(**options))


@pytest.mark.parametrize('options', [{'layer': 0}, {'heads': (0,)}, {'unit': 'line'}])
def test_a_selection_outside_its_domain_is_refused(options):
  with pytest.raises(ValueError, match='--'):
    Selection(**options)


def test_an_alignment_needs_cross_attention():
  attended = _attended([LAST])
  alone = attended._replace(maps={'encoder': attended.maps['cross']})
  with pytest.raises(ValueError, match=r'needs cross-attention.*only: encoder'):
    alignment(alone, Selection())


class _Task:
  """A task of one's own that shows its attention, and cannot read long sources."""

  sides = ('source', 'target')

  def attend(self, variables, examples):
    assert variables == 'variables'
    if any(len(x['source']) > 20 for x in examples):
      raise ValueError('example 1 has 21 tokens: too many')
    return [_attended([LAST]) for _ in examples]


def test_one_pair_that_is_too_long_takes_no_alignment_from_the_others():
  aligner = Aligner(_Task(), 'variables', Selection())
  pairs = [('the blue house', [5, 3]), ('x' * 21, [5, 3]), ('blank', [])]
  assert aligner.align(pairs) == ['0-0 1-2 2-1', '', '']
  assert aligner.refused == ['example 1 has 21 tokens: too many']
