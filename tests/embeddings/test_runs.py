from collections import Counter

import numpy as np
import pytest

from seqlab.embeddings.runs import Run, Slice, SpilledRun, merge, ranges, sum_sorted


def make_runs(seed, largest, sums=5):
  random = np.random.default_rng(seed)
  runs, total = [], Counter()
  for size in (400, 0, 1, 900):
    keys = np.unique(random.integers(0, largest, size, np.uint64))
    run = Run(keys, random.integers(1, sums, len(keys)))
    total.update(dict(zip(keys.tolist(), run.sums.tolist(), strict=True)))
    runs.append(run)
  return runs, total


def as_dict(run):
  assert (np.diff(run.keys.astype(object)) > 0).all()
  return dict(zip(run.keys.tolist(), run.sums.tolist(), strict=True))


def test_equal_keys_are_counted_or_their_values_added():
  keys = np.array([1, 1, 4, 7, 7, 7], np.uint64)
  assert as_dict(sum_sorted(keys)) == {1: 2, 4: 1, 7: 3}
  assert as_dict(sum_sorted(keys, np.arange(6))) == {1: 1, 4: 2, 7: 12}
  assert as_dict(sum_sorted(keys[:0])) == {}


# With the last two, a key and a sum do not fit in 64 bits together.
@pytest.mark.parametrize(
  ('largest', 'sums'), [(50, 5), (2**34, 2**20), (2**62, 5), (2**64 - 1, 2**30)]
)
@pytest.mark.parametrize('size', [1, 100, 10**6])
def test_runs_merged_by_ranges_have_the_sums_of_all(largest, sums, size):
  runs, total = make_runs(0, largest, sums)
  parts = [merge(part) for part in ranges(runs, size)]
  assert [k for part in parts for k in part.keys.tolist()] == sorted(total)
  assert {k: n for part in parts for k, n in as_dict(part).items()} == total


def test_ranges_have_about_the_requested_size():
  random = np.random.default_rng(0)
  runs = [
    Run(np.unique((2.0 ** random.uniform(0, 40, 5_000)).astype(np.uint64)), None)
    for _ in range(7)
  ]
  sizes = [sum(b - a for _, a, b in part) for part in ranges(runs, 1_000)]
  assert max(sizes) <= 1_300
  assert sum(sizes) == sum(len(run.keys) for run in runs)


@pytest.mark.parametrize('largest', [200, 2**12, 2**40])
def test_a_spilled_run_is_the_same(tmp_path, largest):
  run = Run(np.array([3, 2**63], np.uint64), np.array([1, largest]))
  spilled = run.spill(tmp_path, 'run')
  assert isinstance(spilled, SpilledRun)
  assert as_dict(spilled) == as_dict(run)
  assert as_dict(merge([Slice(spilled, 1, 2)])) == {2**63: largest}


def test_an_empty_run_needs_no_file(tmp_path):
  run = Run(np.zeros(0, np.uint64), np.zeros(0, np.int64))
  assert run.spill(tmp_path, 'run') is run
  assert list(tmp_path.iterdir()) == []
