"""The interfaces of models to the rest of the tree.

They consist of pure functions. Beam search does not depend on a model, nor a model on
beam search. State between steps is an argument and a result.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from flax import struct
import jax.numpy as jnp

from seqlab.config import check_keys
from seqlab.layers.device import has_fast_bfloat16
from seqlab.layers.dropout import uniform
from seqlab.types import BOS, Array, PyTree

# How a token of scheduled sampling is chosen: drawn, or the most probable one.
SamplingChoice = Literal['random', 'argmax']


@struct.dataclass
class Packing:
  """Where sentences lie when several share a row.

  Attributes:
    source_segment: [B, S] int32, the sentence's number in its row, 0 for padding.
    source_position: [B, S] int32, from 0 in each sentence.
    target_segment: [B, T] int32, the same numbers on the target side.
    target_position: [B, T] int32.
  """

  source_segment: Array
  source_position: Array
  target_segment: Array
  target_position: Array


class Seq2Seq(Protocol):
  """B rows, S source and T target positions, V words, N = B * M hypotheses.

  Attributes:
    hyper_names: keys of `hyper` that the model reads.

  A model may also have
    splits_rows: True if the result for a row depends on no other row, and random numbers
      are those of `layers.dropout`; see `tasks.interface.SplitsRows`.
    gathers_weights: True if every layer gathers its weights by itself where parameters
      are sharded over the devices (`layers.sharding`), so that no device ever holds all
      of them.
    applications: name of a module -> how often its parameters are applied to a token,
      where layers or matrices share them; those of a module in another one are applied
      as often as the product says. Used to count operations.
    step_attending: a method as `step` that returns a third array, float32 [N, S]: the
      weights by which the hypotheses attend to the source, of which those of padding
      are 0. A search with a coverage penalty needs it.
    is_mixture: True if the distribution of a word is not the softmax of a product of two
      factors, but a mixture. `__call__` and `step` then return log-probabilities, which
      are logits too. The loss is computed from `__call__`, and not from `features`.
  """

  hyper_names: tuple[str, ...]

  def __call__(
    self,
    source: Array,  # [B, S] ids, PAD after EOS
    target: Array,  # [B, T] ids to be predicted; the model shifts them itself
    *,
    train: bool = False,
    hyper: PyTree = None,  # traced scalars: dropout, attention_dropout, ...
    packing: Packing | None = None,
  ) -> Array:  # [B, T, V] logits
    """Predicts each target word from the true ones before it (teacher forcing)."""
    ...

  def features(
    self,
    source: Array,
    target: Array,
    *,
    train: bool = False,
    hyper: PyTree = None,
    packing: Packing | None = None,
  ) -> tuple[Array, Array]:  # [B, T, D], [V, D]
    """Returns the two factors of the logits, for a loss that does not build them."""
    ...

  def encode(self, source: Array) -> PyTree:
    """Encodes the source for decoding: [B, S] -> memory, leaves [B, ...]."""
    ...

  def start(self, memory: PyTree, rows: int, max_len: int) -> PyTree:
    """Returns an empty cache for N = `rows` hypotheses of up to `max_len` words.

    Two methods of a part of the cache change how a search treats that part:
      reorder: see `decoding.beam.reorder`.
      resized: length -> the part with room for so many words. A search takes its first
        steps with fewer than `max_len`, so that `step` must read the length from the
        cache. See `decoding.loop.search_loop`.
    """
    ...

  def step(self, memory: PyTree, cache: PyTree, token: Array) -> tuple[PyTree, Array]:
    """Reads one word per hypothesis: [N] -> the cache one step on, logits [N, V].

    Hypotheses are ordered sentence by sentence; N is a multiple of B.
    """
    ...

  @staticmethod
  def weights_of(sown: PyTree) -> dict[str, Array]:
    """Returns attention weights from 'intermediates'; see `attention_weights`."""
    ...


@struct.dataclass
class TextPacking:
  """Where documents lie when several share a row.

  Attributes:
    segment: [B, L] int32, the document's number in its row, 0 for padding.
    position: [B, L] int32, from 0 in each document.
  """

  segment: Array
  position: Array


class LanguageModel(Protocol):
  """A model of text of one side. B rows of L positions, V words, N = B * M hypotheses.

  A model may also have a state that one row of a stream hands on to the next, as a
  recurrent one has. It then has two more methods:
    initial_state: rows -> the state before the first token, leaves [B, ...].
    advance: as `features` with one more argument `state`; returns its result, and the
      state after the last position.

  It may also have `splits_rows`, `gathers_weights` and `applications`, as `Seq2Seq`.

  Attributes:
    hyper_names: keys of `hyper` that the model reads.
  """

  hyper_names: tuple[str, ...]

  def __call__(
    self,
    text: Array,  # [B, L] ids to be predicted; the model shifts them itself
    previous: Array | None = None,  # [B] the id before each row; None for BOS
    *,
    train: bool = False,
    hyper: PyTree = None,  # traced scalars: dropout, ...
    packing: TextPacking | None = None,
  ) -> Array:  # [B, L, V] logits
    """Predicts each token from those before it."""
    ...

  def features(
    self,
    text: Array,
    previous: Array | None = None,
    *,
    train: bool = False,
    hyper: PyTree = None,
    packing: TextPacking | None = None,
  ) -> tuple[Array, Array]:  # [B, L, D], [V, D]
    """Returns the two factors of the logits, for a loss that does not build them."""
    ...

  def start(self, rows: int, hypotheses: int, max_len: int) -> PyTree:
    """Returns an empty cache for up to `max_len` tokens read; see `Seq2Seq.start`.

    Args:
      rows: B.
      hypotheses: hypotheses per row, M.
      max_len: number of tokens that the cache has room for.
    """
    ...

  def read(self, cache: PyTree, tokens: Array) -> PyTree:
    """Reads the first tokens [B, P] of all rows at once into an empty cache."""
    ...

  def step(self, cache: PyTree, token: Array) -> tuple[PyTree, Array]:
    """Reads one token per hypothesis: [N] -> the cache one step on, logits [N, V]."""
    ...


def training_hyper(
  hyper: Mapping[str, Array] | None, known: Iterable[str], *, train: bool
) -> Mapping[str, Array]:
  """Returns the hyperparameters that a model trains with.

  Dropout would be off without a message where a name is misspelt, where `hyper` is
  missing in training, or where it is given and nothing trains: each is an error.

  Args:
    hyper: name -> traced scalar, as the caller of the model gave it.
    known: names that the model reads, its `hyper_names`.
    train: whether the caller trains.

  Returns:
    `hyper`; an empty mapping where nothing is trained.

  Raises:
    ValueError: a name is unknown, `train` is True without `hyper`, or `hyper` holds
      values and `train` is False.
  """
  if train and hyper is None:
    raise ValueError(
      'train=True needs hyper: give the dropout rates, as in hyper={"dropout": 0.1}, or '
      'hyper={} to train without dropout'
    )
  hyper = hyper or {}
  check_keys(hyper, known, where='hyper.')
  if hyper and not train:
    raise ValueError(
      f'hyper ({", ".join(hyper)}) has an effect in training only: set train=True, or '
      'leave hyper out'
    )
  return hyper


def shift_right(target: Array, packing: Packing | None = None) -> Array:
  """Returns each word's predecessor, [B, T]; BOS for the first of each sentence."""
  shifted = jnp.roll(target, 1, axis=1)
  if packing is None:
    return shifted.at[:, 0].set(BOS)
  return jnp.where(packing.target_position == 0, BOS, shifted)


