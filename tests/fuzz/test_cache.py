"""Random damage to entries of the cache: never other ids, and always a message."""

import hashlib
import json
import random
import shutil

import numpy as np
import pytest

from seqlab.data.store import encode_corpus
from seqlab.data.text_store import cached_words, encode_text
from seqlab.embeddings.cooccurrence import cached_cooccurrence
from seqlab.io import cache as module
from seqlab.text.plain import open_text
from seqlab.text.vocabulary import Vocabularies, train_vocabulary

LINES = [' '.join('abcdefgh'[i % 8] for i in range(n, 3 * n)) for n in range(1, 30)]


class Corpus:
  name, sides = 'memory', {'source': 'en', 'target': 'de'}

  def read(self, split):
    return LINES, LINES[::-1]

  def skipped(self, split):
    return 3

  def fingerprint(self, split):
    return hashlib.sha256(repr(LINES).encode()).hexdigest()


class Everything:
  """All that the cache keeps of a small corpus."""

  def __init__(self, folder):
    self.cache, self.corpus = folder / 'cache', Corpus()
    vocabulary = train_vocabulary(LINES, kind='word')
    self.both = Vocabularies(vocabulary, vocabulary)
    text = folder / 'text.txt'
    text.write_text('\n'.join(LINES), 'utf-8')
    self.text = open_text(path=text)

  def get(self):
    """Returns the values, read from the cache or built."""
    values = []
    encoded = encode_corpus(self.corpus, 'train', self.both, cache=self.cache)
    for store in encoded.sides.values():
      values += [store.ids.tolist(), store.offsets.tolist()]
    words = cached_words(self.text, self.cache, min_count=1)
    store = encode_text(self.text, words, self.cache)
    counts = cached_cooccurrence(store, words.size, self.cache, window=2, workers=1)
    values += [words.words, words.counts.tolist(), words.total]
    values += [store.ids.tolist(), store.offsets.tolist(), store.total]
    return [*values, counts.toarray().tolist(), encoded.skipped]


BYTES = ('bit', 'byte', 'cut', 'empty', 'longer', 'zeros', 'noise', 'twice', 'swap')
KINDS = (*BYTES, 'digit', 'gone', 'folder', 'other')


def meaning(data):
  """Returns the content of a file; spaces and repeated keys do not matter in JSON."""
  try:
    return json.loads(data)
  except ValueError:
    return data


def damage(path, draw):
  """Changes a file at random; returns whether its content has changed."""
  data = bytearray(path.read_bytes())
  before, size = bytes(data), len(data)
  at, end = sorted((draw.randrange(size), draw.randrange(size)))
  kind = draw.choice(KINDS)
  if kind in ('gone', 'folder', 'other'):
    path.unlink()
    if kind == 'folder':
      path.mkdir()
    elif kind == 'other':
      shutil.copy(draw.choice([p for p in path.parent.iterdir() if p.is_file()]), path)
    return True
  if kind == 'bit':
    data[at] ^= 1 << draw.randrange(8)
  elif kind == 'byte':
    data[at] = draw.randrange(256)
  elif kind == 'cut':
    del data[at:]
  elif kind == 'empty':
    del data[:]
  elif kind == 'longer':
    data += draw.randbytes(draw.randrange(1, 9))
  elif kind == 'zeros':
    data[at:end] = bytes(end - at)
  elif kind == 'noise':
    data[at:end] = draw.randbytes(end - at)
  elif kind == 'twice':
    data[at:at] = data[at:end]
  elif kind == 'swap':
    data = data[at:] + data[:at]
  elif kind == 'digit':
    digits = [i for i, x in enumerate(data) if 48 <= x < 58]
    if digits:
      data[draw.choice(digits)] = draw.randrange(48, 58)
  path.write_bytes(data)
  return meaning(bytes(data)) != meaning(before)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(4))
def test_damage_is_always_named_and_repaired(tmp_path, monkeypatch, capsys, seed):
  draw = random.Random(seed)
  monkeypatch.setattr(module, '_IN_MEMORY', 0 if seed % 2 else 1 << 26)
  everything = Everything(tmp_path)
  right = everything.get()
  assert not capsys.readouterr().err
  changed = 0
  for i in range(750):
    files = sorted(p for p in everything.cache.rglob('*') if p.is_file())
    chosen = draw.sample(files, draw.choice((1, 1, 1, 2, 5)))
    hit = {path.parent for path in chosen if damage(path, draw)}
    assert everything.get() == right, (seed, i, chosen)
    messages = capsys.readouterr().err
    for folder in hit:
      assert f'{folder} ' in messages, (seed, i, chosen)
    changed += bool(hit)
  assert changed > 600


@pytest.mark.slow
def test_damage_while_it_is_in_use_is_an_error(tmp_path, monkeypatch):
  draw = random.Random(9)
  monkeypatch.setattr(module, '_IN_MEMORY', 0)
  everything = Everything(tmp_path)
  rows = np.arange(len(LINES))
  for _ in range(200):
    encoded = encode_corpus(
      everything.corpus, 'train', everything.both, cache=everything.cache
    )
    store = encoded.sides['source']
    right = store.gather(rows, 100)
    [path] = everything.cache.glob('tokens/*/source.ids.npy')
    assert (store.gather(rows, 100) == right).all()
    if damage(path, draw) and path.is_file() and not path.is_symlink():
      try:
        unchanged = (store.gather(rows, 100) == right).all()
      except OSError as error:
        assert 'was changed while it was in use' in str(error)  # noqa: PT017
      else:
        assert unchanged  # another file lies at its place; this one is still whole
