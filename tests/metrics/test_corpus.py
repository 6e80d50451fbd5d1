import gzip
import itertools
import json

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from seqlab.cli import main
from seqlab.metrics.characters import piece_bytes
from seqlab.metrics.corpus import (
  Lines,
  Pieces,
  bleu_of_files,
  corpus_statistics,
  line_words,
  read_lines,
)
from seqlab.text.vocabulary import train_vocabulary


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """An output and two references whose line lengths differ much; one is gzipped."""
  folder = tmp_path_factory.mktemp('bleu')
  rng = np.random.default_rng(0)
  words = ['Haus', 'der', 'die,', 'ist', '3.5', '(neu)', 'und', '&quot;so&quot;']

  def line(n):
    return ' '.join(rng.choice(words, n))

  lengths = [0, 1, 5, 24, 3, 6, 2, 9]
  sides = [[line(n) for n in lengths] for _ in range(3)]
  sides[0][5] = sides[1][5] + ' \t'
  sides[0][2] = '\ufeffder Haus\r\x0b'
  paths = [folder / name for name in ('out.txt', 'one.txt', 'two.txt.gz')]
  for path, side in zip(paths, sides, strict=True):
    with gzip.open(path, 'wb') if path.suffix == '.gz' else open(path, 'wb') as file:
      file.write(''.join(f'{x}\n' for x in side).encode())
  return paths, sides


@pytest.mark.parametrize('references', [1, 2])
def test_files_have_the_scores_of_sacrebleu(files, references):
  paths, sides = files
  actual = bleu_of_files(paths[0], paths[1 : 1 + references])
  metric = BLEU()
  expected = metric.corpus_score(
    [x.rstrip() for x in sides[0]],
    [[x.rstrip() for x in s] for s in sides[1:]][:references],
  )
  assert (actual['counts'], actual['totals']) == (expected.counts, expected.totals)
  assert (actual['sys_len'], actual['ref_len']) == (expected.sys_len, expected.ref_len)
  assert actual['score'] == pytest.approx(expected.score, rel=1e-12)
  assert actual['bp'] == pytest.approx(expected.bp, rel=1e-12)
  assert actual['signature'] == str(metric.get_signature())
  assert actual['sentences'] == len(sides[0])


def test_the_command_prints_one_line_of_json(files, capsys):
  paths, _ = files
  command = ['bleu', *map(str, paths[:2]), '--tokenize', 'none', '--lowercase']
  assert main([*command, '--confidence', '--samples', '50']) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 1
  actual = json.loads(lines[0])
  assert 'tok:none' in actual['signature']
  assert 'case:lc' in actual['signature']
  assert 'bs:50|seed:0' in actual['signature']
  assert actual['ci'] > 0


def test_unequal_line_counts_are_refused_with_both_numbers(files, tmp_path, capsys):
  paths, _ = files
  other = tmp_path / 'short.txt'
  other.write_text('one\ntwo\n')
  assert main(['bleu', str(paths[0]), str(other)]) == 1
  assert 'has 8 lines' in (error := capsys.readouterr().err)
  assert 'has 2:' in error


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path):
  path = tmp_path / 'latin.txt'
  path.write_bytes(b'one\nsch\xf6n\n')
  with pytest.raises(ValueError, match=r'line 2 of .*latin\.txt is not UTF-8'):
    read_lines(path)


def test_lines_end_only_at_newlines(tmp_path):
  path = tmp_path / 'lines.txt'
  path.write_bytes('\ufeffa\u2028b\r\n\x0c\nlast'.encode())
  assert read_lines(path) == ['a\u2028b'.encode(), b'\x0c', b'last']


def test_a_truncated_file_is_named(tmp_path, capsys):
  path = tmp_path / 'cut.gz'
  path.write_bytes(gzip.compress(b'one two three\n' * 99)[:-20])
  assert main(['bleu', str(path), str(path)]) == 1
  error = capsys.readouterr().err
  assert 'cut.gz is damaged or truncated' in error
  assert error.count('\n') == 1


def test_a_gzipped_file_may_have_any_name(tmp_path):
  path = tmp_path / 'packed'
  path.write_bytes(gzip.compress(b'one\ntwo\n'))
  assert read_lines(path) == [b'one', b'two']


@pytest.mark.parametrize(
  'tokenizer',
  ['13a', *(pytest.param(name, marks=pytest.mark.slow) for name in ('none', 'char'))],
)
def test_pieces_of_bytes_have_the_statistics_of_their_line(tokenizer):
  lines = ['the big cat, no. 1', 'the small dog']
  vocabulary = train_vocabulary(lines * 20, size=300, byte_fallback=True)
  place = {piece: i for i, piece in enumerate(vocabulary.pieces())}
  rng = np.random.default_rng(0)
  odd = [
    b'\n',
    b'\r',
    b'\0',
    '\u2028'.encode(),
    b'\xc2\x85',
    b'\xe2\x80',
    b'\xff',
    b'-\n',
  ]
  ids = []
  for _ in range(64):
    flat, _ = vocabulary.encode([lines[rng.integers(2)]])
    spelt = [place[f'<0x{b:02X}>'] for b in odd[rng.integers(len(odd))]]
    at = rng.integers(len(flat) + 1)
    ids.append(np.array([*flat[:at], *spelt, *flat[at:]]))
  texts = vocabulary.decode(ids)
  assert all(len(text.splitlines()) == 1 for text in texts)
  actual = corpus_statistics(
    Pieces(ids, piece_bytes(vocabulary.surfaces())),
    [Lines([lines[0].encode()] * 64)],
    tokenizer=tokenizer,
  )
  expected = BLEU(tokenize=tokenizer, force=True).corpus_score(texts, [[lines[0]] * 64])
  integers = [*expected.counts, *expected.totals, expected.sys_len, expected.ref_len]
  assert actual.sum(axis=0).tolist() == integers


def test_a_line_of_very_short_tokens_is_counted_completely():
  line = '.' * 127
  actual = corpus_statistics(Lines([line.encode()]), [Lines([line.encode()])])
  assert actual[0, 8] == 127


def test_pieces_have_the_statistics_of_their_text():
  lines = [f'the {w} cat, no. {i}' for i, w in enumerate(['big', 'small', 'red'] * 5)]
  vocabulary = train_vocabulary(lines, kind='bpe', size=50)
  flat, offsets = vocabulary.encode(lines)
  ids = [flat[a:b] for a, b in itertools.pairwise(offsets)]
  pieces = Pieces(ids, piece_bytes(vocabulary.surfaces()))
  text = Lines([line.encode() for line in lines])
  reference = [Lines([line.encode() for line in lines[::-1]])]
  np.testing.assert_array_equal(
    corpus_statistics(pieces, reference), corpus_statistics(text, reference)
  )


def test_the_tokens_of_lines_have_the_width_of_the_longest_line():
  words = line_words(Lines([b'a b c', b'', b'a ' * 90]), 'none')
  assert words.hashes.shape == (3, 90, 2)
  np.testing.assert_array_equal(words.count, [3, 0, 90])
  np.testing.assert_array_equal(words.hashes[0, 0], words.hashes[2, 89])
  assert not words.hashes[0, 3:].any()


def test_an_unknown_tokenizer_is_named():
  with pytest.raises(ValueError, match="'14a' is not one of 13a, none, char"):
    corpus_statistics(Lines([b'a']), [Lines([b'a'])], tokenizer='14a')
