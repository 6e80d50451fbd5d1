import dataclasses
import functools
import gzip
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import io
import os
from pathlib import Path
import subprocess
import sys
import tarfile
import threading
import zipfile

import ml_collections
import pytest

from seqlab.config import call
from seqlab.text import corpora
from seqlab.text.corpora import Recipe, open_corpus
from seqlab.text.download import DownloadError, cache_dir

DATA = os.environ.get('SEQLAB_DATA')
needs_data = pytest.mark.skipif(
  not DATA, reason='real data: set SEQLAB_DATA to the folder that has it'
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """Hides all data from the tests but the data that they write."""
  monkeypatch.setenv('SEQLAB_CACHE', str(tmp_path / 'cache'))
  monkeypatch.delenv('SEQLAB_DATA', raising=False)
  return tmp_path / 'cache'


@pytest.fixture
def real_data(monkeypatch):
  monkeypatch.setenv('SEQLAB_DATA', DATA)


@pytest.fixture
def write(tmp_path):
  """Writes bytes or text below the test's folder, gzipped if the name says so."""

  def write(name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith('.gz') else data)
    return str(path)

  return write


@pytest.fixture
def two(write):
  """A corpus with one split, from the text of both sides."""

  def two(en='One.\nTwo.\n', de='Eins.\nZwei.\n', **options):
    files = {'train': (write('train.en', en), write('train.de', de))}
    return open_corpus(source='en', target='de', files=files, **options)

  return two


@pytest.fixture
def server():
  """Serves `server.files[path] = body`, or (status, announced length, body)."""

  class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
      self.server.asked.append(self.path)
      response = self.server.files.get(self.path, (404, 0, b''))
      body = response if isinstance(response, bytes) else response[2]
      status, length = (200, len(body)) if isinstance(response, bytes) else response[:2]
      self.send_response(status)
      self.send_header('Content-Length', str(length))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *_):
      pass

  with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
    running.files, running.asked = {}, []
    running.url = f'http://127.0.0.1:{running.server_port}'
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()


@pytest.fixture
def change(monkeypatch):
  """Changes a named corpus, so that it comes from the local server."""

  def change(name, **fields):
    recipe = dataclasses.replace(corpora.NAMED[name], **fields)
    monkeypatch.setitem(corpora.NAMED, name, recipe)

  return change


@pytest.fixture
def toy(server, monkeypatch):
  """A named corpus on the local server, with the sha256 of its English file."""
  files = {'train': {'en': ('train.en',), 'de': ('train.de',)}}
  recipe = Recipe(languages=('en', 'de'), files=files, url=f'{server.url}/{{file}}.gz')
  monkeypatch.setitem(corpora.NAMED, 'toy', recipe)
  digest = hashlib.sha256(b'One.\n').hexdigest()
  monkeypatch.setitem(corpora._SHA256, ('toy', 'train'), {'en': digest})
  server.files['/train.en.gz'] = gzip.compress(b'One.\n')
  server.files['/train.de.gz'] = gzip.compress(b'Eins.\n')
  toy = functools.partial(corpora.NamedText, 'toy')
  monkeypatch.setitem(corpora.CORPORA, 'toy', toy)
  return lambda: open_corpus('toy', source='en', target='de')


def left_in(folder):
  return [p for p in Path(folder).rglob('*') if p.is_file()]


# A user's files.


@pytest.mark.parametrize('ending', ['', '.gz'])
def test_reads_two_files(write, ending):
  files = {
    'train': [write(f'a.en{ending}', 'Hi.\nGo!\n'), write('a.de', 'Hallo.\nLos!')]
  }
  corpus = open_corpus(source='en', target='de', files=files)
  assert corpus.read('train') == (['Hi.', 'Go!'], ['Hallo.', 'Los!'])


