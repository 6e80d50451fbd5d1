"""Attention of a trained model on given examples, with the tokens that it reads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.batching import reverse_sentences
from seqlab.models.interface import attention_weights
from seqlab.tasks.interface import (
  Attended,
  AttentionMap,
  Generates,
  Side,
  Translates,
)
from seqlab.tasks.sentences import (
  Fitting,
  TooLongError,
  batches_of,
  encode_fitting,
  no_memory,
  padded,
)
from seqlab.text.lines import words
from seqlab.text.token_words import words_of_tokens
from seqlab.text.vocabulary import Vocabulary
from seqlab.types import BOS, EOS, PAD, Variables

_TOKENS = 2_048  # positions per batch; a batch has L weights for each of them
# Kind of attention -> the sides whose tokens attend, and are attended to.
_OF_PAIRS = {
  'encoder': ('source', 'source'),
  'decoder': ('target', 'read'),
  'cross': ('target', 'source'),
}
_OF_TEXT = {'decoder': ('text', 'read')}

Example = Mapping[str, str | Sequence[int]]
_Weights = dict[str, np.ndarray]  # kind -> [layers, H, L, S]


class _Tokens(NamedTuple):
  """A text: its ids [L], EOS at the end, and what is shown of them."""

  ids: np.ndarray
  side: Side

  def read(self, before: str) -> Side:
    """Returns what precedes each token, which is what a decoder reads."""
    return Side([before, *self.side.tokens[:-1]], [-1, *self.side.words[:-1]])


def attend_pairs(
  task: Translates, variables: Variables, examples: Sequence[Example]
) -> list[Attended]:
  """Implements `tasks.interface.Attends` for a task that translates.

  Tokens of the source are in the order of the text, even if the model reads them from
  the end.
  """
  weights = _checked_weights(task.model, variables, ([1, 4], [1, 4]))
  sources, targets = (
    [_tokens(getattr(task.vocabularies, side), x[side], side) for x in examples]
    for side in ('source', 'target')
  )
  ids = [[x.ids for x in side] for side in (sources, targets)]

  def run(rows: list[int], shape: tuple[int, int]) -> _Weights:
    source, target = (padded(dict(enumerate(side)), rows, shape) for side in ids)
    if task.reverse_source:
      source = reverse_sentences(source)
    return weights(variables, source, target)

  bos = task.vocabularies.target.pieces()[BOS]
  lengths = [max(map(len, pair)) for pair in zip(*ids, strict=True)]
  attended = []
  for i, by_kind in enumerate(_by_example(lengths, run)):
    sides = {
      'source': sources[i].side,
      'target': targets[i].side,
      'read': targets[i].read(bos),
    }
    reversed_sides = ('source',) if task.reverse_source else ()
    attended.append(Attended(sides, _maps(by_kind, sides, _OF_PAIRS, reversed_sides)))
  return attended


def attend_texts(
  task: Generates, variables: Variables, examples: Sequence[Example]
) -> list[Attended]:
  """Implements `tasks.interface.Attends` for a language model.

  Each text begins as a document does, or after the end of a line of running text, which
  may have several lines.

  Raises:
    ValueError: see `Attends.attend`; or a document has several lines.
  """
  weights = _checked_weights(task.model, variables, ([1, 4], [1]))
  vocabulary, before = task.vocabularies.text, EOS if task.is_running else BOS
  texts = [_tokens(vocabulary, x['text'], 'text', task.is_running) for x in examples]
  lengths = [len(x.ids) for x in texts]
  for i, length in enumerate(lengths):
    if task.context is not None and length > task.context:
      raise ValueError(
        f'text {i + 1} has {length:,} tokens, and the model has learnt to read '
        f'{task.context:,}: give a shorter text'
      )

  def run(rows: list[int], shape: tuple[int, int]) -> _Weights:
    ids = padded({i: x.ids for i, x in enumerate(texts)}, rows, shape)
    return weights(variables, ids, np.full(len(ids), before, np.int32))

  attended = []
  for i, by_kind in enumerate(_by_example(lengths, run, task.context)):
    sides = {'text': texts[i].side, 'read': texts[i].read(vocabulary.pieces()[before])}
    attended.append(Attended(sides, _maps(by_kind, sides, _OF_TEXT)))
  return attended


def _checked_weights(
  model: object, variables: Variables, shapes: Iterable[Sequence[int]]
) -> Fitting:
  """Returns the function that gives the weights, once it is known to have some.

  `Fitting` takes an error of the model for one of the length, and would hide that it has
  no attention.
  """
  weights = functools.partial(attention_weights, model)
  jax.eval_shape(weights, variables, *(jnp.ones(x, jnp.int32) for x in shapes))
  return Fitting(weights)


def _tokens(
  vocabulary: Vocabulary, text: str | Sequence[int], name: str, is_running: bool = False
) -> _Tokens:
  """Returns the tokens of a text, or of ids with EOS at the end."""
  if not isinstance(text, str):
    ids = np.asarray(text, np.int32)
    ids = ids[ids != PAD]
    return _named(vocabulary, ids, words_of_tokens(vocabulary, ids))
  lines = text.split('\n')
  if len(lines) > 1 and not is_running:
    raise ValueError(
      f'the {name} has several lines, and the model reads one line: give one line'
    )
  encoded, refused = encode_fitting(vocabulary, dict(enumerate(lines)))
  if refused:
    raise ValueError(f'the {name} {next(iter(refused.values()))}')
  numbers, first = [], 0
  for i, line in enumerate(lines):
    of_line = words_of_tokens(vocabulary, encoded[i], line)
    numbers += [n if n < 0 else n + first for n in of_line]
    first += len(words(line))
  return _named(vocabulary, np.concatenate([*encoded.values()]), numbers)


def _named(vocabulary: Vocabulary, ids: np.ndarray, numbers: list[int]) -> _Tokens:
  pieces = vocabulary.pieces()
  return _Tokens(ids, Side([pieces[i] for i in ids], numbers))


def _by_example(
  lengths: Sequence[int],
  run: Callable[[list[int], tuple[int, int]], _Weights],
  widest: int | None = None,
) -> list[_Weights]:
  """Returns kind -> padded weights [layers, H, L, S] of each example.

  Args:
    lengths: length of the longest side of each example.
    run: numbers of examples and shape of a batch -> kind -> [layers, B, H, L, S].
    widest: number of positions in a row that the model admits; see `batches_of`.
  """
  batches = batches_of(dict(enumerate(lengths)), _TOKENS, widest)
  if len(lengths) == 1:  # without padding, for which a model may have no positions
    batches = [([0], (1, lengths[0]))]
  results: dict[int, _Weights] = {}
  for rows, shape in batches:
    try:
      by_kind = _fetch(run, rows, shape)
    except TooLongError as error:
      raise ValueError(
        f'example {rows[0] + 1} has {lengths[rows[0]]:,} tokens: {error}'
      ) from None
    for row, i in enumerate(rows):
      results[i] = {kind: weights[:, row] for kind, weights in by_kind.items()}
  return [results[i] for i in range(len(lengths))]


def _fetch(
  run: Callable[[list[int], tuple[int, int]], _Weights],
  rows: list[int],
  shape: tuple[int, int],
) -> _Weights:
  try:
    return jax.device_get(run(rows, shape))
  except jax.errors.JaxRuntimeError as error:
    raise no_memory(error) from None


def _maps(
  by_kind: _Weights,
  sides: Mapping[str, Side],
  kinds: Mapping[str, tuple[str, str]],
  reversed_sides: Sequence[str] = (),
) -> dict[str, AttentionMap]:
  """Returns the weights of the tokens that there are, in the order of the text."""
  maps = {}
  for kind, weights in by_kind.items():
    rows, columns = kinds[kind]
    order = [
      _text_order(len(sides[name].tokens), name in reversed_sides)
      for name in (rows, columns)
    ]
    shown = np.asarray(weights, np.float32)[:, :, order[0][:, None], order[1]]
    maps[kind] = AttentionMap(shown, rows, columns)
  return maps


def _text_order(length: int, is_reversed: bool) -> np.ndarray:
  """Returns the place of each token in what the model has read; EOS stays the last."""
  order = np.arange(length)
  if is_reversed:
    order[:-1] = order[:-1][::-1]
  return order
