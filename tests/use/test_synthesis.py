"""A text becomes a corpus: the source of distillation and back-translation."""

import functools
import gzip
import io
import json
import os
import shutil

import pytest

from seqlab.cli import main
from seqlab.text.corpora import open_corpus
from seqlab.use import synthesis
from seqlab.use.streams import translate_stream
from seqlab.use.synthesis import synthesize

GREEDY = {'beam': 1}


def _read(corpus_files, split):
  with open(corpus_files[split][0], encoding='utf-8') as file:
    return file.read().splitlines()


def _translated(run, lines):
  out = io.StringIO()
  text = ''.join(f'{line}\n' for line in lines)
  translate_stream(run, io.BytesIO(text.encode()), out, options=GREEDY)
  return out.getvalue().splitlines()


def test_a_split_becomes_a_corpus_also_after_a_kill(
  finished, corpus_files, tmp_path, monkeypatch, capsys
):
  folder, options = tmp_path / 'new', dict(split='test', tag='<KD>', options=GREEDY)
  options['lines_per_part'] = 5
  write = synthesis.Parts.write

  def killed(parts, number, pairs):
    if number == 1:
      # The source is there and the target is not, as after a kill between the two.
      parts._path(number, parts._layout.source).write_text('w1\n', 'utf-8')
      raise KeyboardInterrupt
    write(parts, number, pairs)

  with monkeypatch.context() as patch:
    patch.setattr(synthesis.Parts, 'write', killed)
    with pytest.raises(KeyboardInterrupt):
      synthesize(finished, folder, **options)
  numbers = []
  monkeypatch.setattr(
    synthesis.Parts, 'write', lambda *x: (numbers.append(x[1]), write(*x))
  )
  record = synthesize(finished, folder, **options)
  assert numbers == [1, 2]
  source = _read(corpus_files, 'test')
  expected = [
    (f'<KD> {x}', y)
    for x, y in zip(source, _translated(finished, source), strict=True)
    if y
  ]
  files = {'train': (str(folder / 'train.en'), str(folder / 'train.de'))}
  corpus = open_corpus(source='en', target='de', files=files)
  assert [*zip(*corpus.read('train'), strict=True)] == expected
  assert sorted(x.name for x in folder.iterdir()) == [
    'synthesis.json',
    'train.de',
    'train.en',
  ]
  assert record['pairs'] == len(expected)
  assert record['lines'] == len(source)
  printed = capsys.readouterr().out
  assert printed.split(':\n', 1)[1] == (
    "c.corpus = dict(\n  source='en',\n  target='de',\n"
    f'  files=dict(train={files["train"]}),\n)\n'
  )
  assert synthesize(finished, folder, **options) == record  # there is nothing left
  with pytest.raises(ValueError, match="begun with tag='<KD>', and now it is ''"):
    synthesize(finished, folder, **{**options, 'tag': ''})


