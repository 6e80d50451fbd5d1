"""Translates lines to lines."""

import itertools
from types import SimpleNamespace

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from seqlab.decoding.config import make_decoding
from seqlab.layers import POSITIONS
from seqlab.models.ensemble import Ensemble
from seqlab.models.interface import attention_weights
from seqlab.models.recurrent import Recurrent
from seqlab.models.transformer import Transformer
from seqlab.tasks.required import Required, RequiredIds
from seqlab.tasks.sentences import MAX_PIECES, TooLongError, encode_fitting
import seqlab.tasks.translator as translator_module
from seqlab.tasks.translator import Translator, decode, in_dtype, search_dtype
from seqlab.text.vocabulary import Vocabularies, train_vocabulary
from seqlab.types import EOS, PAD


class Fixed(nn.Module):
  """A model whose next word does not depend on anything; logits are given."""

  logits: tuple[float, ...]

  def encode(self, source):
    return source

  def start(self, memory, rows, max_len):
    return jnp.zeros((rows, 1))

  def step(self, memory, cache, token):
    return cache, jnp.broadcast_to(
      jnp.array(self.logits), (len(token), len(self.logits))
    )


@pytest.fixture(scope='module')
def vocabularies():
  vocabulary = train_vocabulary(['ab ab a b'] * 9, size=8)
  return Vocabularies(vocabulary, vocabulary)


def translator(vocabularies, logits, **options):
  model = Fixed(tuple(logits))
  return Translator(model, {}, vocabularies, make_decoding(options))


def test_the_texts_of_a_list_are_distinct(vocabularies):
  logits = [0, -9, 0, 2, *np.linspace(0, 0.3, vocabularies.target.size - 4)]
  search = dict(beam=16, length=(0, 4))
  (outputs,) = translator(vocabularies, logits, **search).n_best(['ab'])
  ids, scores = translator(vocabularies, logits, **search)._outputs(['ab'], 0)[0]
  texts = vocabularies.target.decode(ids)
  assert len(set(texts)) < len(texts) == 16  # or there would be nothing to merge
  assert [text for text, _ in outputs] == list(dict.fromkeys(texts))
  best = {
    t: max(s for x, s in zip(texts, scores, strict=True) if x == t) for t in texts
  }
  assert dict(outputs) == pytest.approx(best)


@pytest.mark.parametrize(
  'measure', ['chrf', pytest.param('bleu', marks=pytest.mark.slow)]
)
def test_minimum_bayes_risk_ranks_samples_by_their_mean_score(vocabularies, measure):
  logits = np.linspace(0, 1, vocabularies.target.size)
  options = dict(mbr=7, mbr_measure=measure, length=(0, 9), seed=2)
  ranked = translator(vocabularies, logits, **options)
  ids, scores = ranked._outputs(['ab', 'b'])[1]
  texts = vocabularies.target.decode(ids)
  score = getattr(sacrebleu, f'sentence_{measure}')
  for m, text in enumerate(texts):
    others = [score(text, [x]).score for i, x in enumerate(texts) if i != m]
    assert scores[m] == pytest.approx(np.mean(others), abs=1e-4)
  assert scores.tolist() == sorted(scores.tolist(), reverse=True)
  assert len(set(texts)) > 3


def test_outputs_begin_with_their_prefixes(vocabularies):
  logits = np.linspace(0, 1, vocabularies.target.size)
  searcher = translator(vocabularies, logits, beam=3, length=(0, 6))
  lines = ['ab', 'a b', 'b', '']
  prefixes = {0: 'b ab', 2: 'a', 3: 'a'}
  required = {i: Required(x) for i, x in prefixes.items()}
  outputs = searcher.n_best(lines, required=required)
  assert [
    best[0][0][: len(x)] for best, x in zip(outputs, ('b ab', '', 'a'), strict=False)
  ] == [
    'b ab',
    '',
    'a',
  ]
  assert outputs[1] == searcher.n_best(lines)[1]
  assert outputs[3] == [('', 0.0)]


