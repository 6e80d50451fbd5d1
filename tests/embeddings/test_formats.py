"""Files of vectors, compared with those of gensim and word2vec.c."""

import bz2
import gzip
import lzma
import os
import pickle
import re
import struct
import sys
import threading
import zipfile

from gensim.models import KeyedVectors, Word2Vec
import numpy as np
import pytest
import scipy.sparse

from seqlab.embeddings import formats, vector_files
from seqlab.embeddings.formats import check_target, read, write

WORDS = ['the', 'new_york', "don't", 'ёж', '日本', '\u2028', 'a\u00a0b', '0.5']
MATRIX = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
MATRIX[0] = [0, -0.0, 1e-38, 1e18, 1 / 3]
ENDINGS = ('.txt', '.txt.gz', '.vec', '.bin', '.bin.gz', '.BIN', '.kv', '.npz', '')


@pytest.fixture
def theirs():
  vectors = KeyedVectors(5)
  vectors.add_vectors(WORDS, MATRIX)
  return vectors


def read_by_name(path):
  """Reads a file in the format of its name; gensim's pickles need an argument."""
  return read(path, 'gensim' if path.suffix == '.kv' else None)


def assert_vectors(vectors, words=WORDS, matrix=MATRIX):
  assert vectors[0] == words
  np.testing.assert_array_equal(vectors[1], matrix)
  assert vectors[1].dtype == np.float32


@pytest.mark.parametrize('ending', ENDINGS)
def test_vectors_are_written_and_read_bit_for_bit(tmp_path, ending):
  path = tmp_path / 'new' / f'vectors{ending}'
  write(path, WORDS, MATRIX)
  assert_vectors(read_by_name(path))
  assert not list(tmp_path.rglob('.part*'))


@pytest.mark.filterwarnings('ignore:unclosed file:ResourceWarning')  # by gensim
def test_glove_files_have_no_header(tmp_path):
  path = tmp_path / 'glove.txt'
  write(path, WORDS, MATRIX, 'glove')
  assert path.read_bytes().startswith(b'the 0.0 -0.0 ')
  assert_vectors(read(path, 'glove'))
  keyed = KeyedVectors.load_word2vec_format(str(path), no_header=True)
  assert_vectors((keyed.index_to_key, keyed.vectors))


@pytest.mark.parametrize('ending', ['.txt', '.txt.gz', '.bin'])
def test_gensim_reads_our_files(tmp_path, ending):
  path = tmp_path / f'vectors{ending}'
  write(path, WORDS, MATRIX)
  keyed = KeyedVectors.load_word2vec_format(str(path), binary=ending == '.bin')
  assert_vectors((keyed.index_to_key, keyed.vectors))


@pytest.mark.parametrize('ending', ['.txt', '.txt.gz', '.bin'])
def test_files_of_gensim_are_read(tmp_path, theirs, ending):
  path = tmp_path / f'vectors{ending}'
  theirs.save_word2vec_format(str(path), binary=ending == '.bin')
  assert_vectors(read(path))


@pytest.mark.parametrize('binary', [False, True])
def test_bytes_are_those_of_gensim(tmp_path, theirs, binary):
  ours, other = tmp_path / f'a.{"bin" if binary else "txt"}', tmp_path / 'b'
  write(ours, WORDS, MATRIX)
  theirs.save_word2vec_format(str(other), binary=binary)
  assert ours.read_bytes() == other.read_bytes()


def test_keyed_vectors_are_read_and_written(tmp_path, theirs):
  write(tmp_path / 'ours.kv', WORDS, MATRIX)
  keyed = KeyedVectors.load(str(tmp_path / 'ours.kv'))
  assert_vectors((keyed.index_to_key, keyed.vectors))
  assert keyed.most_similar('ёж') == theirs.most_similar('ёж')
  theirs.save(str(tmp_path / 'theirs.kv'))
  assert_vectors(read(tmp_path / 'theirs.kv', 'gensim'))


