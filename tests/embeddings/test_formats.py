"""Files of vectors, beside those of gensim and word2vec.c."""

import gzip
import re
import struct
import sys

from gensim.models import KeyedVectors, Word2Vec
import numpy as np
import pytest
import scipy.sparse

from seqlab.embeddings import formats
from seqlab.embeddings.formats import read, write

WORDS = ['the', 'new_york', "don't", 'ёж', '日本', '\u2028', 'a\u00a0b', '0.5']
MATRIX = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
MATRIX[0] = [0, -0.0, 1e-38, 1e18, 1 / 3]
ENDINGS = ('.txt', '.txt.gz', '.vec', '.bin', '.kv', '.npz', '')


@pytest.fixture
def theirs():
  vectors = KeyedVectors(5)
  vectors.add_vectors(WORDS, MATRIX)
  return vectors


def same(found, words=WORDS, matrix=MATRIX):
  assert found[0] == words
  np.testing.assert_array_equal(found[1], matrix)
  assert found[1].dtype == np.float32


@pytest.mark.parametrize('ending', ENDINGS)
def test_what_is_written_is_read_to_the_last_bit(tmp_path, ending):
  path = tmp_path / 'new' / f'vectors{ending}'
  write(path, WORDS, MATRIX)
  same(read(path))
  assert not list(tmp_path.rglob('.part*'))


@pytest.mark.filterwarnings('ignore:unclosed file:ResourceWarning')  # by gensim
def test_glove_has_no_first_line(tmp_path):
  path = tmp_path / 'glove.txt'
  write(path, WORDS, MATRIX, 'glove')
  assert path.read_bytes().startswith(b'the 0.0 -0.0 ')
  same(read(path, 'glove'))
  found = KeyedVectors.load_word2vec_format(str(path), no_header=True)
  same((found.index_to_key, found.vectors))


@pytest.mark.parametrize('ending', ['.txt', '.txt.gz', '.bin'])
def test_gensim_reads_what_is_written(tmp_path, ending):
  path = tmp_path / f'vectors{ending}'
  write(path, WORDS, MATRIX)
  found = KeyedVectors.load_word2vec_format(str(path), binary=ending == '.bin')
  same((found.index_to_key, found.vectors))


@pytest.mark.parametrize('ending', ['.txt', '.txt.gz', '.bin'])
def test_what_gensim_writes_is_read(tmp_path, theirs, ending):
  path = tmp_path / f'vectors{ending}'
  theirs.save_word2vec_format(str(path), binary=ending == '.bin')
  same(read(path))


@pytest.mark.parametrize('binary', [False, True])
def test_bytes_are_those_of_gensim(tmp_path, theirs, binary):
  ours, other = tmp_path / f'a.{"bin" if binary else "txt"}', tmp_path / 'b'
  write(ours, WORDS, MATRIX)
  theirs.save_word2vec_format(str(other), binary=binary)
  assert ours.read_bytes() == other.read_bytes()


def test_keyed_vectors_go_both_ways(tmp_path, theirs):
  write(tmp_path / 'ours.kv', WORDS, MATRIX)
  found = KeyedVectors.load(str(tmp_path / 'ours.kv'))
  same((found.index_to_key, found.vectors))
  assert found.most_similar('ёж') == theirs.most_similar('ёж')
  theirs.save(str(tmp_path / 'theirs.kv'))
  same(read(tmp_path / 'theirs.kv'))


def test_the_vectors_of_a_whole_model_of_gensim_are_read(tmp_path):
  model = Word2Vec([['a', 'b', 'c', 'a']], vector_size=4, min_count=1, workers=1)
  model.save(str(tmp_path / 'model'))
  same(read(tmp_path / 'model', 'gensim'), model.wv.index_to_key, model.wv.vectors)


def test_words_with_spaces_are_kept_where_they_can_be(tmp_path):
  words = ['new york', ' x', 'y ']
  for ending in ('.npz', '.kv', ''):
    write(tmp_path / f'v{ending}', words, MATRIX[:3])
    same(read(tmp_path / f'v{ending}'), words, MATRIX[:3])
  for ending in ('.txt', '.bin'):
    with pytest.raises(
      ValueError, match=r"word 1 is 'new york'.* join phrases with '_'"
    ):
      write(tmp_path / f'w{ending}', words, MATRIX[:3])
    assert not (tmp_path / f'w{ending}').exists()


