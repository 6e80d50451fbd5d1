"""What heads look at, on a model whose heads are known, and the baselines by hand."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.config import call, resolve
from seqlab.evaluators import agreement
from seqlab.evaluators.agreement import KINDS, LOOKS, best_distance, forms, shuffled
from seqlab.tasks.translation import Translation
from seqlab.text.agreement import Dependency, Pair
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.types import PAD, UNK

ROWS = batch_sharding(make_mesh(data=1, devices=1))
STEP_BACK, TOLD = 0, 1  # its two heads


class Known(nn.Module):
  """One head looks one piece back, the other where it is told; words are right by that.

  Attributes:
    sources: its sources, as nested tuples of equal lengths.
    told: side -> for each source and target position, where the second head looks.
    words: V.
  """

  sources: tuple
  told: dict
  words: int
  heads, layers, decoder_layers = 2, 1, None
  hyper_names = ()
  dtype = 'float32'

  def __call__(self, source, target, **options):
    sources = jnp.array(self.sources)
    width = min(sources.shape[1], source.shape[1])
    same = (source[:, None, :width] == sources[None, :, :width]).all(axis=-1)
    line, T = same.argmax(axis=1), target.shape[1]
    back = jnp.broadcast_to(jnp.maximum(jnp.arange(T) - 1, 0), target.shape)
    for side, size in (('cross', source.shape[1]), ('decoder', T)):
      told = jnp.array(self.told[side])[line, :T]
      told = jnp.pad(told, ((0, 0), (0, T - told.shape[1])))
      at = jnp.stack([back, told], axis=1)  # [B, heads, T]
      self.sow('intermediates', side, jax.nn.one_hot(at, size)[None])
    keep = self.get_variable('ablation', 'decoder')['self_attention']['keep']
    ids = jnp.where(keep[0, TOLD] > 0, target, UNK)
    return jax.nn.one_hot(ids, self.words)

  @staticmethod
  def weights_of(sown):
    return {side: weights for side, (weights,) in sown.items()}


@pytest.fixture(scope='module')
def measured(tiny, tmp_path_factory):
  """The evaluator of a head that looks at what determines gender, and at plural s."""
  corpus = dict(name='agreement', source='en', target='ru', train=200, valid=40)
  changes = dict(
    corpus=corpus,
    vocabulary=dict(kind='bpe', size=400, shared=True),
    batching=dict(kind='buckets', tokens=1024, shapes=1),
  )
  folder = tmp_path_factory.mktemp('known')
  task = Translation.from_config(tiny | changes, folder / 'vocabulary')
  store = task.stores('valid')[0]
  sources = store.gather(np.arange(40), int(store.lengths.max()))
  lines = agreement.Evaluator._read(task, 'valid')
  T = int(task.stores('valid')[1].lengths.max())
  told = {side: np.zeros((40, T), int) for side in ('cross', 'decoder')}
  for i, line in enumerate(lines):
    for form in line:
      if form.target and KINDS[form.kind] == 'gender':
        told['decoder'][i, form.ending] = form.target[-1]
      if form.plural:
        told['cross'][i, form.ending] = form.plural[0]
  task.model = Known(
    tuple(map(tuple, sources.tolist())),
    {side: tuple(map(tuple, x.tolist())) for side, x in told.items()},
    words=task.vocabularies.target.size,
  )
  make = resolve('evaluators.agreement:Evaluator')
  options = dict(split='valid', tokens=2048)
  evaluator = call(make, options, 'evals', task=task, sharding=ROWS)
  return dict(evaluator.run({'params': {}})), evaluator.arrays, lines, sources


def test_a_head_that_looks_at_the_governor_is_found(measured):
  metrics, arrays, lines, _ = measured
  gender = KINDS.index('gender')
  looks = arrays['look/decoder'][0, :, gender]
  assert looks[TOLD] == metrics['look_gender_decoder'] == 1.0
  cases = [
    form for line in lines for form in line if form.kind == gender and form.target
  ]
  assert arrays['cases/decoder'][gender] == len(cases) > 20
  back = np.mean([max(form.ending - 1, 0) in form.target for form in cases])
  assert looks[STEP_BACK] == pytest.approx(back)
  uniform = np.mean([len(form.target) / (form.ending + 1) for form in cases])
  assert arrays['uniform/decoder'][gender] == pytest.approx(uniform)
  assert back <= arrays['fixed/decoder'][gender] < 1.0
  # A head whose distance never changes does as well as a random one of its distances,
  # but at the first pieces, where it cannot go back.
  chance = arrays['chance/decoder'][0, :, gender]
  assert chance[STEP_BACK] == pytest.approx(back, abs=0.05)
  assert chance[TOLD] < 0.9


def test_a_head_for_the_plural_ending_is_not_one_for_the_stem(measured):
  _, arrays, _, sources = measured
  stem, plural = (LOOKS['cross'].index(look) for look in ('stem', 's'))
  looks = arrays['look/cross'][0, TOLD]
  assert arrays['cases/cross'][plural] == arrays['cases/cross'][stem] > 0
  assert looks[plural] > 0.9  # two nouns may decide one ending
  assert looks[stem] == 0.0
  assert (sources != PAD).any()


def test_only_the_head_that_words_depend_on_loses_them(measured):
  metrics, arrays, lines, _ = measured
  count = [sum(f.kind == k for line in lines for f in line) for k in range(len(KINDS))]
  np.testing.assert_array_equal(arrays['count'], count)
  present = np.array(count) > 0
  np.testing.assert_array_equal(arrays['accuracy'], present)
  np.testing.assert_array_equal(arrays['without/decoder'][0, TOLD], 0.0)
  np.testing.assert_array_equal(arrays['without/decoder'][0, STEP_BACK], present)
  np.testing.assert_array_equal(arrays['without/cross'][0], [present, present])
  assert set(metrics) == set(agreement.Evaluator.metrics)


def test_the_best_fixed_distance_is_that_of_most_cases():
  places = [(3, 4, (2,)), (5, 6, (4,)), (5, 6, (0, 1))]
  assert best_distance(places) == (pytest.approx(2 / 3), 1)
  assert best_distance([(0, 5, (3,))]) == (1.0, -3)
  assert best_distance([]) == (0.0, 0)


def test_distances_of_other_cases_are_drawn_among_the_visible_ones():
  places = [(3, 4, (2,)), (5, 6, (4,)), (1, 2, (0,))]
  # Of the distances 1, 1 and 2 the last case can draw 1 only.
  assert shuffled([1, 1, 2], places) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
  assert shuffled([-3], [(0, 4, (3,))]) == 1.0
  # The distance -1 leads the first case beyond its two visible positions.
  assert shuffled([1, -1], [(1, 2, (0,)), (3, 5, (4,))]) == pytest.approx(0.75)
  assert shuffled([], []) == 0.0


PLURAL = Pair('The dogs ran', 'Sobaki bezhali', (Dependency(1, 0, 'number'),), (1, 2))


def test_a_plural_has_a_stem_and_an_ending():
  surfaces = [b' The', b' dog', b's', b' ran']
  (form,) = forms(PLURAL, [0, 1, 1, 2], [0, 0, 1, 1], surfaces)
  assert (form.stem, form.plural, form.ending) == ((1,), (2,), 3)
  assert form.wanted('cross', 'number') == (1, 2)
  assert form.wanted('decoder', 'number') == (1, 2)
  assert form.wanted('cross', 'gender') == ()
  assert (form.visible('cross'), form.visible('decoder')) == (5, 4)


@pytest.mark.parametrize(
  'surfaces', [[b' The', b' d', b'ogs', b' ran'], [b' The', b' dogs', b"'s", b' ran']]
)
def test_a_plural_without_a_piece_of_its_own_has_none(surfaces):
  (form,) = forms(PLURAL, [0, 1, 1, 2], [0, 0, 1, 1], surfaces)
  assert (form.stem, form.plural) == ((), ())


def test_a_form_in_the_singular_is_one_of_gender_only():
  links = Dependency(1, 0, 'gender'), Dependency(1, 0, 'number')
  (form,) = forms(PLURAL._replace(dependencies=links), [0, 1, 1, 2], [0, 0, 1, 1])
  assert KINDS[form.kind] == 'gender'


def test_the_first_piece_tells_whose_it_is():
  pair = PLURAL._replace(dependencies=(Dependency(1, 0, 'antecedent'),))
  (form,) = forms(pair, [0, 1, 1, 2], [0, 0, 1, 1])
  assert (form.ending, form.target) == (2, (1, 2))
