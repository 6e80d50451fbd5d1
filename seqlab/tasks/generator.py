"""Text from a language model: a search in the model's cache continues prompts."""

from collections.abc import Iterator, Sequence
import functools
import itertools
import sys
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from seqlab.decoding.beam import reorder
from seqlab.decoding.config import DecodingConfig, Ruled
from seqlab.models.interface import LanguageModel
from seqlab.tasks.interface import Generates
from seqlab.tasks.sentences import Fitting, TooLongError
from seqlab.tasks.translator import in_dtype
from seqlab.text.vocabulary import Vocabulary
from seqlab.types import BOS, EOS, PAD, Array, PyTree, Variables

_BLOCK = 16  # tokens; prompts whose lengths differ by less share a program

_Hypotheses = list[tuple[np.ndarray, float]]  # new tokens [length], and the score


class Generated(NamedTuple):
  """A text of a language model.

  Attributes:
    text: the prompt and what follows it.
    log_probability: log p of what follows under the model, nats, at temperature 1 and
      without filters; of a beam search its score.
  """

  text: str
  log_probability: float


@struct.dataclass
class _Cache:
  """What a step of the search reads.

  Attributes:
    state: the cache of the model.
    given: [B, F + 1] the token that the search begins with, and those of the prompt
      that it has to choose first; PAD after them.
    count: [B] int32, number of tokens that it has to choose.
    written: [B] int32, number of tokens that it has chosen.
  """

  state: PyTree
  given: Array
  count: Array
  written: Array

  def reorder(self, parent: Array) -> '_Cache':
    """See `decoding.beam.reorder`; a row's hypotheses share its prompt."""
    return self.replace(state=reorder(self.state, parent))


def continue_text(
  model: LanguageModel,
  variables: Variables,
  first: Array,
  given: Array,
  count: Array,
  ids: Array,
  *,
  decoding: DecodingConfig,
  length: int,
  max_len: int,
  is_running: bool,
) -> tuple[Array, Array]:
  """Continues the prompts of a batch. Pure; jit it with all options static.

  A search ends an output at EOS, which running text continues after; and it makes the
  last token EOS. Here it searches among V + 1 tokens. EOS means that enough has been
  written, which is certain after `length` tokens and impossible before in running text,
  whose line end is token V.

  Args:
    model: a `LanguageModel` module.
    variables: its variables.
    first: [B, P] tokens that the model reads at once.
    given: [B, F + 1] the next tokens of the prompts, at least one, PAD after them.
    count: [B] number of those tokens after the first of them, from 0 to F.
    ids: [B] number of each row, from which its random bits come.
    decoding: how outputs are found.
    length: number of tokens to write after the prompt.
    max_len: number of tokens that the model reads, at most; the step that only ends an
      output may read one more, and its result is not used.
    is_running: see `tasks.interface.Generates`.

  Returns:
    Tokens [B, M, F + L], PAD after the last one, best first: those of `given` without
    the first, and new ones. Scores [B, M].
  """
  B, F = given.shape[0], given.shape[1] - 1
  M, P = decoding.num_hypotheses, first.shape[1]
  state = model.apply(variables, B, M, min(P + F + length, max_len), method='start')
  if P:
    state = model.apply(variables, state, first, method='read')

  def step(cache: _Cache, token: Array) -> tuple[_Cache, Array]:
    of_row = functools.partial(jnp.repeat, repeats=M, axis=0)
    given, written = of_row(cache.given), of_row(cache.written)  # [N, F + 1], [N]
    left = of_row(cache.count) - written  # tokens of the prompt to come
    token = jnp.where(written == 0, given[:, 0], token)
    V = model.size
    state, logits = model.apply(
      variables, cache.state, jnp.where(token == V, EOS, token), method='step'
    )
    place = jnp.minimum(written + 1, F)[:, None]
    known = jnp.take_along_axis(given, place, axis=1)[:, 0]
    logits = _with_line_end(logits) if is_running else _with_column(logits, -jnp.inf)
    known = jnp.where((known == EOS) & is_running, V, known)
    logits = _certain(logits, known, left > 0)
    logits = _certain(logits, jnp.full_like(known, EOS), left <= -length)
    return cache.replace(state=state, written=cache.written + 1), logits

  tokens, scores = decoding(
    step,
    _Cache(state, given, count, jnp.zeros(B, jnp.int32)),
    batch_size=B,
    max_len=F + length + 1,
    limit=count + length + 1,
    ids=ids,
  )
  tokens = tokens[:, :, : F + length]
  if is_running:
    tokens = jnp.where(tokens == EOS, PAD, tokens)
  return jnp.where(tokens == model.size, EOS, tokens), scores


def _with_column(logits: Array, column: Array | float) -> Array:
  """Appends a token: [N, V] -> [N, V + 1]."""
  shape = (len(logits), 1)
  return jnp.concatenate([logits, jnp.broadcast_to(column, shape)], axis=1)


def _with_line_end(logits: Array) -> Array:
  """Makes EOS token V, and leaves no probability to EOS itself."""
  return _with_column(logits, logits[:, EOS, None]).at[:, EOS].set(-jnp.inf)


