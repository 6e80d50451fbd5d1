"""What the vector of a source says about who does what, beside the words themselves.

Sutskever et al. 2014, figure 2, https://arxiv.org/abs/1409.3215, show by a map that the
vector of a sentence depends on the order of its words, and less on the voice. Here it is
counted, on sentences of the embedded corpus's grammar (`text.meanings`): whether a sentence
of the same meaning is nearer than one of another meaning, and whether a linear probe finds
who acts. A vector that knows the words and not their order is the control.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from flax import linen as nn
import jax
from jax.sharding import NamedSharding
import numpy as np

from seqlab.data.batching import reverse_sentences
from seqlab.domains import Count, Seed
from seqlab.evaluators.probe import fit_probe
from seqlab.tasks.interface import Translates, traced_init
from seqlab.tasks.sentences import encode_lines, padded
from seqlab.text.meanings import KINDS, Group, groups, people
from seqlab.types import EOS, PAD, Variables

VECTORS = ('vector', 'untrained', 'bag')
_HELD_OUT = 5  # one in so many pairs of persons is held out
_DRAWS = 5  # of a control


class Evaluator:
  """Vectors of a model, of the same model before training, and of a bag of words.

  Attributes:
    arrays: of the first groups of each kind, from the last run: `vectors/<kind>`
      [shown * 3, D] and `texts/<kind>` [shown * 3], the three sentences of each group in
      their order.
  """

  needs = (Translates,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  metrics = (
    *(f'{name}/nearer/{kind}' for name in VECTORS for kind in KINDS),
    *(f'{name}/agent' for name in (*VECTORS, 'shuffled')),
  )
  about = ''

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    number: Count = 500,
    show: Count = 3,
    seed: Seed = 0,
  ):
    """Writes and encodes the sentences.

    Args:
      task: gives the vocabulary and a model with a method `vector`.
      sharding: is not used; the sentences lie on every device.
      number: number of groups of each kind.
      show: number of groups of each kind whose vectors are kept for a map.
      seed: integer seed of the groups, and of the control's directions.

    Raises:
      ValueError: the model has no vector of a source, or the sources are not the English
        side of the embedded corpus.
    """
    del sharding
    if not hasattr(task.model, 'vector'):
      raise ValueError(
        "evals: kind='meanings' needs a model with one vector of the source, such as "
        f"model.kind='recurrent'; {type(task.model).__name__} has none"
      )
    if task.corpus.name != 'agreement' or task.corpus.source != 'en':
      raise ValueError(
        "evals: kind='meanings' writes English sentences of the embedded corpus: set "
        "corpus.name='agreement' and corpus.source='en', or remove this evaluator"
      )
    self._groups = {kind: groups(kind, number, seed) for kind in KINDS}
    self._show, self._seed, self._task = show, seed, task
    self.arrays: dict[str, np.ndarray] = {}
    vocabulary = task.vocabularies.source
    lines = [x for kind in KINDS for group in self._groups[kind] for x in _texts(group)]
    ids = dict(enumerate(encode_lines(vocabulary, lines)))
    shape = len(ids), max(map(len, ids.values()))
    self._source = padded(ids, range(len(ids)), shape)
    if task.reverse_source:
      self._source = reverse_sentences(self._source)
    self._vocabulary_size = vocabulary.size

    def vectors(variables: Variables) -> jax.Array:
      return task.model.apply(variables, self._source, method='vector')

    self._jitted = self._vectors = jax.jit(vectors)

  def compile(self, variables: Variables) -> None:
    """Compiles the vectors."""
    self._vectors = self._jitted.lower(variables).compile()

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields shares, for each kind of vectors: the model's, 'untrained' and 'bag'.

    Those of the controls are means over five random draws of their parameters.

    `vector/nearer/time`: share of the groups in which the sentence of the same meaning
      has a higher cosine than the one of another meaning; a tie counts one half;
    `vector/agent`: accuracy of a linear probe for who acts in the sentences of the kind
      'time', on pairs of persons that it was not fitted to;
    `shuffled/agent`: the same for the model's vectors, if the probe is fitted to persons
      in a random order.
    """
    trained = np.asarray(self._vectors(variables), np.float64)
    for name, draws in {
      'vector': [trained],
      'untrained': [
        np.asarray(self._vectors(self._fresh(k)), np.float64) for k in range(_DRAWS)
      ],
      'bag': [self._bag(trained.shape[1], k) for k in range(_DRAWS)],
    }.items():
      by_kind = [*map(self._by_kind, draws)]
      for kind in KINDS:
        yield f'{name}/nearer/{kind}', fmean(nearer(x[kind]) for x in by_kind)
      of = self._groups['time']
      yield f'{name}/agent', fmean(agent_accuracy(x['time'], of) for x in by_kind)
    order = np.random.default_rng(self._seed)
    time = self._by_kind(trained)['time']
    yield 'shuffled/agent', agent_accuracy(time, self._groups['time'], shuffle=order)
    self.arrays = self._shown(trained)

  def _fresh(self, draw: int) -> Variables:
    """Returns the variables of a model that was not trained."""
    return nn.unbox(traced_init(self._task)(jax.random.key(self._seed + 1 + draw)))

  def _bag(self, width: int, draw: int) -> np.ndarray:
    """Returns the sum of a random direction per piece, without EOS, [n, width]."""
    random = np.random.default_rng((self._seed, draw))
    directions = random.normal(size=(self._vocabulary_size, width))
    directions[[PAD, EOS]] = 0.0
    return directions[self._source].sum(axis=1)

  def _by_kind(self, x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the vectors of each kind, [groups, 3, D]."""
    parts = np.split(x.reshape(-1, 3, x.shape[-1]), len(KINDS))
    return dict(zip(KINDS, parts, strict=True))

  def _shown(self, x: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {}
    for kind, triples in self._by_kind(x).items():
      shown = self._groups[kind][: self._show]
      arrays[f'vectors/{kind}'] = triples[: len(shown)].reshape(-1, x.shape[-1])
      arrays[f'texts/{kind}'] = np.array([t for g in shown for t in _texts(g)])
    return arrays


def nearer(triples: np.ndarray) -> float:
  """Returns the share of triples [n, 3, D] whose second is nearer the first than the third.

  Nearness is the cosine. Cosines that differ by rounding only count one half.
  """
  norms = np.linalg.norm(triples, axis=-1, keepdims=True)
  unit = triples / np.maximum(norms, 1e-12)
  same, other = (np.einsum('nd,nd->n', unit[:, 0], unit[:, i]) for i in (1, 2))
  difference = same - other
  is_tie = np.abs(difference) < 1e-6
  return float(np.mean(np.where(is_tie, 0.5, difference > 0)))


def agent_accuracy(
  triples: np.ndarray,
  of: Sequence[Group],
  *,
  shuffle: np.random.Generator | None = None,
) -> float:
  """Returns how often a linear probe finds who acts, on pairs that are held out.

  Args:
    triples: [n, 3, D] vectors of the sentences of n groups.
    of: the groups.
    shuffle: shuffles the persons that the probe is fitted to; None leaves them.
  """
  number = {noun: i for i, noun in enumerate(people())}
  agents = np.array([[number[g.agent]] * 2 + [number[g.partner]] for g in of])
  pairs = np.sort(agents[:, 1:], axis=1)
  is_held_out = (pairs[:, 0] * len(number) + pairs[:, 1]) % _HELD_OUT == 0
  flat = triples.shape[-1]
  fitted = agents[~is_held_out].ravel()
  if shuffle is not None:
    fitted = shuffle.permutation(fitted)
  probe = fit_probe(triples[~is_held_out].reshape(-1, flat), fitted)
  guess = probe(triples[is_held_out].reshape(-1, flat))
  return float(np.mean(guess == agents[is_held_out].ravel()))


def _texts(group: Group) -> tuple[str, str, str]:
  return group.sentence, group.same, group.other
