import bz2
import gzip
import hashlib
import json
import lzma
import os
from pathlib import Path
import re

import pytest

from seqlab.text import plain
from seqlab.text.plain import NAMED, open_text

TEXT = 'one two\n\nthree\r\nфразы и ё\n'
LINES = ['one two', '', 'three', 'фразы и ё']


def data(name):
  folder = Path(os.environ.get('SEQLAB_DATA') or os.devnull, name)
  if not folder.is_dir():
    pytest.skip(f'SEQLAB_DATA has no {name}')
  return folder


@pytest.fixture
def text(tmp_path):
  path = tmp_path / 'my.txt'
  path.write_bytes(TEXT.encode())
  return path


def test_a_file_is_its_lines(text):
  assert list(open_text(path=text).lines()) == LINES


def test_a_gzipped_file_is_its_lines_whatever_its_name(tmp_path):
  path = tmp_path / 'packed.txt'
  path.write_bytes(gzip.compress(TEXT.encode()))
  assert list(open_text(path=path).lines()) == LINES


def test_lines_do_not_end_where_only_python_ends_them(tmp_path):
  path = tmp_path / 'my.txt'
  path.write_text('a\u2028b\x0cc\n', 'utf-8')
  assert list(open_text(path=path).lines()) == ['a\u2028b\x0cc']


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
  path = tmp_path / 'my.txt'
  path.write_bytes(b'\xef\xbb\xbfone')
  assert list(open_text(path=path).lines()) == ['one']


@pytest.mark.parametrize('size', [1, 2, 3, 7, 30, 1 << 22])
def test_lines_are_whole_wherever_blocks_end(text, monkeypatch, size):
  longest = max(len(line.encode()) for line in LINES) + 2
  monkeypatch.setattr(plain, '_CHUNK', max(size, longest))
  chunks = list(open_text(path=text).chunks())
  assert all(chunk.endswith('\n') for chunk in chunks)
  assert ''.join(chunks) == TEXT
  if size < longest:
    assert len(chunks) > 1


def test_a_corpus_in_one_line_is_divided_at_spaces(tmp_path, monkeypatch):
  monkeypatch.setattr(plain, '_CHUNK', 8)
  path = tmp_path / 'my.txt'
  path.write_text('aaa bbb ccc ddd eee\nfff', 'utf-8')
  lines = list(open_text(path=path).lines())
  assert ' '.join(lines).split() == ['aaa', 'bbb', 'ccc', 'ddd', 'eee', 'fff']
  assert len(lines) > 2


def test_a_long_line_without_spaces_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(plain, '_CHUNK', 8)
  path = tmp_path / 'my.txt'
  path.write_text('a\nbbbbbbbbbbbbbbbbbbbbbbbbb\n', 'utf-8')
  with pytest.raises(ValueError, match=r'line 2 of .*my\.txt has .* without a space'):
    list(open_text(path=path).lines())


def test_a_folder_is_its_files_in_order(tmp_path):
  for name in ('b.txt', 'a/2.txt', 'a/10.txt', '.hidden.txt', '.git/x.txt', 'r.md'):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{name}', 'utf-8')
  (tmp_path / 'c.txt.gz').write_bytes(gzip.compress(b'c.txt.gz'))
  corpus = open_text(path=tmp_path)
  assert list(corpus.lines()) == ['a/10.txt', 'a/2.txt', 'b.txt', 'c.txt.gz']


def test_all_texts_of_a_folder_are_read_whatever_the_case_of_their_endings(tmp_path):
  for name in ('a.txt', 'c.TXT', 'wiki.tar.gz', '.e.TXT', '.f.gz', 'g.gz.part'):
    (tmp_path / name).write_text(name, 'utf-8')
  for name in ('b.en.gz', 'd.gz', 'e.Txt.GZ'):
    (tmp_path / name).write_bytes(gzip.compress(name.encode()))
  lines = list(open_text(path=tmp_path).lines())
  assert lines == ['a.txt', 'b.en.gz', 'c.TXT', 'd.gz', 'e.Txt.GZ']


def test_the_fingerprint_of_a_folder_is_that_of_its_files_in_order(tmp_path):
  """Caches are found by it, so it must not change."""
  packed = gzip.compress(b'two\n', mtime=0)
  for name, data in {'b.txt': b'one\n', 'a.txt.gz': packed, 'r.md': b''}.items():
    (tmp_path / name).write_bytes(data)
  hashes = [hashlib.sha256(data).hexdigest() for data in (packed, b'one\n')]
  expected = hashlib.sha256(json.dumps([1, *hashes]).encode()).hexdigest()
  assert open_text(path=tmp_path).fingerprint == expected


