"""Builds the site and opens it in a browser, without a network."""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

import pytest

from book.references import ROOT

pytestmark = pytest.mark.slow  # builds both languages
_BROWSER = ('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run')
_QUIET = ('--disable-background-networking', '--disable-component-update')
_LOG = ('--disable-sync', '--enable-logging=stderr', '--virtual-time-budget=30000')


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


def _open(url: str, folder: Path) -> tuple[str, str]:
  """Returns the document after its scripts have run, and what the browser reported."""
  browser = shutil.which('chromium')
  if browser is None:
    pytest.skip("needs chromium (Debian's package)")
  command = [browser, *_BROWSER, *_QUIET, *_LOG, f'--user-data-dir={folder}']
  done = subprocess.run(
    [*command, '--dump-dom', url], capture_output=True, text=True, timeout=120
  )
  return done.stdout, done.stderr


def test_pages_report_no_error(site, tmp_path):
  for page in [*_pages(site), *site.glob('*/files/docs/interactive/*.html')]:
    if page.name != '404.html':
      document, log = _open(page.as_uri(), tmp_path)
      assert '</html>' in document
      assert 'CONSOLE' not in log, f'{page}: {log}'


@pytest.mark.parametrize(
  ('language', 'words'),
  [
    ('ru', ('Стенд BLEU', '36,56', 'засчитано 5 из 8')),
    ('en', ('BLEU bench', '36.56', '5 of 8')),
  ],
)
def test_the_bench_is_in_the_language_of_the_book(site, tmp_path, language, words):
  page = site / language / 'files/docs/interactive/bleu.html'
  document, _ = _open(page.as_uri(), tmp_path)
  assert f'<html lang="{language}">' in document
  assert all(word in document for word in words)


@pytest.mark.parametrize(
  ('language', 'query', 'page'),
  [
    ('ru', 'поворотами', 'rotation.html'),
    ('ru', 'маски', 'mask.html'),
    ('ru', 'эталоне', 'bleu.html'),
    ('en', 'rotations', 'rotation.html'),
  ],
)
def test_search_finds_a_word_in_another_form(site, tmp_path, language, query, page):
  url = f'{(site / language / "index.html").as_uri()}?q={query}'
  document, _ = _open(url, tmp_path)
  results = re.findall(r'<a href="([^"]*)" class="md-search-result__link', document)
  assert any(page in result for result in results)