@pytest.mark.parametrize('name', ['pairs.tsv', 'pairs.tsv.gz'])
def test_reads_one_file_with_tabs_and_ignores_further_columns(write, name):
  path = write(name, 'Hi.\tHallo.\nGo!\tLos!\tCC-BY 2.0\n')
  corpus = open_corpus(source='en', target='de', files={'valid': path})
  assert corpus.read('valid') == (['Hi.', 'Go!'], ['Hallo.', 'Los!'])


def test_opens_from_a_section_of_an_experiment(write):
  section = ml_collections.ConfigDict(
    {
      'source': 'en',
      'target': 'de',
      'files': {'train': [write('a', 'x'), write('b', 'y')]},
    }
  )
  corpus = call(open_corpus, section, 'corpus')
  assert corpus.read('train') == (['x'], ['y'])
  assert corpus.splits == ('train',)


def test_reads_a_split_only_once(two):
  corpus = two()
  assert corpus.read('train') is corpus.read('train')


def test_lines_end_at_newline_alone(two):
  odd = 'a\u2028b\u0085c\x0bd\x1ee\rf'
  corpus = two(en=f'{odd}\nTwo.\n')
  assert corpus.read('train')[0] == [odd, 'Two.']


def test_carriage_return_before_newline_is_removed(two):
  assert two(en='One.\r\nTwo.\r\n').read('train')[0] == ['One.', 'Two.']


def test_byte_order_mark_is_removed(two):
  assert two(en=b'\xef\xbb\xbfOne.\nTwo.\n').read('train')[0] == ['One.', 'Two.']


def test_last_line_needs_no_newline(two):
  assert two(en='One.\nTwo.').read('train')[0] == ['One.', 'Two.']


@pytest.mark.parametrize(
  ('target', 'convention'),
  [('de', '13a'), ('ja', 'char'), ('zh', 'char'), ('zh-TW', 'char')],
)
def test_convention_follows_the_target(target, convention):
  assert open_corpus(source='en', target=target, files={}).convention == convention


def test_convention_can_be_chosen(two):
  assert two(convention='intl').convention == 'intl'


def test_normalisation_is_applied(two):
  corpus = two(en='„É“\nTwo.\n', normalize=('lower', 'punctuation'))
  assert corpus.read('train')[0] == ['"é"', 'two.']


def test_one_file_for_both_sides_is_two_files(write):
  path = write('a.txt', 'One.\nTwo.\n')
  both = open_corpus(source='en', target='xx', files={'train': (path, path)})
  assert both.read('train') == (['One.', 'Two.'], ['One.', 'Two.'])
  tabbed = open_corpus(source='en', target='xx', files={'train': path})
  assert tabbed.fingerprint('train') != both.fingerprint('train')


# Kinds, and text of one side.


# Kinds of parallel text that have names from the first edition on.
_NAMED = ('agreement', *corpora.NAMED)


@pytest.mark.parametrize('kind', _NAMED)
def test_the_key_name_of_the_first_edition_is_accepted_for_kind(kind):
  recipe = corpora.NAMED.get(kind)
  source, target = recipe.languages[:2] if recipe else ('en', 'ru')
  languages = dict(source=source, target=target)
  old, new = open_corpus(kind, **languages), open_corpus(kind=kind, **languages)
  assert type(old) is type(new) is not None
  assert old.sides == new.sides == languages
  assert old.name == new.name == kind
  assert 'train' in new.splits


class Mine:
  """A corpus that a user defines."""

  def __init__(self, *, source, target, lines=2):
    self.sides, self.lines = {'source': source, 'target': target}, lines


def test_a_users_corpus_is_named_by_its_path():
  section = dict(kind=f'{__name__}:Mine', source='en', target='de')
  assert open_corpus(**section, lines=3).lines == 3
  assert corpora.corpus_kind(section) is Mine
  with pytest.raises(
    ValueError, match=r"unknown key corpus\.line; did you mean 'lines'"
  ):
    open_corpus(**section, line=3)


