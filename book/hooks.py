"""What mkdocs does with each page beyond Markdown: see `book/ru.yml`, `book/en.yml`."""

from pathlib import Path
import re

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from book.formulas import draw_formulas
from book.references import ROOT, fill

_LINK = re.compile(r'(?<=\]\()(\.\./[^)\s#]+)')
_BEGINNING, _STEM_OR_BEGINNING = 'r:`${r}*`', 'r:`${r} ${r}*`'
_AS_TEXT = ('.md', '.py', '.csv', '.jsonl')  # browsers show them with .txt behind


def on_files(files, config):
  """Adds the files of the theme that both languages share."""
  for path in sorted((ROOT / 'book' / 'assets').iterdir()):
    files.append(_file(config, f'assets/{path.name}', path))
  return files


def on_page_markdown(markdown, page, config, files):
  """Fills in references, and copies the files beyond this language that are linked."""
  try:
    markdown = fill(markdown, config.theme['language'])
  except ValueError as error:
    raise PluginError(f'{page.file.src_uri}: {error}') from error

  def copied(match: re.Match) -> str:
    path = (Path(config.docs_dir) / match[1]).resolve()
    name = f'files/{path.relative_to(ROOT)}' + '.txt' * (path.suffix in _AS_TEXT)
    if files.get_file_from_path(name) is None:
      files.append(_file(config, name, path))
    return name

  return _LINK.sub(copied, markdown)


def on_page_content(html, page, config, files):
  """Draws the formulas."""
  return draw_formulas(html)


def on_post_page(output, page, config):
  """Removes the links by which the theme's script fetches the other language's map.

  A browser refuses that for pages that are opened as files, and reports an error.
  """
  return re.sub(r'<link rel="alternate"[^>]*>', '', output)


def on_post_build(config):
  """Lets the search find a word in any form: by its stem as well as by its beginning.

  The theme asks for the beginning only, and lunr finds no stem of that; most Russian
  words on a page have another ending than in the question.
  """
  (worker,) = Path(config.site_dir).glob('assets/javascripts/workers/search.*.min.js')
  text = worker.read_text('utf-8')
  if text.count(_BEGINNING) != 1:
    raise PluginError(
      f'{worker.name} does not have {_BEGINNING} once: this version of mkdocs-material '
      'makes queries in another way; change book/hooks.py, or install the version of '
      'constraints.txt'
    )
  worker.write_text(text.replace(_BEGINNING, _STEM_OR_BEGINNING), 'utf-8')


def _file(config, name: str, path: Path) -> File:
  return File.generated(config, name, abs_src_path=str(path))
