"""Named corpora of sequence tasks: their splits, digests and addresses."""

import gzip
import os
from pathlib import Path

import pytest

from seqlab.text import corpora
from seqlab.text.corpora import CORPORA, open_corpus, split_of
from seqlab.text.digests import digests_of
from seqlab.text.download import sha256_of
from seqlab.text.lines import read_bytes

needs_data = pytest.mark.skipif(
  'SEQLAB_DATA' not in os.environ, reason='needs real data: set SEQLAB_DATA'
)
# Options -> examples of each split, as their papers count them. CMUdict has 12,753 pairs of
# 12,000 words in 'test', and 113,438 pairs that 'train' and 'dev' share.
SIZES = [
  ({'kind': 'scan'}, {'train': 16_728, 'test': 4_182}),
  ({'kind': 'scan', 'split': 'length'}, {'train': 16_990, 'test': 3_920}),
  # Csordas et al. divide the 18,286 short examples into 16,458 and 1,828.
  (
    {'kind': 'scan', 'split': 'length', 'cutoff': 26, 'cut': {'dev': 0.1}},
    {'train': 16_370, 'test': 2_624, 'dev': 1_916},
  ),
  ({'kind': 'scan', 'split': 'addprim_jump'}, {'train': 14_670, 'test': 7_706}),
  ({'kind': 'scan', 'split': 'addprim_turn_left'}, {'train': 21_890, 'test': 1_208}),
  ({'kind': 'cogs'}, {'train': 24_155, 'dev': 3_000, 'test': 3_000, 'gen': 21_000}),
  (
    {'kind': 'sigmorphon2017', 'language': 'navajo', 'resource': 'medium'},
    {'train': 1_000, 'dev': 1_000, 'test': 1_000},
  ),
  (
    {'kind': 'sigmorphon2021-g2p', 'language': 'eng_us'},
    {'train': 33_344, 'dev': 4_168, 'test': 4_168},
  ),
  ({'kind': 'cmudict-g2p'}, {'train': 107_811, 'test': 12_000, 'dev': 5_316}),
  (
    {'kind': 'multi30k-wu2021', 'target': 'fr'},
    {'train': 29_000, 'val': 1_014, 'test_2016_flickr': 1_000}
    | {'test_2017_flickr': 1_000, 'test_2017_mscoco': 461},
  ),
]
NAMES = sorted({options['kind'] for options, _ in SIZES})


@needs_data
@pytest.mark.parametrize(('options', 'sizes'), SIZES)
def test_splits_have_the_sizes_of_the_papers(options, sizes):
  corpus = open_corpus(**options)
  assert {split: len(corpus.read(split)[0]) for split in corpus.splits} == sizes


@needs_data
def test_scan_is_divided_at_the_cutoff():
  def corpus(cutoff):
    return open_corpus(kind='scan', split='length', cutoff=cutoff)

  def lengths(split):
    return {len(actions.split()) for actions in corpus(26).read(split)[1]}

  assert max(lengths('train')) == 26
  assert min(lengths('test')) == 27
  assert corpus(26).fingerprint('train') != corpus(30).fingerprint('train')


@needs_data
def test_generalisation_has_21_types_of_1000_sentences():
  categories = open_corpus(kind='cogs').categories('gen')
  assert {categories.count(x) for x in {*categories}} == {1_000}
  assert len({*categories}) == 21


@needs_data
def test_words_of_cmudict_have_all_of_their_pronunciations():
  corpus = open_corpus(kind='cmudict-g2p')
  words, _ = corpus.read('test')
  references = corpus.references('test')
  assert sum(map(len, references)) == 12_753
  assert len(references[words.index('ABSOLVES')]) > 1
  train = corpus.read('train')[0]
  assert not {*train} & {*corpus.read('dev')[0]}
  assert {split_of(word, {'dev': 0.05}) for word in train} == {'train'}


@needs_data
@pytest.mark.parametrize('name', NAMES)
def test_known_digests_are_those_of_the_data(name, tmp_path):
  folder, known = Path(os.environ['SEQLAB_DATA'], name), digests_of(name)
  files = sorted(str(x.relative_to(folder)) for x in folder.rglob('*.gz'))
  assert files == sorted(f'{file}.gz' for file in known)
  plain = tmp_path / 'plain'
  for file, digest in known.items():
    plain.write_bytes(read_bytes(folder / f'{file}.gz'))
    assert sha256_of(plain) == digest


ADDRESSES = {
  'scan': '/simple_split/tasks_train_simple.txt',
  'cogs': '/data/train.tsv',
  'sigmorphon2017': '/all/task1/english-train-high',
  'sigmorphon2021-g2p': '/data/low/ady_train.tsv',
  'cmudict-g2p': '/data_old/cmudict/train_dataset.csv',
  'multi30k-wu2021': '/data/multi30k-en-de/train.en',
}


@pytest.mark.parametrize('name', NAMES)
def test_missing_files_are_downloaded_from_a_pinned_commit(name, monkeypatch):
  monkeypatch.delenv('SEQLAB_DATA', raising=False)
  asked = []

  def download(url, path, **options):
    asked.append((url, options['sha256']))
    raise OSError('no network in this test')

  monkeypatch.setattr(corpora, 'download', download)
  with pytest.raises(OSError, match='no network'):
    open_corpus(kind=name).read('train')
  ((url, digest),) = asked
  assert url.startswith('https://raw.githubusercontent.com/')
  commit = url.split('/')[5]
  assert len(commit) == 40
  assert url.partition(commit)[2] == ADDRESSES[name]
  assert digest in digests_of(name).values()


def test_the_test_split_of_an_inflected_language_has_another_name(monkeypatch):
  def download(url, *_, **__):
    raise OSError(url)

  monkeypatch.setattr(corpora, 'download', download)
  monkeypatch.delenv('SEQLAB_DATA', raising=False)
  corpus = open_corpus(kind='sigmorphon2017', language='welsh')
  with pytest.raises(OSError, match=r'answers/task1/welsh-uncovered-test$'):
    corpus.read('test')


def test_a_source_of_an_inflected_language_has_two_parts(tmp_path, monkeypatch):
  folder = tmp_path / 'sigmorphon2017'
  folder.mkdir()
  with gzip.open(folder / 'german-train-low.gz', 'wt', encoding='utf-8') as file:
    file.write('gehen\tging\tV;IND;PST;3;SG\n')
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  corpus = open_corpus(kind='sigmorphon2017', language='german', resource='low')
  assert corpus.read('train') == (['gehen\tV;IND;PST;3;SG'], ['ging'])
  assert [rule['kind'] for rule in corpus.rules['source']] == ['char', 'symbols']
  assert not corpus.rules['source'][1]['ordered']


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'kind': 'scan', 'split': 'jump'},
      r"corpus\.split is 'jump'; it must be 'simple'",
    ),
    (
      {'kind': 'scan', 'split': 'addprim_jump', 'cutoff': 26},
      r"corpus\.cutoff=26 .* set corpus\.split='length'",
    ),
    ({'kind': 'sigmorphon2017', 'language': 'germen'}, "did you mean 'german'"),
    ({'kind': 'sigmorphon2021-g2p', 'language': 'deu'}, r'corpus\.language is .deu.'),
    ({'kind': 'multi30k-wu2021', 'source': 'de'}, "'de' to 'de': one side is English"),
  ],
)
def test_options_that_do_not_fit_are_refused(options, message):
  assert options['kind'] in CORPORA
  with pytest.raises(ValueError, match=message):
    open_corpus(**options)
