"""Attention of each head to governing words, on the corpus whose grammar is known.

When the piece that carries a word's form is predicted, does a head attend to the word
that determines the form? And is the form still correct without that head
(Voita et al. 2019, https://arxiv.org/abs/1905.09418; Michel et al. 2019,
https://arxiv.org/abs/1905.10650)?

One noun determines both gender and number, but Russian shows the gender in the singular
only. 'gender' are therefore forms in the singular, and 'number' those in the plural. An
English plural with a piece of its own for its ending has two places to look at: 'stem' and
's' are the cases of 'number' with such a noun, and the share that goes to each.

Three baselines need no attention: a random visible piece ('uniform'), the best fixed
distance ('fixed'), and for each head its own distances, drawn without regard to the
sentence ('chance').
"""

from collections import Counter
from collections.abc import Iterator, Sequence
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

KINDS = ('gender', 'number', 'case', 'antecedent')
SIDES = ('cross', 'decoder')
# What a head may look at, by side: the word that determines a kind of form, and of a noun
# in the plural the pieces of its stem and that of its ending.
LOOKS = {'cross': (*KINDS, 'stem', 's'), 'decoder': KINDS}
_PATHS = {'cross': 'cross_attention', 'decoder': 'self_attention'}


@dataclasses.dataclass(frozen=True)
class Form:
  """A word whose form is determined by another word, its governor, as pieces.

  Attributes:
    kind: index in KINDS of the category that is determined.
    ending: target position of the piece that carries the form: the last one of the word;
      for 'antecedent' the first one, which tells свой from его.
    length: number of positions of the source that can be attended to, EOS included.
    source: positions of the source word that the governor translates; may be empty.
    target: positions of the governor among the pieces that the decoder has read, <s>
      at 0; empty if the governor comes later.
    stem: of a noun in the plural, positions of the pieces of its source word before its
      ending; empty where that has no piece of its own.
    plural: position of its ending, in a tuple; may be empty.
  """

  kind: int
  ending: int
  length: int
  source: tuple[int, ...]
  target: tuple[int, ...]
  stem: tuple[int, ...] = ()
  plural: tuple[int, ...] = ()

  def wanted(self, side: str, look: str) -> tuple[int, ...]:
    """Returns the positions that `look`, one of LOOKS, is about; empty if none are."""
    if look == 'stem':
      return self.stem
    if look == 's':
      return self.plural
    if KINDS[self.kind] != look:
      return ()
    return self.source if side == 'cross' else self.target

  def visible(self, side: str) -> int:
    """Returns the number of positions that can be attended to, from 0."""
    return self.length if side == 'cross' else self.ending + 1


def forms(
  pair: Pair, source: list[int], target: list[int], surfaces: list[bytes] | None = None
) -> list[Form]:
  """Returns the forms of a sentence.

  Args:
    pair: the sentence and its grammar.
    source: for each source piece the number of its word.
    target: for each target piece the number of its word.
    surfaces: what each source piece writes; without it no noun has a stem.
  """
  links = {(d.dependent, d.decider, d.kind) for d in pair.dependencies}
  sentence_forms = []
  for dependent, governor, kind in pair.dependencies:
    if kind == 'number' and (dependent, governor, 'gender') in links:
      continue  # in the singular, where it is a case of 'gender'
    pieces = [i for i, word in enumerate(target) if word == dependent]
    aligned, before = pair.alignment[governor], governor < dependent
    at = tuple(i for i, word in enumerate(source) if word == aligned)
    stem, plural = (), ()
    if kind == 'number' and surfaces and at:
      stem, plural = _stem_and_ending(at, surfaces)
    sentence_forms.append(
      Form(
        kind=KINDS.index(kind),
        ending=pieces[0] if kind == 'antecedent' else pieces[-1],
        length=len(source) + 1,
        source=at,
        target=tuple(
          i + 1 for i, word in enumerate(target) if word == governor and before
        ),
        stem=stem,
        plural=plural,
      )
    )
  return sentence_forms


