"""Sentences to sentences: a trained model, its vocabularies, and a search."""

import collections
from collections.abc import Mapping, Sequence
import concurrent.futures
import dataclasses
import functools
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from seqlab.data.batching import reverse_sentences
from seqlab.decoding.beam import reorder
from seqlab.decoding.config import DecodingConfig
from seqlab.layers.device import chosen_cpu_dtype, concurrent_calls, platform
from seqlab.metrics.characters import PieceBytes, pieces_of
from seqlab.models.ensemble import Ensemble
from seqlab.models.interface import Seq2Seq, compute_dtype
from seqlab.tasks.required import (
  Required,
  RequiredIds,
  encode_required,
  required_arrays,
)
from seqlab.tasks.sentences import (
  Fitting,
  Program,
  TooLongError,
  available_memory,
  batches_of,
  encode_fitting,
  no_memory,
  padded,
)
from seqlab.text.lines import is_blank
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import PAD, Array, PyTree, Variables

_FIRST = concurrent.futures.FIRST_COMPLETED
_Outputs = dict[int, tuple[np.ndarray, np.ndarray]]  # line -> ids [M, L], scores [M]


class Hypothesis(NamedTuple):
  """A translation.

  Attributes:
    text: the text.
    score: the score of the search.
    ids: its tokens [L], PAD after EOS; no token if the source is blank or refused.
  """

  text: str
  score: float
  ids: np.ndarray


