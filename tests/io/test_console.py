"""The terminal prints text literally."""

import io
from pathlib import Path

import pytest
from rich.table import Table

import seqlab
from seqlab.io.console import console, has_bars, print_table, verbatim


def _printed(text, write):
  out = io.StringIO()
  write(text, out)
  return out.getvalue()


@pytest.mark.parametrize('text', ['[bold]/v.txt', '[/old]', ':smile:', 'a[', '\\[x]'])
def test_text_is_printed_literally(text):
  out = io.StringIO()
  console(out).print(text)
  assert out.getvalue() == f'{text}\n'


@pytest.mark.parametrize('text', ['[bold]/v.txt', '[/old]', ':smile:'])
def test_cells_titles_and_headings_are_printed_literally(text):
  table = Table(text, title=verbatim(text))
  table.add_row(text)
  assert _printed(table, print_table).count(text) == 3


def test_long_names_are_complete_without_a_terminal():
  table = Table('run', 'loss')
  table.add_row('runs/' + 'x' * 300, '1.0')
  assert 'x' * 300 in _printed(table, print_table)


def test_every_module_prints_with_console():
  root = Path(seqlab.__file__).parent
  users = [p for p in root.rglob('*.py') if 'rich.console' in p.read_text('utf-8')]
  assert [p.relative_to(root).as_posix() for p in users] == ['io/console.py']


def test_a_dumb_terminal_has_no_bars(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  monkeypatch.setenv('TERM', 'dumb')
  assert not has_bars(Terminal())
  monkeypatch.setenv('TERM', 'xterm')
  assert has_bars(Terminal())
  assert not has_bars(io.StringIO())