def test_the_vectors_of_a_whole_model_of_gensim_are_read(tmp_path):
  model = Word2Vec([['a', 'b', 'c', 'a']], vector_size=4, min_count=1, workers=1)
  model.save(str(tmp_path / 'model'))
  assert_vectors(
    read(tmp_path / 'model', 'gensim'), model.wv.index_to_key, model.wv.vectors
  )


def test_words_with_spaces_are_kept_where_the_format_allows_it(tmp_path):
  words = ['new york', ' x', 'y ']
  for ending in ('.npz', '.kv', ''):
    write(tmp_path / f'v{ending}', words, MATRIX[:3])
    assert_vectors(read_by_name(tmp_path / f'v{ending}'), words, MATRIX[:3])
  for ending in ('.txt', '.bin'):
    with pytest.raises(
      ValueError, match=r"word 1 is 'new york'.* join phrases with '_'"
    ):
      write(tmp_path / f'w{ending}', words, MATRIX[:3])
    assert not (tmp_path / f'w{ending}').exists()


@pytest.mark.parametrize('format', ['text', 'glove'])
def test_a_byte_order_mark_is_not_text(tmp_path, format):
  path = tmp_path / 'v.txt'
  write(path, WORDS, MATRIX, format)
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  assert_vectors(read(path, format))


def test_word2vec_c_puts_a_space_or_a_line_end_after_each_vector(tmp_path):
  path = tmp_path / 'c.txt'
  path.write_text('2 3\n</s> 0.5 1.0 -2.0 \nза 0.25 0.0 0.0 \n', 'utf-8')
  assert_vectors(read(path), ['</s>', 'за'], [[0.5, 1, -2], [0.25, 0, 0]])
  vectors = [word + struct.pack('<2f', 1, 10) for word in (b'</s> ', b'b ')]
  path.with_suffix('.bin').write_bytes(b'2 2\n' + b'\n'.join(vectors) + b'\n')
  assert_vectors(read(path.with_suffix('.bin')), ['</s>', 'b'], [[1, 10], [1, 10]])


def test_the_projector_has_the_files_that_its_configuration_names(tmp_path):
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
  words, numbers = read(tmp_path / 'v.npz')
  assert words == WORDS
  assert numbers.dtype == np.float32
  np.testing.assert_array_equal(numbers.toarray(), matrix.toarray())
  with pytest.raises(
    ValueError, match=r'sparse vectors of 20 numbers per word can only'
  ):
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
    ('', r'v\.txt is empty'),
    ('a 0.5 1\nb 1 2\n', r"line 1 .* 'a 0.5 1'; it should be two .*--from glove"),
    ('2 0\n', 'has no vectors: by line 1 there are 2 of 0 numbers'),
    ('0 5\n', 'has no vectors: by line 1 there are 0 of 5 numbers'),
    ('-2 2\n', 'line 1 .*two numbers'),
    ('2 2\na 1 2\n', r'ends after line 2, with 1 words; by line 1 there are 2'),
    ('2 2\na 1 2\nb 1', r'line 3 .* has 1 numbers, and should have 2'),
    ('2 2\na 1 2\nb 1 2 3\n', r'line 3 .* has 3 numbers, and should have 2'),
    ('1 2\na\t1\t2\n', r'line 2 .* has tabs; convert it'),
    ('2 2\na 1 x\nb 1 2\n', r'line 2 .*could not convert string to float'),
    ('2 2\na 1 2\nb nan 2\n', r'line 3 .* its number 1 is nan'),
    ('2 2\na 1 2\nb 1 -inf\n', r'line 3 .* its number 2 is -inf'),
    ('2 2\na 1 1e39\nb 1 2\n', r'line 2 .* its number 2 is 1e39'),
    ('9000000000 300\na 1\n', r'cut short: by line 1 .* need more than its 19 bytes'),
    ('2 2\n 1 2\n 3 4\n', 'has no vectors: 0 words of 2'),
    (f'1 1\na {"1" * 11_000}\n', r'line 2 .* has more than 10,064 bytes'),
  ],
)
def test_wrong_text_is_refused_with_its_line(tmp_path, text, message):
  (tmp_path / 'v.txt').write_text(text)
  with pytest.raises(ValueError, match=message):
    read(tmp_path / 'v.txt')


