"""Recognising files by their first bytes."""

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile

import pytest

from seqlab.io.containers import advice, name_of_container

TEXT = 'A first line.\nЕщё одна строка, и слова.\n日本語の文。\n'


def _zip() -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('text.txt', TEXT)
  return file.getvalue()


def _tar() -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w') as archive:
    archive.addfile(tarfile.TarInfo('text.txt'), io.BytesIO(b''))
  return file.getvalue()


PACKED = {
  'gzip': gzip.compress(TEXT.encode()),
  'xz': lzma.compress(TEXT.encode()),
  'lzma': lzma.compress(TEXT.encode(), lzma.FORMAT_ALONE),
  'bzip2': bz2.compress(TEXT.encode()),
  'zip': _zip(),
  'tar': _tar(),
  'pickle': pickle.dumps(TEXT),
  'PDF': b'%PDF-1.7\n%\xe2\xe3\xcf\xd3\n',
  'zstd': bytes.fromhex('28b52ffd04580900'),
  '7z': b'7z\xbc\xaf\x27\x1c\0\4',
}


@pytest.mark.parametrize('name', PACKED)
def test_files_of_other_kinds_are_named(name):
  assert name_of_container(PACKED[name]) == name


def test_an_empty_bzip2_file_is_named():
  assert name_of_container(bz2.compress(b'')) == 'bzip2'


@pytest.mark.parametrize('name', ['UTF-16', 'UTF-32'])
def test_text_with_a_wide_order_mark_is_named(name):
  assert name_of_container(TEXT.encode(name)) == name


@pytest.mark.parametrize('name', ['UTF-16LE', 'UTF-16BE', 'UTF-32LE', 'UTF-32BE'])
@pytest.mark.parametrize(
  'text',
  [
    'Plain English.\n',
    'Только русские слова\n',
    'हिन्दी के शब्द\n',
    TEXT * 200,
    'a 1.5\n',
  ],
)
def test_wide_text_without_an_order_mark_is_named(name, text):
  assert name_of_container(text.encode(name)) == name


@pytest.mark.parametrize(
  'data',
  [
    b'',
    b'a',
    b'\x80',
    TEXT.encode(),
    b'\xef\xbb\xbf' + TEXT.encode(),
    TEXT.encode('cp1251', 'replace'),
    'naïve café\n'.encode('latin1'),
    b'PK is a name\n',
    b'BZh9 is not a block\n',
    b'a line with one\0 zero\n' * 50,
    bytes(600),
    b'3 2\na \0\0\x80?\0\0\0@\nb \0\0\x80?\0\0\0@\nc \0\0\x80?\0\0\0@\n',
  ],
)
def test_text_and_unknown_formats_have_no_name(data):
  assert name_of_container(data) is None


@pytest.mark.parametrize('name', [*PACKED, 'UTF-16', 'UTF-32LE', 'HDF5'])
def test_advice_never_names_another_encoding(name):
  text = advice(name)
  assert 'latin1' not in text
  assert ('iconv' in text) == name.startswith('UTF-')
  if name.startswith('UTF-'):
    assert f'-f {name} ' in text