@pytest.mark.parametrize('format', ['text', 'glove'])
def test_a_byte_order_mark_is_no_text(tmp_path, format):
  path = tmp_path / 'v.txt'
  write(path, WORDS, MATRIX, format)
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  same(read(path, format))


def test_word2vec_c_puts_a_space_or_a_line_end_after_each_vector(tmp_path):
  path = tmp_path / 'c.txt'
  path.write_text('2 3\n</s> 0.5 1.0 -2.0 \nза 0.25 0.0 0.0 \n', 'utf-8')
  same(read(path), ['</s>', 'за'], [[0.5, 1, -2], [0.25, 0, 0]])
  vectors = [word + struct.pack('<2f', 1, 10) for word in (b'</s> ', b'b ')]
  path.with_suffix('.bin').write_bytes(b'2 2\n' + b'\n'.join(vectors) + b'\n')
  same(read(path.with_suffix('.bin')), ['</s>', 'b'], [[1, 10], [1, 10]])


def test_the_projector_gets_what_its_configuration_names(tmp_path):
  write(tmp_path / 'p', WORDS[:5], MATRIX[:5])
  config = (tmp_path / 'p' / 'projector_config.pbtxt').read_text()
  named = re.findall(r'(\w+)_path: "(.*)"', config)
  assert named == [('tensor', 'tensors.tsv'), ('metadata', 'metadata.tsv')]
  tensors = np.loadtxt(tmp_path / 'p' / 'tensors.tsv', np.float32, delimiter='\t')
  np.testing.assert_array_equal(tensors, MATRIX[:5])
  assert (tmp_path / 'p' / 'metadata.tsv').read_text('utf-8').split('\n') == [
    *WORDS[:5],
    '',
  ]


def test_sparse_vectors_are_kept_in_npz_only(tmp_path):
  matrix = scipy.sparse.random_array((8, 20), density=0.2, rng=0, dtype=np.float32)
  write(tmp_path / 'v.npz', WORDS, matrix.tocsr())
  words, found = read(tmp_path / 'v.npz')
  assert words == WORDS
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found.toarray(), matrix.toarray())
  with pytest.raises(ValueError, match=r'sparse vectors of 20 numbers a word go into'):
    write(tmp_path / 'v.txt', WORDS, matrix.tocsr())


def test_the_same_vectors_give_the_same_bytes(tmp_path):
  for ending in ('.txt.gz', '.bin'):
    for name in 'ab':
      write(tmp_path / f'{name}{ending}', WORDS, MATRIX)
    first, second = ((tmp_path / f'{n}{ending}').read_bytes() for n in 'ab')
    assert first == second


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', r"line 1 of .*v\.txt is ''; it should be two numbers.* format='glove'"),
    ('a 0.5 1\nb 1 2\n', r"line 1 .* 'a 0.5 1'; it should be two numbers"),
    ('2 0\n', 'line 1 .*two numbers'),
    ('-2 2\n', 'line 1 .*two numbers'),
    ('2 2\na 1 2\n', r'ends after line 2, with 1 words; by line 1 there are 2'),
    ('2 2\na 1 2\nb 1', r'line 3 .* has 1 numbers, and should have 2'),
    ('2 2\na 1 2\nb 1 2 3\n', r'line 3 .* has 3 numbers, and should have 2'),
    ('2 2\nnew york 1 2\nb 1 2\n', r'line 2 .* has 3 numbers.*a word with a space'),
    ('1 2\na 1 2\nb 1 2\n', r'line 3 .* one too many: by line 1 there are 1 words'),
    ('2 2\na 1 x\nb 1 2\n', r'line 2 .*could not convert string to float'),
    ('2 2\na 1 2\nb nan 2\n', r'line 3 .* its number 1 is nan'),
    ('2 2\na 1 2\nb 1 -inf\n', r'line 3 .* its number 2 is -inf'),
    ('2 2\na 1 1e39\nb 1 2\n', r'line 2 .* its number 2 is 1e39'),
    ('3 2\na 1 2\nb 1 2\na 3 4\n', r"has 'a' twice, as words 1 and 3"),
    ('9000000000 300\na 1\n', r'cut short: by line 1 .* need more than its 19 bytes'),
  ],
)
def test_wrong_text_is_refused_with_its_place(tmp_path, text, message):
  (tmp_path / 'v.txt').write_text(text)
  with pytest.raises(ValueError, match=message):
    read(tmp_path / 'v.txt')


