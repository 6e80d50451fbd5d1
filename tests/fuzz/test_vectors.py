"""Damaged and unusual files of vectors, and text of all scripts.

A file is refused, or it is read as a simple reader reads it, and every row that is not
kept is counted in a warning. Seeds are fixed; a failure names its number, which
`_vectors(number)` or `_text(number)` makes again.
"""

import gzip
import io
import re
import unicodedata
import warnings
import zipfile

import numpy as np
import pytest

from seqlab.embeddings.formats import METADATA, TENSORS, read, write
from seqlab.embeddings.vectors import Vectors
from seqlab.text.words import tokenize, tokenize_lines

REFUSALS = (ValueError, OSError, RuntimeError, ArithmeticError)
FORMATS = ('text', 'glove', 'binary', 'npz', 'projector')
WORDS = (
  *(
    'king',
    'Queen',
    'New_York',
    "don't",
    'ёж',
    'приветствие',
    '日本',
    'हिन्दी',
    '🙂',
    '5',
  ),
  *(
    '1984',
    '</s>',
    '.',
    '\u2028',
    'a\u00a0b',
    '\x85',
    '0.5',
    'e\u0301',
    'nan',
    '\\xd0',
  ),
)
KINDS = {  # of losses -> what the warning says after the number
  'duplicate': 'rows left out, whose words came before',
  'empty': 'rows left out, which have no word',
  'bytes': 'words are not UTF-8',
  'spaces': 'words have spaces in them',
  'more': 'rows more than line 1 says',
}


# Files: a format, its bytes, and whether they have to be read.


def _whole(number, folder):
  """Returns a format and the bytes of a whole file, or of the projector's two."""
  random = np.random.default_rng(number)
  format = FORMATS[number % len(FORMATS)]
  V, D = int(random.integers(1, 9)), int(random.integers(1, 6))
  words = [str(word) for word in random.permutation(np.array(WORDS, object))[:V]]
  matrix = random.normal(size=(V, D)).astype(np.float32)
  matrix[random.random((V, D)) < 0.1] = 0
  path = folder / f'{format}{number}'
  write(path, words, matrix, format)
  if format == 'projector':
    return format, [(path / METADATA).read_bytes(), (path / TENSORS).read_bytes()]
  return format, [path.read_bytes()]


def _changed(number, format, files):
  """Returns what a whole file becomes, and whether it must still be readable."""
  random, files = np.random.default_rng(number), list(files)
  must = True
  for _ in range(int(random.integers(0, 4))):
    at = int(random.integers(len(files)))
    harmless = {'text': HARMLESS, 'glove': HARMLESS_GLOVE}.get(format, ())
    if harmless and random.random() < 0.5:
      change = harmless[random.integers(len(harmless))]
    else:
      change, must = CHANGES[random.integers(len(CHANGES))], False
    files[at] = change(random, files[at])
  if random.random() < 0.15:
    files[0] = gzip.compress(files[0], mtime=0)
    must = must and format in ('text', 'glove', 'binary', 'projector')
    if random.random() < 0.3:
      files[0], must = CHANGES[random.integers(5)](random, files[0]), False
  if random.random() < 0.1 and format != 'projector':
    others = [x for x in FORMATS if x not in (format, 'projector')]
    format, must = others[random.integers(len(others))], False
  return format, files, must


def _place(random, data):
  return int(random.integers(len(data) + 1))


def _cut(random, data):
  return data[: _place(random, data)]


def _flip(random, data):
  data = bytearray(data)
  for _ in range(int(random.integers(1, 4)) if data else 0):
    data[random.integers(len(data))] ^= 1 << int(random.integers(8))
  return bytes(data)


def _insert(random, data):
  at = _place(random, data)
  return data[:at] + random.bytes(int(random.integers(1, 9))) + data[at:]


def _delete(random, data):
  one, other = sorted((_place(random, data), _place(random, data)))
  return data[:one] + data[other:]


def _double(random, data):
  one, other = sorted((_place(random, data), _place(random, data)))
  return data[:other] + data[one:]


