"""Parallel corpora: named ones, which are downloaded once, and your own files.

A named corpus is looked for in $SEQLAB_DATA/<corpus>/, plain or gzipped, then in
the cache, and only then downloaded. What lies in $SEQLAB_DATA is taken as it is: it
may differ on purpose, and `fingerprint` hashes it anyway. A download must have the
sha256 that is known for its text (unpacked, since servers compress differently).
Where none is known, because the text was not at hand or the server's is another
version, the first download's is noted beside it, and later ones must have that:
kyoto-kftt, tatoeba, wmt14-en-de, iwslt14-de-en.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from pathlib import Path
import re
from typing import Protocol

from seqlab.config import call, suggest
from seqlab.domains import checked
from seqlab.text.download import cache_dir, download
from seqlab.text.lines import columns, is_blank, read_bytes, read_lines
from seqlab.text.normalize import normalizer
from seqlab.text.remote import fetch, is_remote

_FORMAT = 2  # raise it when the same files are read differently


class Corpus(Protocol):
  """Parallel text in two languages.

  Attributes:
    name: of the corpus, for messages.
    source: language code of the source side.
    target: language code of the target side.
    convention: sacreBLEU's name of the tokeniser that its papers score with.
    splits: names of its parts.
    skipped: for each split read so far, how many pairs were left out as empty.
  """

  name: str
  source: str
  target: str
  convention: str
  splits: tuple[str, ...]
  skipped: dict[str, int]

  def read(self, split: str) -> tuple[list[str], list[str]]:
    """Source lines and target lines, equally many."""
    ...

  def fingerprint(self, split: str) -> str:
    """sha256 of all that decides what `read` returns."""
    ...

  def files(self, split: str) -> dict[str, str]:
    """The files of a split, with the sha256 of their text; none if it has no files."""
    ...

  def inputs(self) -> list[Path]:
    """Files on this machine that it may read, none of which may be replaced."""
    ...


@checked
def open_corpus(
  name: str | None = None, *, source: str, target: str, **options
) -> Corpus:
  """Opens a corpus by its name, or one in files of your own.

  Nothing is read or downloaded before a split is asked for, so that a checkpoint
  translates on a machine that lacks the corpus.

  Args:
    name: one of `NAMED`, or 'agreement'; none is needed with `files`.
    source: language code, such as 'en'.
    target: language code.
    **options: for 'agreement', those of `seqlab.text.agreement.Agreement`. Else
      files: split -> (source file, target file), or one file with lines of source,
        tab, target (further columns are ignored). Plain or gzipped, on a disk or in
        a bucket (gs://, s3://; brought into the cache once). Your own only.
      empty: what a pair with an empty side is: 'error', or 'skip' to leave it out.
      normalize: steps of `seqlab.text.normalize`; 'none' leaves text as it is.
      convention: by default the papers'; 'char' for Japanese and Chinese, else '13a'.

  Raises:
    ValueError: the name, a language or an option is unknown.
  """
  languages = {'source': source, 'target': target}
  if name == 'agreement':
    from seqlab.text.agreement import Agreement

    return call(Agreement, options, 'corpus', **languages)
  if name in NAMED:
    recipe = NAMED[name]
  elif 'files' in options:
    recipe = _own(source, target, options.pop('files'))
  else:
    known = ('agreement', *NAMED)
    unknown = f'unknown corpus {name!r}{suggest(str(name), known)}'
    raise ValueError(
      f'{unknown if name else "corpus has no name"} (known: {", ".join(known)}; '
      "for your own text, set corpus.files={'train': ('train.en', 'train.de'), ...})"
    )
  name = name or 'files'
  return call(Text, options, 'corpus', name=name, recipe=recipe, **languages)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Where a corpus lies, and how its splits are made of files."""

  languages: tuple[str, ...]  # in the columns' order where one file has two
  files: Mapping[str, Mapping[str, Sequence[str]]]  # split -> language -> names
  tabbed: Sequence[str] = ()  # splits whose one file has both languages, in columns
  url: str = ''  # what to download for {file}; '' for files of the user's own
  member: str = ''  # what {file} is called in the archive at `url`, if it is one
  empty: str = 'error'
  convention: str | None = None
  tidy: Callable[[list[str]], list[str]] = list  # a file's lines -> sentences
  # Split, line number, English line -> whether the pair is in the split.
  belongs: Callable[[str, int, str], bool] = lambda *_: True


class Text:
  """A corpus in files; see `Corpus`, and `open_corpus` for the arguments."""

  def __init__(
    self,
    recipe: Recipe,
    name: str,
    source: str,
    target: str,
    *,
    empty: str | None = None,
    normalize: str | Sequence[str] = 'none',
    convention: str | None = None,
  ):
    if source == target:
      raise ValueError(f'corpus.source and corpus.target are both {source!r}')
    if not source.strip() or not target.strip():
      side = 'target' if source.strip() else 'source'
      raise ValueError(f"corpus.{side} is empty; it must be a language code, as 'en'")
    for language in (source, target):
      if language not in recipe.languages:
        has = ', '.join(recipe.languages)
        raise ValueError(f'corpus {name} is not in {language!r} (it is in: {has})')
    if empty not in (None, 'error', 'skip'):
      raise ValueError(f"corpus.empty is {empty!r}; it may be 'error' or 'skip'")
    unspaced = target.partition('-')[0] in ('ja', 'zh')
    self.name, self.source, self.target = name, source, target
    self.convention = convention or recipe.convention or ('char' if unspaced else '13a')
    self.skipped: dict[str, int] = {}
    self._recipe, self._empty = recipe, empty or recipe.empty
    self._normalize, self._clean = normalize, normalizer(normalize)
    self._files: dict[str, list[list[Path]]] = {}
    self._texts: dict[str, tuple[list[str], list[str]]] = {}
    self._digests: dict[str, str] = {}

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the parts that both languages have."""
    files = self._recipe.files.items()
    return tuple(s for s, has in files if self.source in has and self.target in has)

  def read(self, split: str) -> tuple[list[str], list[str]]:
    """Source lines and target lines, equally many; kept for the next call.

    Raises:
      ValueError: there is no such split; or its text is not UTF-8, has an empty
        line, or has more lines in one language than in the other.
      FileNotFoundError: a file is missing.
      DownloadError: a file could not be downloaded.
    """
    if split not in self._texts:
      self._texts[split] = self._select(split, *self._sides(split))
    return self._texts[split]

  def fingerprint(self, split: str) -> str:
    """sha256 of a split's files, unpacked, and of the options. Raises as `read`."""
    if split not in self._digests:
      known = self.files(split)
      paths = [str(path) for side in self._paths(split) for path in side]
      if split in self._recipe.tabbed:  # one file, read once
        paths = list(known)
      hashes = [known[path] for path in paths]
      options = [self.source, self.target, self._empty, self._normalize]
      about = json.dumps([_FORMAT, split, *options, *hashes]).encode()
      self._digests[split] = hashlib.sha256(about).hexdigest()
    return self._digests[split]

  def files(self, split: str) -> dict[str, str]:
    """The files of a split, with the sha256 of their text. Raises as `read`."""
    paths = dict.fromkeys(path for side in self._paths(split) for path in side)
    return {str(p): hashlib.sha256(read_bytes(p)).hexdigest() for p in paths}

  def inputs(self) -> list[Path]:
    """Files on this machine that it may read, none of which may be replaced."""
    names = {
      file
      for sides in self._recipe.files.values()
      for files in sides.values()
      for file in files
    }
    if not self._recipe.url:
      return [Path(name).expanduser() for name in names if not is_remote(name)]
    own = Path(os.environ.get('SEQLAB_DATA') or os.devnull, self.name)
    folders = (own, cache_dir() / 'corpora' / self.name)
    return [Path(f, n + end) for f in folders for n in names for end in ('', '.gz')]

  def _paths(self, split: str) -> list[list[Path]]:
    """Files of the source side and of the target side; the same if it has both."""
    if split not in self._files:
      self._check(split)
      files = self._recipe.files[split]
      self._files[split] = [
        [_find(self._recipe, self.name, split, x, file) for file in files[x]]
        for x in (self.source, self.target)
      ]
    return self._files[split]

  def _check(self, split: str) -> None:
    has = self._recipe.files.get(split)
    if has and split not in self.splits:
      raise ValueError(
        f'split {split!r} of corpus {self.name} is in {", ".join(has)} only; splits in '
        f'{self.source} and {self.target} are: {", ".join(self.splits)}'
      )
    if not has:
      raise ValueError(
        f'corpus {self.name} has no split {split!r}{suggest(split, self.splits)} '
        f'(it has: {", ".join(self.splits)})'
      )

  def _sides(self, split: str) -> tuple[list[str], list[list[str]]]:
    """For source and target: a name for messages, and the lines."""
    sides, both = self._paths(split), (self.source, self.target)
    names = ['+'.join(path.name for path in side) for side in sides]
    if split in self._recipe.tabbed:
      both_sides = columns(names[0], read_lines(sides[0][0]))
      lines = [both_sides[self._recipe.languages.index(x)] for x in both]
      return [f'{name} ({x})' for name, x in zip(names, both, strict=True)], lines
    tidy = self._recipe.tidy
    lines = [[x for path in side for x in tidy(read_lines(path))] for side in sides]
    if len(lines[0]) != len(lines[1]):
      raise ValueError(
        f'{names[0]} has {len(lines[0]):,} lines and {names[1]} has '
        f'{len(lines[1]):,}; line n of one has to translate line n of the other: '
        f'find where they part ({sides[0][0].parent})'
      )
    return names, lines

  def _select(
    self, split: str, names: list[str], lines: list[list[str]]
  ) -> tuple[list[str], list[str]]:
    """The pairs of a split, normalised; counts those that it leaves out."""
    english = 1 if self.target == 'en' else 0
    source, target, skipped = [], [], 0
    for number, pair in enumerate(zip(*lines, strict=True), 1):
      if not self._recipe.belongs(split, number, pair[english]):
        continue
      blank = [is_blank(line) for line in pair]
      if not any(blank):
        source.append(self._clean(pair[0]))
        target.append(self._clean(pair[1]))
      elif self._empty == 'skip':
        skipped += 1
      else:
        raise ValueError(
          f'line {number:,} of {names[0 if blank[0] else 1]} is empty; drop the '
          f"pair or set corpus.empty='skip' ({self._paths(split)[0][0].parent})"
        )
    if not source:
      raise ValueError(f'{" and ".join(names)} have no pairs for split {split!r}')
    self.skipped[split] = skipped
    return source, target


def _own(source: str, target: str, files: Mapping[str, str | Sequence[str]]) -> Recipe:
  """The recipe for files of the user's own."""
  if not hasattr(files, 'items'):
    raise ValueError("corpus.files should be {'train': (source, target), ...}")
  sides, tabbed = {}, []
  for split, given in files.items():
    single = isinstance(given, str | Path)
    paths = (given,) if single else tuple(given) if isinstance(given, Sequence) else ()
    if any(not isinstance(path, str | Path) for path in paths):
      raise ValueError(f'corpus.files.{split} is {given!r}; give names of files')
    if len(paths) not in (1, 2):
      raise ValueError(
        f'corpus.files.{split} names {len(paths)} files; give (source, target), or '
        'one file with a tab between them'
      )
    sides[split] = {source: paths[:1], target: paths[-1:]}
    if len(paths) == 1:
      tabbed.append(split)
  return Recipe(languages=(source, target), files=sides, tabbed=tabbed)


def _find(recipe: Recipe, name: str, split: str, language: str, file: str) -> Path:
  """A file of a corpus, downloaded if need be."""
  if not recipe.url and is_remote(file):
    return fetch(file)
  if not recipe.url:
    path = Path(file).expanduser()
    if path.is_file():
      return path
    raise FileNotFoundError(
      f'corpus.files.{split}: there is no file {path}; mend the path, or put the file '
      f'there (paths start from {Path.cwd()})'
    )
  own = Path(os.environ.get('SEQLAB_DATA') or os.devnull, name)
  for path in (own / file, own / f'{file}.gz'):
    if path.is_file():
      return path
  return download(
    recipe.url.format(file=file),
    cache_dir() / 'corpora' / name / file,
    member=recipe.member.format(file=file),
    sha256=_SHA256.get((name, split), {}).get(language),
  )


def _by_english(split: str, number: int, english: str) -> bool:
  """About 1 % of English sentences each for valid and test, chosen by their hash.

  Case and punctuation do not count: "Run!" is not in test with "Run." in train.
  """
  words = re.sub(r'\W+', ' ', english.casefold()).strip()
  place = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], 'big') % 100
  return split == {0: 'valid', 1: 'test'}.get(place, 'train')