def test_text_in_one_language_has_one_side(write):
  files = {'train': (write('a.txt', 'One.\nTwo.\n'), write('b.txt', '\nThree.\n'))}
  corpus = open_corpus(text='en', files=files, normalize='lower', empty='skip')
  assert corpus.sides == {'text': 'en'}
  assert corpus.read('train') == (['one.', 'two.', 'three.'],)
  assert corpus.skipped('train') == 1
  assert corpus.splits == ('train',)
  with pytest.raises(ValueError, match=r'b\.txt is empty: remove the line or set'):
    open_corpus(text='en', files=files).read('train')


@needs_data
def test_one_side_of_a_named_corpus(real_data):
  both = open_corpus('multi30k', source='en', target='de')
  assert open_corpus(kind='multi30k', text='de').read('val') == (both.read('val')[1],)


def test_splits_that_depend_on_one_language_need_it():
  with pytest.raises(
    ValueError, match=r"decided by its lines in 'en': set corpus\.text"
  ):
    open_corpus(kind='tatoeba', text='de')


@pytest.mark.parametrize(
  'sides', [{}, {'source': 'en'}, {'source': 'en', 'text': 'en'}]
)
def test_sides_are_two_or_one(sides):
  with pytest.raises(
    ValueError, match=r'corpus\.source and corpus\.target .* or corpus'
  ):
    open_corpus(kind='multi30k', **sides)


def test_a_users_normalisation_is_named_by_its_path(two):
  assert two(normalize=['lower', 'textwrap:dedent']).read('train')[0][0] == 'one.'


# Errors in the text.


@pytest.mark.parametrize('blank', ['\u3000', '\u200b', '\ufeff \u2060', '\x01'])
def test_a_line_without_visible_characters_is_empty(two, blank):
  with pytest.raises(ValueError, match=r'line 2 of train\.de is empty'):
    two(de=f'Eins.\n{blank}\n').read('train')


def test_unequal_numbers_of_lines(two):
  with pytest.raises(
    ValueError, match=r'train\.en has 1,001 lines and train\.de has 2;'
  ):
    two(en='x\n' * 1_001).read('train')


def test_empty_line_is_an_error(two):
  text = 'x\n' * 1_203
  problem = (
    r"^line 1,204 of train\.de is empty: remove the pair or set corpus\.empty='skip'"
  )
  with pytest.raises(ValueError, match=problem):
    two(en=text + 'x\n', de=text + ' \t\n').read('train')


def test_empty_line_can_be_skipped_and_is_counted(two):
  corpus = two(en='a\n\u00a0\nc\nd\n', de='A\nB\n\nD\n', empty='skip')
  assert corpus.read('train') == (['a', 'd'], ['A', 'D'])
  assert corpus.skipped('train') == 2


def test_empty_side_of_a_tabbed_line(write):
  corpus = open_corpus(
    source='en', target='de', files={'t': write('p.tsv', 'a\tA\nb\t\n')}
  )
  with pytest.raises(ValueError, match=r'line 2 of p\.tsv \(de\) is empty'):
    corpus.read('t')


def test_split_without_pairs(two):
  with pytest.raises(ValueError, match=r'train\.en and train\.de have no lines'):
    two(en='', de='').read('train')


def test_bytes_that_are_not_utf8(two):
  problem = r'line 2 of train\.de is not UTF-8 at byte 8 \(0xfc\); convert .*iconv'
  with pytest.raises(ValueError, match=problem):
    two(de='Eins.\nzwü'.encode('latin-1')).read('train')


def test_line_without_a_tab(write):
  corpus = open_corpus(
    source='en', target='de', files={'t': write('p.tsv', 'a\tA\nb B\n')}
  )
  with pytest.raises(
    ValueError, match=r'line 2 of p\.tsv has no tab; write source, tab'
  ):
    corpus.read('t')