def test_cut_gzip_is_refused_with_its_place(tmp_path):
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
      read_by_name(path)


def test_nobody_is_advised_to_unpickle_a_damaged_archive(tmp_path):
  path = tmp_path / 'v.npz'
  write(path, WORDS, MATRIX)
  path.write_bytes(b'X' + path.read_bytes()[1:])
  with pytest.raises(ValueError, match='cut short at its start') as error:
    read(path)
  assert 'pickle' not in str(error.value)


def test_archives_without_vectors_are_refused(tmp_path):
  np.savez(tmp_path / 'v.npz', x=MATRIX)
  with pytest.raises(
    ValueError, match='has x; a file of vectors should have words and'
  ):
    read(tmp_path / 'v.npz')
  np.savez(tmp_path / 'v.npz', words=np.array(WORDS[1:]), matrix=MATRIX)
  with pytest.raises(ValueError, match=r'has 7 words and a matrix \(8, 5\)'):
    read(tmp_path / 'v.npz')


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('words', [1, 2], r'words is int64 of shape \(2,\); it should be a row of text'),
    ('words', [b'a', b'b'], r'words is \|S1 .*; it should be a row of text'),
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
    ('indices', [0], 'invalid sparse matrix'),
    ('indptr', [0, 2], 'invalid sparse matrix'),
    ('indptr', [1, 1, 2], 'invalid sparse matrix'),
    ('indptr', [0, 1, 900], 'invalid sparse matrix'),
    ('indptr', [0, 900, 2], 'indptr must be'),
    ('indptr', [0, 900, 0], 'indptr must be'),
    ('indptr', [], 'indptr is float64'),
    ('data', ['x', 'y'], 'data is <U1 .*numbers'),
    ('shape', [2], 'has 2 words and a matrix|invalid sparse matrix'),
    ('shape', [2, -3], 'invalid sparse matrix'),
    ('shape', 2, r'shape is int64 of shape \(\)'),
  ],
)
def test_an_incomplete_sparse_matrix_is_refused(tmp_path, name, value, message):
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
  read_words, numbers = read(tmp_path / 'v.npz')
  assert read_words == words
  assert np.array_equal(numbers.toarray() if sparse else numbers, matrix)


def test_words_of_common_lengths_are_an_array_for_other_programs(tmp_path):
  write(tmp_path / 'v.npz', WORDS, MATRIX)
  with np.load(tmp_path / 'v.npz') as arrays:
    assert arrays['words'].tolist() == WORDS


def test_characters_that_numpy_drops_are_kept(tmp_path):
  write(tmp_path / 'v.npz', ['a\0', 'b'], MATRIX[:2])
  assert_vectors(read(tmp_path / 'v.npz'), ['a\0', 'b'], MATRIX[:2])


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
def test_words_that_are_joined_wrongly_are_refused(tmp_path, utf8, ends):
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
    ('tensors.tsv', '', r'tensors\.tsv is empty'),
    ('tensors.tsv', '1\t2\n\n3\t4\n', r'line 2 of .*tensors\.tsv is blank'),
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


def test_a_format_is_that_of_the_name_or_of_the_argument(tmp_path):
  with pytest.raises(
    ValueError,
    match=r'ending \.doc does not determine the format; add --format .*endings: \.txt',
  ):
    write(tmp_path / 'v.doc', WORDS, MATRIX)
  with pytest.raises(ValueError, match=r"unknown format 'txet'; did you mean 'text'\?"):
    write(tmp_path / 'v.txt', WORDS, MATRIX, 'txet')
  write(tmp_path / 'v.doc', WORDS, MATRIX, 'binary')
  assert_vectors(read(tmp_path / 'v.doc', 'binary'))
  with pytest.raises(
    ValueError, match=r'ending \.doc does not determine the format; add --from'
  ):
    read(tmp_path / 'v.doc')
  write(tmp_path / 'v', WORDS, MATRIX, 'binary')
  with pytest.raises(
    ValueError, match=r'v: its name does not determine the format; add --from'
  ):
    read(tmp_path / 'v')
  with pytest.raises(FileNotFoundError, match='there are no vectors at'):
    read(tmp_path / 'none.txt')


