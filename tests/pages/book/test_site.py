"""Builds the site and opens it in a browser, without a network."""

import os
from pathlib import Path
import re
import subprocess
import sys
import time
from urllib.parse import quote

import pytest

from book.references import ROOT

pytestmark = pytest.mark.slow  # builds both languages
_MOST_STOPS = 400  # of the Tab key on one page

# What the Tab key must reach; of radio buttons of one name it reaches one, and the button
# to the top is there only after scrolling.
_STOPS = """(() => {
  const names = new Set();
  window.stops = [...document.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex]')].filter(node => {
    const seen = node.checkVisibility({visibilityProperty: true}) && !node.closest('[inert]');
    const box = node.getBoundingClientRect();
    if (!seen || node.matches('.md-top') || node.disabled || node.tabIndex < 0 || !(box.width || box.height)) return false;
    if (node.type !== 'radio') return true;
    const isFirst = !names.has(node.name);
    names.add(node.name);
    return isFirst;
  });
  window.reached = new Set();
  document.activeElement.blur();
  return window.stops.length;
})()"""

# Notes the element that has the focus; returns it if one cannot see that it has it.
_NOTE = """(() => {
  const node = document.activeElement, stops = window.stops;
  const same = other => other === node
    || (node.type === 'radio' && other.type === 'radio' && other.name === node.name);
  const index = stops.findIndex(same);
  const isNew = index >= 0 && !window.reached.has(index);
  if (isNew) window.reached.add(index);
  const marks = [node, node.nextElementSibling, node.parentElement].filter(Boolean);
  const marked = marks.some(x => {
    const style = getComputedStyle(x);
    return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1)
      || style.boxShadow !== 'none';
  });
  const name = `${node.tagName} ${node.id} ${node.className} ${node.textContent.slice(0, 40)}`;
  return {end: node === document.body || (index >= 0 && !isNew), faint: marked ? null : name};
})()"""
_LEFT = """window.stops.filter((_, i) => !window.reached.has(i)).map(
  x => `${x.tagName} ${x.id} ${x.className} ${x.textContent.slice(0, 40)}`)"""


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  pytest.importorskip('mkdocs', reason='needs mkdocs: make docs installs it')
  pytest.importorskip('ziamath', reason='needs ziamath: make docs installs it')
  folder = tmp_path_factory.mktemp('site')
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  command = [sys.executable, '-m', 'book', str(folder)]
  subprocess.run(command, env=environment, cwd=folder, check=True)
  return folder


def _pages(site: Path) -> list[Path]:
  return sorted(site.glob('r*/*.html')) + sorted(site.glob('e*/*.html'))


def _opened(site: Path) -> list[Path]:
  """Returns all pages that a reader opens, and the interactive ones."""
  pages = [site / 'index.html', *_pages(site), *site.glob('*/files/docs/interactive/*')]
  return [page for page in pages if page.name != '404.html']


def test_pages_load_nothing_from_a_network(site):
  assert len(_pages(site)) >= 10
  for page in _pages(site):
    text = page.read_text('utf-8')
    loaded = re.findall(r'<(?:script|img|iframe)[^>]* src=["\']?(https?:[^\s>]*)', text)
    loaded += re.findall(r'<link[^>]* href=["\']?(https?:[^\s>]*)', text)
    assert not [url for url in loaded if 'canonical' not in url], page


def test_links_lead_to_files(site):
  for page in _pages(site):
    for link in re.findall(
      r' (?:href|src)=["\']?([^\s"\'>]+)', page.read_text('utf-8')
    ):
      path = link.partition('#')[0].partition('?')[0]
      if path and not re.match('[a-z]+:', path) and page.name != '404.html':
        assert (page.parent / path).resolve().exists(), f'{page}: {link}'


def test_references_and_formulas_are_filled_in(site):
  for page in _pages(site):
    text = re.sub(r'(?s)<script.*?</script>', '', page.read_text('utf-8'))
    assert '{{' not in text
    assert 'class="arithmatex"' not in text


def test_pages_work_by_keyboard_and_report_no_error(site, chromium):
  """The Tab key reaches all that one can use, and one sees where it is."""
  wrong = []
  for page in _opened(site):
    chromium.open(page, width=1300)
    if chromium.run(_STOPS) == 0:
      wrong.append(f'{page}: nothing to use')
    faint = set()
    for _ in range(_MOST_STOPS):
      chromium.press('Tab')
      noted = chromium.run(_NOTE)
      if noted['end']:
        break
      if noted['faint']:
        faint.add(noted['faint'])
    left = chromium.run(_LEFT)
    for what, nodes in (('not reached', left), ('no visible focus', sorted(faint))):
      wrong += [f'{page.relative_to(site)}: {what}: {node}' for node in nodes]
    wrong += [f'{page.relative_to(site)}: {error}' for error in chromium.errors]
    chromium.errors.clear()
  assert wrong == []