def test_several_paths_are_one_corpus(text, tmp_path):
  other = tmp_path / 'other.md'
  other.write_text('more', 'utf-8')
  corpus = open_text(path=[other, text])
  assert list(corpus.lines()) == ['more', *LINES]
  assert corpus.paths == (other, text)


@pytest.mark.parametrize(
  ('one', 'other'),
  [('a.txt', 'a.txt.gz'), ('a.TXT', 'a.txt.GZ'), ('b/a.gz', 'b/a.txt')],
)
def test_a_text_that_exists_plain_and_gzipped_is_refused(tmp_path, one, other):
  for name in (one, other, 'b.txt'):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(b'x') if name.lower().endswith('gz') else b'x')
  message = rf'{re.escape(one)} and .*{re.escape(other)} seem to be one text'
  with pytest.raises(ValueError, match=message):
    list(open_text(path=tmp_path).lines())


def test_files_of_one_name_in_two_folders_are_two_texts(tmp_path):
  for folder, ending in (('a', ''), ('b', '.gz')):
    (tmp_path / folder).mkdir()
    data = folder.encode()
    file = tmp_path / folder / f'x.txt{ending}'
    file.write_bytes(gzip.compress(data) if ending else data)
  assert list(open_text(path=tmp_path).lines()) == ['a', 'b']


def test_a_file_that_is_given_twice_is_refused(text, tmp_path):
  with pytest.raises(ValueError, match='are one file, whose text would count twice'):
    list(open_text(path=[text, text.parent]).lines())
  folder = tmp_path / 'linked'
  folder.mkdir()
  (folder / 'b.txt').write_text('x')
  (folder / 'c.txt').symlink_to('b.txt')
  with pytest.raises(ValueError, match=r'b\.txt and .*c\.txt are one file'):
    list(open_text(path=folder).lines())


def test_a_broken_link_is_refused(tmp_path):
  (tmp_path / 'a.txt').write_text('x')
  (tmp_path / 'b.txt').symlink_to('gone.txt')
  with pytest.raises(FileNotFoundError, match=r'b\.txt is a broken link'):
    list(open_text(path=tmp_path).lines())


@pytest.mark.skipif(os.geteuid() == 0, reason='the superuser may read all folders')
def test_a_folder_that_cannot_be_listed_is_refused(tmp_path):
  (tmp_path / 'a.txt').write_text('x')
  (tmp_path / 'closed').mkdir(mode=0)
  with pytest.raises(PermissionError, match='closed'):
    list(open_text(path=tmp_path).lines())


@pytest.mark.parametrize('name', ['[a]', 'a*', 'a,b', 'a:b', 'a b', 'a\nb', '[!a]'])
def test_a_folder_may_have_any_name(tmp_path, name):
  folder = tmp_path / name
  folder.mkdir()
  (tmp_path / 'a').mkdir()
  (tmp_path / 'a' / 'x.txt').write_text('wrong')
  (folder / f'{name}.txt').write_text('right')
  assert list(open_text(path=folder).lines()) == ['right']


@pytest.mark.parametrize('path', ['', [], ['a.txt', '']])
def test_an_empty_path_is_refused(path):
  with pytest.raises(ValueError, match=r'corpus\.path is .*; name a file or a folder'):
    open_text(path=path)


@pytest.mark.parametrize(
  ('data', 'name'),
  [
    (lzma.compress(b'text'), 'xz'),
    (bz2.compress(b'text'), 'bzip2'),
    (gzip.compress(bz2.compress(b'text'), mtime=0), 'bzip2'),
    ('текст и ещё\n'.encode('utf-16'), 'UTF-16'),
    ('plain text\n'.encode('utf-16-le'), 'UTF-16LE'),
    (b'PK\x03\x04', 'zip'),
  ],
)
def test_a_packed_file_or_a_wide_encoding_is_named(tmp_path, data, name):
  (tmp_path / 'a.txt').write_bytes(data)
  with pytest.raises(ValueError, match=rf'a\.txt is {name}, not text') as error:
    list(open_text(path=tmp_path / 'a.txt').lines())
  assert 'latin1' not in str(error.value)