def _every_23rd(split: str, number: int, english: str) -> bool:
  """Every 23rd training line is for validation, as in fairseq's preparation."""
  return split == 'test' or (number % 23 == 0) == (split == 'valid')


def _sentences(lines: list[str]) -> list[str]:
  """Of a TED file: the segments of an XML file, or the lines without metadata."""
  segments = re.findall(r'<seg [^>]*>(.*)</seg>', '\n'.join(lines))
  metadata = re.compile(
    r'\s*</?(url|talkid|keywords|speaker|reviewer|translator|doc)\b'
  )
  text = [line for line in lines if not metadata.match(line)]
  heading = re.compile(r'</?(title|description)>')
  return [line.strip() for line in segments or [heading.sub('', x) for x in text]]


def _each(
  splits: Iterable[str], languages: Iterable[str], pattern: str
) -> dict[str, dict[str, tuple[str]]]:
  """One file for each split and language."""
  return {
    s: {x: (pattern.format(split=s, language=x),) for x in languages} for s in splits
  }


_M30K = 'train val test_2016_flickr test_2017_flickr test_2017_mscoco test_2018_flickr'
_M30K_URL = 'https://raw.githubusercontent.com/multi30k/dataset/master/data/task1'
_WMT = ('train', *(f'newstest{year}' for year in (2012, 2013, 2014, 2015)))
_TED = ('TED.dev2010', 'TEDX.dev2012', 'TED.tst2010', 'TED.tst2011', 'TED.tst2012')