@pytest.mark.slow  # compiles a search for eight devices again
def test_the_text_of_a_file_may_be_the_target(finished, tmp_path, capsys):
  text = tmp_path / 'text.de'
  text.write_bytes(b'w1 w2\n\nw3 w4 w5\n\xff\xfe\nw6\n')
  folder = tmp_path / 'new'
  command = ['synthesize', str(finished), str(folder), '--input', str(text)]
  assert main([*command, '--back', '--tag', '<BT>', '--beam', '1']) == 0
  lines = ['w1 w2', 'w3 w4 w5', 'w6']
  pairs = [x for x in zip(lines, _translated(finished, lines), strict=True) if x[1]]
  target = (folder / 'train.en').read_text('utf-8').splitlines()
  assert target == [line for line, _ in pairs]
  source = (folder / 'train.de').read_text('utf-8').splitlines()
  assert source == [f'<BT> {x}' for _, x in pairs]
  assert 'line 4 is left out: it is not UTF-8' in capsys.readouterr().err
  record = json.loads((folder / 'synthesis.json').read_text('utf-8'))
  assert record['lines'] == 5


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({}, 'name either a split'),
    ({'split': 'test', 'file': 'x'}, 'name either a split'),
    ({'split': 'test', 'tag': '<a b>'}, 'it must be one word'),
  ],
)
def test_wrong_options_are_named(finished, tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    synthesize(finished, tmp_path / 'new', **options)


def test_a_folder_with_other_files_is_left_alone(finished, tmp_path):
  (tmp_path / 'notes.txt').touch()
  with pytest.raises(ValueError, match=r'is not empty, and holds no synthesis\.json'):
    synthesize(finished, tmp_path, split='test', options=GREEDY)


def test_a_corpus_without_a_pair_is_an_error(finished, tmp_path):
  text, folder = tmp_path / 'text', tmp_path / 'new'
  text.touch()
  with pytest.raises(ValueError, match='has no pair: each of the 0 lines'):
    synthesize(finished, folder, file=text, ensemble=[finished], options=GREEDY)
  record = json.loads((folder / 'synthesis.json').read_text('utf-8'))
  (member,) = record['ensemble']  # here the same run once more
  assert member == {
    'run': str(finished),
    'experiment': record['experiment'],
    'steps': record['steps'],
  }


def test_two_processes_cannot_write_one_corpus(finished, tmp_path, monkeypatch):
  # The first one that is ready would remove the parts, of which the other would make an
  # empty corpus.
  text = tmp_path / 'text'
  text.write_text('w1\n', 'utf-8')
  again = functools.partial(
    synthesize, finished, tmp_path / 'new', file=text, options=GREEDY
  )
  monkeypatch.setattr(synthesis, '_translate_parts', lambda *_: again())
  with pytest.raises(RuntimeError, match='another process writes the corpus in'):
    again()


@pytest.fixture
def parts_of(tmp_path):
  """Returns a function that opens the folder of a corpus again."""
  layout = synthesis.Layout('train.en', 'train.de', False, '')
  return lambda: synthesis.Parts(tmp_path / 'new', {'tag': ''}, layout)


def test_a_kill_before_the_first_part_leaves_a_folder_that_continues(
  parts_of, tmp_path, monkeypatch
):
  folder, mkdir = tmp_path / 'new', synthesis.Path.mkdir

  def killed_in_record(path, _):
    path.with_name('.part-012345').touch()
    raise KeyboardInterrupt

  def killed_after_record(path, **options):
    if path.name == 'parts':
      raise KeyboardInterrupt
    mkdir(path, **options)

  for owner, name, killed, left in (
    (synthesis, 'write_text', killed_in_record, ['.part-012345']),
    (synthesis.Path, 'mkdir', killed_after_record, ['.part-012345', 'synthesis.json']),
  ):
    with monkeypatch.context() as patch:
      patch.setattr(owner, name, killed)
      with pytest.raises(KeyboardInterrupt):
        parts_of()
    assert sorted(x.name for x in folder.iterdir()) == left
  parts = parts_of()
  parts.write(0, [('w1', 'w2')])
  assert parts_of().has(0)


def test_parts_that_a_kill_left_beside_a_finished_corpus_are_removed(
  parts_of, tmp_path, monkeypatch
):
  parts = parts_of()
  parts.write(0, [('w1', 'w2')])
  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'rmtree', lambda *_: None)  # as if killed before it
    parts.join(1)
  assert (tmp_path / 'new' / 'parts').exists()
  assert parts_of().is_done
  assert not (tmp_path / 'new' / 'parts').exists()


def test_a_pipe_is_refused_before_it_is_read(tmp_path):
  os.mkfifo(tmp_path / 'pipe')  # whose text would be gone after the digest
  with pytest.raises(ValueError, match='pipe is a folder or a pipe: name a file'):
    synthesis._digest_of(tmp_path / 'pipe')


def _bytes_of_gzip():
  return gzip.compress(b''.join(b'w%d\n' % i for i in range(9_999)), mtime=0)


@pytest.mark.parametrize('size', [-4, -9, 500])
def test_a_truncated_text_is_an_error_at_the_start(tmp_path, size):
  path = tmp_path / 'text.gz'
  path.write_bytes(_bytes_of_gzip()[:size])
  with pytest.raises(ValueError, match=r'text\.gz is damaged or truncated'):
    synthesis._digest_of(path)


@pytest.mark.parametrize('byte', [3_000, -6])  # of the data, and of its checksum
def test_a_corrupted_text_is_an_error_at_the_start(tmp_path, byte):
  data, path = bytearray(_bytes_of_gzip()), tmp_path / 'text.gz'
  data[byte] ^= 255
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r'text\.gz is damaged or truncated'):
    synthesis._digest_of(path)


def test_a_gzipped_text_is_recognised_by_its_first_bytes(tmp_path):
  plain, packed = tmp_path / 'plain.gz', tmp_path / 'packed'
  plain.write_bytes(b'w1\nw2\n')
  packed.write_bytes(gzip.compress(b'w1\nw2\n'))
  for path in (plain, packed):
    assert len(synthesis._digest_of(path)) == 64
    assert [*synthesis._lines_of(path)] == ['w1', 'w2']
