"""Random text: nothing is lost, each line has one line of output, no traceback."""

import io
import itertools
import random
import re

import numpy as np
import pytest

from seqlab.io.containers import name_of_container
from seqlab.metrics.characters import piece_bytes
from seqlab.metrics.corpus import Lines, Pieces, corpus_statistics
from seqlab.text.lines import BadLine, is_blank, read_lines, stream_lines
from seqlab.text.vocabulary import train_vocabulary
from seqlab.train.loop import train
from seqlab.types import EOS, UNK
from seqlab.use.streams import translate_stream

pytestmark = pytest.mark.slow

ODD = [
  *(
    ' ',
    '  ',
    '\t',
    '\r',
    '\0',
    '\x01',
    '\x0b',
    '\x0c',
    '\x1c',
    '\x1f',
    '\x7f',
    '\x85',
  ),
  *('\u00a0', '\u00ad', '\u200b', '\u200d', '\u2028', '\u2029', '\u3000', '\ufeff'),
  *('▁', '▅', '⁇', '\ufffd', '\ufdd0', '\ufdd2', '\uffff', '\ue000', '\U0010ffff'),
  *('<s>', '</s>', '<unk>', '<pad>', '<0x41>', '<0x0A>', '<', '|||', '&quot;', '-'),
  *(
    'е\u0301',
    'क्षि',
    'שָׁ',
    'க்ஷ',
    'ﬁ',
    '¾',
    '™',
    '😀',
    '👩\u200d👩',
    'İ',
    'ß',
    'Σ',
    '魚',
  ),
]
JUNK = [
  b'\xff',
  b'\xfe',
  b'\xe2\x80',
  b'\xc2',
  b'\x80',
  b'\xf4\x90\x80\x80',
  b'\xed\xa0\x80',
]
WORDS = ['the', 'dog', 'sees', 'a', 'cat', '.', 'собака', 'видит', '3.5']


def random_line(rng):
  """Returns words and unusual characters, or arbitrary characters; no line feed."""
  if rng.random() < 0.1:
    codes = (rng.randrange(0x110000) for _ in range(rng.randrange(12)))
    return ''.join(chr(c) for c in codes if not 0xD800 <= c < 0xE000 and c != 10)
  parts = (
    rng.choice(WORDS if rng.random() < 0.6 else ODD) for _ in range(rng.randrange(9))
  )
  return rng.choice(['', ' ']).join(parts)


def random_input(rng, lines):
  """Returns the bytes of several lines, some of which are not UTF-8."""
  data = rng.choice([b'', b'', b'\xef\xbb\xbf'])
  for i in range(lines):
    line = random_line(rng).encode()
    if rng.random() < 0.05:
      at = rng.randrange(len(line) + 1)
      line = line[:at] + rng.choice(JUNK) + line[at:]
    last = i + 1 == lines and rng.random() < 0.3
    data += line + (b'' if last else rng.choice([b'\n', b'\n', b'\r\n']))
  return data


def oracle(data):
  """Returns the lines of an input, read byte by byte; None for lines not in UTF-8."""
  if data[:3] == b'\xef\xbb\xbf':
    data = data[3:]
  lines, line = [], bytearray()
  for byte in data:
    if byte == 10:
      lines.append(bytes(line))
      line.clear()
    else:
      line.append(byte)
  lines += [bytes(line)] if line else []
  texts = []
  for each in lines:
    each = each[:-1] if each[-1:] == b'\r' else each
    try:
      texts.append(str(each, 'utf-8'))
    except UnicodeDecodeError:
      texts.append(None)
  return texts


def test_readers_return_the_lines_of_the_oracle(tmp_path):
  rng, path, lines = random.Random(0), tmp_path / 'text', 0
  for _ in range(800):
    data = random_input(rng, rng.randrange(8))
    expected = oracle(data)
    lines += len(expected)
    path.write_bytes(data)
    bad = [i for i, line in enumerate(expected, 1) if line is None]
    try:
      assert read_lines(path) == expected
    except ValueError as error:
      named = re.match(r'line ([\d,]+) of text is not UTF-8', str(error))
      assert int(named[1]) == bad[0] if named else name_of_container(data)
    try:
      stream = list(stream_lines(io.BytesIO(data)))
      assert [None if isinstance(x, BadLine) else x for x in stream] == expected
    except ValueError:
      assert name_of_container(data)
  assert lines > 2_000


def kept(line):
  """Returns a line as it is decoded: spaces, breaks and NUL as `vocabulary` defines."""
  line = ' '.join(filter(None, line.split(' ')))
  line = re.sub('[\0\ufdd0-\ufdd2]', '\ufffd', line)
  return re.sub('[\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]', ' ', line).lstrip(' ')


