"""Studies that compare models with equally many parameters."""

import math
from pathlib import Path

from flax import linen as nn
import jax
import jax.numpy as jnp
import pytest

from seqlab.experiment import load_experiment
from seqlab.models import MODELS
from seqlab.pieces import make

ROOT = Path(__file__).parents[1]
STUDIES = {
  'architectures': ('model=gru', 'model=gru-attention', 'model=transformer'),
  'covariate_shift': ('norm=none', 'norm=batch', 'norm=noisy', 'norm=neither'),
  'norm_placement': ('norm=pre', 'norm=post'),
  'normalization': ('kind=layer', 'kind=encoder', 'kind=batch'),
  'forgetting': ('context=vector', 'context=uniform', 'context=attention'),
  'sentences': ('context=vector', 'context=attention'),
  'projections': (
    *('variant=full', 'variant=query_is_key', 'variant=no_value', 'variant=no_output'),
    *('variant=one_matrix', 'variant=small_positions', 'variant=concatenation'),
  ),
  'self_attention text': (
    *('model=text-gru', 'model=text-full', 'model=w4-l1', 'model=w2-l2', 'model=w1-l2'),
  ),
  'self_attention translation': (
    *('model=gru', 'model=gru-attention', 'model=transformer', 'model=transformer-w2'),
  ),
  'scores': ('score=uniform', 'score=general', 'score=location', 'score=additive'),
}


def _parameters(study, arg):
  study = study.partition(' ')[0]  # one of several comparisons
  config = load_experiment(f'{ROOT}/experiments/lecture/{study}.py:{arg}')
  size = config['vocabulary']['size']
  ids = [jnp.ones((1, 3), jnp.int32)]
  sizes = dict(size=size)
  if 'text' not in config['corpus']:
    ids, sizes = ids * 2, dict(source_size=size, target_size=size)
  model = make({**config['model'], **sizes}, MODELS, 'model')
  variables = jax.eval_shape(model.init, jax.random.key(0), *ids)
  leaves = jax.tree.leaves(nn.unbox(variables)['params'])
  return sum(math.prod(leaf.shape) for leaf in leaves)


@pytest.mark.slow
@pytest.mark.parametrize('study', STUDIES)
def test_models_that_are_compared_differ_by_less_than_two_percent(study):
  counts = [_parameters(study, arg) for arg in STUDIES[study]]
  assert max(counts) < 1.02 * min(counts), counts