def _header(random, data):
  first, end, rest = data.partition(b'\n')
  numbers = first.split()
  if len(numbers) == 2 and all(x.isdigit() for x in numbers):
    V, D = map(int, numbers)
    D += int(random.choice([0, 0, -1, 1, 10**9]))
    V += int(random.choice([-1, 0, 1, 5, 10**9]))
    first = f'{V} {D}'.encode()
  return first + end + rest


def _encode(random, data):
  text = data.decode('utf-8', 'replace')
  name = random.choice(
    ['utf-16', 'utf-16-le', 'utf-32-be', 'latin1', 'cp1251', 'utf-8']
  )
  return text.encode(str(name), 'replace')


def _pack(random, data):
  return gzip.compress(gzip.compress(data, mtime=0), mtime=0)


def _number(random, data):
  lines = data.split(b'\n')
  at = int(random.integers(len(lines)))
  fields = re.split(rb'([ \t])', lines[at])
  new = [b'nan', b'-inf', b'1e39', b'x', b'', b'1,5', b'1_0', b'0x1', b'1 2', b'1e-50']
  fields[-1] = new[random.integers(len(new))]
  lines[at] = b''.join(fields)
  return b'\n'.join(lines)


def _start(random, data):
  magic = [
    b'PK\3\4',
    b'\x1f\x8b',
    b'BZh91AY&SY',
    b'\xba\x16\x4f\x2f',
    b'\0',
    b' ',
    b'\n',
  ]
  return magic[random.integers(len(magic))] + data


def _line(random, data, new):
  """Inserts a line after the first one."""
  lines = data.split(b'\n')
  at = int(random.integers(1, len(lines))) if len(lines) > 1 else 1
  return b'\n'.join([*lines[:at], new, *lines[at:]])


def _repeat(random, data):
  lines = [line for line in data.split(b'\n')[1:] if line.strip()]
  return _line(random, data, lines[random.integers(len(lines))]) if lines else data


def _blank(random, data):
  return _line(random, data, [b'', b' ', b'\r'][random.integers(3)])


def _spaces(random, data):
  return data.replace(b'\n', b' \n')


def _carriage(random, data):
  return data.replace(b'\r\n', b'\n').replace(b'\n', b'\r\n')


def _mark(random, data):
  return b'\xef\xbb\xbf' + data.removeprefix(b'\xef\xbb\xbf')


def _word(random, data):
  """Changes a word after the first line."""
  lines = data.split(b'\n')
  rows = [i for i in range(1, len(lines)) if lines[i].strip()]
  # In 'x y 5 0.1 0.2' the end of the word is ambiguous.
  rows = [i for i in rows if not re.match(rb'[\d.]+ ', lines[i])]
  if rows:
    at = rows[random.integers(len(rows))]
    new = [b'\xd0', b'x y ', b'\xff', b'. . ', b'q\0', b'\x1f'][random.integers(6)]
    lines[at] = new + lines[at]
  return b'\n'.join(lines)


CHANGES = (
  *(_cut, _flip, _insert, _delete, _double),  # these change arbitrary bytes
  *(_header, _encode, _pack, _number, _start, _repeat, _blank, _spaces, _word),
)
HARMLESS = (_repeat, _blank, _spaces, _carriage, _mark, _word)
HARMLESS_GLOVE = (_repeat, _blank, _spaces, _carriage, _word)


# A simple reader: rows of (word, numbers), and the number of rows of each kind.


class UnreadableError(Exception):
  """The simple reader cannot read a file."""


def _simple(format, files, D):
  unpack = [gzip.decompress(x) if x[:2] == b'\x1f\x8b' else x for x in files]
  if format == 'binary':
    rows, counts = _simple_binary(unpack[0])
  elif format == 'npz':
    rows, counts = _simple_npz(files[0])
  elif format == 'projector':
    rows, counts = _simple_projector(*unpack)
  else:
    rows, counts = _simple_text(unpack[0], D, header=format == 'text')
  words, kept = set(), []
  counts = {'bytes': 0, 'spaces': 0, 'more': 0, 'duplicate': 0, 'empty': 0} | counts
  for word, numbers in rows:
    if not word:
      counts['empty'] += 1
    elif word in words:
      counts['duplicate'] += 1
    else:
      words.add(word)
      kept.append((word, numbers))
  return kept, counts