def test_text_that_is_not_utf8_or_cut_gzip_is_refused_with_its_place(tmp_path):
  (tmp_path / 'a.txt').write_bytes(b'1 2\n\xff 1 2\n')
  with pytest.raises(
    ValueError, match=r'line 2 of .* not UTF-8 at its byte 0 \(0xff\)'
  ):
    read(tmp_path / 'a.txt')
  lines = [f'w{i} {i} {i}' for i in range(5_000)]
  packed = gzip.compress('\n'.join(['5000 2', *lines]).encode())
  (tmp_path / 'a.txt.gz').write_bytes(packed[: len(packed) // 2])
  with pytest.raises(
    ValueError, match=r'a\.txt\.gz is damaged or cut short after line'
  ):
    read(tmp_path / 'a.txt.gz')


def binary(header, *rows, D=2):
  return header + b''.join(
    word + b' ' + np.full(D, i + 1, '<f4').tobytes() for i, word in enumerate(rows)
  )


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'is empty'),
    (b'a 1 2\n', r"line 1 .* is 'a 1 2'; it should be two numbers"),
    (
      binary(b'3 2\n', b'a', b'b'),
      r'cut short: by line 1 .* 3 words .* hold 2 at most',
    ),
    (
      binary(b'2 2\n', b'long', b'word')[:-3],
      r"ends at byte 27, within word 2 of 2, 'word': it was cut short",
    ),
    (
      binary(b'2 2\n', b'longer', b'words') + b'\0\0',
      r'has 2 bytes after the last of 2 words, from byte 33 on',
    ),
    (binary(b'1 3\n', b'a', D=4), r'has 4 bytes after the last of 1 words'),
    (
      binary(b'2 3\n', b'long', b'b', D=4),
      r'word 2 .* at byte 21, is not UTF-8: .*line 1',
    ),
    (binary(b'2 2\n', b'a') + b'b' * 20, r'word 2 of .*, at byte 14, has no end'),
    (binary(b'1 2\n', b'\xffa'), r"word 1 .* at byte 4, is not UTF-8: b'\\xffa'"),
    (binary(b'2 2\n', b'a', b'a'), r"has 'a' twice, as words 1 and 2"),
    (b'1 1\na ' + struct.pack('<f', np.nan), r"word 1, 'a', has NaN or infinity"),
  ],
)
def test_wrong_binaries_are_refused_with_their_place(tmp_path, data, message):
  (tmp_path / 'v.bin').write_bytes(data)
  with pytest.raises(ValueError, match=message):
    read(tmp_path / 'v.bin')


