"""Digests of experiments: what changes them, and what does not."""

import pytest

from seqlab.config import DEFAULTS
from seqlab.results.signature import (
  Signature,
  configuration_digest,
  experiment_digest,
)

TEXT = '''"""A title."""

from seqlab.config import parse_arg


def get_config(arg=None):
  return dict(steps=3)


PAPER = []
TIME = '1 minute'
'''
CONFIG = {'task': 'tasks.translation:Translation', 'seed': 0, 'model': {'width': 8}}


@pytest.mark.parametrize(
  ('old', 'new', 'same'),
  [
    ('A title', 'Another one', True),
    ("'1 minute'", "'2 minutes'  # about", True),
    ('PAPER = []', 'PAPER = [1]', True),
    ('  return', '  """Returns a dict."""\n  return', True),
    ('steps=3', 'steps = 3', True),
    ('from seqlab', 'from seqlab.results import Row\nfrom seqlab', True),
    ('steps=3', 'steps=4', False),
    ('arg=None', 'args=None', False),
  ],
)
def test_the_code_of_a_file_decides_its_digest(tmp_path, old, new, same):
  path, changed = tmp_path / 'a.py', tmp_path / 'b.py'
  path.write_text(TEXT)
  changed.write_text(TEXT.replace(old, new))
  assert (experiment_digest(path) == experiment_digest(changed)) == same


def test_a_digest_does_not_depend_on_the_version_of_python(tmp_path):
  path = tmp_path / 'a.py'
  path.write_text(TEXT)
  assert experiment_digest(path) == '051a0f74c559cbd1'


def test_neither_the_seed_nor_a_default_changes_the_digest_of_a_configuration():
  digest = configuration_digest(CONFIG)
  assert configuration_digest(CONFIG | {'seed': 3, **DEFAULTS}) == digest
  assert configuration_digest(CONFIG | {'patience': 5}) != digest
  assert configuration_digest(CONFIG | {'model': {'width': 9}}) != digest


def test_changes_are_named():
  now = Signature('a', 'b', 2)
  assert now.changes_since(now) == []
  assert now.changes_since(Signature('x', 'y', 1)) == [
    "the experiment's file has changed",
    'the configuration has changed',
    'NUMERICS was 1 and is 2',
  ]
  assert now.same_numbers(Signature('x', 'b', 2))
  assert not now.same_numbers(Signature('a', 'b', 1))