def test_gzip_cut_short(write, tmp_path):
  corpus = open_corpus(
    source='en', target='de', files={'t': write('p.tsv.gz', 'a\tA\n')}
  )
  (tmp_path / 'p.tsv.gz').write_bytes((tmp_path / 'p.tsv.gz').read_bytes()[:-9])
  with pytest.raises(
    ValueError, match=r'p\.tsv\.gz is damaged or truncated.*get a new copy'
  ):
    corpus.read('t')


# Errors in the experiment.


def test_missing_file_is_reported_when_it_is_read_and_not_before(tmp_path):
  files = {'train': (str(tmp_path / 'no.en'), 'no.de')}
  corpus = open_corpus(source='en', target='de', files=files)
  with pytest.raises(
    FileNotFoundError, match=r'files\.train: there is no file .*no\.en; correct'
  ):
    corpus.read('train')


def test_three_files_for_a_split():
  with pytest.raises(ValueError, match=r'corpus\.files\.train names 3 files; give'):
    open_corpus(source='en', target='de', files={'train': ('a', 'b', 'c')})


@pytest.mark.parametrize('given', [None, 5, ('a', None), {'en': 'a'}])
def test_values_that_do_not_name_a_file(given):
  with pytest.raises(ValueError, match=r'corpus\.files\.train (is|names)'):
    open_corpus(source='en', target='de', files={'train': given})


def test_a_language_has_a_name():
  with pytest.raises(ValueError, match='source is 5; it must be a text'):
    open_corpus(source=5, target='de', files={})


def test_inputs_are_the_files_that_may_be_read(two, monkeypatch, tmp_path):
  corpus = two()
  assert {str(p) for p in corpus.inputs()} == set(corpus.files('train'))
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  named = open_corpus('multi30k', source='en', target='de')
  assert tmp_path / 'multi30k' / 'train.en.gz' in named.inputs()


def test_files_without_a_split():
  with pytest.raises(
    ValueError, match=r"corpus\.files should be \{'train': \(source, tar"
  ):
    open_corpus(source='en', target='de', files=('a.en', 'a.de'))


def test_unknown_split_lists_the_existing_ones(two):
  with pytest.raises(
    ValueError, match=r"no split 'trian'; did you mean 'train'\? \(it has: train"
  ):
    two().read('trian')


def test_unknown_corpus_gets_a_suggestion():
  with pytest.raises(
    ValueError, match=r"'multi30'; did you mean 'multi30k.*known: agreement"
  ):
    open_corpus('multi30', source='en', target='de')


def test_neither_name_nor_files():
  with pytest.raises(
    ValueError, match=r'corpus has no kind \(known: .*set corpus\.files='
  ):
    open_corpus(source='en', target='de')


def test_language_that_a_corpus_lacks():
  with pytest.raises(
    ValueError, match=r"kyoto-kftt is not in 'de' \(it is in: en, ja\)"
  ):
    open_corpus('kyoto-kftt', source='en', target='de')


def test_language_that_a_split_lacks():
  corpus = open_corpus('multi30k', source='en', target='cs')
  assert 'test_2017_flickr' not in corpus.splits
  with pytest.raises(
    ValueError, match=r'in en, de, fr only; splits in en and cs are: train'
  ):
    corpus.read('test_2017_flickr')


def test_source_equal_to_target():
  with pytest.raises(ValueError, match=r"source and corpus\.target are both 'de'"):
    open_corpus('multi30k', source='de', target='de')


@pytest.mark.parametrize('name', ['multi30k', None])
def test_unknown_option(name):
  files = {} if name else {'files': {}}
  with pytest.raises(
    ValueError, match=r"unknown key corpus\.emtpy; did you mean 'empty'"
  ):
    open_corpus(name, source='en', target='de', emtpy='skip', **files)


def test_unknown_treatment_of_empty_lines(two):
  with pytest.raises(
    ValueError, match=r"empty is 'drop'; it must be 'error' or 'skip'"
  ):
    two(empty='drop')