@pytest.mark.parametrize(
  ('name', 'format', 'message'),
  [
    ('plain', None, r"plain is a file, and 'projector' makes a folder: name another"),
    ('folder.bin', None, r"folder\.bin is a folder, and 'binary' makes a file"),
    ('folder', 'text', r"folder is a folder, and 'text' makes a file: name another"),
    ('plain/new/v.bin', None, r'plain/new/v\.bin: .*plain is a file, not a folder'),
  ],
)
def test_an_existing_file_in_the_place_of_the_output_is_named_and_kept(
  tmp_path, name, format, message
):
  (tmp_path / 'plain').write_text('mine')
  for folder in ('folder', 'folder.bin'):
    (tmp_path / folder).mkdir()
  with pytest.raises(ValueError, match=message):
    write(tmp_path / name, WORDS[:5], MATRIX[:5], format)
  assert (tmp_path / 'plain').read_text() == 'mine'
  assert not list(tmp_path.glob('folder*/*'))


def test_the_projectors_folder_may_have_an_ending(tmp_path):
  (tmp_path / 'run.v1').mkdir()
  write(tmp_path / 'run.v1', WORDS[:5], MATRIX[:5])
  assert_vectors(read(tmp_path / 'run.v1'), WORDS[:5], MATRIX[:5])
  write(tmp_path / 'p.bin', WORDS[:5], MATRIX[:5], 'projector')
  assert_vectors(read(tmp_path / 'p.bin'), WORDS[:5], MATRIX[:5])


def test_a_missing_gensim_is_named(tmp_path, monkeypatch):
  write(tmp_path / 'v.kv', WORDS, MATRIX)
  monkeypatch.setitem(sys.modules, 'gensim.models', None)
  with pytest.raises(RuntimeError, match=r"pip install 'gensim>=4.4'"):
    read(tmp_path / 'v.kv', 'gensim')


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'v.txt'
  write(path, WORDS, MATRIX)

  def fail(row, between):
    raise OSError('the disk is full')

  monkeypatch.setattr(formats, '_shortest', fail)
  with pytest.raises(OSError, match='full'):
    write(path, WORDS[:1], MATRIX[:1])
  assert_vectors(read(path))
  assert [p.name for p in tmp_path.iterdir()] == ['v.txt']


def test_the_first_row_of_a_repeated_word_is_kept_as_in_gensim(tmp_path):
  path = tmp_path / 'v.txt'
  path.write_text('4 2\na 1 2\nb 1 2\na 3 4\na 5 6\n')
  message = r"v\.txt: 2 rows left out, whose words came before.* \(.*'a', line 4\)"
  with pytest.warns(UserWarning, match=message):
    assert_vectors(read(path), ['a', 'b'], [[1, 2], [1, 2]])
  keyed = KeyedVectors.load_word2vec_format(str(path))
  assert_vectors(
    (keyed.index_to_key[:2], keyed.vectors[:2]), ['a', 'b'], [[1, 2], [1, 2]]
  )
  keyed.save(str(tmp_path / 'v.kv'))  # with None for the repeated words
  with pytest.warns(UserWarning, match='2 rows left out, which have no word'):
    assert_vectors(read(tmp_path / 'v.kv', 'gensim'), ['a', 'b'], [[1, 2], [1, 2]])


@pytest.mark.parametrize('ending', ['.bin', '.npz', ''])
def test_repeated_words_are_counted_in_every_format(tmp_path, ending):
  path = tmp_path / f'v{ending}'
  if ending == '.bin':
    path.write_bytes(binary(b'3 2\n', b'a', b'a', b'b'))
  elif ending:
    matrix = np.array([[1, 1], [2, 2], [3, 3]], np.float32)
    np.savez(path, words=['a', 'a', 'b'], matrix=matrix)
  else:
    write(path, ['a', 'c', 'b'], np.array([[1, 1], [2, 2], [3, 3]], np.float32))
    (path / 'metadata.tsv').write_text('a\na\nb\n')
  with pytest.warns(UserWarning, match='1 rows left out, whose words came before'):
    assert_vectors(read(path), ['a', 'b'], [[1, 1], [3, 3]])