@pytest.mark.slow  # compiles a search of the largest kind
def test_outputs_contain_their_phrases(vocabularies):
  logits = np.linspace(0, 1, vocabularies.target.size)
  searcher = translator(vocabularies, logits, beam=6, length=(0, 18), min_length=2)
  lines = ['ab', 'a b', 'b']
  required = {0: Required('b', ('a b', 'ab ab')), 1: Required(phrases=('ab a',))}
  outputs = searcher.n_best(lines, required=required)
  assert searcher.refused == {}
  assert outputs[0][0][0].startswith('b ')
  for text, _ in outputs[0]:
    assert 'a b' in text
    assert 'ab ab' in text
  assert all('ab a' in text for text, _ in outputs[1])
  greedy = translator(vocabularies, logits, beam=1)
  with pytest.raises(ValueError, match='Beam cannot make outputs contain phrases'):
    greedy.n_best(lines, required=required)


def test_a_prefix_that_cannot_be_forced_refuses_its_line(vocabularies):
  logits = [0.0] * vocabularies.target.size
  searcher = translator(vocabularies, logits, beam=2, length=(0, 3))
  searcher.n_best(['ab', 'b'], required={0: Required('a b a b'), 1: Required('ж')})
  assert 'its translation may have 3' in searcher.refused[0]
  assert 'not in the target vocabulary' in searcher.refused[1]


def test_required_texts_may_overlap():
  ids = np.array([4, 5, 6])
  required = RequiredIds(ids[:2], (ids, ids[1:]))
  assert required.problem(4) == ''
  assert required.problem(3).startswith('requires 3 tokens in a row, and its')


def test_a_line_whose_requirements_no_output_meets_is_refused(
  vocabularies, monkeypatch
):
  searcher = translator(vocabularies, [0.0] * vocabularies.target.size, beam=2)
  ids = np.tile(
    next(iter(encode_fitting(vocabularies.target, {0: 'ab'})[0].values())), (2, 1)
  )
  scores = {0: np.array([-1.0, -2.0]), 1: np.full(2, -np.inf), 2: np.full(2, -np.inf)}
  monkeypatch.setattr(
    searcher, '_search_all', lambda lines, *_: {i: (ids, scores[i]) for i in lines}
  )
  required = {i: Required(phrases=('ab ab',)) for i in (0, 1)}
  assert searcher.n_best(['b', 'b'], required=required) == [[('ab', -1.0)], [('', 0.0)]]
  assert [*searcher.refused] == [1]
  assert 'raise --max-length or --beam' in searcher.refused[1]
  with pytest.raises(ArithmeticError, match='options of decoding allow no output'):
    searcher.n_best(['b', 'b', 'b'], required=required)
  scores[1][:] = np.nan
  with pytest.raises(ArithmeticError, match='parameters are not finite'):
    searcher.n_best(['b', 'b'], required=required)


def test_parameters_that_are_not_finite_are_an_error(vocabularies):
  logits = [np.nan] * vocabularies.target.size
  with pytest.raises(ArithmeticError, match='parameters are not finite'):
    translator(vocabularies, logits, beam=2).n_best(['ab'])


def test_a_batch_that_is_too_large_is_cut_into_its_lines(vocabularies, monkeypatch):
  logits = [0.0] * vocabularies.target.size
  lines = ['ab', 'a b', '', 'b']
  expected = translator(vocabularies, logits, beam=2).n_best(lines)
  whole = translator(vocabularies, logits, beam=2)
  compile_ = whole._decode._compile

  def small(variables, source, **named):
    several = len(source) > 1
    return TooLongError('') if several else compile_(variables, source, **named)

  monkeypatch.setattr(whole._decode, '_compile', small)
  outputs = whole.n_best(lines)
  assert whole.refused == {}
  assert outputs == expected