def _certain(logits: Array, token: Array, where: Array) -> Array:
  """Gives a token, [N], all probability in some rows, [N] bool."""
  is_token = jnp.arange(logits.shape[1]) == token[:, None]
  return jnp.where(where[:, None], jnp.where(is_token, 0.0, -jnp.inf), logits)


class Generator:
  """Continues prompts, in batches of similar lengths.

  Whenever a text fills the model's context, the model reads the last half of it again,
  at positions from 0, and continues from there.

  Attributes:
    vocabulary: gives ids of prompts, and the text of ids.
    decoding: how outputs are found.
    written: number of tokens that were generated so far.
  """

  def __init__(
    self,
    task: Generates,
    variables: Variables,
    decoding: DecodingConfig,
    *,
    rows: int = 64,
    fingerprint: str | None = None,
  ):
    """Compiles nothing yet; each shape is compiled when its first batch comes.

    Args:
      task: gives the model, the vocabulary, the context and the kind of text.
      variables: variables of the model.
      decoding: how outputs are found.
      rows: number of hypotheses in a batch, at most.
      fingerprint: digest of model and decoding; see `seqlab.programs`.
    """
    _check_kind(decoding)
    self.vocabulary: Vocabulary = task.vocabularies.text
    self.decoding, self.written = decoding, 0
    self._variables, self._fingerprint = variables, fingerprint
    self._context, self._is_running = task.context, task.is_running
    self._rows = max(1, rows // decoding.num_hypotheses)
    # A length penalty counts what is searched for, which is then no part of the prompt.
    self._block = 1 if decoding.num_hypotheses > 1 else _BLOCK
    self._model = in_dtype(task.model, decoding.dtype)
    self._programs = functools.cache(self._program)

  def _program(self, length: int) -> Fitting:
    options = dict(
      decoding=self.decoding,
      length=length,
      max_len=sys.maxsize if self._context is None else self._context,
      is_running=self._is_running,
    )
    fingerprint = self._fingerprint and f'{self._fingerprint} {length}'
    return Fitting(
      functools.partial(continue_text, self._model, **options), fingerprint
    )

  def generate(
    self, prompts: Sequence[str], *, length: int, samples: int = 1, first: int = 0
  ) -> list[list[Generated]]:
    """Continues prompts.

    Args:
      prompts: texts, which may be empty. Those of documents are of one line.
      length: number of tokens to write; a document may end before.
      samples: number of texts for each prompt: as many draws of a random decoding, or
        the best hypotheses of another one.
      first: number of the first prompt in its stream; together with the seed it decides
        the random bits of sampling.

    Returns:
      For each prompt its texts.

    Raises:
      ValueError: a decoding without random draws has fewer hypotheses than `samples`, a
        beam search would need more than the model's context, a prompt does not fit the
        kind of text, or a batch does not fit into memory.
      ArithmeticError: the parameters are not finite.
    """
    self._check(samples)
    draws = samples if self.decoding.is_random else 1
    inputs = [x for x in self._encode(prompts) for _ in range(draws)]
    numbers = first * draws + np.arange(len(inputs))
    outputs: dict[int, _Hypotheses] = {}
    for rows in self._batches(inputs, length):
      chosen = [inputs[i] for i in rows]
      hypotheses = self._continue(chosen, numbers[rows], length)
      outputs |= dict(zip(rows, hypotheses, strict=True))
    texts = [
      [self._generated(x, *each) for each in _finite(outputs[i])[: samples // draws]]
      for i, x in enumerate(inputs)
    ]
    return [
      [text for row in texts[i : i + draws] for text in row]
      for i in range(0, len(texts), draws)
    ]

  def _check(self, samples: int) -> None:
    most = self.decoding.num_hypotheses
    if samples > most and not self.decoding.is_random:
      raise ValueError(
        f'{samples} samples, and {type(self.decoding).__name__} gives {most} per prompt: '
        'sample (--temperature 1), or search with --beam'
      )

  def _encode(self, prompts: Sequence[str]) -> list[np.ndarray]:
    """Returns what the model reads before the first new token, of each prompt.

    These are the token before the text, and the prompt, whose line ends are EOS.
    """
    start = EOS if self._is_running else BOS
    texts = [prompt.split('\n') for prompt in prompts]
    if not self._is_running and any(len(lines) > 1 for lines in texts):
      raise ValueError(
        'a prompt has several lines, and every line is a document of its own for this '
        'model: give one line'
      )
    flat, offsets = self.vocabulary.encode([line for text in texts for line in text])
    lines = iter([flat[a:b] for a, b in itertools.pairwise(offsets)])
    encoded = []
    for text in texts:
      parts = [np.append(x, EOS) for x in itertools.islice(lines, len(text))]
      encoded.append(np.concatenate([[start], *parts])[:-1].astype(np.int32))
    return encoded

  def _generated(self, inputs: np.ndarray, new: np.ndarray, score: float) -> Generated:
    """Returns the text of a prompt and of the tokens after it."""
    ids = np.concatenate([inputs[1:], new[new != PAD]])
    self.written += np.count_nonzero(new)
    ends = np.flatnonzero(ids == EOS)
    lines = np.split(ids, ends + 1) if self._is_running else [ids]
    return Generated('\n'.join(self.vocabulary.decode(lines)), score)

  def _batches(self, inputs: Sequence[np.ndarray], length: int) -> Iterator[list[int]]:
    """Yields the numbers of prompts that are continued together.

    What a row reads at once depends on its own length, as random bits do. Rows that
    have to move on through the context do so at the same places.
    """

    def key(i: int) -> tuple[int, int]:
      n = len(inputs[i])
      return (self._read_at_once(n), 0 if self._fits(n, length) else n)

    order = sorted(range(len(inputs)), key=lambda i: (*key(i), i))
    for _, rows in itertools.groupby(order, key):
      group = [*rows]
      for start in range(0, len(group), self._rows):
        yield group[start : start + self._rows]

  def _read_at_once(self, inputs: int) -> int:
    """Returns how many of so many tokens are read at once, before the search."""
    return (inputs - 1) // self._block * self._block

  def _fits(self, inputs: int, length: int) -> bool:
    """Returns whether a text fits into what the model has learnt to read."""
    return self._context is None or inputs + length - 1 <= self._context

  def _continue(
    self, inputs: Sequence[np.ndarray], numbers: np.ndarray, length: int
  ) -> list[_Hypotheses]:
    """Returns the hypotheses of each row: new tokens [length] and the score."""
    if self._fits(max(map(len, inputs)), length):
      return self._search(inputs, numbers, length)
    if self.decoding.num_hypotheses > 1:
      raise ValueError(
        f'a beam search of {length} tokens needs more than the {self._context} tokens '
        'that the model has learnt to read, prompt included: lower --length, or sample'
      )
    B, written = len(inputs), 0
    new, scores = np.zeros((B, length), np.int32), np.zeros(B)
    ended = np.zeros(B, bool)
    while written < length and not ended.all():
      texts = [
        np.concatenate([x, y[:written]]) for x, y in zip(inputs, new, strict=True)
      ]
      contexts = [self._context_of(text) for text in texts]
      count = min(length - written, self._context - len(contexts[0]) + 1)
      # Positions are counted from 0 again, and would draw the same bits again.
      drawn = (numbers + 1_000_003 * written) % 2**31
      for i, [(tokens, score)] in enumerate(self._search(contexts, drawn, count)):
        if not ended[i]:
          new[i, written : written + count] = tokens
          scores[i] += score
          ended[i] = not self._is_running and EOS in tokens
      written += count
    return [[(x, float(score))] for x, score in zip(new, scores, strict=True)]

  def _context_of(self, text: np.ndarray) -> np.ndarray:
    """Returns what the model reads of a text; see the class."""
    return text if len(text) <= self._context else text[-max(1, self._context // 2) :]

  def _search(
    self, inputs: Sequence[np.ndarray], numbers: np.ndarray, length: int
  ) -> list[_Hypotheses]:
    """Continues texts that fit into the context; see `_continue`."""
    # Of few shapes: each is compiled.
    rows = min(self._rows, 1 << (len(inputs) - 1).bit_length())
    P = self._read_at_once(len(inputs[0]))
    lengths = {len(x) for x in inputs}
    width = max(lengths) - P if len(lengths) == 1 else _BLOCK
    given = np.full((rows, width), PAD, np.int32)
    first = np.full((rows, P), PAD, np.int32)
    count = np.zeros(rows, np.int32)
    for i, x in enumerate(inputs):
      first[i], given[i, : len(x) - P], count[i] = x[:P], x[P:], len(x) - P - 1
    ids = np.resize(numbers, rows).astype(np.int32)
    try:
      program = self._programs(length)
      tokens, scores = jax.device_get(
        program(self._variables, first, given, count, ids)
      )
    except TooLongError as error:
      raise ValueError(f'{length} tokens after a prompt: {error}') from None
    return [
      [
        (tokens[i, m, n : n + length], float(scores[i, m]))
        for m in range(tokens.shape[1])
      ]
      for i, n in enumerate(count[: len(inputs)])
    ]


def _check_kind(decoding: DecodingConfig) -> None:
  """Raises ValueError for options that count tokens, read a source or compare texts.

  A search reads a part of the prompt as if it were written.
  """
  ruled = isinstance(decoding, Ruled) and decoding.rules().exist
  if ruled or decoding.attends or decoding.num_draws > 1:
    raise ValueError(
      'min_length, no_repeat_ngram, coverage and mbr are for translation: leave them out '
      'to generate text'
    )


def _finite(hypotheses: _Hypotheses) -> _Hypotheses:
  """Returns the hypotheses that there are; a beam may have found fewer."""
  finite = [x for x in hypotheses if np.isfinite(x[1])]
  if not finite:
    raise ArithmeticError(
      'the model gives no text a finite score: its parameters are not finite'
    )
  return finite