@pytest.mark.parametrize('width', [360, 1300])
def test_interactive_pages_fit_a_window_and_have_contrast(site, chromium, width):
  for page in site.glob('*/files/docs/interactive/*'):
    for dark in (False, True):
      chromium.open(page, width=width, dark=dark)
      assert chromium.run('document.documentElement.scrollWidth <= innerWidth'), page
      assert chromium.faint_texts() == [], page


def _shown(chromium, selector: str) -> str:
  return chromium.run(f"document.querySelector('{selector}').textContent")


@pytest.mark.parametrize(
  ('language', 'words'),
  [
    ('ru', ('Стенд BLEU', '36,56', 'засчитано 5 из 8')),
    ('en', ('BLEU bench', '36.56', '5 of 8')),
  ],
)
def test_the_bench_is_in_the_language_of_the_book(site, chromium, language, words):
  chromium.open(site / language / 'files/docs/interactive/bleu.html')
  assert chromium.run('document.documentElement.lang') == language
  text = chromium.run('document.body.innerText')
  assert all(word in text for word in words)


def test_the_window_is_moved_by_keyboard(site, chromium):
  chromium.open(site / 'en' / 'files/docs/interactive/window.html')
  chromium.run("document.getElementById('next').focus()")
  for _ in range(2):
    chromium.press('Enter')
  assert '“cat”' in _shown(chromium, '#said')
  assert _shown(chromium, '#text .centre') == 'cat'
  rows = chromium.run(
    "[...document.querySelectorAll('#matrix tbody tr')].map(x => x.innerText.trim())"
  )
  assert [row.split() for row in rows[:2]] == [
    ['the', '1', '1'],
    ['cat', '1', '1', '1'],
  ]
  chromium.run("document.getElementById('window').focus()")
  chromium.press('ArrowRight')
  assert _shown(chromium, '#window-value') == '3'


def test_the_beam_is_moved_by_keyboard(site, chromium):
  chromium.open(site / 'ru' / 'files/docs/interactive/beam.html')
  chromium.run("document.getElementById('width').focus()")
  chromium.press('ArrowRight')
  assert _shown(chromium, '#width-value') == '3'
  assert 'королева гордилась весёлым врачом' in _shown(chromium, '#results')
  chromium.run("document.getElementById('start').focus()")
  chromium.press('Enter')
  assert 'Поиск не начат' in _shown(chromium, '#said')
  assert chromium.run("document.querySelectorAll('#tree rect').length") == 1


@pytest.mark.parametrize(
  ('language', 'query', 'page'),
  [
    ('ru', 'поворотами', 'rotation.html'),
    ('ru', 'маски', 'mask.html'),
    ('ru', 'эталоне', 'bleu.html'),
    ('en', 'rotations', 'rotation.html'),
  ],
)
def test_search_finds_a_word_in_another_form(site, chromium, language, query, page):
  chromium.open(f'{site / language / "index.html"}?q={quote(query)}')
  end = time.monotonic() + 30
  results = ()
  while not results and time.monotonic() < end:
    results = chromium.run(
      "[...document.querySelectorAll('.md-search-result__link')].map(x => x.href)"
    )
  assert any(page in result for result in results)
  assert chromium.errors == []


@pytest.mark.parametrize(
  ('language', 'words'),
  [
    ('ru', ('Голова', '«▁Высокая» (1 из 13) больше всего смотрит на: ▁tall 0.75')),
    ('en', ('Head', '“▁Высокая” (1 of 13) attends most to: ▁tall 0.75')),
  ],
)
def test_attention_is_shown_in_the_language_of_the_book(
  site, chromium, language, words
):
  path = site / language / 'files/docs/interactive/attention.html'
  for url in (path, f'{site}/en/files/docs/interactive/attention.html?lang={language}'):
    chromium.open(url)
    text = chromium.run('document.body.innerText')
    assert all(word in text for word in words)
  chromium.run("document.querySelector('.attention-tokens button').focus()")
  chromium.press('ArrowRight')
  assert '▁girl 0.98' in _shown(chromium, '.attention-said')
