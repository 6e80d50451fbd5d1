"""Attention of each head to governing words, on the corpus whose grammar is known.

When the piece that carries a word's form is predicted, does a head attend to the word
that determines the form? And is the form still correct without that head
(Voita et al. 2019, https://arxiv.org/abs/1905.09418; Michel et al. 2019,
https://arxiv.org/abs/1905.10650)?
"""

from collections.abc import Iterator
import dataclasses

import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.domains import Count
from seqlab.evaluators.resident import Resident, evaluation_batches
from seqlab.models.interface import attention_weights
from seqlab.tasks.interface import Translates
from seqlab.text.agreement import Agreement, Pair
from seqlab.text.vocabulary import Vocabulary
from seqlab.types import EOS, PAD, Variables

KINDS = ('gender', 'number', 'case')
SIDES = ('cross', 'decoder')
_PATHS = {'cross': 'cross_attention', 'decoder': 'self_attention'}


@dataclasses.dataclass(frozen=True)
class Form:
  """A word whose form is determined by another word, its governor, as pieces.

  Attributes:
    kind: index in KINDS of the category that is determined.
    ending: target position of the word's last piece, which carries the form.
    source: positions of the source word that the governor translates; may be empty.
    target: positions of the governor among the pieces that the decoder has read, <s>
      at 0; empty if the governor comes later.
  """

  kind: int
  ending: int
  source: tuple[int, ...]
  target: tuple[int, ...]


def forms(pair: Pair, source: list[int], target: list[int]) -> list[Form]:
  """Returns the forms of a sentence.

  Args:
    pair: the sentence and its grammar.
    source: for each source piece the number of its word.
    target: for each target piece the number of its word.
  """
  sentence_forms = []
  for dependent, governor, kind in pair.dependencies:
    if kind in KINDS:
      aligned = pair.alignment[governor]
      before = governor < dependent
      sentence_forms.append(
        Form(
          kind=KINDS.index(kind),
          ending=max(i for i, word in enumerate(target) if word == dependent),
          source=tuple(i for i, word in enumerate(source) if word == aligned),
          target=tuple(
            i + 1 for i, word in enumerate(target) if word == governor and before
          ),
        )
      )
  return sentence_forms


def word_starts(vocabulary: Vocabulary) -> np.ndarray:
  """Returns which pieces begin a word, [V] bool."""
  return np.array([surface.startswith(b' ') for surface in vocabulary.surfaces()])


class Evaluator:
  """How often each head attends to the governor, and accuracy without that head.

  Attributes:
    arrays: results of the last run. `accuracy` [kinds] of the last pieces of the words
      whose form is determined, true words given; `look/<side>` [layers, H, kinds], how
      often a head attends most to the governor, where it is visible; `without/
      <side>` [layers, H, kinds], the accuracy without that head; `kinds`; `count`.
  """

  needs = (Translates,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  about = ''
  metrics: tuple[str, ...] = (
    *(f'accuracy_{kind}' for kind in KINDS),
    *(f'look_{kind}_{side}' for kind in KINDS for side in SIDES),
  )

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    split: str,
    tokens: Count = 4096,
    shapes: Count = 1,
  ):
    """Puts the split on the devices.

    Args:
      task: English to Russian on the embedded corpus, with a Transformer.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.

    Raises:
      ValueError: the corpus or the model is not of that kind.
    """
    if not isinstance(task.corpus, Agreement) or task.corpus.target != 'ru':
      raise ValueError(
        "evals: kind='agreement' knows the grammar of corpus.kind='agreement' with "
        "corpus.target='ru' only"
      )
    if not hasattr(task.model, 'heads'):
      raise ValueError("evals: kind='agreement' removes heads of a Transformer")
    self.arrays: dict[str, np.ndarray] = {}
    model = task.model
    layers = model.layers if model.decoder_layers is None else model.decoder_layers
    self._keep = {side: np.ones((layers, model.heads), np.float32) for side in SIDES}
    self._forms = self._read(task, split)

    def function(variables, batch):
      weights = attention_weights(model, variables, batch['source'], batch['target'])
      logits = model.apply(variables, batch['source'], batch['target'])
      looks = {side: weights[side].argmax(axis=-1) for side in SIDES}
      return logits.argmax(axis=-1) == batch['target'], looks

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, function)

  @staticmethod
  def _read(task: Translates, split: str) -> list[list[Form]]:
    """Returns the forms of every line."""
    stores = task.stores(split)
    vocabularies = task.vocabularies.source, task.vocabularies.target
    starts = [*map(word_starts, vocabularies)]
    lines = []
    for i, pair in enumerate(task.corpus.pairs(split)):
      words = []
      for store, start in zip(stores, starts, strict=True):
        ids = store.gather(np.array([i]), int(store.lengths[i]))[0]
        ids = ids[(ids != PAD) & (ids != EOS)]
        words.append((np.cumsum(start[ids]) - 1).tolist())
      lines.append(forms(pair, *words))
    return lines

  def _ablated(self, variables: Variables, side: str = '', head=()) -> Variables:
    """Returns the variables without a head; with all heads if `side` is empty."""
    keep = {s: k.copy() for s, k in self._keep.items()}
    if side:
      keep[side][head] = 0
    paths = {_PATHS[s]: {'keep': jnp.asarray(k)} for s, k in keep.items()}
    return {**variables, 'ablation': {'decoder': paths}}

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(self._ablated(variables))

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields the accuracy of each kind of form, and the best head's attention share."""
    out = self._resident.run(self._ablated(variables))
    accuracy, count = self._accuracy(out)
    self.arrays = {'kinds': np.array(KINDS), 'count': count, 'accuracy': accuracy}
    for side, keep in self._keep.items():
      self.arrays[f'look/{side}'] = self._looks(out, side)
      without = np.zeros((*keep.shape, len(KINDS)))
      for head in np.ndindex(keep.shape):
        ablated = self._resident.run(self._ablated(variables, side, head))
        without[head] = self._accuracy(ablated)[0]
      self.arrays[f'without/{side}'] = without
    for k, kind in enumerate(KINDS):
      yield f'accuracy_{kind}', float(accuracy[k])
      for side in SIDES:
        yield f'look_{kind}_{side}', float(self.arrays[f'look/{side}'][..., k].max())

  def _each(self, out: list) -> Iterator[tuple[np.ndarray, dict, Form]]:
    """Yields for each form: which of its row is correct, attention, and the form."""
    for rows, (right, looks) in zip(self._resident.rows, out, strict=True):
      for row, line in enumerate(rows):
        for form in self._forms[line] if line >= 0 else ():
          at = {side: x[:, row, :, form.ending] for side, x in looks.items()}
          yield right[row], at, form

  def _accuracy(self, out: list) -> tuple[np.ndarray, np.ndarray]:
    """Returns the share of correct endings and their number, [kinds] each."""
    right, count = np.zeros(len(KINDS)), np.zeros(len(KINDS), np.int64)
    for row, _, form in self._each(out):
      right[form.kind] += row[form.ending]
      count[form.kind] += 1
    return right / np.maximum(count, 1), count

  def _looks(self, out: list, side: str) -> np.ndarray:
    """Counts how often the most attended piece is the governor's [layers, H, kinds]."""
    hits = np.zeros((*self._keep[side].shape, len(KINDS)))
    count = np.zeros(len(KINDS))
    for _, looks, form in self._each(out):
      governor = form.source if side == 'cross' else form.target
      if governor:
        hits[..., form.kind] += np.isin(looks[side], governor)  # [layers, H]
        count[form.kind] += 1
    return hits / np.maximum(count, 1)
