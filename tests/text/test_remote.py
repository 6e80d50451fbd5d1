"""Copying files of buckets to the cache; a local folder imitates the bucket."""

import importlib.util

import fsspec
import pytest

from seqlab.text.corpora import open_corpus
from seqlab.text.download import DownloadError
from seqlab.text.plain import open_text
from seqlab.text.remote import fetch, is_remote, remote_path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('SEQLAB_CACHE', str(tmp_path / 'cache'))


def test_paths_in_buckets_are_recognised_by_their_names(tmp_path):
  assert is_remote('gs://bucket/run')
  assert not is_remote(tmp_path)


def test_a_file_is_copied_once(bucket):
  (bucket.path / 'a.txt').write_text('one\n', 'utf-8')
  path = fetch('s3://bucket/a.txt')
  assert path.read_text('utf-8') == 'one\n'
  (bucket.path / 'a.txt').unlink()
  assert fetch('s3://bucket/a.txt') == path


@pytest.mark.parametrize('damage', [b'', b'on', b'onf\n'])
def test_a_damaged_copy_is_named_and_copied_again(bucket, capsys, damage):
  (bucket.path / 'a.txt').write_text('one\n', 'utf-8')
  path = fetch('s3://bucket/a.txt')
  path.write_bytes(damage)
  assert fetch('s3://bucket/a.txt').read_text('utf-8') == 'one\n'
  assert f'{path} in the cache is damaged; it is copied' in capsys.readouterr().err


def test_a_copy_without_a_digest_is_copied_again(bucket, capsys):
  (bucket.path / 'a.txt').write_text('one\n', 'utf-8')
  path = fetch('s3://bucket/a.txt')
  path.with_name('.a.txt.sha256').unlink()
  fetch('s3://bucket/a.txt')
  assert 'has no digest; it is copied' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['s3://../../x', 's3://bucket/../../../../x'])
def test_a_copy_remains_in_the_cache(name):
  with pytest.raises(ValueError, match=r"may not have '\.\.' as a part"):
    fetch(name)


def test_the_message_of_a_copy_to_a_full_disk_says_what_to_do(
  bucket, small_disk, monkeypatch
):
  monkeypatch.setenv('SEQLAB_CACHE', str(small_disk))
  (bucket.path / 'a.txt').write_bytes(bytes(2**21))
  with pytest.raises(
    OSError, match=r'no space left for the copy of s3://bucket/a\.txt'
  ):
    fetch('s3://bucket/a.txt')
  assert not [p for p in small_disk.rglob('*') if p.is_file()]


@pytest.mark.parametrize('name', ['s3://bucket/none.txt', 's3://bucket/folder'])
def test_a_missing_file_or_a_folder_is_named(bucket, name):
  (bucket.path / 'folder').mkdir()
  with pytest.raises(FileNotFoundError, match=f'there is no file {name}'):
    fetch(name)


def test_a_file_that_cannot_be_copied_leaves_nothing(bucket, monkeypatch, tmp_path):
  (bucket.path / 'a.txt').write_text('one\n', 'utf-8')

  def refuse(self, path, mode='rb', **options):
    raise ConnectionResetError('connection reset by peer')

  monkeypatch.setattr(bucket.driver, '_open', refuse)
  with pytest.raises(DownloadError, match=r'could not be copied .* reset by peer'):
    fetch('s3://bucket/a.txt')
  assert not [p for p in (tmp_path / 'cache').rglob('*') if p.is_file()]


def test_a_missing_driver_is_named(monkeypatch):
  if 'gcs' in fsspec.registry:
    pytest.skip('the driver of gs:// is in use in this process')
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(RuntimeError, match=r'gs://x/run needs .* pip install gcsfs'):
    remote_path('gs://x/run')


@pytest.mark.parametrize('name', ['ftp://x/run', 'gs://', 's3:///'])
def test_a_path_in_no_known_bucket_is_refused(name):
  with pytest.raises(ValueError, match='should be written gs://bucket/path'):
    remote_path(name)


def test_a_corpus_may_be_in_a_bucket(bucket):
  (bucket.path / 'train.tsv').write_text('a b\tc\nd\te f\n', 'utf-8')
  files = {'train': 's3://bucket/train.tsv'}
  corpus = open_corpus(source='en', target='de', files=files)
  assert corpus.read('train') == (['a b', 'd'], ['c', 'e f'])


def test_a_plain_text_may_be_in_a_bucket(bucket):
  (bucket.path / 'a.txt').write_text('one\ntwo\n', 'utf-8')
  assert list(open_text(path='s3://bucket/a.txt').lines()) == ['one', 'two']