def test_only_as_many_searches_run_as_there_is_memory_for(vocabularies, monkeypatch):
  logits = [0.0] * vocabularies.target.size
  searcher = translator(vocabularies, logits, beam=2)
  searcher._tokens = 32  # one line of 16 positions per batch
  lines = ['ab', 'a b', 'b', 'a'] * 3
  expected = searcher.n_best(lines)
  need = max(program.need for program in searcher._decode._programs.values())
  active, most = [], []
  run = translator_module._Search.run

  def counted(search, variables):
    active.append(1)
    most.append(len(active))
    try:
      return run(search, variables)
    finally:
      active.pop()

  monkeypatch.setattr(translator_module._Search, 'run', counted)
  monkeypatch.setattr(translator_module, 'available_memory', lambda: 1.5 * need)
  assert searcher.n_best(lines) == expected
  assert max(most) == 1
  assert len(most) == len(lines)


def test_a_line_is_refused_only_while_there_is_no_memory(vocabularies, monkeypatch):
  searcher = translator(vocabularies, [0.0] * vocabularies.target.size, beam=2)
  with monkeypatch.context() as patch:
    patch.setattr(translator_module, 'available_memory', lambda: 1.0)
    searcher.n_best(['ab'])
    assert 'of memory, of which 0.0 GiB are free' in searcher.refused[0]
  searcher.n_best(['ab'])
  assert searcher.refused == {}


def test_lines_of_more_pieces_than_any_model_reads_are_left_out(vocabularies):
  lines = {3: 'a ' * MAX_PIECES, 5: 'ab', 7: 'a' * (16 * MAX_PIECES + 1)}
  outputs, refused = encode_fitting(vocabularies.source, lines)
  assert [*outputs] == [5]
  assert 'pieces long; at most 65,536 are read' in refused[3]
  assert 'characters long' in refused[7]


def test_the_order_of_lines_is_that_of_the_input(vocabularies):
  logits = [0.0] * vocabularies.target.size
  sampler = translator(vocabularies, logits, temperature=1.0, beam=1, seed=3)
  lines = [' '.join(x) for n in (1, 2, 3) for x in itertools.product('ab', repeat=n)]
  together = sampler.n_best(lines)
  alone = [sampler.n_best([line], first=i)[0] for i, line in enumerate(lines)]
  assert [x[0][0] for x in together] == [x[0][0] for x in alone]


@pytest.mark.parametrize(
  ('width', 'own', 'asked', 'expected'),
  [
    (128, 'bfloat16', None, 'float32'),  # a narrow model on a CPU
    (512, 'bfloat16', None, 'bfloat16'),
    (128, 'float32', 'bfloat16', 'bfloat16'),
    (512, 'auto', 'float32', 'float32'),
  ],
)
def test_the_dtype_of_a_search(width, own, asked, expected, monkeypatch):
  monkeypatch.delenv('SEQLAB_CPU_DTYPE')
  model = Recurrent(source_size=9, target_size=9, width=width, dtype=own)
  both = in_dtype(Ensemble([model, model]), asked)
  assert [each.dtype for each in both.models] == [expected] * 2


def test_a_variable_decides_for_searches_of_narrow_models_too(monkeypatch):
  monkeypatch.setenv('SEQLAB_CPU_DTYPE', 'bfloat16')
  model = Recurrent(source_size=9, target_size=9, width=128, dtype='auto')
  assert search_dtype(model, None) == 'bfloat16'
  assert search_dtype(model.clone(dtype='float32'), None) == 'float32'


def test_the_dtypes_of_an_ensemble_are_joined():
  models = [
    Recurrent(source_size=9, target_size=9, width=512, dtype=dtype)
    for dtype in ('float32', 'bfloat16', 'float32')
  ]
  assert search_dtype(Ensemble(models), None) == 'bfloat16+float32'
  assert search_dtype(Ensemble(models), 'bfloat16') == 'bfloat16'


