import jax
import numpy as np
import pytest

PARTS = [
  *'ab1 25  ..,,-&;:\'"/$%{}[]_<>\n\t\x00\x1c\x85',
  *('&quot;', '&amp;', '&lt;', '&gt;', '&apos;', 'lt;', '<skipped>', '-\n', '1.', '.5'),
  *('\u00a0', '\u3000', '\u2003', '\u2028', '\u200b', '\ufeff', '\u0301', '\ufffd'),
  *'éÉЖжשع日ß😀👩İΣΣσſKǅŒ’',
]


def _strings(seed, rows):
  """Returns R outputs, and references that have a common beginning with them."""
  rng = np.random.default_rng(seed)

  def one():
    return ''.join(PARTS[i] for i in rng.integers(0, len(PARTS), rng.integers(0, 24)))

  hypotheses = [one() for _ in range(rows)]
  references = [
    h if rng.random() < 0.2 else h[: rng.integers(0, len(h) + 1)] + one()
    for h in hypotheses
  ]
  return hypotheses, references


@pytest.fixture(scope='session')
def strings():
  """(seed, rows) -> outputs and references of strings that are difficult to score."""
  hypotheses, references = _strings(seed=0, rows=500)
  text = '\n\n'.join(hypotheses + references)
  assert all(part in text for part in PARTS)  # rare parts occur, too
  return _strings


@pytest.fixture(autouse=True)
def _optimized(request):
  """Turns optimisations on for slow tests, which compile little and compute much."""
  is_slow = request.node.get_closest_marker('slow') is not None
  jax.config.update('jax_disable_most_optimizations', not is_slow)
  yield
  jax.config.update('jax_disable_most_optimizations', True)