NAMED: dict[str, Recipe] = {
  # Elliott et al. 2016, https://aclanthology.org/W16-3210.
  'multi30k': Recipe(
    languages=('en', 'de', 'fr', 'cs'),
    files={
      **_each(_M30K.split(), ('en', 'de', 'fr', 'cs'), '{split}.{language}'),
      **_each(_M30K.split()[3:5], ('en', 'de', 'fr'), '{split}.{language}'),
    },
    url=f'{_M30K_URL}/raw/{{file}}.gz',
  ),
  # The same, lower-cased and tokenised by Moses: what papers report on.
  'multi30k-tok': Recipe(
    languages=('en', 'de', 'fr'),
    files=_each(_M30K.split(), ('en', 'de', 'fr'), '{split}.lc.norm.tok.{language}'),
    url=f'{_M30K_URL}/tok/{{file}}',
    convention='none',
  ),
  # Neubig 2011, https://www.phontron.com/kftt. Two training lines have no English.
  'kyoto-kftt': Recipe(
    languages=('en', 'ja'),
    files=_each(('train', 'dev', 'tune', 'test'), ('en', 'ja'), '{split}.{language}'),
    url='https://www.phontron.com/kftt/download/kftt-data-1.0.tar.gz',
    member='kftt-data-1.0/data/orig/kyoto-{file}',
    empty='skip',
  ),
  # https://tatoeba.org. No English sentence is in two splits; German ones may be.
  'tatoeba': Recipe(
    languages=('en', 'de'),
    files=_each(('train', 'valid', 'test'), ('en', 'de'), 'deu-eng.tsv'),
    tabbed=('train', 'valid', 'test'),
    url='https://www.manythings.org/anki/deu-eng.zip',
    member='deu.txt',
    belongs=_by_english,
  ),
  # Luong et al. 2015, https://nlp.stanford.edu/projects/nmt: tokenised, with
  # hyphens as ##AT##-##AT##; newstest2014 is the one of 2,737 lines.
  'wmt14-en-de': Recipe(
    languages=('en', 'de'),
    files=_each(_WMT, ('en', 'de'), '{split}.{language}'),
    url='https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/{file}',
    empty='skip',
    convention='none',
  ),
  # Cettolo et al. 2014, split as fairseq does, which however tokenises, lower-cases
  # and drops long and uneven pairs before that.
  'iwslt14-de-en': Recipe(
    languages=('de', 'en'),
    files={
      **_each(('train', 'valid'), ('de', 'en'), 'train.tags.de-en.{language}'),
      'test': {
        x: [f'IWSLT14.{part}.de-en.{x}.xml' for part in _TED] for x in ('de', 'en')
      },
    },
    url='https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz',
    member='de-en/{file}',
    empty='skip',
    tidy=_sentences,
    belongs=_every_23rd,
  ),
}


