import functools
import gzip
from pathlib import Path

import pytest

from seqlab.compile.hlo import Module

FIXTURES = Path(__file__).parent / 'fixtures'


@pytest.fixture(scope='session')
def program():
  """Returns chip -> the program of `programs.py` as that chip's compiler left it."""

  @functools.cache
  def read(chip):
    with gzip.open(FIXTURES / f'{chip}.hlo.gz', 'rt', encoding='utf-8') as file:
      return Module(file.read())

  return read
