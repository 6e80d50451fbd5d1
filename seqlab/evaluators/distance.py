"""Right endings of predicates by the distance to what decides them, on the known grammar.

Russian past tenses, participles and short adjectives agree with their subject in gender
and number: девушка пела, мальчик пел, дети пели. Given all words before it, does a model
give the right one of the forms of such a word a higher probability than the others? The
distance is that to the nearest earlier word from which the answer can be read: the subject,
or a word that agrees with it, such as a relative pronoun or another verb. Chance is the
share of the most frequent of the four columns (three genders and the plural).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.domains import Count
from seqlab.evaluators import interface
from seqlab.evaluators.resident import Resident, evaluation_batches
from seqlab.layers.embedding import logits
from seqlab.tasks.interface import Task
from seqlab.text.agreement import Agreement, Pair
from seqlab.text.whole_words import Words
from seqlab.types import PAD, UNK, Array, Batch, Variables


class Ending(NamedTuple):
  """A predicate whose subject comes before it.

  Attributes:
    word: its index in the sentence.
    distance: number of words from the nearest evidence to it, at least 1.
    column: index of the right form in `forms`.
    forms: ids of its forms: masculine, feminine, neuter, plural; PAD for an unknown one.
  """

  word: int
  distance: int
  column: int
  forms: tuple[int, ...]


class Evaluator(interface.Evaluator):
  """Accuracy of the endings of predicates by distance; true words are given."""

  compiles_ahead = True

  def __init__(
    self,
    task: Task,
    sharding: NamedSharding,
    *,
    split: str,
    longest: Count = 8,
    tokens: Count = 4096,
    shapes: Count = 1,
  ):
    """Puts the split on the devices.

    Args:
      task: Russian of the embedded corpus, as a target or alone, in whole words.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      longest: distances from this one on are one group.
      tokens: number of positions per side in a batch, at most.
      shapes: number of batch shapes.

    Raises:
      ValueError: the corpus or the vocabulary is not of that kind, or no predicate has
        forms that the vocabulary knows.
    """
    corpus = getattr(task, 'corpus', None)
    if not isinstance(corpus, Agreement) or [*corpus.sides.values()][-1] != 'ru':
      raise ValueError(
        "evals: kind='distance' knows the grammar of Russian in corpus.kind='agreement': "
        "set corpus.target='ru' or corpus.text='ru'"
      )
    sides = [*corpus.sides]
    vocabulary = task.vocabularies.sides[sides[-1]]
    if not isinstance(vocabulary, Words):
      raise ValueError(
        "evals: kind='distance' compares the forms of a word, which must be single "
        "tokens: set vocabulary.kind='word'"
      )
    self._longest = longest
    self.metrics = tuple(
      f'{name}/{d}'
      for name in ('right', 'count', 'chance')
      for d in range(1, longest + 1)
    )
    self._endings = [endings(x, ids_of(vocabulary)) for x in corpus.pairs(split)]
    K = max(map(len, self._endings), default=0)
    if not K:
      raise ValueError(f'evals: {split} has no predicate whose forms are known')
    extra = {
      'word': np.zeros((len(self._endings), K), np.int32),
      'forms': np.full((len(self._endings), K, 4), PAD, np.int32),
      'column': np.zeros((len(self._endings), K), np.int32),
    }
    for row, line in enumerate(self._endings):
      for k, ending in enumerate(line):
        extra['word'][row, k] = ending.word
        extra['forms'][row, k] = ending.forms
        extra['column'][row, k] = ending.column

    def function(variables: Variables, batch: Batch) -> Array:
      texts = [batch[side] for side in sides]
      hidden, table = task.model.apply(variables, *texts, method='features')
      at = jnp.take_along_axis(hidden, batch['word'][..., None], axis=1)  # [B, K, D]
      scores = logits(at, table)  # [B, K, V]
      scores = jnp.take_along_axis(scores, batch['forms'], axis=-1)  # [B, K, 4]
      true = jnp.take_along_axis(batch['forms'], batch['column'][..., None], axis=-1)
      own = jnp.take_along_axis(scores, batch['column'][..., None], axis=-1)
      # A form that is spelt as the true one is as right as this, and PAD is no form.
      irrelevant = (batch['forms'] == true) | (batch['forms'] == PAD)
      return ((scores < own) | irrelevant).all(axis=-1)  # [B, K]

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, function, extra=extra)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields, for each distance d, of which the last one also stands for longer ones:

    `right/d`: the share of endings that are right; NaN if there are none.
    `count/d`: the number of endings.
    `chance/d`: the share of the most frequent column.
    """
    right = self._resident.by_line(self._resident.run(variables))
    answers: list[list[bool]] = [[] for _ in range(self._longest)]
    columns: list[Counter] = [Counter() for _ in range(self._longest)]
    for line, of_line in zip(self._endings, right, strict=True):
      for k, ending in enumerate(line):
        group = min(ending.distance, self._longest) - 1
        answers[group].append(bool(of_line[k]))
        columns[group][ending.column] += 1
    for d in range(1, self._longest + 1):
      values, column = answers[d - 1], columns[d - 1]
      n = len(values)
      yield f'right/{d}', sum(values) / n if n else float('nan')
      yield f'count/{d}', n
      yield f'chance/{d}', max(column.values()) / n if n else float('nan')


def ids_of(vocabulary: Words) -> Callable[[str], int]:
  """Returns a function from a word to its id, UNK for an unknown one."""
  ids = {piece: i for i, piece in enumerate(vocabulary.pieces())}
  return lambda word: ids.get(word, UNK)


def endings(pair: Pair, id_of: Callable[[str], int]) -> list[Ending]:
  """Returns the predicates of a sentence that come after their one subject.

  Left out are those with several subjects, which no single word decides, and those of
  which the vocabulary does not know the right form or fewer than three forms, since a model
  could not give them. Neuter forms are rare and often the one that is missing.

  Args:
    pair: the sentence and its grammar.
    id_of: id of a word, UNK if it is unknown.
  """
  words = pair.russian.split()
  found = []
  for word, forms in pair.predicates:
    deciders = [
      d.decider for d in pair.dependencies if (d.dependent, d.kind) == (word, 'number')
    ]
    if len(deciders) != 1 or deciders[0] > word:
      continue
    text = words[word]
    core = text.strip('.,')
    if core not in forms:
      continue  # capitalised: nothing is before it
    column = forms.index(core)
    ids = tuple(id_of(text.replace(core, form)) for form in forms)
    if ids[column] != UNK and ids.count(UNK) < 2:
      ids = tuple(PAD if i == UNK else i for i in ids)
      nearest = max(evidence(pair, word, deciders[0]))
      found.append(Ending(word, word - nearest, column, ids))
  return found


def evidence(pair: Pair, word: int, decider: int) -> set[int]:
  """Returns the words before a word that show gender or number of its decider.

  These are the decider, the words that agree with it, with those, and so on.
  """
  known, unread = {decider}, [decider]
  while unread:
    one = unread.pop()
    for dependent, other, kind in pair.dependencies:
      if kind in ('gender', 'number') and one in (dependent, other):
        neighbour = other if one == dependent else dependent
        if neighbour < word and neighbour not in known:
          known.add(neighbour)
          unread.append(neighbour)
  return known