def _table(text: str) -> dict[tuple[str, str], dict[str, str]]:
  rows = (line.split() for line in text.strip().splitlines())
  return {(x[0], x[1]): dict(cell.split('=') for cell in x[2:]) for x in rows}


# (corpus, split) -> language -> sha256 of the plain text, which was the same in
# https://github.com/multi30k/dataset at commit a3d2e0d.
_SHA256 = _table("""
multi30k train en=460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6 de=2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72 fr=5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d cs=2be68b38c8d586ff4f54eb13cc6e1baaaa053695b3f070d3038303a47f2268da
multi30k val en=1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227 de=660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660 fr=5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc cs=d53827e469b0a1ca8d57e9e26b2b64c4bc4b33f5479c7b03ae87ae5c882c3e33
multi30k test_2016_flickr en=399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182 de=4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16 fr=cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6 cs=45adb85f688de8407fddcbe1b36dca15d12aab868149b337e2576f2d6d2ff8d8
multi30k test_2017_flickr en=ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98 de=c3078bc3b36808bf9d20eb2347ed6137016179ef59ec0d2b9b8ecc3fb2880081 fr=6f3764e31dac41e9455e612958bcfd4e877c5e15cd66df2c2b2be6d9bd83e5b6
multi30k test_2017_mscoco en=43051fdfa86fd5395182e718a94ca67b1b227b9f7c79596ff0f6b813216981d2 de=58277df3c75f92f7145a11b910b553d1cf82c439249d4dc237c899609eafac22 fr=39cde3f43f32b0a6bf29ce4917a46329ff32e53070c2fac87506695a740ae0a0
multi30k test_2018_flickr en=4e585c2dd525911a6ea7730e9d0b516239af3f1b1ffae6a2130223cfb639f25e de=39fcc8b3331d76fb42d648d019c6898b0d5e58baac87bc2a0bb93f44ec8db207 fr=234b4a887da0da4801a3e2c6f21336231ff7dd46daeb80cfa1b551c8bbb78239 cs=1db59fe6980c9b3f9bade65122a985e71150214837d76f4768a5a8384c0b2dc7
multi30k-tok train en=08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119 de=cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505 fr=8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1
multi30k-tok val en=46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec de=97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00 fr=b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a
multi30k-tok test_2016_flickr en=5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2 de=c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4 fr=1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836
multi30k-tok test_2017_flickr en=c9d1dfd7a26add989382e534af235af9f0f658b2a30e7eb0efdaf142496ee54f de=02067e4a9402786a4fcb8c1b6f4307e4a5073ced64800abead5273b54f5f31f6 fr=c0583117a47b31e8a6c6a97cfe8de153e462074668f4e994764fcc80b21d33b4
multi30k-tok test_2017_mscoco en=fe69ae004d71c42ead0301e70c57de5b1b6b5fb7f52210d42b22801e98e656f3 de=e2825990b8a4e5289d2cdba801d57c187810bab9b4f5d87a30c35800a0d871b6 fr=0b6a4620f02b6b9acf7811fda23f90fed9c6baa0b96aa224db50a273078c84d1
multi30k-tok test_2018_flickr en=a66e25cbb8323d74a40873dcd222659f39e30ee7687a6ed5445833aed0673239 de=45ce6b121708adf538d3a8c71dc1acbcb1e0f2bca74ace8e58652f9ea5b96335 fr=22d44a4ba21e050f218399f2c4f9e1a36875f209820c1f1c9af5b76a2947a71c
""")