def test_unknown_normalisation(two):
  with pytest.raises(ValueError, match=r"'nfd'; did you mean 'nfc'"):
    two(normalize='nfd')


# Fingerprints.


def test_fingerprint_is_the_same_for_the_same_corpus(two):
  assert two().fingerprint('train') == two().fingerprint('train')


@pytest.mark.parametrize(
  'change',
  [
    {'en': 'One!\nTwo.\n'},
    {'de': 'Eins!\nZwei.\n'},
    {'empty': 'skip'},
    {'normalize': 'nfc'},
  ],
)
def test_fingerprint_changes_with_text_and_options(two, change):
  before = two().fingerprint('train')
  assert two(**change).fingerprint('train') != before


def test_fingerprint_changes_with_the_direction(monkeypatch, write, tmp_path):
  write('multi30k/val.en', 'a')
  write('multi30k/val.de', 'a')
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  forward = open_corpus('multi30k', source='en', target='de').fingerprint('val')
  backward = open_corpus('multi30k', source='de', target='en').fingerprint('val')
  assert forward != backward


def test_fingerprint_is_of_the_text_and_not_of_its_compression(write):
  prints = {
    open_corpus(
      source='en', target='de', files={'t': write(name, 'a\tA\n')}
    ).fingerprint('t')
    for name in ('p.tsv', 'p.tsv.gz')
  }
  assert len(prints) == 1


# Named corpora.


def test_data_folder_takes_precedence(monkeypatch, write, tmp_path, server, toy):
  write('toy/train.en', 'Mine.\n')
  write('toy/train.de.gz', 'Meins.\n')
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  assert toy().read('train') == (['Mine.'], ['Meins.'])
  assert not server.asked


def test_downloads_into_the_cache_once(server, toy, cache):
  assert toy().read('train') == (['One.'], ['Eins.'])
  assert toy().read('train') == (['One.'], ['Eins.'])
  assert server.asked == ['/train.en.gz', '/train.de.gz']
  assert (cache / 'corpora/toy/train.en').read_bytes() == b'One.\n'  # plain


def test_server_may_send_plain_text_for_gzip(server, toy):
  server.files['/train.en.gz'] = b'One.\n'
  assert toy().read('train')[0] == ['One.']


def test_damaged_file_in_the_cache_is_downloaded_again(toy, cache):
  toy().read('train')
  (cache / 'corpora/toy/train.en').write_bytes(b'Spoilt.\n')
  assert toy().read('train')[0] == ['One.']


@pytest.mark.parametrize('damage', [b'', b'One', b'One.\n\0', b'Ome.\n'])
def test_a_damaged_download_is_named_and_downloaded_again(
  toy, cache, capsys, server, damage
):
  toy().read('train')
  path = cache / 'corpora/toy/train.de'
  path.write_bytes(damage)
  assert toy().read('train')[1] == ['Eins.']
  assert f'{path} in the cache is damaged' in capsys.readouterr().err
  toy().read('train')
  assert len(server.asked) == 3


@pytest.mark.parametrize('digest', ['', '0' * 63, 'x' * 64, '\x00' * 64])
def test_a_damaged_digest_of_a_download_is_named(toy, cache, capsys, server, digest):
  toy().read('train')
  noted = cache / 'corpora/toy/train.de.sha256'
  whole = noted.read_text()
  noted.write_text(digest)
  assert toy().read('train')[1] == ['Eins.']
  assert 'train.de in the cache has a damaged digest' in capsys.readouterr().err
  assert noted.read_text() == whole


def test_an_empty_download_without_a_digest_is_not_used(toy, cache, capsys):
  (cache / 'corpora/toy').mkdir(parents=True)
  (cache / 'corpora/toy/train.de').write_bytes(b'')  # as after a power cut
  assert toy().read('train')[1] == ['Eins.']
  assert 'train.de in the cache is empty' in capsys.readouterr().err