def _lines(data):
  lines = data.removeprefix(b'\xef\xbb\xbf').split(b'\n')
  if not lines[-1]:
    lines.pop()
  return [line.rstrip(b'\r') for line in lines]


def _text_of(data, counts):
  try:
    return data.decode()
  except UnicodeDecodeError:
    counts['bytes'] += 1
    return data.decode('utf-8', 'backslashreplace')


def _simple_text(data, D, header):
  lines, counts, V = _lines(data), {'bytes': 0, 'spaces': 0}, None
  if header:
    V, claimed = map(int, lines.pop(0).split())
    assert claimed == D
  rows = []
  for line in lines:
    if not line.strip(b' \t\r'):
      continue
    fields = _text_of(line, counts).rstrip(' \t\r').split(' ')
    word = ' '.join(fields[:-D])
    word = word if word.count(' ') == len(word) else word.strip(' ')
    counts['spaces'] += ' ' in word
    rows.append((word, [float(x) for x in fields[-D:]]))
    if len(rows[-1][1]) != D:
      raise UnreadableError
  if V is not None:
    if len(rows) < V:
      raise UnreadableError
    counts['more'] = len(rows) - V
  return rows, counts


def _simple_binary(data):
  header, _, rest = data.partition(b'\n')
  V, D = map(int, header.split())
  rows, counts = [], {'bytes': 0}
  for _ in range(V):
    rest = rest.lstrip(b'\n')
    word, space, rest = rest.partition(b' ')
    if not space or len(rest) < 4 * D:
      raise UnreadableError
    rows.append((_text_of(word, counts), np.frombuffer(rest[: 4 * D], '<f4')))
    rest = rest[4 * D :]
  if rest.strip(b'\r\n'):
    raise UnreadableError
  return rows, counts


def _simple_npz(data):
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    words, matrix = (
      np.lib.format.read_array(io.BytesIO(archive.read(f'{name}.npy')))
      for name in ('words', 'matrix')
    )
  return list(zip(words.tolist(), matrix, strict=True)), {}


def _simple_projector(metadata, tensors):
  counts = {'bytes': 0}
  words = [_text_of(line, counts) for line in _lines(metadata)]
  rows = _lines(tensors)
  while rows and not rows[-1].strip():
    rows.pop()
  while len(words) > len(rows) and not words[-1]:
    words.pop()
  if len(words) != len(rows):
    raise UnreadableError
  numbers = [[float(x) for x in row.decode().split('\t')] for row in rows]
  return list(zip(words, numbers, strict=True)), counts


def _read(format, files, folder):
  """Returns words, matrix and the counts of all warnings."""
  if format == 'projector':
    path = folder / 'p'
    path.mkdir(exist_ok=True)
    (path / METADATA).write_bytes(files[0])
    (path / TENSORS).write_bytes(files[1])
  else:
    path = folder / 'f'
    path.write_bytes(files[0])
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    words, matrix = read(path, format)
  text = '\n'.join(str(w.message) for w in caught)
  counts = {}
  for kind, message in KINDS.items():
    match = re.search(rf'(\d[\d,]*) {message}', text)
    counts[kind] = int(match[1].replace(',', '')) if match else 0
  assert len(caught) == sum(map(bool, counts.values())), text
  return words, matrix, counts


def _outcome(format, files, folder):
  """Returns the content of a file, or None, and the text of the error."""
  try:
    return _read(format, files, folder), ''
  except REFUSALS as error:
    return None, str(error)