def test_a_model_that_is_not_a_linen_module_is_searched_as_it_is(monkeypatch):
  monkeypatch.delenv('SEQLAB_CPU_DTYPE')
  model = SimpleNamespace(width=8, dtype='bfloat16')
  assert in_dtype(model, None) is model
  with pytest.raises(ValueError, match='SimpleNamespace is not a Linen module'):
    in_dtype(model, 'float32')


@pytest.mark.parametrize('kind', POSITIONS)
def test_every_kind_of_positions_is_searched_in_bfloat16(kind):
  model = Transformer(9, 9, 8, 8, heads=2, layers=1, positions=kind)
  ids = jnp.ones((2, 3), jnp.int32)
  variables = jax.eval_shape(model.init, jax.random.key(0), ids, ids)
  decoding = make_decoding({'beam': 3, 'length': (0, 4), 'dtype': 'bfloat16'})
  tokens, _ = jax.eval_shape(lambda v: decode(model, v, ids, decoding), variables)
  assert tokens.shape == (2, 3, 4)


def test_a_model_without_dtype_refuses_one(vocabularies):
  with pytest.raises(
    ValueError, match='Fixed is not a Linen module with a field dtype'
  ):
    translator(vocabularies, [0.0] * 8, dtype='bfloat16').translate(['ab'])


def _scored_by_coverage(model, variables, source, tokens, scores, decoding):
  """Compares scores with those of teacher forcing: log p, length, and attention."""

  @jax.jit
  def read(target):
    logp = jax.nn.log_softmax(model.apply(variables, source, target))
    return logp, attention_weights(model, variables, source, target)['cross'][-1]

  for m in range(tokens.shape[1]):
    target = tokens[:, m]
    is_token = target != PAD
    logp, cross = read(target)
    chosen = np.take_along_axis(np.asarray(logp), target[..., None], axis=2)[..., 0]
    length = is_token.sum(axis=1)
    expected = (chosen * is_token).sum(axis=1) / ((5 + length) / 6) ** decoding.alpha
    weights = np.asarray(cross).mean(axis=1) * is_token[..., None]  # [B, T, S]
    covered = np.minimum(weights.sum(axis=1), 1) + (source == PAD)
    added = decoding.coverage * np.log(np.minimum(covered, 1)).sum(axis=1)
    assert added.min() < -0.01
    np.testing.assert_allclose(scores[:, m], expected + added, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
  'make',
  [
    lambda: Transformer(12, 12, width=8, mlp_width=8, heads=2, layers=2),
    lambda: Recurrent(12, 12, width=8, attention='dot', attention_heads=2),
  ],
)
def test_the_coverage_penalty_counts_the_attention_of_each_hypothesis(make):
  model, decoding = (
    make(),
    make_decoding({'beam': 2, 'coverage': 0.7, 'length': (1, 2)}),
  )
  source = np.array([[5, 6, 7, 4, EOS], [8, 9, EOS, PAD, PAD]])
  variables = nn.unbox(model.init(jax.random.key(0), source, source))
  variables = jax.tree.map(lambda x: 3 * x, variables)  # far from equal attention
  search = jax.jit(lambda variables: decode(model, variables, source, decoding))
  tokens, scores = jax.device_get(search(variables))
  _scored_by_coverage(model, variables, source, tokens, scores, decoding)


def test_a_model_without_attention_has_no_coverage(vocabularies):
  with pytest.raises(ValueError, match=r'the model \(Fixed\) has no attention .*--cov'):
    translator(vocabularies, [0.0] * vocabularies.target.size, coverage=0.2)
  recurrent = Recurrent(12, 12, width=8)
  with pytest.raises(ValueError, match=r'the model \(Recurrent\) has no attention'):
    Translator(recurrent, {}, vocabularies, make_decoding({'coverage': 0.2}))
