"""Lines of the registry: whole in spite of other writers, and counted."""

from concurrent.futures import ThreadPoolExecutor
import subprocess

import pytest

from seqlab.results import ledger, provenance
from seqlab.results.records import add_line, read_lines


def test_lines_of_several_writers_stay_whole(tmp_path):
  path = tmp_path / 'results' / 'x.jsonl'
  lines = [{'number': i, 'text': 'x' * 9_000} for i in range(40)]
  with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda line: add_line(path, line), lines))
  assert sorted(x['number'] for x in read_lines(path)) == [*range(40)]


@pytest.mark.parametrize(
  ('text', 'message'), [('{', 'is damaged'), ('3', 'is not a JSON')]
)
def test_a_line_that_is_no_object_is_named(tmp_path, text, message):
  (tmp_path / 'x').write_text(f'{{}}\n{text}\n')
  with pytest.raises(ValueError, match=f'line 2 of .* {message}'):
    read_lines(tmp_path / 'x')


def test_a_run_that_was_trained_again_counts_from_0():
  counts = [(0, 1), (1, 1), (0, 3), (0, 1), (1, 2)]
  lines = [
    dict(experiment='a', args='', split='test', seed=seed, on_record=n)
    for seed, n in counts
  ]
  assert ledger.total(lines, 'a', '', 'test') == 3 + 1 + 2
  assert ledger.total(lines, 'a', '', 'dev') == 0


def test_code_that_is_not_committed_is_dirty(tmp_path, monkeypatch):
  module = tmp_path / 'seqlab' / 'results' / 'provenance.py'
  module.parent.mkdir(parents=True)
  monkeypatch.setattr(provenance, '__file__', str(module))
  assert provenance.commit() == {'commit': None, 'dirty': None}

  def git(*words):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@a.org']
    subprocess.run(['git', '-C', tmp_path, *identity, *words], check=True)

  git('init', '-q')
  module.write_text('')
  git('add', '.')
  git('commit', '-qm', 'a')
  (tmp_path / 'notes.txt').write_text('')
  clean = provenance.commit()
  assert len(clean['commit']) == 40
  assert not clean['dirty']
  (module.parent / 'new.py').write_text('')
  assert provenance.commit() == clean | {'dirty': True}