def decode(
  model: Seq2Seq,
  variables: Variables,
  source: Array,
  decoding: DecodingConfig,
  ids: Array | None = None,
  *,
  prefix: Array | None = None,
  phrases: Array | None = None,
  pieces: PieceBytes | None = None,
) -> tuple[Array, Array]:
  """Encodes and decodes a batch. Pure; jit it with model and decoding static.

  Args:
    model: a `Seq2Seq` module.
    variables: its variables.
    source: [B, S] ids. A row of padding gives an empty output.
    decoding: how outputs are found.
    ids: [B] number of each sentence, from which its random bits come; by default 0, 1,
      2, ...
    prefix: [B, P] ids with which outputs begin, PAD after the last one; None if there
      are none. Only kinds of decoding that obey `decoding.rules` take it.
    phrases: [B, C, P] ids of phrases that outputs contain, PAD after the last token of
      each; None if there are none. Only beam search takes them.
    pieces: text of each target token; minimum Bayes risk needs it.

  Returns:
    Tokens [B, M, L], PAD after EOS, best first, and scores [B, M].
  """
  model = in_dtype(model, decoding.dtype)
  B, S = source.shape
  memory = model.apply(variables, source, method='encode')
  if decoding.num_draws > 1:
    memory = jax.tree.map(lambda x: jnp.repeat(x, decoding.num_draws, axis=0), memory)
  lengths = (source != PAD).sum(axis=1)
  max_len, rows = decoding.limit(S), B * decoding.num_hypotheses
  state = model.apply(variables, memory, rows, max_len, method='start')

  coverage = None
  if decoding.attends:
    check_attends(model)
    coverage = jnp.repeat((source == PAD).astype(jnp.float32), rows // B, axis=0)

  def step(cache, token):
    args = (cache.memory, cache.state, token)
    if decoding.attends:
      state, logits, weights = model.apply(variables, *args, method='step_attending')
      return cache.replace(state=state, coverage=cache.coverage + weights), logits
    state, logits = model.apply(variables, *args, method='step')
    return cache.replace(state=state), logits

  tokens, scores = decoding(
    step,
    _Cache(memory, state, coverage),
    batch_size=B,
    max_len=max_len,
    limit=jnp.where(lengths > 0, decoding.limit(lengths), 0),
    ids=jnp.arange(B) if ids is None else ids,
    **({} if prefix is None else {'prefix': prefix}),
    **({} if phrases is None else {'phrases': phrases}),
  )
  return decoding.rank(tokens, scores, pieces)


def check_attends(model: Seq2Seq) -> None:
  """Raises ValueError for a model that cannot return the attention of a step."""
  if isinstance(model, Ensemble):
    for each in model.models:
      check_attends(each)
  elif not hasattr(model, 'step_attending') or not getattr(model, 'attention', True):
    raise ValueError(
      f'the model ({type(model).__name__}) has no attention that a search could read: '
      'leave coverage out (--coverage)'
    )


def in_dtype(model: Seq2Seq, dtype: str | None) -> Seq2Seq:
  """Returns the model as a search computes it.

  A step of a search is small. On two CPU cores bfloat16 makes beam search with a width
  of 512 1.25 times as fast, and with a width of 128 takes 1.2 times as long as float32,
  since operations other than products take most of the time there.

  Args:
    model: a model, or an ensemble of models.
    dtype: 'float32' or 'bfloat16'; None for the model's own, or float32 for a model
      narrower than 256 on a CPU. The variable SEQLAB_CPU_DTYPE turns this exception
      off.

  Raises:
    ValueError: a dtype is given, and the model is not a Linen module with a field
      `dtype`.
  """
  if isinstance(model, Ensemble):
    return Ensemble([in_dtype(each, dtype) for each in model.models])
  settable = hasattr(model, 'dtype') and hasattr(model, 'clone')
  if dtype and not settable:
    raise ValueError(
      f'{type(model).__name__} is not a Linen module with a field dtype, which --dtype '
      'would set: leave --dtype out'
    )
  if dtype is None and settable and _searches_in_float32(model):
    dtype = 'float32'
  return model.clone(dtype=dtype) if dtype else model


def _searches_in_float32(model: Seq2Seq) -> bool:
  """Returns whether a search is faster in float32 on this device; see `in_dtype`."""
  narrow = platform() == 'cpu' and getattr(model, 'width', 256) < 256
  return narrow and chosen_cpu_dtype() is None


def search_dtype(model: Seq2Seq, dtype: str | None) -> str | None:
  """Returns the dtype of a search's products, never 'auto'.

  Args:
    model: see `in_dtype`. The dtypes of an ensemble are joined by '+'.
    dtype: see `in_dtype`.

  Returns:
    None if no model declares a dtype.
  """
  model = in_dtype(model, dtype)
  models = model.models if isinstance(model, Ensemble) else [model]
  declared = [name for each in models if (name := getattr(each, 'dtype', None))]
  return '+'.join(sorted({compute_dtype(name).name for name in declared})) or None


@struct.dataclass
class _Cache:
  """What a step reads: the source and the model's own state.

  The source is part of it so that a search can drop sentences.

  Attributes:
    memory: leaves [B, ...].
    state: the model's own.
    coverage: [B * M, S] sums of attention, see `DecodingConfig.attends`; None if the
      search does not read them.
  """

  memory: PyTree
  state: PyTree
  coverage: Array | None = None

  def reorder(self, parent: Array) -> '_Cache':
    """See `decoding.beam.reorder`; a sentence's hypotheses share its source."""
    state, coverage = reorder((self.state, self.coverage), parent)
    return self.replace(state=state, coverage=coverage)


class Translator:
  """Translates lists of sentences in batches sorted by length.

  Attributes:
    vocabularies: vocabularies of both languages.
    decoding: how outputs are found.
    written: number of tokens of the best outputs so far, EOS included.
    refused: line number -> why it was not translated, in the last call. Such a line has
      no output, and all other lines have theirs: a line is never cut.
  """

  def __init__(
    self,
    model: Seq2Seq,
    variables: Variables,
    vocabularies: Vocabularies,
    decoding: DecodingConfig,
    *,
    tokens: int = 4096,
    reverse_source: bool = False,
    fingerprint: str | None = None,
    sharding: NamedSharding | None = None,
  ):
    """Compiles nothing yet; each shape is compiled when its first batch comes.

    Args:
      model: a `Seq2Seq` module.
      variables: its variables.
      vocabularies: vocabularies of both languages.
      decoding: how outputs are found.
      tokens: number of source positions times hypotheses in a batch, at most.
      reverse_source: whether sources are read from their end, as in training.
      fingerprint: digest of model and decoding; see `seqlab.programs`.
      sharding: sharding of the rows of a batch over several devices; None for the
        device of the variables. `tokens` is then that of each device.
    """
    self._sharding, self._devices = sharding, 1
    if sharding is not None:
      self._devices = sharding.num_devices
      tokens *= self._devices
      whole = NamedSharding(sharding.mesh, PartitionSpec())
      variables = jax.device_put(variables, whole)
      # With fewer rows, sentences would change their device.
      decoding = dataclasses.replace(decoding, stages=1)
    self.vocabularies, self.decoding = vocabularies, decoding
    self._variables, self._tokens, self._reverse = variables, tokens, reverse_source
    self.written = 0
    self.refused: dict[int, str] = {}
    # Here too, since `Fitting` takes an error of the model for a line that is too long.
    model = in_dtype(model, decoding.dtype)
    if decoding.attends:
      check_attends(model)
    pieces = pieces_of(vocabularies.target) if decoding.num_draws > 1 else None
    self._decode = Fitting(
      functools.partial(decode, model, decoding=decoding, pieces=pieces), fingerprint
    )

  def translate(self, lines: Sequence[str]) -> list[str]:
    """Returns the best translation of each line; a blank line gives an empty line."""
    return [best[0][0] for best in self.n_best(lines)]

  def best_ids(self, lines: Sequence[str]) -> list[np.ndarray]:
    """Returns the ids of the best translation of each line, [L]; PAD after its EOS."""
    nothing = np.zeros(0, np.int32)
    outputs = self._outputs(lines)
    return [nothing if out is None else out[0][0] for out in outputs]

  def n_best(
    self,
    lines: Sequence[str],
    *,
    first: int = 0,
    required: Mapping[int, Required] = {},  # never changed
  ) -> list[list[tuple[str, float]]]:
    """Returns the translations of each line with their scores, best first.

    No text occurs twice: of several segmentations of one text the best counts. There
    may thus be fewer texts than hypotheses in the beam, but always one.

    Args:
      lines: source sentences. A blank one, or a refused one, gives an empty one, with
        score 0.
      first: number of the first line in its stream; together with the seed it decides
        the random bits of sampling.
      required: number of a line -> what its translations have to contain.

    Raises:
      ValueError: the kind of decoding cannot do that.
    """
    return [
      [(x.text, x.score) for x in best]
      for best in self.hypotheses(lines, first=first, required=required)
    ]

  def hypotheses(
    self,
    lines: Sequence[str],
    *,
    first: int = 0,
    required: Mapping[int, Required] = {},  # never changed
  ) -> list[list[Hypothesis]]:
    """Returns the translations of each line as `n_best` does, with their tokens."""
    empty = Hypothesis('', 0.0, np.zeros(0, np.int32))
    return [
      [empty] if out is None else self._hypotheses(*out)
      for out in self._outputs(lines, first, required)
    ]

  def _hypotheses(self, ids: np.ndarray, scores: np.ndarray) -> list[Hypothesis]:
    best: dict[str, Hypothesis] = {}
    texts = self.vocabularies.target.decode(ids)
    for x in map(Hypothesis, texts, scores.tolist(), ids):
      if np.isfinite(x.score):
        best.setdefault(x.text, x)  # the best comes first
    if not best:
      raise ArithmeticError(
        'the model gives no output a finite score: its parameters are not finite, or the '
        'options of decoding allow no output'
      )
    return list(best.values())

  def _outputs(
    self,
    lines: Sequence[str],
    first: int = 0,
    required: Mapping[int, Required] = {},  # never changed
  ) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Returns ids [M, L] and scores [M], best first, per line; None if it is empty."""
    shown = {i: line for i, line in enumerate(lines) if not is_blank(line)}
    sentences, self.refused = encode_fitting(self.vocabularies.source, shown)
    # A line has no piece at all if the vocabulary knows none of its characters.
    full = {i: len(ids) for i, ids in sentences.items() if len(ids) > 1}
    ids_of, refused = encode_required(
      self.vocabularies.target, self.decoding, required, full
    )
    self.refused |= refused
    full = {i: n for i, n in full.items() if i not in refused}
    outputs_of = self._search_all(sentences, full, first, ids_of)
    for i in _without_output(outputs_of, ids_of):
      del outputs_of[i]
      self.refused[i] = (
        'has no translation with what it requires that the options of decoding allow: '
        'raise --max-length or --beam, or leave --no-repeat-ngram out'
      )
    self.written += sum(np.count_nonzero(ids[0]) for ids, _ in outputs_of.values())
    empty = {i for i in range(len(lines)) if i not in full or i in self.refused}
    # A missing output would shift all lines after it against their sources.
    done = outputs_of.keys()
    if done | empty != set(range(len(lines))) or done & empty:
      raise AssertionError(f'{len(done)} outputs for {len(full)} lines that need one')
    return [outputs_of.get(i) for i in range(len(lines))]

  def _search_all(
    self,
    sentences: Mapping[int, np.ndarray],
    lengths: dict[int, int],
    first: int,
    required: Mapping[int, RequiredIds],
  ) -> _Outputs:
    """Decodes these sentences, several batches at once; adds to `refused`."""
    # Every hypothesis is a row of the decoder's batch. The longest come first, so that
    # all threads end at about the same time.
    batches = batches_of(lengths, self._tokens // self.decoding.num_hypotheses)
    waiting = collections.deque(reversed([*batches]))
    running: dict[concurrent.futures.Future, _Search] = {}
    outputs: _Outputs = {}
    free = available_memory()

    def refuse(rows: list[int], width: int, error: TooLongError) -> None:
      if len(rows) > 1:  # too many together; each alone may fit
        waiting.extend(([i], (1, width)) for i in rows)
      else:
        self.refused[rows[0]] = f'is {lengths[rows[0]]:,} pieces long; {error}'

    def prepare_next() -> _Search | None:
      """Takes the next search that there is memory for beside those that run."""
      nonlocal free
      rows, shape = waiting[0]
      try:
        search = self._prepare(sentences, rows, shape, first, required)
        if not running:
          free = available_memory()
          search.program.check_fits(free)
      except TooLongError as error:
        waiting.popleft()
        refuse(rows, shape[1], error)
        return None
      taken = sum(other.program.need for other in running.values())
      if taken + search.program.need > free:
        return None
      waiting.popleft()
      return search

    # Programs of several devices wait for each other, and must not wait crosswise.
    calls = concurrent_calls() if self._sharding is None else 1
    with concurrent.futures.ThreadPoolExecutor(calls) as pool:
      try:
        while waiting or running:
          if waiting and len(running) < calls and (search := prepare_next()):
            running[pool.submit(search.run, self._variables)] = search
          elif running:
            for future in concurrent.futures.wait(running, return_when=_FIRST)[0]:
              search = running.pop(future)
              try:
                outputs |= future.result()
              except TooLongError as error:
                refuse(search.rows, search.source.shape[1], error)
      finally:
        for future in running:  # of which there are some after an error
          future.cancel()
    return outputs

  def _prepare(
    self,
    sentences: Mapping[int, np.ndarray],
    rows: list[int],
    shape: tuple[int, int],
    first: int,
    required: Mapping[int, RequiredIds],
  ) -> '_Search':
    """Compiles the search of a batch. Raises `TooLongError`, see `Fitting.prepare`."""
    shape = -(-shape[0] // self._devices) * self._devices, shape[1]
    source = padded(sentences, rows, shape)
    if self._reverse:
      source = reverse_sentences(source)
    named = {'ids': first + np.resize(rows, len(source))}
    limit = self.decoding.limit(shape[1])
    named |= required_arrays(required, rows, shape[0], limit)
    if self._sharding is not None:
      source, named = jax.device_put((source, named), self._sharding)
    # Here and not in the thread that runs it, which does not have this thread's settings
    # of JAX, such as `jax.default_matmul_precision`.
    program = self._decode.prepare(self._variables, source, **named)
    return _Search(program, rows, source, named)


def _without_output(
  outputs: _Outputs, required: Mapping[int, RequiredIds]
) -> list[int]:
  """Returns the lines that require something and whose search gave no output.

  Without requirements, or where a score is NaN, something else is wrong with the model.
  """
  return [i for i in required if i in outputs and np.isneginf(outputs[i][1]).all()]


class _Search(NamedTuple):
  """The search of a batch.

  Attributes:
    program: decodes it.
    rows: number of the line of each of its first rows.
    source: [B, S] ids.
    named: 'ids', [B] numbers for random bits; and 'prefix' and 'phrases', see `decode`,
      if there are any.
  """

  program: Program
  rows: list[int]
  source: np.ndarray
  named: Mapping[str, np.ndarray]

  def run(self, variables: Variables) -> _Outputs:
    """Decodes: line -> its hypotheses' ids and scores.

    Raises:
      TooLongError: there is no memory.
    """
    try:
      outputs = self.program.call(variables, self.source, **self.named)
      outputs = jax.device_get(outputs)
    except jax.errors.JaxRuntimeError as error:
      raise no_memory(error) from None
    each = zip(self.rows, *outputs, strict=False)
    return {row: (ids, scores) for row, ids, scores in each}