def _stem_and_ending(
  at: tuple[int, ...], surfaces: list[bytes]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Returns the pieces of a noun before its ending, and the ending, if it is a piece.

  Args:
    at: positions of the pieces of the word, with the punctuation that follows it.
    surfaces: what each piece of the sentence writes.
  """
  texts = [surfaces[i].decode('utf-8', 'replace') for i in at]
  letters = [i for i, text in zip(at, texts, strict=True) if text.strip(' .,')]
  is_plural = len(letters) > 1 and surfaces[letters[-1]] in (b's', b'es')
  if not is_plural or any("'" in text for text in texts):  # of a possessor
    return (), ()
  return tuple(letters[:-1]), (letters[-1],)


def word_starts(vocabulary: Vocabulary) -> np.ndarray:
  """Returns which pieces begin a word, [V] bool."""
  return np.array([surface.startswith(b' ') for surface in vocabulary.surfaces()])


class Evaluator:
  """How often each head attends to the governor, and accuracy without that head.

  Attributes:
    arrays: results of the last run. `accuracy` [kinds] of the pieces that carry a form,
      true words given, and their number `count`; `kinds`, KINDS. For each side
      `look/<side>` [layers, H, looks], how often a head attends most to what each of
      LOOKS is about, where that is visible, and `cases/<side>` [looks], how often it is;
      `uniform/<side>` and `fixed/<side>` [looks], and `chance/<side>` [layers, H, looks],
      the same for the baselines; `distance/<side>` [looks], the best fixed distance;
      `without/<side>` [layers, H, kinds], the accuracy without that head.
  """

  needs = (Translates,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  about = ''
  metrics: tuple[str, ...] = (
    *(f'accuracy_{kind}' for kind in KINDS),
    *(f'look_{look}_{side}' for side in SIDES for look in LOOKS[side]),
    *(f'fixed_{look}_{side}' for side in SIDES for look in LOOKS[side]),
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
    surfaces = vocabularies[0].surfaces()
    lines = []
    for i, pair in enumerate(task.corpus.pairs(split)):
      words, pieces = [], []
      for store, start in zip(stores, starts, strict=True):
        ids = store.gather(np.array([i]), int(store.lengths[i]))[0]
        ids = ids[(ids != PAD) & (ids != EOS)]
        words.append((np.cumsum(start[ids]) - 1).tolist())
        pieces.append(ids)
      lines.append(forms(pair, *words, [surfaces[k] for k in pieces[0]]))
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
      for look in zip(*(self._looks(out, side, x) for x in LOOKS[side]), strict=True):
        name, values = look[0][0], [value for _, value in look]
        self.arrays[f'{name}/{side}'] = np.stack(values, axis=-1)
      without = np.zeros((*keep.shape, len(KINDS)))
      for head in np.ndindex(keep.shape):
        ablated = self._resident.run(self._ablated(variables, side, head))
        without[head] = self._accuracy(ablated)[0]
      self.arrays[f'without/{side}'] = without
    for k, kind in enumerate(KINDS):
      yield f'accuracy_{kind}', float(accuracy[k])
    for side in SIDES:
      for k, look in enumerate(LOOKS[side]):
        yield f'look_{look}_{side}', float(self.arrays[f'look/{side}'][..., k].max())
        yield f'fixed_{look}_{side}', float(self.arrays[f'fixed/{side}'][k])

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

  def _looks(self, out: list, side: str, look: str) -> list[tuple[str, np.ndarray]]:
    """Returns the entries of `arrays` for one of LOOKS, without that axis."""
    cases = [
      (form.ending, form.visible(side), form.wanted(side, look), at[side])
      for _, at, form in self._each(out)
      if form.wanted(side, look)
    ]
    shape, n = self._keep[side].shape, max(len(cases), 1)
    hits, chance = np.zeros(shape), np.zeros(shape)
    for _, _, wanted, at in cases:
      hits += np.isin(at, wanted)  # [layers, H]
    places = [case[:3] for case in cases]
    for head in np.ndindex(shape):
      distances = [ending - int(at[head]) for ending, _, _, at in cases]
      chance[head] = shuffled(distances, places)
    fixed, distance = best_distance(places)
    uniform = sum(len(wanted) / visible for _, visible, wanted in places) / n
    return [
      ('look', hits / n),
      ('cases', np.array(len(cases))),
      ('uniform', np.array(uniform)),
      ('fixed', np.array(fixed)),
      ('distance', np.array(distance)),
      ('chance', chance),
    ]


# A case of a form: the position of its ending, the number of positions that are visible
# from 0 on, and the positions that are wanted.
Place = tuple[int, int, tuple[int, ...]]


def best_distance(places: Sequence[Place]) -> tuple[float, int]:
  """Returns how often the best fixed distance is that of a wanted position, and which.

  A head that looks at `ending - distance` attains it, if that is a visible position.
  """
  hits = Counter(ending - i for ending, _, wanted in places for i in wanted)
  if not hits:
    return 0.0, 0
  distance, count = max(hits.items(), key=lambda item: (item[1], -abs(item[0])))
  return count / len(places), distance


def shuffled(distances: Sequence[int], places: Sequence[Place]) -> float:
  """Returns how often a wanted position is hit by distances of other cases.

  Args:
    distances: distance at which a head looks in each case. In every case one of these is
      drawn, among those that lead to a visible position.
    places: the cases, in the same order.
  """
  if not places:
    return 0.0
  endings, visible = (np.array([place[k] for place in places]) for k in (0, 1))
  zero = int(visible.max())  # where the distance 0 is counted
  counts = np.bincount(np.array(distances) + zero, minlength=zero + endings.max() + 2)
  below = np.concatenate([[0], np.cumsum(counts)])
  seen = below[endings + zero + 1] - below[endings + zero + 1 - visible]
  hits = [
    counts[[ending - i + zero for i in wanted]].sum() for ending, _, wanted in places
  ]
  return float(np.mean(np.array(hits) / np.maximum(seen, 1)))