def test_rows_without_a_word_are_counted(tmp_path):
  (tmp_path / 'v.bin').write_bytes(binary(b'3 2\n', b'a', b'', b'b'))
  with pytest.warns(UserWarning, match=r'1 rows left out, which have no word .*word 2'):
    assert_vectors(read(tmp_path / 'v.bin'), ['a', 'b'], [[1, 1], [3, 3]])
  (tmp_path / 'v.txt').write_text('2 2\na 1 2\n 3 4\n')
  with pytest.warns(UserWarning, match=r'1 rows left out, which have no word .*line 3'):
    assert_vectors(read(tmp_path / 'v.txt'), ['a'], [[1, 2]])


@pytest.mark.parametrize('format', ['text', 'glove'])
def test_words_may_have_spaces_in_them(tmp_path, format):
  """As in glove.840B.300d.txt, and in GoogleNews written as text."""
  rows = ['. . . 1 2', 'at name@domain.com 3 4', 'a 5 6', '  7 8', '1984 9 10']
  header = f'{len(rows)} 2\n' if format == 'text' else ''
  (tmp_path / 'v.txt').write_text(header + '\n'.join(rows))
  with pytest.warns(UserWarning, match=r"3 words have spaces .*'\. \. \.', line"):
    vectors = read(tmp_path / 'v.txt', format)
  words = ['. . .', 'at name@domain.com', 'a', ' ', '1984']
  assert_vectors(vectors, words, np.arange(1, 11).reshape(5, 2))


def test_empty_lines_are_ignored(tmp_path):
  for format, header in (('text', '2 2\n'), ('glove', '')):
    (tmp_path / 'v.txt').write_text(f'{header}a 1 2\n\nb 3 4\n\n \n')
    assert_vectors(read(tmp_path / 'v.txt', format), ['a', 'b'], [[1, 2], [3, 4]])
  write(tmp_path / 'p', ['a', 'b'], MATRIX[:2])
  for name in ('metadata.tsv', 'tensors.tsv'):
    with open(tmp_path / 'p' / name, 'a') as file:
      file.write('\n\n')
    assert_vectors(read(tmp_path / 'p'), ['a', 'b'], MATRIX[:2])


def test_more_lines_than_the_header_says_are_read_with_a_warning(tmp_path):
  (tmp_path / 'v.txt').write_text('1 2\na 1 2\nb 3 4\nc 5 6\n')
  with pytest.warns(UserWarning, match=r'2 rows more than line 1 says; all are read'):
    assert_vectors(read(tmp_path / 'v.txt'), ['a', 'b', 'c'], [[1, 2], [3, 4], [5, 6]])


def test_words_that_are_cut_inside_a_letter_stay_different(tmp_path):
  """word2vec.c cuts words to 99 bytes; both would be one word with U+FFFD."""
  first, second = 'привет'.encode()[:-1] + b'\x81', 'привет'.encode()[:-1]
  words = ['приве\u0441', 'приве\\xd1']  # \xd1\x81 is a whole letter
  message = r'v\.\w+: 1 words are not UTF-8: cut within a letter.* written \\xNN'
  (tmp_path / 'v.bin').write_bytes(binary(b'2 2\n', first, second))
  with pytest.warns(UserWarning, match=message):
    assert_vectors(read(tmp_path / 'v.bin'), words, [[1, 1], [2, 2]])
  (tmp_path / 'v.txt').write_bytes(b'2 2\n%b 1 1\n%b 2 2\n' % (first, second))
  with pytest.warns(UserWarning, match=message):
    assert_vectors(read(tmp_path / 'v.txt'), words, [[1, 1], [2, 2]])


@pytest.mark.parametrize('name', ['v.bin.gz', 'v.bin', 'v.gz'])
def test_gzipped_binaries_are_read_by_their_content(tmp_path, theirs, name):
  """GoogleNews-vectors-negative300.bin.gz is one."""
  theirs.save_word2vec_format(str(tmp_path / 'plain'), binary=True)
  (tmp_path / name).write_bytes(gzip.compress((tmp_path / 'plain').read_bytes()))
  assert_vectors(read(tmp_path / name, 'binary' if name == 'v.gz' else None))