def test_permissions_of_a_download_follow_the_umask(toy, cache):
  old = os.umask(0o022)
  try:
    toy().read('train')
  finally:
    os.umask(old)
  for path in (cache / 'corpora/toy').iterdir():
    assert path.stat().st_mode & 0o777 == 0o644, path


def test_a_download_reaches_the_disk_before_its_name_does(toy, cache, monkeypatch):
  names, synced = {}, []
  fsync, replace = os.fsync, Path.replace

  def watch(handle):
    synced.append(os.readlink(f'/proc/self/fd/{handle}'))
    return fsync(handle)

  def rename(path, target):
    names[Path(target).name] = str(path) in synced
    return replace(path, target)

  monkeypatch.setattr(os, 'fsync', watch)
  monkeypatch.setattr(Path, 'replace', rename)
  toy().read('train')
  assert set(names) == {'train.en', 'train.de', 'train.de.sha256'}
  assert all(names.values())


def test_the_message_of_a_download_to_a_full_disk_says_what_to_do(
  server, toy, small_disk, monkeypatch
):
  monkeypatch.setenv('SEQLAB_CACHE', str(small_disk))
  server.files['/train.en.gz'] = os.urandom(2**21)
  with pytest.raises(OSError, match=r'no space left for the download train\.en; free'):
    toy().read('train')
  assert not left_in(small_disk)


def test_download_that_is_interrupted(server, toy, cache):
  body = server.files['/train.en.gz']
  server.files['/train.en.gz'] = (200, len(body), body[:-7])
  with pytest.raises(
    DownloadError, match=r'/train\.en\.gz could not .*SEQLAB_DATA/toy/train\.en'
  ):
    toy().read('train')
  assert not left_in(cache)


def test_download_of_gzip_that_is_cut_short(server, toy, cache):
  server.files['/train.en.gz'] = server.files['/train.en.gz'][:-7]
  with pytest.raises(DownloadError, match=r'/train\.en\.gz could not be downloaded'):
    toy().read('train')
  assert not left_in(cache)


def test_download_of_a_missing_file(server, toy, cache):
  del server.files['/train.en.gz']
  with pytest.raises(
    DownloadError, match=r'/train\.en\.gz could not .*404.*Try again, or put'
  ):
    toy().read('train')
  assert not left_in(cache)


def test_download_of_wrong_bytes(server, toy, cache):
  server.files['/train.en.gz'] = gzip.compress(b'Other.\n')
  with pytest.raises(
    DownloadError, match=r'/train\.en\.gz could not .*SHA256.*Try again'
  ):
    toy().read('train')
  assert not left_in(cache)


def test_download_without_a_server(toy, cache, change):
  change('toy', url='http://127.0.0.1:9/{file}')  # nothing listens there
  with pytest.raises(
    DownloadError, match=r'127\.0\.0\.1:9/train\.en could not be downloaded'
  ):
    toy().read('train')
  assert not left_in(cache)


def test_text_without_known_hash_must_equal_the_first_download(server, toy, cache):
  toy().read('train')
  (cache / 'corpora/toy/train.de').unlink()
  server.files['/train.de.gz'] = gzip.compress(b'Zwei.\n')
  with pytest.raises(DownloadError, match=r'on purpose, delete .*train\.de\.sha256'):
    toy().read('train')


def tar(**members):
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode='w:gz') as archive:
    for name, text in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(text)
      archive.addfile(info, io.BytesIO(text))
  return packed.getvalue()


def test_archive_is_downloaded_once_for_all_its_texts(server, toy, change):
  change('toy', url=f'{server.url}/toy.tgz', member='in/{file}')
  server.files['/toy.tgz'] = tar(
    **{'in/train.en': b'One.\n', 'in/train.de': b'Eins.\n'}
  )
  assert toy().read('train') == (['One.'], ['Eins.'])
  assert server.asked == ['/toy.tgz']