@pytest.mark.slow
def test_a_file_is_refused_or_read_as_it_is(tmp_path):
  outcomes = {'read': 0, 'refused': 0, 'lost': 0}
  whole = [_whole(number, tmp_path) for number in range(200)]
  for number in range(12_000):
    format, files, must = _changed(number, *whole[number % len(whole)])
    content, error = _outcome(format, files, tmp_path)
    if content is None:
      assert not must, f'{number}: {format} {files} is refused: {error}'
      assert len(error) < 1_000, number
      assert 'latin1' not in error, number
      outcomes['refused'] += 1
      continue
    words, matrix, counts = content
    kept, expected = _simple(format, files, matrix.shape[1])
    assert words == [word for word, _ in kept], (number, format, files)
    numbers = np.array([numbers for _, numbers in kept], np.float64)
    np.testing.assert_array_equal(
      matrix, numbers.astype(np.float32), err_msg=str(number)
    )
    assert counts == expected, (number, format, files)
    assert np.isfinite(matrix).all()
    assert Vectors(words, matrix).size == len(words) > 0
    outcomes['read'] += 1
    outcomes['lost'] += counts['duplicate'] + counts['empty'] > 0
  assert min(outcomes.values()) > 500, outcomes


# Text.

ALPHABETS = (
  *('abc ABC', "é'n-1_", 'ёЁй', 'ΑΣΟς', 'İIßẞ', 'a\u0301\u0323\u0307e\u0302\u00ad'),
  *('हिन्दी्', 'ক্ষিা', 'தமிழ்', 'ക്ഷ\u200d', 'مُحَمَّد\u200c', 'שָׁלוֹם־', 'ก้าำ', 'ភ្មែ'),
  *('မြန်မာ', 'བོད་', 'ᄒᆞᆫ한국', 'が゙ぱ', '漢字\ufe00\U000e0100', '𑀓𑀺', '🙂\u200d❤\ufe0f'),
  *(
    '½⅓Ⅷ²٣३',
    '\u0483\u0488\u20dd\u1dc4',
    '\u200b\u200c\u200d',
    '\n\t\u2028\x85',
    '.,;',
  ),
)


def _text(number):
  random = np.random.default_rng(number)
  chosen = [ALPHABETS[i] for i in random.integers(len(ALPHABETS), size=3)]
  letters = ''.join(chosen) + ' '
  if random.random() < 0.3:
    codes = random.integers(0, 0x20000, size=8)
    letters += ''.join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)
  size = int(random.integers(1, 30))
  return ''.join(letters[i] for i in random.integers(len(letters), size=size))


def _is_letter(c):
  return c.isalnum() and unicodedata.category(c) != 'Nd' and c not in '¹²³¼½¾'


def _words(text):
  """Returns the words of a text, found character by character."""
  dropped = re.compile('[\u0300-\u036f\u00ad\ufe00-\ufe0f\U000e0100-\U000e01ef]')
  text = dropped.sub('', unicodedata.normalize('NFC', text.lower()))
  text = unicodedata.normalize('NFC', text)
  words, word, joiners = [], '', ''
  for c in [*text, ' ']:
    mark = unicodedata.category(c)[0] == 'M'
    if _is_letter(c) or (mark and word):
      if joiners and word[-1] < '\u0590':
        words.append(word)
        word = c if _is_letter(c) else ''
      else:
        word += joiners + c
      joiners = ''
    elif c in '\u200c\u200d' and word:
      joiners += c
    elif word:
      words.append(word)
      word = joiners = ''
  return words


@pytest.mark.slow
def test_words_of_any_text_agree_with_their_definition():
  for number in range(6_000):
    text = _text(number)
    words = tokenize(text)
    assert words == _words(text), (number, ascii(text))
    assert tokenize(' '.join(words)) == words, (number, ascii(text))
    for word in words:
      assert not any(c.isspace() for c in word), (number, ascii(text))
      assert unicodedata.category(word[0])[0] != 'M', (number, ascii(text))
    for form in ('NFC', 'NFD'):
      other = unicodedata.normalize(form, text)
      assert tokenize(other) == words, (number, form, ascii(text))
    lines = tokenize_lines(text)
    assert [word for word in lines if word != '\n'] == words, (number, ascii(text))
    assert lines.count('\n') == text.count('\n'), (number, ascii(text))
