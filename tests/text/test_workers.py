import itertools
import os

import pytest

from seqlab.text.workers import in_order


def square(x):
  if x == 13:
    raise ValueError('13 brings bad luck')
  return x * x


def process(_):
  return os.getpid()


@pytest.mark.parametrize('workers', [None, 0, 2])
def test_results_come_in_the_order_of_jobs(workers):
  found = list(in_order(square, iter(range(12)), workers=workers))
  assert found == [x * x for x in range(12)]


def test_few_jobs_are_done_here_and_many_elsewhere():
  assert set(in_order(process, range(4))) == {os.getpid()}
  assert os.getpid() not in set(in_order(process, range(5)))


@pytest.mark.parametrize('workers', [0, 2])
def test_a_stream_is_taken_only_as_it_is_worked_on(workers):
  jobs = itertools.count()
  results = in_order(square, jobs, workers=workers)
  assert list(itertools.islice(results, 3)) == [0, 1, 4]
  results.close()
  assert next(jobs) <= 9


@pytest.mark.parametrize('workers', [0, 2])
def test_an_error_of_a_job_is_raised_in_its_turn(workers):
  results = in_order(square, range(10, 20), workers=workers)
  assert list(itertools.islice(results, 3)) == [100, 121, 144]
  with pytest.raises(ValueError, match='bad luck'):
    next(results)
