"""Builds the site: python -m book [FOLDER]; see `make docs`."""

from pathlib import Path
import shutil
import sys

from book.references import ROOT

LANGUAGES = ('ru', 'en')


def main(folder: Path) -> None:
  """Builds both languages into a folder, with a page that chooses one of them."""
  from mkdocs.commands.build import build
  from mkdocs.config import load_config

  for language in LANGUAGES:
    config = load_config(
      str(ROOT / 'book' / f'{language}.yml'),
      site_dir=str(folder.resolve() / language),
      strict=True,
    )
    config.plugins.on_startup(command='build', dirty=False)
    build(config)
  shutil.copyfile(ROOT / 'book' / 'choose.html', folder / 'index.html')
  print(f'the book: {folder / "index.html"}')


if __name__ == '__main__':
  main(Path(sys.argv[1] if len(sys.argv) > 1 else 'site'))
