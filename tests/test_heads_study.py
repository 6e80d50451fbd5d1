"""How the study of heads chooses and aligns heads."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from seqlab.experiment import load_module

PATH = Path(__file__).parents[1] / 'experiments' / 'lecture' / 'heads.py'


@pytest.fixture(scope='module')
def study():
  return load_module(PATH)


def test_heads_are_aligned_by_what_they_look_at(study):
  reference = np.random.default_rng(0).random((6, 4))
  order = np.array([3, 1, 5, 0, 2, 4])
  assert (study.aligned(reference[np.argsort(order)], reference) == order).all()


def test_a_head_is_chosen_on_one_split_and_measured_on_another(study):
  """Two heads of one layer: the second looks more on 'valid', the first on 'test'."""

  def arrays(first, second):
    looks = np.zeros((1, 2, 4))
    looks[0, :, 0] = first, second
    without = np.full((1, 2, 4), 0.5)
    without[0, 1, 0] = 0.2
    entries = {'look/decoder': looks, 'without/decoder': without}
    entries |= {'fixed/decoder': np.full(4, 0.3), 'cases/decoder': np.full(4, 100)}
    return {**entries, 'accuracy': np.full(4, 0.5)}

  splits = {'roles': arrays(0.1, 0.9), 'agreement': arrays(0.8, 0.5)}
  seed = study.Seed(SimpleNamespace(arrays=splits.__getitem__))
  assert seed.head('decoder', 'gender') == 1
  assert seed.share('decoder', 'gender', 1) == pytest.approx(50)
  assert seed.share('decoder', 'gender', 1, 'fixed') == pytest.approx(30)
  assert seed.lost('decoder')[:, 0] == pytest.approx([0, 30])
  assert seed.excess_loss('decoder') == pytest.approx(30 / 4)  # of one of four kinds
  assert seed.half_width('decoder', 'gender', 1) == pytest.approx(9.8)
  assert seed.rank_correlation('decoder', 'gender') == pytest.approx(-1)
