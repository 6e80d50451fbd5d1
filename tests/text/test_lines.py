"""The definition of lines, blank lines and words."""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest

from seqlab.text.lines import (
  BadLine,
  is_blank,
  one_line,
  read_lines,
  stream_lines,
  text_lines,
  words,
)

BOM = b'\xef\xbb\xbf'


def packed(name, data):
  if name == 'zip':
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as file:
      file.writestr('a', data)
    return out.getvalue()
  return {'xz': lzma.compress, 'bzip2': bz2.compress, 'gzip': gzip.compress}[name](data)


@pytest.mark.parametrize(
  ('data', 'lines'),
  [
    (b'', []),
    (b'a', ['a']),
    (b'a\n', ['a']),
    (b'a\n\nb', ['a', '', 'b']),
    (b'a\r\nb\r', ['a', 'b']),
    (b'a\rb\r\r\n', ['a\rb\r']),
    (BOM, []),
    (BOM + b'\n', ['']),
    (BOM + b'a\n' + BOM + b'b', ['a', '\ufeffb']),
    ('a\u2028b\x85c\x0cd\0\n'.encode(), ['a\u2028b\x85c\x0cd\0']),
  ],
)
def test_files_and_streams_have_the_same_lines(data, lines, tmp_path):
  (tmp_path / 'text').write_bytes(data)
  assert read_lines(tmp_path / 'text') == lines
  assert list(stream_lines(io.BytesIO(data))) == lines


@pytest.mark.parametrize(
  'line',
  ['', ' \t', '\u00a0', '\u3000\u2003', '\u200b', '\ufeff\u2060', '\r\x0b', '\0', '­'],
)
def test_a_line_without_visible_characters_is_blank(line):
  assert is_blank(line)


@pytest.mark.parametrize('line', ['a', ' .', '\u0301', '▁', '⠿', '\u200ba', '\ufffd'])
def test_a_line_with_a_visible_character_is_not_blank(line):
  assert not is_blank(line)


def test_words_are_separated_by_white_space():
  assert words(' a\u00a0b\u3000 c\u200bd ') == ['a', 'b', 'c\u200bd']


def test_one_line_has_no_line_break_for_any_tool():
  text = 'a\nb\rc\vd\fe\x1cf\x85g\u2028h\u2029i\0j'
  assert one_line(text) == 'a b c d e f g h i\ufffdj'
  assert len(one_line(text).splitlines()) == 1


@pytest.mark.parametrize('name', ['xz', 'bzip2', 'zip'])
def test_the_format_of_a_packed_file_is_named(name, tmp_path):
  (tmp_path / 'text').write_bytes(packed(name, b'a\n' * 99))
  with pytest.raises(ValueError, match=rf'text is {name}, .*unpack') as error:
    read_lines(tmp_path / 'text')
  assert 'iconv' not in str(error.value)


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-le', 'utf-16-be', 'utf-32'])
def test_a_wide_encoding_is_named(encoding, tmp_path):
  (tmp_path / 'text').write_bytes('the dog\nthe cat\n'.encode(encoding))
  name = encoding[:6].upper()
  with pytest.raises(ValueError, match=rf'is {name}.*iconv -f {name}'):
    read_lines(tmp_path / 'text')


def test_gzip_needs_no_ending(tmp_path):
  (tmp_path / 'text').write_bytes(packed('gzip', b'a\nb\n'))
  assert read_lines(tmp_path / 'text') == ['a', 'b']


def test_latin1_is_suggested_only_for_text(tmp_path):
  (tmp_path / 'text').write_bytes('schön\nist\n'.encode('latin-1'))
  with pytest.raises(ValueError, match=r'line 1 of text .*\(0xf6\).*iconv -f latin1'):
    read_lines(tmp_path / 'text')
  (tmp_path / 'text').write_bytes(bytes(range(256)) * 9)
  with pytest.raises(ValueError, match='does not look like text'):
    read_lines(tmp_path / 'text')


def test_text_that_only_begins_like_another_file_is_text(tmp_path):
  for text in ('x' * 257 + 'ustar\n%PDF-\n', 'the dog\0\n', ']\0\0 a b c d e f\n'):
    (tmp_path / 'text').write_text(text)
    assert read_lines(tmp_path / 'text') == text.split('\n')[:-1]
    assert list(stream_lines(io.BytesIO(text.encode()))) == text.split('\n')[:-1]


def test_a_bad_line_of_a_stream_does_not_stop_it():
  first, bad, last = stream_lines(io.BytesIO(BOM + b'a\nb\xff\nc'))
  assert (first, last) == ('a', 'c')
  assert isinstance(bad, BadLine)
  assert 'is not UTF-8 at its byte 1 (0xff)' in bad.reason


@pytest.mark.parametrize('name', ['xz', 'gzip', 'bzip2'])
def test_a_packed_stream_is_refused(name):
  with pytest.raises(ValueError, match=rf'the input is {name}, '):
    list(stream_lines(io.BytesIO(packed(name, b'a\n' * 99))))


def test_a_stream_of_utf16_is_refused():
  with pytest.raises(ValueError, match=r'the input is UTF-16'):
    list(stream_lines(io.BytesIO('the dog\nthe cat\n'.encode('utf-16'))))


def test_lines_that_must_be_text_are_refused_with_their_number():
  assert list(text_lines(io.BytesIO(b'a\n\nb'))) == ['a', '', 'b']
  with pytest.raises(ValueError, match='line 2 of the input is not UTF-8'):
    list(text_lines(io.BytesIO(b'a\n\xff\n')))
