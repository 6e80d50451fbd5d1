"""The examples of docs/library.md run in their order and in one folder."""

from pathlib import Path
import re

import pytest

PAGE = Path(__file__).parents[1] / 'docs' / 'library.md'
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE.read_text('utf-8'), re.DOTALL)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with a link to the experiments, as a fresh clone has them."""
  folder = tmp_path_factory.mktemp('page')
  (folder / 'experiments').symlink_to(PAGE.parents[1] / 'experiments')
  return folder


def test_the_examples_import_what_exists(folder, monkeypatch):
  monkeypatch.chdir(folder)
  for code in BLOCKS:
    lines = [x for x in code.splitlines() if x.startswith(('import ', 'from '))]
    exec(compile('\n'.join(lines), str(PAGE), 'exec'), {})


@pytest.mark.slow  # three trainings
def test_the_examples_run(folder, monkeypatch, capsys):
  monkeypatch.chdir(folder)
  monkeypatch.syspath_prepend(str(folder))
  for code in BLOCKS:
    if name := re.match(r'# file: (\S+)\n', code):
      (folder / name[1]).write_text(code, 'utf-8')
    else:
      exec(compile(code, str(PAGE), 'exec'), {'__name__': 'example'})
  printed = capsys.readouterr().out
  assert '100% of the sequences are right' in printed
  assert 'BLEU ' in printed