@pytest.mark.parametrize('fallback', [False, True])
@pytest.mark.parametrize('kind', ['bpe', 'unigram'])
def test_lines_of_the_training_text_are_decoded(kind, fallback):
  rng = random.Random(1)
  for seed in range(6):
    lines = [random_line(rng) for _ in range(150)]
    options = dict(kind=kind, byte_fallback=fallback)
    with pytest.raises(ValueError, match='at most') as error:
      train_vocabulary(lines, size=50_000, **options)
    largest = int(re.search(r'at most (\d+)', str(error.value))[1])
    vocabulary = train_vocabulary(lines, size=largest, **options)
    for sampling in (0.0, 0.2):
      flat, offsets = vocabulary.encode(lines, sampling=sampling, seed=seed)
      assert UNK not in flat
      ids = [flat[a:b] for a, b in itertools.pairwise(offsets)]
      assert vocabulary.decode(ids) == [kept(line) for line in lines]


def test_other_lines_are_decoded_with_byte_fallback():
  rng = random.Random(2)
  vocabulary = train_vocabulary(WORDS * 9, size=300, byte_fallback=True)
  lines = [random_line(rng) for _ in range(1_500)]
  flat, offsets = vocabulary.encode(lines)
  assert UNK not in flat
  ids = [flat[a:b] for a, b in itertools.pairwise(offsets)]
  assert vocabulary.decode(ids) == [kept(line) for line in lines]


def test_decoding_and_scoring_use_the_same_text_of_pieces():
  rng = np.random.default_rng(3)
  lines = [random_line(random.Random(n)) for n in range(200)]
  vocabulary = train_vocabulary([*WORDS * 9, *lines], size=600, byte_fallback=True)
  surfaces = vocabulary.surfaces()
  ids = [rng.integers(EOS + 1, vocabulary.size, rng.integers(30)) for _ in range(1_000)]
  texts = vocabulary.decode(ids)
  for row, text in zip(ids, texts, strict=True):
    written = b''.join(surfaces[i] for i in row).decode('utf-8', 'replace')
    assert text == re.sub('[\x85\u2028\u2029]', ' ', written).lstrip(' ')
    assert len(text.splitlines()) <= 1
    assert '\0' not in text
  reference = [Lines([b'the dog sees a cat .'] * len(ids))]
  np.testing.assert_array_equal(
    corpus_statistics(Pieces(ids, piece_bytes(surfaces)), reference),
    corpus_statistics(Lines([text.encode() for text in texts]), reference),
  )


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run whose pieces are mostly bytes, after one update."""
  folder = tmp_path_factory.mktemp('fuzz')
  rng = random.Random(4)
  for side in ('en', 'de'):
    lines = [' '.join(rng.choice(WORDS) for _ in range(5)) for _ in range(64)]
    (folder / side).write_text('\n'.join(lines) + '\n', 'utf-8')
  files = [str(folder / side) for side in ('en', 'de')]
  config = {
    'task': 'tasks.translation:Translation',
    'seed': 0,
    'steps': 1,
    'corpus': {'source': 'en', 'target': 'de', 'files': {'train': files}},
    'vocabulary': {'size': 320, 'byte_fallback': True},
    'batching': {'tokens': 512, 'shapes': 1},
    'model': {
      'kind': 'recurrent',
      'width': 8,
      'layers': 1,
      'cell': 'rnn',
      'attention': None,
    },
    'hyper': {'peak': 1e-3},
    'schedule': {'kind': 'constant'},
    'mesh': {'data': 1, 'devices': 1},
  }
  train(config, folder / 'run')
  return folder / 'run'


def test_each_line_has_one_line_of_output(run):
  rng, lines = random.Random(5), 0
  for n in (0, 1, 2, 3, 500, 1_500):
    data = random_input(rng, n)
    expected, out, named = oracle(data), io.StringIO(), ''
    try:
      translate_stream(
        run, io.BytesIO(data), out, options={'temperature': 1.5, 'seed': n}
      )
    except ValueError as error:
      named = str(error)
    translations = out.getvalue().split('\n')
    assert translations.pop() == ''
    assert len(translations) == len(expected)
    for line, text in zip(expected, translations, strict=True):
      assert len(text.splitlines()) <= 1
      assert not text or (line is not None and not is_blank(line))
    bad = [i for i, line in enumerate(expected, 1) if line is None]
    assert bool(named) == bool(bad)
    for i in bad:
      assert re.search(rf'(\b|,){i:,}\b', named)
    lines += n
  assert lines > 2_000
