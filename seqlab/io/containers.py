"""Recognises packed files, other encodings and binary files by their first bytes.

Readers use this for files that they cannot read, so that their message can name the
format. Names of files are not reliable, because downloads are often renamed.
"""

import unicodedata

# First bytes -> name. If one begins with another, the longer one is first. Text in UTF-8
# begins with none of them, except where noted.
_MAGIC = (
  (b'\x1f\x8b', 'gzip'),
  (b'\x1f\x9d', 'compress (.Z)'),
  (b'\xfd7zXZ\0', 'xz'),
  (b']\0\0', 'lzma'),
  (b'\x28\xb5\x2f\xfd', 'zstd'),
  (b'\x04\x22\x4d\x18', 'lz4'),
  (b'7z\xbc\xaf\x27\x1c', '7z'),
  (b'Rar!\x1a\x07', 'rar'),
  (b'PK\x03\x04', 'zip'),
  (b'PK\x05\x06', 'zip'),  # an empty archive
  (b'PK\x07\x08', 'zip'),  # one of several volumes
  (b'%PDF-', 'PDF'),  # text could begin with this, but does not in practice
  (b'\x89HDF\r\n\x1a\n', 'HDF5'),
  (b'\x93NUMPY', 'NumPy array (.npy)'),
  (b'\xff\xfe\0\0', 'UTF-32'),  # byte order marks
  (b'\0\0\xfe\xff', 'UTF-32'),
  (b'\xff\xfe', 'UTF-16'),
  (b'\xfe\xff', 'UTF-16'),
)
# The bytes after 'BZh' and a digit: the first block, or the end of an empty stream.
_BZIP2 = (b'\x31\x41\x59\x26\x53\x59', b'\x17\x72\x45\x38\x50\x90')
_SAMPLE = 4096  # number of first bytes that are searched for zeros

_UNPACK = {
  'gzip': 'gzip -d',
  'compress (.Z)': 'gzip -d',
  'xz': 'xz -d',
  'lzma': 'xz -d',
  'bzip2': 'bzip2 -d',
  'zstd': 'zstd -d',
  'lz4': 'lz4 -d',
  'zip': 'unzip',
  '7z': '7z x',
  'rar': 'unrar x',
  'tar': 'tar -xf',
}


def name_of_container(data: bytes) -> str | None:
  """Returns the format of a file that is not text in UTF-8, if it is known.

  Args:
    data: the first bytes of a file. 512 of them are needed to recognise tar; a few
      thousand to recognise UTF-16 and UTF-32 without a byte order mark.

  Returns:
    A name such as 'gzip', 'xz', 'zip' or 'UTF-16LE', for `advice`; or None. Encodings
    have their names in iconv.
  """
  for magic, name in _MAGIC:
    if data.startswith(magic):
      return name
  if data[:3] == b'BZh' and data[3:4].isdigit() and data[4:10] in _BZIP2:
    return 'bzip2'
  if data[257:263] == b'ustar\0' or data[257:265] == b'ustar  \0':
    return 'tar'
  if data[:1] == b'\x80' and 2 <= data[1:2].rjust(1, b'\0')[0] <= 5:
    return 'pickle'
  return _wide_encoding(data[:_SAMPLE])


def _wide_encoding(data: bytes) -> str | None:
  """Returns the encoding of UTF-16 or UTF-32 without a byte order mark, or None.

  Text of any script has zeros at the same byte of each code unit, at least in its
  spaces and line ends.
  """
  if b'\0' not in data:
    return None
  for name, size, low in (
    ('UTF-32LE', 4, 0),
    ('UTF-32BE', 4, 3),
    ('UTF-16LE', 2, 0),
    ('UTF-16BE', 2, 1),
  ):
    units = len(data) // size
    zeros = [data[i : units * size : size].count(0) for i in range(size)]
    high = {'UTF-32LE': 3, 'UTF-32BE': 0, 'UTF-16LE': 1, 'UTF-16BE': 0}[name]
    share = 1.0 if size == 4 else 0.05  # no character of UTF-32 needs its fourth byte
    if zeros[low] or not units or zeros[high] < max(1, share * units):
      continue
    # A surrogate pair, or a unit, may be cut at the end of the sample.
    text = data[: units * size].decode(name, 'ignore')
    if any(x in text for x in ' \n') and all(map(_is_of_text, text)):
      return name
  return None


def _is_of_text(character: str) -> bool:
  return character in '\t\n\r' or unicodedata.category(character) not in ('Cc', 'Cn')


def advice(name: str) -> str:
  """Returns advice for a file that `name_of_container` has recognised."""
  if name in _UNPACK:
    return f'unpack it with `{_UNPACK[name]}`'
  if name.startswith('UTF-'):
    return f'convert it with `iconv -f {name} -t UTF-8`'
  return 'give plain text in UTF-8 instead'