def test_the_message_about_a_folder_without_text_names_its_files(tmp_path):
  (tmp_path / 'notes.md').write_text('x', 'utf-8')
  with pytest.raises(ValueError, match=r'no \.txt or \.gz files .*notes\.md'):
    list(open_text(path=tmp_path).lines())


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no file or folder .*gone\.txt'):
    list(open_text(path=tmp_path / 'gone.txt').lines())


@pytest.mark.parametrize('content', ['', '\n \n'])
def test_an_empty_corpus_is_an_error_that_names_its_files(tmp_path, content):
  path = tmp_path / 'my.txt'
  path.write_text(content, 'utf-8')
  with pytest.raises(ValueError, match=r'no text in .*my\.txt: the corpus is empty'):
    list(open_text(path=path).lines())


def test_a_truncated_file_is_named_with_the_line(tmp_path, monkeypatch):
  monkeypatch.setattr(plain, '_CHUNK', 1 << 10)
  path = tmp_path / 'my.txt.gz'
  text = ''.join(f'{n * 7919 % 1_000_003} words\n' for n in range(10_000))
  whole = gzip.compress(text.encode())
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r'my\.txt\.gz is .*truncated after line \d,\d'):
    list(open_text(path=path).lines())


def test_bytes_that_are_not_utf8_are_named_with_the_line(tmp_path, monkeypatch):
  monkeypatch.setattr(plain, '_CHUNK', 16)
  path = tmp_path / 'my.txt'
  path.write_bytes(b'one two\n' * 1_203 + b'caf\xe9\n')
  with pytest.raises(ValueError, match=r'line 1,204 of my\.txt is not UTF-8 .*0xe9'):
    list(open_text(path=path).lines())


def test_the_fingerprint_follows_the_text(text):
  before = open_text(path=text).fingerprint
  assert open_text(path=text).fingerprint == before
  text.write_bytes(TEXT.encode() + b'more\n')
  assert open_text(path=text).fingerprint != before


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    (None, 'corpus has no name .*corpus.path='),
    ('enwiki2017', "unknown corpus 'enwiki2017'; did you mean 'enwiki2018'"),
  ],
)
def test_an_unknown_name_is_an_error(name, message):
  with pytest.raises(ValueError, match=message):
    open_text(name)


def test_a_named_corpus_is_read_from_the_data_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  folder = tmp_path / 'russian-novels'
  folder.mkdir()
  for file in NAMED['russian-novels'][:2]:
    (folder / f'{file}.gz').write_bytes(gzip.compress(file.encode()))
  corpus = open_text('russian-novels')  # does not yet look for the files
  with pytest.raises(FileNotFoundError, match=r'has no ru\.02\.txt or ru\.02\.txt\.gz'):
    list(corpus.lines())
  (folder / 'ru.02.txt').write_text('plain', 'utf-8')
  assert list(corpus.lines()) == ['ru.00.txt', 'ru.01.txt', 'plain']


def test_parts_of_a_named_corpus_are_read_in_the_given_order(tmp_path, monkeypatch):
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  (tmp_path / 'russian-novels').mkdir()
  for file in NAMED['russian-novels'][::2]:
    (tmp_path / 'russian-novels' / file).write_text(file, 'utf-8')
  assert list(open_text('russian-novels', part=2).lines()) == ['ru.02.txt']
  corpus = open_text('russian-novels', part=[2, 0])
  assert list(corpus.lines()) == ['ru.02.txt', 'ru.00.txt']
  assert corpus.name == 'russian-novels, part 2, 0'


@pytest.mark.parametrize('part', [3, -1, (0, 3), (1, 1), ()])
def test_unknown_parts_are_an_error(part):
  with pytest.raises(ValueError, match='russian-novels has the parts 0 to 2: name one'):
    open_text('russian-novels', part=part)


def test_your_own_text_has_no_parts(text):
  with pytest.raises(ValueError, match=r'name the files in corpus\.path'):
    open_text(path=text, part=0)


def test_without_a_data_folder_the_message_says_what_to_set(monkeypatch):
  monkeypatch.delenv('SEQLAB_DATA', raising=False)
  with pytest.raises(FileNotFoundError, match='set SEQLAB_DATA'):
    list(open_text('enwiki2018').lines())


@pytest.mark.parametrize(
  ('name', 'first'),
  [('enwiki2018', 'Anarchism'), ('russian-novels', 'Посвящается Любови')],
)
def test_real_corpora_have_the_expected_first_lines(name, first):
  data(name)
  assert next(open_text(name).lines()).startswith(first)
