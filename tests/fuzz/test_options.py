"""Random values of every option: refused by name, or usable."""

import contextlib
import copy
import math
from pathlib import Path
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqlab.config import flatten
from seqlab.experiment import load_experiment
from seqlab.train.checks import check_experiment
from seqlab.train.optimizers import make_optimizer, make_schedule

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / 'experiments'
EXPERIMENTS = (
  'agreement/transformer.py:smoke',
  'multi30k/recurrent.py:smoke',
  'lecture/normalization.py:smoke',
  'enwiki/sgns.py:smoke',
  'enwiki/ppmi_svd.py:smoke',
  'enwiki/glove.py:smoke',
  'enwiki/cbow.py:smoke',
)
TEXTS = (
  *('', ' ', '0', '-1', '10m', '3 hours', '1e9 epochs', '0 steps', '1.2.3 tokens'),
  *('none', 'None', 'true', 'nan', 'inf', 'adam', 'a/b', '[bold]', '\u0663 epochs'),
  *('os:system', 'tasks.translation:Translation', 'layers.alignment:Dot', '\x00'),
)


def _value(draw):
  number = draw.choice((0, 1, -1, 2, 7, 10**6, 2**31, 2**63, -(10**20)))
  return draw.choice(
    (
      number,
      float(number),
      draw.uniform(-2, 2),
      10.0 ** draw.randint(-12, 12),
      math.nan,
      math.inf,
      -math.inf,
      draw.choice(TEXTS),
      None,
      draw.choice((True, False)),
      [number],
      (number, draw.choice(TEXTS)),
      {},
      {'kind': draw.choice(TEXTS)},
    )
  )


def _set(config, key, value):
  *sections, last = key.split('.')
  for section in sections:
    if not isinstance(config.get(section), dict):
      return
    config = config[section]
  config[last] = value


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_a_wrong_value_is_refused_in_one_line(name):
  draw, original = random.Random(name), load_experiment(f'{FOLDER}/{name}')
  keys = [
    *flatten(original),
    *original,
    'model.dtype',
    'optimizer.clip',
    'optimizer.b1',
  ]
  refused = 0
  for _ in range(1_200):
    config = copy.deepcopy(original)
    changed = {
      draw.choice(keys): _value(draw) for _ in range(draw.choice((1, 1, 1, 2)))
    }
    for key, value in changed.items():
      _set(config, key, value)
    try:
      check_experiment(config)
    except ValueError as error:
      refused += 1
      lines = str(error).count('\n') + 1
      if lines != 1:
        pytest.fail(f'{lines} lines for {changed}')
  assert 0 < refused < 1_200


def test_overrides_of_any_text_are_accepted_or_refused():
  draw = random.Random(0)
  letters = 'a1.=-_[]{}()\'":, \n\t\\/é\u3000%$e+'
  name = f'{FOLDER}/agreement/transformer.py:smoke'
  keys = [*flatten(load_experiment(name))]
  for _ in range(1_500):
    text = ''.join(draw.choices(letters, k=draw.randint(0, 12)))
    key = draw.choice(keys) if draw.random() < 0.8 else text
    with contextlib.suppress(ValueError):
      load_experiment(name, [f'--config.{key}={text}'])


def test_accepted_schedules_stay_between_zero_and_the_peak():
  draw, accepted = random.Random(1), 0
  for _ in range(1_500):
    kind = draw.choice(('rsqrt', 'cosine', 'linear', 'constant', 'warm', None))
    options = dict(kind=kind, warmup=_value(draw), floor=_value(draw))
    if draw.random() < 0.7:
      options |= dict(warmup=draw.randint(0, 30), floor=draw.random())
    try:
      schedule = make_schedule(options, steps=20)
    except ValueError:
      continue
    accepted += 1
    with jax.disable_jit():
      rates = [float(schedule(np.int32(s), {'peak': 0.5})) for s in (0, 1, 7, 19, 40)]
    assert all(0 <= rate <= 0.5 + 1e-6 for rate in rates), options
  assert accepted > 200


def test_accepted_optimizers_descend():
  draw, accepted = random.Random(2), 0
  params = {'w': jnp.ones((2, 2))}
  schedule = make_schedule('constant', steps=10)
  for _ in range(300):
    options = dict(kind=draw.choice(('adam', 'adamw', 'sgd', 'adafactor', 'lion')))
    for name in ('clip', 'b1', 'b2', 'eps', 'momentum'):
      if draw.random() < 0.4:
        options[name] = _value(draw)
    try:
      transform = make_optimizer(options, schedule)
    except ValueError:
      continue
    accepted += 1
    updates, _ = transform.update(
      params, transform.init(params), params, hyper={'peak': 0.1}
    )
    after = optax.apply_updates(params, updates)['w']  # the gradient of |w|² / 2 is w
    assert bool((after <= params['w']).all()), options
  assert accepted > 20