@pytest.mark.parametrize('format', ['text', 'glove', 'binary'])
@pytest.mark.parametrize('gzipped', [False, True])
def test_the_name_does_not_decide_whether_a_file_is_gzipped(tmp_path, format, gzipped):
  write(tmp_path / 'plain', WORDS, MATRIX, format)
  data = (tmp_path / 'plain').read_bytes()
  path = tmp_path / ('v.txt' if gzipped else 'v.txt.gz')
  path.write_bytes(gzip.compress(data) if gzipped else data)
  assert_vectors(read(path, format))


def test_the_name_of_a_file_does_not_make_it_a_pickle(tmp_path):
  class Trap:
    def __reduce__(self):
      return (tmp_path.joinpath('ran').mkdir, ())

  for name in ('v.kv', 'v.txt', 'v.bin', 'v.model'):
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r'if you trust this file, add --from gensim'):
      read(tmp_path / name)
  arrays = {'words': np.array(['a', Trap()], object), 'matrix': MATRIX[:2]}
  np.savez(tmp_path / 'v.npz', **arrays)
  with pytest.raises(ValueError, match=r'words holds Python objects.*np\.array\(words'):
    read(tmp_path / 'v.npz')
  assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('name', ['v.bin', 'v.txt', 'v.ftz', 'v.bin.gz'])
def test_a_model_of_fasttext_is_recognised_by_its_first_bytes(tmp_path, name):
  data = struct.pack('<ii', 793_712_314, 12) + bytes(100)
  data = gzip.compress(data) if name.endswith('.gz') else data
  (tmp_path / name).write_bytes(data)
  with pytest.raises(ValueError, match=r'is a quantised model of fastText'):
    read(tmp_path / name)
  with pytest.raises(ValueError, match=r'leave out --from, or add --from fasttext'):
    read(tmp_path / name, 'text')


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    ('v.txt', lzma.compress(b'1 1\na 1\n'), r'is xz, .*`xz -d`'),
    ('v.bin', bz2.compress(b'1 1\na 1\n'), r'is bzip2, .*`bzip2 -d`'),
    ('v.zip', b'PK\x03\x04' + bytes(60), r'is zip, .*`unzip`'),
    ('v.txt', '1 1\na 1\n'.encode('utf-16'), r'is UTF-16, .*iconv -f UTF-16 '),
    ('v.txt', '1 1\na 1\n'.encode('utf-16-le'), r'is UTF-16LE, .*iconv -f UTF-16LE'),
    ('v.npz', b'\x93NUMPY\1\0' + bytes(60), r'is NumPy array \(\.npy\)'),
  ],
)
def test_files_of_other_kinds_are_named(tmp_path, name, data, message):
  (tmp_path / name).write_bytes(data)
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path / name)
  assert 'latin1' not in str(error.value)


@pytest.mark.parametrize(
  ('name', 'format', 'message'),
  [
    ('v.npz', 'text', r"zip file of NumPy's arrays: add --from npz"),
    ('v.bin', 'text', r'is it a binary file \(--from binary\)'),
    ('v.bin', 'glove', r'is it a binary file \(--from binary\)'),
    ('v.txt', 'binary', r'line 2 .* is text, and not binary: add --from text'),
    ('v.txt', 'glove', r"has word2vec's first line, '8 5'.*--from text"),
    ('v.txt', 'npz', r'v\.txt is not an \.npz'),
    ('v.txt', 'gensim', r'v\.txt is not a file that gensim saved'),
    ('glove', 'binary', r'it looks like text: add --from text, or --from glove'),
  ],
)
def test_the_message_about_a_wrong_format_names_the_right_one(
  tmp_path, name, format, message
):
  write(tmp_path / name, WORDS, MATRIX, 'glove' if name == 'glove' else None)
  with pytest.raises(ValueError, match=message):
    read(tmp_path / name, format)


