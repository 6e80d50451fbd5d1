"""Compares the pages of the book with each other and with the tree."""

from collections.abc import Iterator
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest

from book.references import REFERENCE, ROOT, resolve
from seqlab.text.plain import find_file

RU, EN = ROOT / 'docs' / 'ru', ROOT / 'docs' / 'en'
ALL = sorted(path.name for path in RU.glob('*.md'))
PAGES = [name for name in ALL if name not in ('index.md', 'glossary.md')]
BOTH = [folder / name for name in PAGES for folder in (RU, EN)]
PARTS = {
  RU: 'Тезис|Формула|Код|Предскажите|Команда|Что получилось|Контроль|Упражнения|'
  'Чего мы не показали',
  EN: 'Claim|Formula|Code|Predict|Command|Result|Control|Exercises|Not shown',
}
ANSWERS = {RU: 'Ответ', EN: 'Answer'}
# How the results of a page begin that has no numbers. The first names the study.
WITHOUT_NUMBERS = {
  RU: (
    '**Опыт написан и ещё не проведён, поэтому чисел здесь нет.**',
    '**Отдельного опыта об этом пункте нет.**',
  ),
  EN: (
    '**The study is written and has not been run yet, so there are no numbers here.**',
    '**There is no study of this point.**',
  ),
}
NOT_RUN = {RU: 'ещё не проведён', EN: 'been run yet'}


def _name(path: Path) -> str:
  return f'{path.parent.name}/{path.name}'


def _parts(path: Path) -> dict[str, str]:
  """Returns the parts of a page by their headings."""
  _, *parts = re.split(r'(?m)^## (.*)\n', path.read_text('utf-8'))
  return dict(zip(parts[::2], parts[1::2], strict=True))


def _part(path: Path, index: int) -> str:
  return _parts(path)[PARTS[path.parent].split('|')[index]]


def _lacks_numbers(path: Path) -> bool:
  return _part(path, 5).strip().startswith(WITHOUT_NUMBERS[path.parent])


def _shell(text: str) -> list[str]:
  return re.findall(r'(?ms)^```sh\n(.*?)^```', text)


def test_both_languages_have_the_same_pages():
  assert PAGES
  assert sorted(path.name for path in EN.glob('*.md')) == ALL


@pytest.mark.parametrize('path', BOTH, ids=_name)
def test_pages_have_all_parts(path):
  assert [*_parts(path)] == PARTS[path.parent].split('|')
  assert re.search(r'(?m)^> ', _part(path, 0))
  assert '$$' in _part(path, 1)
  assert '{{ code ' in _part(path, 2)
  assert len(_shell(_part(path, 4))) == 1
  figure = re.search(r'(?m)^!\[[^\]]+\]\(\.\./.+\.svg\)$', _part(path, 5))
  assert _lacks_numbers(path) != bool(figure)


def _studies(text: str) -> list[tuple[str, str]]:
  return re.findall(r'launch\.sweep experiments/(\w+)/(\w+)\.py', text)


@pytest.mark.parametrize('path', BOTH, ids=_name)
def test_studies_that_the_results_call_not_run_have_no_numbers(path):
  """Where it fails, a study has been run: put its numbers on the page."""
  part = _part(path, 5) + _part(path, 6)
  studies = _studies(part)
  assert bool(studies) == (NOT_RUN[path.parent] in part)
  for folder, name in studies:
    assert (ROOT / 'experiments' / folder / f'{name}.py').is_file()
    assert not (ROOT / 'docs' / f'{folder}-{name}' / 'rows.csv').is_file()


def test_every_study_of_the_lecture_has_a_page():
  text = ' '.join((RU / name).read_text('utf-8') for name in PAGES)
  files = (ROOT / 'experiments' / 'lecture').glob('*.py')
  assert [x.name for x in files if f'experiments/lecture/{x.name}' not in text] == []