@pytest.mark.parametrize('ending', ['.npz', '.kv'])
def test_cut_archives_are_refused(tmp_path, ending):
  path = tmp_path / f'v{ending}'
  write(path, WORDS, MATRIX)
  data = path.read_bytes()
  for size in (0, 5, len(data) // 2):
    path.write_bytes(data[:size])
    with pytest.raises(ValueError, match='cut short'):
      read(path)


def test_archives_of_something_else_are_refused(tmp_path):
  np.savez(tmp_path / 'v.npz', x=MATRIX)
  with pytest.raises(ValueError, match='has x; of vectors there should be words and'):
    read(tmp_path / 'v.npz')
  np.savez(tmp_path / 'v.npz', words=np.array(WORDS[1:]), matrix=MATRIX)
  with pytest.raises(ValueError, match=r'has 7 words and a matrix \(8, 5\)'):
    read(tmp_path / 'v.npz')


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('words', [1, 2], r'words is int64 of shape \(2,\); it should be text'),
    ('words', [b'a', b'b'], r'words is \|S1 .*; it should be text'),
    ('words', [['a', 'b']], r'words is <U1 of shape \(1, 2\)'),
    ('matrix', [['1', '2'], ['3', '4']], r'matrix is <U1 .*; it should be numbers'),
    ('matrix', [[1j, 2], [3, 4]], r'matrix is complex128 .*; it should be numbers'),
    ('matrix', [[1e300, 2], [3, 4]], r"word 1, 'a', has NaN or infinity"),
    ('matrix', [1, 2], r'a matrix \(2,\)'),
  ],
)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path, name, value, message):
  arrays = {'words': np.array(['a', 'b']), 'matrix': MATRIX[:2, :2]}
  np.savez(tmp_path / 'v.npz', **arrays | {name: np.array(value)})
  with pytest.raises(ValueError, match=rf'v\.npz.*{message}'):
    read(tmp_path / 'v.npz')


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('indices', [0, 9_000_000], 'indices must be < 3'),
    ('indices', [0, -1], 'indices must be >= 0'),
    ('indices', [0.0, 1.0], 'indices is float64 .* integers'),
    ('indices', np.array([0, 1 << 32]), 'indices must be'),
    ('indices', np.array([0, 1 << 63], np.uint64), 'indices must be'),
    ('indices', [0], 'whole sparse matrix'),
    ('indptr', [0, 2], 'whole sparse matrix'),
    ('indptr', [1, 1, 2], 'whole sparse matrix'),
    ('indptr', [0, 1, 900], 'whole sparse matrix'),
    ('indptr', [0, 900, 2], 'indptr must be'),
    ('indptr', [0, 900, 0], 'indptr must be'),
    ('indptr', [], 'indptr is float64'),
    ('data', ['x', 'y'], 'data is <U1 .*numbers'),
    ('shape', [2], 'has 2 words and a matrix|whole sparse matrix'),
    ('shape', [2, -3], 'whole sparse matrix'),
    ('shape', 2, r'shape is int64 of shape \(\)'),
  ],
)
def test_a_sparse_matrix_that_is_not_whole_is_refused(tmp_path, name, value, message):
  arrays = {'words': ['a', 'b'], 'data': [1.0, 2.0], 'indices': [0, 2]}
  arrays |= {'indptr': [0, 1, 2], 'shape': [2, 3]}
  np.savez(tmp_path / 'v.npz', **arrays)
  np.testing.assert_array_equal(
    read(tmp_path / 'v.npz')[1].toarray(), [[1, 0, 0], [0, 0, 2]]
  )
  np.savez(tmp_path / 'v.npz', **arrays | {name: np.array(value)})
  with pytest.raises(ValueError, match=rf'v\.npz.*({message})'):
    read(tmp_path / 'v.npz')


@pytest.mark.parametrize('sparse', [False, True])
def test_one_long_word_makes_no_large_archive(tmp_path, sparse):
  words = ['ё' * 100_000, *(f'w{i}' for i in range(999))]
  matrix = np.ones((1_000, 2), np.float32)
  write(tmp_path / 'v.npz', words, scipy.sparse.csr_array(matrix) if sparse else matrix)
  assert (tmp_path / 'v.npz').stat().st_size < 300_000
  found, numbers = read(tmp_path / 'v.npz')
  assert found == words
  assert np.array_equal(numbers.toarray() if sparse else numbers, matrix)


def test_words_of_common_lengths_are_an_array_for_other_programs(tmp_path):
  write(tmp_path / 'v.npz', WORDS, MATRIX)
  with np.load(tmp_path / 'v.npz') as arrays:
    assert arrays['words'].tolist() == WORDS


def test_characters_that_numpy_drops_are_kept(tmp_path):
  write(tmp_path / 'v.npz', ['a\0', 'b'], MATRIX[:2])
  same(read(tmp_path / 'v.npz'), ['a\0', 'b'], MATRIX[:2])


@pytest.mark.parametrize(
  ('utf8', 'ends'),
  [
    ([97, 98], [1, 3]),
    ([97, 98], [2, 1]),
    ([97, 98], [-1, 2]),
    ([97, 98], [[1, 2]]),
    ([97, 98], [1.0, 2.0]),
    ([97, 255], [1, 2]),
    ([[97], [98]], [1, 2]),
  ],
)
def test_words_that_are_not_joined_right_are_refused(tmp_path, utf8, ends):
  names = {'utf8': np.array(utf8, np.uint8), 'ends': np.array(ends)}
  np.savez(tmp_path / 'v.npz', **names, matrix=MATRIX[:2])
  with pytest.raises(ValueError, match=r'v\.npz: .*utf8'):
    read(tmp_path / 'v.npz')


def test_a_nan_in_a_sparse_matrix_is_refused_with_its_word(tmp_path):
  matrix = scipy.sparse.csr_array(np.eye(8, dtype=np.float32))
  matrix.data[3] = np.nan
  write(tmp_path / 'v.npz', WORDS, matrix)
  with pytest.raises(ValueError, match="word 4, 'ёж', has NaN"):
    read(tmp_path / 'v.npz')