def predecessors(
  text: Array, previous: Array | None, packing: TextPacking | None = None
) -> Array:
  """Returns the token before each one, [B, L] -> [B, L].

  Args:
    text: [B, L] ids.
    previous: [B] the id before each row; None for BOS.
    packing: if given, BOS is before the first token of each document.
  """
  shifted = (
    jnp.roll(text, 1, axis=1).at[:, 0].set(BOS if previous is None else previous)
  )
  if packing is None:
    return shifted
  return jnp.where(packing.position == 0, BOS, shifted)


def own_tokens(logits: Array, key: Array | None) -> Array:
  """Returns a model's choice of tokens, to be read instead of the true ones.

  Args:
    logits: [..., V], the rows of the batch first.
    key: random key of a sample of the distribution; None for the most probable token.

  Returns:
    ids [...], int32.
  """
  if key is not None:
    # The largest of the logits plus Gumbel noise is a sample of their softmax.
    logits -= jnp.log(-jnp.log(uniform(key, logits.shape)))
  return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def attention_weights(
  model: Seq2Seq | LanguageModel, variables: PyTree, *ids: Array
) -> dict[str, Array]:
  """Returns the attention weights of a model that reads the true words.

  Args:
    model: a model with attention.
    variables: variables of the model.
    *ids: positional arguments of the model: source [B, S] and target [B, T], or a text
      [B, L] and the id before each row, [B].

  Returns:
    [layers, B, H, L, S] float32 for each kind of attention: 'encoder',
    'decoder' (of each to itself) and 'cross' (of the decoder to the source).

  Raises:
    ValueError: the model has no attention.
  """
  _, collections = model.apply(variables, *ids, mutable=['intermediates'])
  if not collections.get('intermediates'):
    advice = ': set model.attention' if hasattr(model, 'attention') else ''
    raise ValueError(f'the model ({type(model).__name__}) has no attention{advice}')
  return model.weights_of(collections['intermediates'])


def compute_dtype(name: str) -> jnp.dtype:
  """Returns a dtype by its name; for 'auto', bfloat16 where its products are fast.

  It depends on the device that the model is compiled for, see `layers.device`.
  """
  if name != 'auto':
    return jnp.dtype(name)
  return jnp.dtype(jnp.bfloat16 if has_fast_bfloat16() else jnp.float32)