@pytest.mark.parametrize('ending', ['.txt', '.txt.gz', '.bin', '.bin.gz'])
def test_a_first_line_that_claims_too_much_costs_no_memory(tmp_path, ending):
  data = b'1000000000 300\na ' + b'1 ' * 300
  path = tmp_path / f'v{ending}'
  path.write_bytes(gzip.compress(data) if ending.endswith('gz') else data)
  with pytest.raises(ValueError, match=r'v\..*by line 1 there are 1,000,000,000 words'):
    read(path)


def test_more_than_the_machine_has_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(vector_files, 'machine_memory', lambda: 100)
  monkeypatch.setattr(formats, 'machine_memory', lambda: 100)
  for ending in ('.txt', '.bin', '', '.npz'):
    write(tmp_path / f'v{ending}', WORDS, MATRIX)
    with pytest.raises(ValueError, match=r'this machine has 0\.0 GiB of memory'):
      read(tmp_path / f'v{ending}')
  write(tmp_path / 'g', WORDS, MATRIX, 'glove')
  monkeypatch.setattr(formats, '_estimate', lambda *_: 1)
  with pytest.raises(ValueError, match='so far there are'):
    read(tmp_path / 'g', 'glove')


def test_an_array_that_claims_more_than_its_file_has_is_refused(tmp_path):
  header = {'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 5)}
  np.savez(tmp_path / 'w.npz', words=['a', 'b'])
  with (
    zipfile.ZipFile(tmp_path / 'w.npz', 'a') as archive,
    archive.open('matrix.npy', 'w') as member,
  ):
    np.lib.format.write_array_header_1_0(member, header)
  with pytest.raises(ValueError, match=r'matrix is float32 of shape \(9999999999, 5\)'):
    read(tmp_path / 'w.npz')


def test_a_matrix_grows_with_its_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(formats, '_estimate', lambda *_: 1)
  words = [f'w{i}' for i in range(3_000)]
  matrix = np.random.default_rng(1).normal(size=(3_000, 3)).astype(np.float32)
  write(tmp_path / 'g', words, matrix, 'glove')
  assert_vectors(read(tmp_path / 'g', 'glove'), words, matrix)


def test_a_pipe_is_read(tmp_path):
  pipe = tmp_path / 'pipe'
  os.mkfifo(pipe)
  writer = threading.Thread(target=lambda: pipe.write_text('2 2\na 1 2\nb 3 4\n'))
  writer.start()
  assert_vectors(read(pipe, 'text'), ['a', 'b'], [[1, 2], [3, 4]])
  writer.join()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(os, 'access', lambda *_: False)
  for name in ('v.bin', 'new/v.bin', 'projector'):
    with pytest.raises(PermissionError, match='this user cannot make files in'):
      check_target(tmp_path / name)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['v.npz.gz', 'v.kv.gz'])
def test_a_format_that_is_not_gzipped_has_no_name_in_gz(tmp_path, name):
  with pytest.raises(ValueError, match='is not gzipped: leave out the ending'):
    write(tmp_path / name, WORDS, MATRIX, 'npz' if 'npz' in name else 'gensim')


def test_a_lone_surrogate_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"word 2 is 'b\\udc80', which has half of"):
    write(tmp_path / 'v.txt', ['a', 'b\udc80'], MATRIX[:2])


@pytest.mark.parametrize(
  'name', ['[a].txt', 'a:b,c.txt', 'a b.bin', 'a\nb.npz', '*.txt']
)
def test_names_are_taken_as_they_are(tmp_path, name):
  write(tmp_path / 'a.txt', ['other'], MATRIX[:1])
  write(tmp_path / name, WORDS, MATRIX)
  assert_vectors(read(tmp_path / name))


def test_damage_anywhere_in_gzip_is_refused(tmp_path):
  write(tmp_path / 'v.bin.gz', WORDS, MATRIX)
  data = (tmp_path / 'v.bin.gz').read_bytes()
  for size in range(2, len(data)):
    (tmp_path / 'v.bin.gz').write_bytes(data[:size])
    with pytest.raises(
      ValueError, match=r'v\.bin\.gz .*(damaged|cut short|is gzip|empty)'
    ):
      read(tmp_path / 'v.bin.gz')