def test_missing_archive(toy, server, change, cache):
  change('toy', url=f'{server.url}/toy.tgz', member='in/{file}')
  with pytest.raises(DownloadError, match=r'toy\.tgz .*404.*SEQLAB_DATA/toy/train\.en'):
    toy().read('train')
  assert not left_in(cache)


def test_archive_that_lacks_a_text(server, toy, change, cache):
  change('toy', url=f'{server.url}/toy.tgz', member='in/{file}')
  server.files['/toy.tgz'] = tar(other=b'')
  with pytest.raises(DownloadError, match=r'toy\.tgz could not .*in/train\.en'):
    toy().read('train')
  assert not (cache / 'corpora/toy/train.en').exists()


def test_tatoeba_from_its_zip(server, change):
  rows = ''.join(f'Word{i}.\tWort{i}.\tCC-BY 2.0\n' for i in range(1_000))
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w') as archive:
    archive.writestr('deu.txt', rows)
  server.files['/deu-eng.zip'] = packed.getvalue()
  change('tatoeba', url=f'{server.url}/deu-eng.zip')
  corpus = open_corpus('tatoeba', source='de', target='en')
  texts = [corpus.read(split) for split in ('train', 'valid', 'test')]
  pairs = [pair for text in texts for pair in zip(*text, strict=True)]
  assert sorted(pairs) == sorted((f'Wort{i}.', f'Word{i}.') for i in range(1_000))


def test_tatoeba_keeps_variants_of_an_english_sentence_together(
  write, tmp_path, monkeypatch
):
  write('tatoeba/deu-eng.tsv', ''.join(f'Go {i}!\tA\nGO {i}.\tB\n' for i in range(500)))
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  corpus = open_corpus('tatoeba', source='en', target='de')
  for split in corpus.splits:
    assert corpus.read(split)[1].count('A') == corpus.read(split)[1].count('B') > 0


def test_iwslt_strips_markup_and_splits_as_fairseq(write, tmp_path, monkeypatch):
  head = '<url>http://x</url>\n<keywords>a, b</keywords>\n<talkid>1</talkid>\n'
  for x in ('de', 'en'):
    lines = ''.join(f' {x}{i} \n' for i in range(3, 47))
    head_x = f'{head}<title>{x}1</title>\n<description>{x}2</description>\n'
    write(f'iwslt14-de-en/train.tags.de-en.{x}.gz', head_x + lines)
    for i, part in enumerate(
      ('TED.dev2010', 'TEDX.dev2012', 'TED.tst2010', 'TED.tst2011', 'TED.tst2012')
    ):
      segment = f'<?xml?>\n<title>no</title>\n<seg id="1"> {x}{i} </seg>\n</doc>\n'
      write(f'iwslt14-de-en/IWSLT14.{part}.de-en.{x}.xml', segment)
  monkeypatch.setenv('SEQLAB_DATA', str(tmp_path))
  corpus = open_corpus('iwslt14-de-en', source='de', target='en')
  assert corpus.read('valid') == (['de23', 'de46'], ['en23', 'en46'])
  assert corpus.read('train')[1] == [f'en{i}' for i in range(1, 47) if i % 23]
  assert corpus.read('test')[0] == [f'de{i}' for i in range(5)]


def test_wmt14_is_scored_as_it_is_tokenised():
  corpus = open_corpus('wmt14-en-de', source='en', target='de')
  assert corpus.convention == 'none'
  assert {'train', 'newstest2013', 'newstest2014'} <= {*corpus.splits}


def test_agreement_opens_with_its_options():
  corpus = open_corpus('agreement', source='en', target='ru', train=20, valid=5, test=7)
  assert [len(corpus.read(s)[0]) for s in ('train', 'valid', 'test')] == [20, 5, 7]


def test_agreement_refuses_unknown_options():
  with pytest.raises(ValueError, match=r'unknown key corpus\.trian'):
    open_corpus('agreement', source='en', target='ru', trian=20)


