"""Models for other programs: CTranslate2 gives the probabilities that seqlab gives."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.export.ctranslate2 import (
  CONVERTIBLE,
  Layout,
  check_model,
  position_tables,
  save_model,
)
from seqlab.models.transformer import Transformer
from seqlab.types import EOS, SPECIALS

SIZES = dict(width=16, mlp_width=32, heads=2, layers=2, decoder_layers=3)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('sizes', 'options'),
  [
    ((30, 30), dict(tie='all')),
    ((30, 20), dict(tie='decoder')),
    ((30, 20), dict(tie='none')),
    ((30, 30), dict(norm='post', embedding_scale='none')),
    ((30, 30), dict(normalization='rms', activation='swiglu')),
    ((30, 30), dict(positions=dict(kind='learned', max_length=16), activation='gelu')),
    ((30, 30), dict(normalization=dict(kind='layer', epsilon=1e-2))),
    ((30, 30), dict(positions=dict(kind='sinusoidal', scaling='inverse_sqrt'))),
  ],
)
def test_ctranslate2_scores_tokens_as_the_model_does(tmp_path, sizes, options):
  library = pytest.importorskip('ctranslate2', reason="needs pip install '.[export]'")
  model = Transformer(*sizes, **SIZES, dtype='float32', **options)
  check_model(model, CONVERTIBLE)
  rng = np.random.default_rng(0)
  source, target = (rng.integers(len(SPECIALS), size, (4, 7)) for size in sizes)
  source[:, -1] = target[:, -1] = EOS
  variables = flax.linen.unbox(model.init(jax.random.key(0), source, target))
  # Gains and biases start at 1 and 0, which would hide an exchange of them.
  variables = jax.tree.map(
    lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), variables
  )
  logp = jax.nn.log_softmax(model.apply(variables, source, target))
  expected = jnp.take_along_axis(logp, target[..., None], axis=-1)[..., 0]

  names = [[*SPECIALS, *(f'{i}' for i in range(len(SPECIALS), n))] for n in sizes]
  save_model(
    tmp_path / 'model',
    flax.traverse_util.flatten_dict(variables, sep='/'),
    heads=model.heads,
    positions=position_tables(model, variables),
    source_tokens=names[0],
    target_tokens=names[1],
    layout=Layout.of(model),
  )
  translator = library.Translator(str(tmp_path / 'model'), intra_threads=1)
  results = translator.score_batch(
    *(
      [[tokens[i] for i in row[:-1]] for row in ids]
      for tokens, ids in zip(names, (source, target), strict=True)
    )
  )
  scores = np.array([result.log_probs for result in results])
  np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_model_that_ctranslate2_would_read_wrongly_is_refused():
  check_model(Transformer(8, 8))
  with pytest.raises(ValueError, match=r"model\.activation is 'gelu'.*set model"):
    check_model(Transformer(8, 8, activation='gelu'))
  positions = flax.core.FrozenDict(kind='sinusoidal', concatenated=4)
  with pytest.raises(
    ValueError, match=r'positions\.concatenated is 4, and .*leave it out'
  ):
    check_model(Transformer(8, 8, positions=positions), CONVERTIBLE)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('positions', 'rotary'),
    ('window', 3),
    ('share_layers', True),
    ('normalization', 'scale'),
    ('decoder_normalization', 'rms'),
    ('norm', 'deep'),
    ('activation', 'jax.nn:tanh'),
    ('unordered', 2),
    ('projections', 'no_value'),
    ('mask_padding', False),
  ],
)
def test_what_ctranslate2_lacks_is_named(name, value):
  check_model(Transformer(8, 8, norm='post', activation='swiglu'), CONVERTIBLE)
  with pytest.raises(ValueError, match=rf'model\.{name} is {value!r}, and only'):
    check_model(Transformer(8, 8, **{name: value}), CONVERTIBLE)