@pytest.mark.parametrize('path', BOTH, ids=_name)
def test_pages_have_three_exercises_with_folded_answers(path):
  text = _part(path, 7)
  numbers = re.findall(r'(?m)^\*\*(\d)\.\*\*', text)
  answer = f'<details markdown="1"><summary>{ANSWERS[path.parent]}</summary>\n\n'
  assert numbers == ['1', '2', '3']
  assert text.count(answer) == text.count('\n\n</details>') == 3
  assert len(_shell(text)) == 3


@pytest.mark.parametrize('path', BOTH, ids=_name)
def test_references_resolve(path):
  references = REFERENCE.findall(path.read_text('utf-8'))
  assert any(' | ' in reference for reference in references) != _lacks_numbers(path)
  for reference in references:
    assert resolve(reference, path.parent.name)


def _prose(text: str) -> str:
  """Returns the text without code, formulas, references and addresses."""
  for pattern in (
    *(r'(?ms)^```.*?^```', r'`[^`]*`', r'\{\{.*?\}\}', r'(?s)\$\$.*?\$\$'),
    *(r'\$[^$]*\$', r'\]\([^)]*\)', r'(?m)^#+ .*$', r'Python 3\.\d+'),
  ):
    text = re.sub(pattern, ' ', text)
  return text


@pytest.mark.parametrize('path', BOTH, ids=_name)
def test_numbers_of_results_are_references(path):
  text = _prose(path.read_text('utf-8'))
  assert re.findall(r'\S*\d[.,]\d\S*|±\s*\d\S*', text) == []


@pytest.mark.parametrize('name', PAGES)
def test_both_languages_say_the_same(name):
  ru, en = ((folder / name).read_text('utf-8') for folder in (RU, EN))
  assert REFERENCE.findall(ru) == REFERENCE.findall(en)
  assert _shell(ru) == _shell(en)
  links = [re.findall(r'\]\((\.\./[^)]*)\)', text) for text in (ru, en)]
  assert links[0] == links[1]
  claims = [re.findall(r'(?m)^> (.*)$', text)[0] for text in (ru, en)]
  assert claims[0] == claims[1]


@pytest.mark.parametrize('name', PAGES)
def test_claims_are_quoted_from_the_list_of_points(name):
  """The index has the lecture's points, with a link to each page."""
  text = (RU / name).read_text('utf-8')
  number = re.match(r'# (\d+(?:\.\d+)?)\. ', text)[1]
  (claim,) = re.findall(r'(?m)^> (.*)$', text)
  for index in (RU / 'index.md', EN / 'index.md'):
    rows = [row.split('|') for row in index.read_text('utf-8').splitlines()]
    (row,) = (row for row in rows if len(row) == 5 and row[1].strip() == number)
    assert f'({name})' in row[3]
    plain = row[2].replace('*', '').replace(':', '')
    assert claim in plain


def _terms(path: Path) -> Iterator[set[str]]:
  for line in path.read_text('utf-8').splitlines():
    if line.startswith('| ') and 'по-русски' not in line:
      yield {cell.strip() for cell in line.split('|')[1:3]}


def test_both_glossaries_have_the_same_terms():
  ru, en = ([*_terms(folder / 'glossary.md')] for folder in (RU, EN))
  assert len(ru) >= 30
  assert ru == en


def test_the_navigation_has_all_pages():
  for folder in (RU, EN):
    text = (ROOT / 'book' / f'{folder.name}.yml').read_text('utf-8')
    assert sorted(re.findall(r'[\w-]+\.md', text)) == ALL


@pytest.mark.slow  # a minute per page
@pytest.mark.parametrize('name', PAGES)
def test_commands_run(name, tmp_path):
  """Runs the page's command as a reader would, in a folder with the experiments."""
  (tmp_path / 'experiments').symlink_to(ROOT / 'experiments')
  (command,) = _shell(_part(RU / name, 4))
  if 'experiments/enwiki' in command:
    try:
      find_file('enwiki2018', 'enwiki.00.txt')
    except (OSError, ValueError) as error:
      pytest.skip(f'needs the text: {error}')
  binaries = Path(sys.executable).parent
  environment = os.environ | {'PATH': f'{binaries}:{os.environ["PATH"]}'}
  subprocess.run(
    ['bash', '-euc', command], cwd=tmp_path, env=environment, check=True, timeout=600
  )