@pytest.mark.parametrize(
  ('file', 'text', 'message'),
  [
    ('metadata.tsv', 'a\n', r'metadata\.tsv has 1 words, and .* more vectors'),
    ('tensors.tsv', '1\t2\n', r'has 2 words, and .* fewer vectors'),
    ('tensors.tsv', '', r'has 2 words, and .* fewer vectors'),
    ('tensors.tsv', '1\t2\n3\n', r'line 2 of .*tensors\.tsv has 1 numbers'),
    ('metadata.tsv', 'word\tcount\na\t1\n', r'line 1 of .*metadata\.tsv has a tab'),
  ],
)
def test_a_wrong_projector_is_refused(tmp_path, file, text, message):
  write(tmp_path / 'p', ['a', 'b'], MATRIX[:2, :2])
  (tmp_path / 'p' / file).write_text(text)
  with pytest.raises(ValueError, match=message):
    read(tmp_path / 'p')
  (tmp_path / 'p' / file).unlink()
  with pytest.raises(FileNotFoundError, match=f'has no {file}'):
    read(tmp_path / 'p')


def test_a_format_is_told_by_the_name_or_said(tmp_path):
  with pytest.raises(
    ValueError, match=r'ending \.doc tells no format; add --format .*endings: \.txt'
  ):
    write(tmp_path / 'v.doc', WORDS, MATRIX)
  with pytest.raises(ValueError, match=r"unknown format 'txet'; did you mean 'text'\?"):
    write(tmp_path / 'v.txt', WORDS, MATRIX, 'txet')
  write(tmp_path / 'v.doc', WORDS, MATRIX, 'binary')
  same(read(tmp_path / 'v.doc', 'binary'))
  with pytest.raises(ValueError, match=r'ending \.doc tells no format; add --from'):
    read(tmp_path / 'v.doc')
  write(tmp_path / 'v', WORDS, MATRIX, 'binary')
  with pytest.raises(ValueError, match=r'v: its name tells no format; add --from'):
    read(tmp_path / 'v')
  with pytest.raises(FileNotFoundError, match='there are no vectors at'):
    read(tmp_path / 'none.txt')


@pytest.mark.parametrize(
  ('name', 'format', 'message'),
  [
    ('plain', None, r"plain is a file, and 'projector' makes a folder: name another"),
    ('folder.bin', None, r"folder\.bin is a folder, and 'binary' makes a file"),
    ('folder', 'text', r"folder is a folder, and 'text' makes a file: name another"),
    ('plain/new/v.bin', None, r'plain/new/v\.bin: .*plain is a file, and no folder'),
  ],
)
def test_what_is_in_the_way_is_named_and_stays(tmp_path, name, format, message):
  (tmp_path / 'plain').write_text('mine')
  for folder in ('folder', 'folder.bin'):
    (tmp_path / folder).mkdir()
  with pytest.raises(ValueError, match=message):
    write(tmp_path / name, WORDS[:5], MATRIX[:5], format)
  assert (tmp_path / 'plain').read_text() == 'mine'
  assert not list(tmp_path.glob('folder*/*'))


def test_a_folder_with_an_ending_may_be_the_projectors(tmp_path):
  (tmp_path / 'run.v1').mkdir()
  write(tmp_path / 'run.v1', WORDS[:5], MATRIX[:5])
  same(read(tmp_path / 'run.v1'), WORDS[:5], MATRIX[:5])
  write(tmp_path / 'p.bin', WORDS[:5], MATRIX[:5], 'projector')
  same(read(tmp_path / 'p.bin'), WORDS[:5], MATRIX[:5])


def test_without_gensim_it_is_asked_for(tmp_path, monkeypatch):
  write(tmp_path / 'v.kv', WORDS, MATRIX)
  monkeypatch.setitem(sys.modules, 'gensim.models', None)
  with pytest.raises(RuntimeError, match=r"pip install 'gensim>=4.4'"):
    read(tmp_path / 'v.kv')


def test_what_could_not_be_finished_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'v.txt'
  write(path, WORDS, MATRIX)

  def fail(row, between):
    raise OSError('the disk is full')

  monkeypatch.setattr(formats, '_shortest', fail)
  with pytest.raises(OSError, match='full'):
    write(path, WORDS[:1], MATRIX[:1])
  same(read(path))
  assert [p.name for p in tmp_path.iterdir()] == ['v.txt']