def test_the_user_may_set_the_folder_of_the_cache(cache, monkeypatch):
  assert cache_dir() == cache
  monkeypatch.delenv('SEQLAB_CACHE')
  assert cache_dir().name == 'seqlab'


@pytest.mark.parametrize('name', ['my [cache]', 'a:b', 'x*?'])
def test_the_name_of_the_cache_is_used_literally(monkeypatch, tmp_path, name):
  monkeypatch.setenv('SEQLAB_CACHE', str(tmp_path / name))
  assert cache_dir() == tmp_path / name


def test_a_relative_cache_is_below_the_current_folder(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('SEQLAB_CACHE', 'mine')
  assert cache_dir() == tmp_path / 'mine'


def test_a_cache_may_be_below_the_home_folder(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('SEQLAB_CACHE', '~/mine')
  assert cache_dir() == tmp_path / 'mine'


def test_a_cache_in_a_bucket_is_refused(monkeypatch):
  monkeypatch.setenv('SEQLAB_CACHE', 'gs://mine/cache')
  with pytest.raises(
    ValueError, match=r'SEQLAB_CACHE is gs://mine/cache; .* on a disk'
  ):
    cache_dir()


def test_without_a_home_folder_the_cache_has_to_be_named(monkeypatch):
  for name in ('SEQLAB_CACHE', 'HOME', 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)

  def unknown(uid):  # as of a user of a container, who is in no list of users
    raise KeyError(uid)

  monkeypatch.setattr('pwd.getpwuid', unknown)
  with pytest.raises(ValueError, match=r'there is no home folder: set SEQLAB_CACHE'):
    cache_dir()


def test_imports_no_jax():
  script = 'import sys, seqlab.text.corpora; assert "jax" not in sys.modules'
  subprocess.run([sys.executable, '-c', script], check=True)


# Real data.


@needs_data
@pytest.mark.parametrize(('name', 'split'), sorted(corpora._SHA256))
def test_multi30k_has_its_known_digest(real_data, name, split):
  for language, digest in corpora._SHA256[name, split].items():
    (path,) = (Path(DATA) / name).glob(f'{split}.*{language}.gz')
    assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == digest


@needs_data
@pytest.mark.parametrize('name', ['multi30k', 'multi30k-tok'])
def test_multi30k_counts(real_data, name):
  corpus = open_corpus(name, source='en', target='fr')
  counts = [len(corpus.read(split)[0]) for split in corpus.splits]
  assert counts == [29_000, 1_014, 1_000, 1_000, 461, 1_071]


@needs_data
def test_multi30k_reference_of_the_papers(real_data):
  corpus = open_corpus('multi30k-tok', source='en', target='de')
  assert sum(len(line.split()) for line in corpus.read('test_2016_flickr')[1]) == 12_103
  assert corpus.convention == 'none'


@needs_data
def test_tatoeba_splits_share_no_english_sentence(real_data):
  corpus = open_corpus('tatoeba', source='de', target='en')
  english = {split: corpus.read(split)[1] for split in corpus.splits}
  assert sum(map(len, english.values())) == 169_197
  assert len({x for lines in english.values() for x in lines}) == sum(
    len({*lines}) for lines in english.values()
  )
  assert all(1_000 <= len(english[split]) <= 2_000 for split in ('valid', 'test'))


@needs_data
def test_kftt_counts_what_it_skips(real_data):
  corpus = open_corpus('kyoto-kftt', source='ja', target='en')
  assert len(corpus.read('train')[0]) == 440_286
  assert corpus.skipped('train') == 2
  assert len(corpus.read('test')[0]) == 1_160


@pytest.mark.parametrize('side', ['source', 'target'])
def test_an_empty_language_is_refused(side):
  languages = {'source': 'en', 'target': 'de', side: ''}
  with pytest.raises(ValueError, match=rf'corpus\.{side} is empty; it must be a lang'):
    open_corpus(**languages, files={'train': ('a.txt', 'b.txt')})
