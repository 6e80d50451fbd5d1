"""What the tasks of word vectors share."""

import pytest

from seqlab.tasks.words import check_training_split


@pytest.mark.parametrize(
  ('split', 'options', 'message'),
  [
    ('test', {}, r"of the split 'train' only, not of 'test'"),
    ('train', {'shuffle': False}, r'no batches to evaluate on \(shuffle\)'),
  ],
)
def test_batches_of_words_are_for_training(split, options, message):
  with pytest.raises(ValueError, match=message):
    check_training_split(split, options)
  check_training_split('train', {})
