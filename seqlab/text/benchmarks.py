"""Named corpora of sequence tasks, with the splits of their papers.

Each is read from $SEQLAB_DATA/<name>/ or downloaded, as those of `text.corpora`, which
has the options that they share:

  cut         splits that are cut from 'train', by a hash of the source (`split_of`)
  normalize   steps of `text.normalize`
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from seqlab.config import suggest
from seqlab.domains import Check, Range, check
from seqlab.text.corpora import Recipe, Shares, Text, find_file
from seqlab.text.digests import digests_of
from seqlab.text.normalize import Normalization
from seqlab.text.tables import CSV, Columns, Commands, Reader, Tab

_GITHUB = 'https://raw.githubusercontent.com'


class _Table(Text):
  """A corpus in tables, one or several per split. Base class of most corpora here."""

  def __init__(
    self,
    name: str,
    sides: Mapping[str, str],
    files: Mapping[str, str | tuple[str, ...]],
    *,
    url: str,
    upstream: Mapping[str, str] = {},  # never changed
    columns: Any = None,
    reader: Reader = Tab(),  # noqa: B008  # never changed
    rule: Mapping[str, Any] = {},  # never changed
    **options: Any,
  ):
    """Takes the files.

    Args:
      name: name of the corpus.
      sides: name of a side -> what it holds.
      files: split -> its file, or several.
      url: address of {file}.
      upstream: file -> its name at the address, where that differs.
      columns: see `tables.Columns.of`.
      reader: format of the files.
      rule: fields of the recipe that say which examples of its files a split has.
      **options: see `Text`.
    """
    languages = tuple(sides.values())
    names = {s: (x,) if isinstance(x, str) else x for s, x in files.items()}
    recipe = Recipe(
      languages=languages,
      files={s: dict.fromkeys(languages, x) for s, x in names.items()},
      tables=tuple(files),
      reader=reader,
      columns=Columns.of(columns, [*sides]),
      url=url,
      upstream=upstream,
      digests=digests_of(name),
      convention='none',
      **rule,
    )
    super().__init__(recipe, name, sides, **options)


_SCAN = {
  'simple': 'simple_split',
  'length': 'length_split',
  'addprim_jump': 'add_prim_split',
  'addprim_turn_left': 'add_prim_split',
}


class Scan(_Table):
  """SCAN: commands to sequences of actions. Splits: train, test.

  Lake and Baroni 2018, https://arxiv.org/abs/1711.00350. The paper has no development
  set and selects nothing; `cut` makes one.
  """

  def __init__(
    self,
    *,
    split: Literal['simple', 'length', 'addprim_jump', 'addprim_turn_left'] = 'simple',
    cutoff: Annotated[int, Range(1, 47)] | None = None,
    cut: Shares | None = None,
    normalize: Normalization = 'none',
  ):
    """Chooses the splits.

    Args:
      split: one of the four experiments of the paper.
      cutoff: with 'length', number of actions of the longest examples of 'train'; all
        longer ones are 'test' (Newman et al. 2020, https://arxiv.org/abs/2010.07174).
        EOS is not counted. None for the paper's own split, whose cutoff is 22. Csordas
        et al. 2021 train on 90 % of the short examples: `cut=dict(dev=0.1)` holds out
        as many, by the hash of the command in place of their random numbers.
      cut: see `Text`.
      normalize: see `Text`.

    Raises:
      ValueError: an option is wrong, or there is a cutoff of another split.
    """
    check(Scan, dict(split=split, cutoff=cutoff), 'corpus.')
    parts = ('train', 'test')
    if cutoff is None:
      files, rule = {part: (f'tasks_{part}_{split}.txt',) for part in parts}, {}
    elif split == 'length':
      split = 'simple'  # its two files have all commands
      everything = tuple(f'tasks_{part}_simple.txt' for part in parts)
      files, rule = dict.fromkeys(parts, everything), _by_length(cutoff)
    else:
      raise ValueError(
        f"corpus.cutoff={cutoff} divides commands by length: set corpus.split='length', "
        'or leave corpus.cutoff out'
      )
    super().__init__(
      'scan',
      {'source': 'command', 'target': 'actions'},
      files,
      url=f'{_GITHUB}/brendenlake/SCAN/c4b756cbc010d75c912f16c42c8f15dc6b7e6c8f/'
      f'{_SCAN[split]}/{{file}}',
      reader=Commands(),
      rule=rule,
      cut=cut,
      normalize=normalize,
    )


def _by_length(cutoff: int) -> dict[str, Any]:
  """Returns the fields of a `Recipe` by which longer outputs are in 'test'."""

  def belongs(split: str, number: int, actions: str) -> bool:
    del number
    return (len(actions.split()) > cutoff) == (split == 'test')

  return dict(belongs=belongs, decider='actions', rule=f'cutoff={cutoff}')


class COGS(_Table):
  """COGS: sentences to logical forms. Splits: train, dev, test, gen.

  Kim and Linzen 2020, https://aclanthology.org/2020.emnlp-main.731. The category of an
  example is the third column; 'gen' has 21 of them, with 1,000 sentences each.
  """

  def __init__(
    self,
    *,
    cut: Shares | None = None,
    normalize: Normalization = 'none',
  ):
    """Takes the options of `Text`."""
    super().__init__(
      'cogs',
      {'source': 'sentence', 'target': 'form'},
      {split: f'{split}.tsv' for split in ('train', 'dev', 'test', 'gen')},
      url=f'{_GITHUB}/najoungkim/COGS/165a7b669eade971fa47bf568a2e51925360fed8/data/'
      '{file}',
      columns=dict(source=0, target=1, category=2),
      cut=cut,
      normalize=normalize,
    )


def _one_of(names: Iterable[str]) -> Check:
  known = tuple(names)

  def check_name(value: str) -> None:
    if value not in known:
      raise ValueError(f'one of {", ".join(known)}{suggest(value, known)}')

  return Check(check_name)


_INFLECTED = (
  *('albanian', 'arabic', 'armenian', 'basque', 'bengali', 'bulgarian', 'catalan'),
  *('czech', 'danish', 'dutch', 'english', 'estonian', 'faroese', 'finnish', 'french'),
  *('georgian', 'german', 'haida', 'hebrew', 'hindi', 'hungarian', 'icelandic'),
  *('irish', 'italian', 'khaling', 'kurmanji', 'latin', 'latvian', 'lithuanian'),
  *('lower-sorbian', 'macedonian', 'navajo', 'northern-sami', 'norwegian-bokmal'),
  *('norwegian-nynorsk', 'persian', 'polish', 'portuguese', 'quechua', 'romanian'),
  *('russian', 'scottish-gaelic', 'serbo-croatian', 'slovak', 'slovene', 'sorani'),
  *('spanish', 'swedish', 'turkish', 'ukrainian', 'urdu', 'welsh'),
)


class Inflection(_Table):
  """SIGMORPHON 2017, task 1: a lemma and features to a form. Splits: train, dev, test.

  Cotterell et al. 2017, https://aclanthology.org/K17-2001. A source has two parts, the
  lemma as characters and the features as symbols: 'gehen<tab>V;3;SG;PRS'.
  """

  def __init__(
    self,
    *,
    language: Annotated[str, _one_of(_INFLECTED)] = 'english',
    resource: Literal['high', 'medium', 'low'] = 'high',
    ordered: bool = False,
    cut: Shares | None = None,
    normalize: Normalization = 'none',
  ):
    """Chooses the language and the size of the training split.

    Args:
      language: name of one of the 52 languages, in lower case.
      resource: 10,000 ('high'), 1,000 ('medium') or 100 ('low') training examples; some
        languages have fewer.
      ordered: whether features are read in their order; False gives all of them
        position 0 and an embedding of their type (Wu et al. 2021,
        https://arxiv.org/abs/2005.10213).
      cut: see `Text`.
      normalize: see `Text`.
    """
    options = dict(language=language, resource=resource, ordered=ordered)
    check(Inflection, options, 'corpus.')
    features = dict(column=2, kind='symbols', separator=';', ordered=ordered)
    super().__init__(
      'sigmorphon2017',
      {'source': 'lemma', 'target': 'form'},
      {
        'train': f'{language}-train-{resource}',
        'dev': f'{language}-dev',
        'test': f'{language}-test',
      },
      url=f'{_GITHUB}/sigmorphon/conll2017/519bb1677a7c747b3863d37069ffd395062288d8/'
      '{file}',
      upstream={
        f'{language}-train-{resource}': f'all/task1/{language}-train-{resource}',
        f'{language}-dev': f'all/task1/{language}-dev',
        f'{language}-test': f'answers/task1/{language}-uncovered-test',
      },
      columns=dict(source=[dict(column=0, kind='char'), features], target=1),
      cut=cut,
      normalize=normalize,
    )


_PRONOUNCED = {
  'eng_us': 'high',
  **dict.fromkeys(
    (
      *('arm_e', 'bul', 'dut', 'fre', 'geo', 'hbs_latn', 'hun', 'jpn_hira', 'kor'),
      'vie_hanoi',
    ),
    'medium',
  ),
  **dict.fromkeys(
    ('ady', 'gre', 'ice', 'ita', 'khm', 'lav', 'mlt_latn', 'rum', 'slv', 'wel_sw'),
    'low',
  ),
}


class Pronunciation(_Table):
  """SIGMORPHON 2021, task 1: words to phonemes. Splits: train, dev, test.

  Ashby et al. 2021, https://aclanthology.org/2021.sigmorphon-1.13. Phonemes are
  separated by spaces. The number of examples depends on the language: 41,680 of
  American English (eng_us), 10,000 in the medium setting and 1,000 in the low one,
  divided 8 to 1 to 1.
  """

  def __init__(
    self,
    *,
    language: Annotated[str, _one_of(_PRONOUNCED)] = 'ady',
    cut: Shares | None = None,
    normalize: Normalization = 'none',
  ):
    """Chooses the language, by the code that its files have."""
    check(Pronunciation, dict(language=language), 'corpus.')
    super().__init__(
      'sigmorphon2021-g2p',
      {'source': 'word', 'target': 'phonemes'},
      {split: f'{language}_{split}.tsv' for split in ('train', 'dev', 'test')},
      url=f'{_GITHUB}/sigmorphon/2021-task1/821bcdece5a47820872215969f275004b0abe80c/'
      f'data/{_PRONOUNCED[language]}/{{file}}',
      cut=cut,
      normalize=normalize,
    )


class CMUdict(_Table):
  """CMUdict: English words to phonemes without stress. Splits: train, dev, test.

  The division into train and test is that of GPA4.0,
  https://github.com/OlivierDehaene/GPA4.0. The split 'dev' is cut from 'train' by
  `cut`, a hash of the word. Training has every pronunciation; in 'dev' and 'test' each
  word occurs once, with all of its pronunciations as references.
  """

  def __init__(
    self,
    *,
    cut: Shares | None = {'dev': 0.05},  # noqa: B006  # never changed
    group: bool = True,
    normalize: Normalization = 'none',
  ):
    """Takes the options of `Text`."""
    super().__init__(
      'cmudict-g2p',
      {'source': 'word', 'target': 'phonemes'},
      {split: f'{split}_dataset.csv' for split in ('train', 'test')},
      url=f'{_GITHUB}/OlivierDehaene/GPA4.0/11e39f3e43c08081b70cdf67bef8894bf75b5afb/'
      'data_old/cmudict/{file}',
      columns=dict(source='ORTHO', target='PHON'),
      reader=CSV(delimiter=';'),
      cut=cut,
      group=group,
      normalize=normalize,
    )


_WU = 'multi30k-wu2021'
_WU_SPLITS = {
  'train': 'train',
  'val': 'valid',
  'test_2016_flickr': 'test.2016',
  'test_2017_flickr': 'test.2017',
  'test_2017_mscoco': 'test.coco',
}


class WuMulti30k(Text):
  """Multi30k exactly as Wu et al. 2021 fed it, https://arxiv.org/abs/2105.14462.

  Its files are segmented by byte-pair encoding. The segments are joined here ('@@ ' is
  removed), so that scores are those of words; a vocabulary of kind
  'merges' with `codes='multi30k-wu2021/en-de'` gives their segments back. The splits
  are named as those of 'multi30k-tok': train, val, test_2016_flickr, test_2017_flickr,
  test_2017_mscoco.
  """

  def __init__(
    self,
    *,
    source: Literal['en', 'de', 'fr'] = 'en',
    target: Literal['en', 'de', 'fr'] = 'de',
    normalize: Normalization = 'none',
  ):
    """Takes the languages; one of them is English."""
    pair = sorted({source, target} - {'en'})
    if 'en' not in (source, target) or len(pair) != 1:
      raise ValueError(
        f'the corpus is not from {source!r} to {target!r}: one side is English, the '
        "other one 'de' or 'fr'"
      )
    folder, languages = f'en-{pair[0]}', ('en', pair[0])
    files = {
      split: {x: (f'{folder}/{stem}.{x}',) for x in languages}
      for split, stem in _WU_SPLITS.items()
    }
    sides = {'source': source, 'target': target}
    super().__init__(_wu(languages, files), _WU, sides, normalize=normalize)


def _wu(languages: tuple[str, ...] = (), files: Mapping[str, Any] = {}) -> Recipe:
  return Recipe(
    languages=languages,
    files=files,
    url=f'{_GITHUB}/LividWo/Revisit-MMT/dc368d0af8d60270b8f4aaa2f3ac58771c551da3/'
    'data/multi30k-{file}',
    digests=digests_of(_WU),
    convention='none',
    tidy=_joined,
  )


def published_merges(name: str) -> Path | None:
  """Returns the file of merges that were published with a corpus, found or downloaded.

  Args:
    name: name of a corpus and of a folder of its files, 'multi30k-wu2021/en-de'.

  Returns:
    None if there is no such name.
  """
  corpus, _, folder = name.partition('/')
  if corpus != _WU or folder not in ('en-de', 'en-fr'):
    return None
  return find_file(_wu(), _WU, f'{folder}/code')


def _joined(lines: list[str]) -> list[str]:
  return [line.replace('@@ ', '') for line in lines]
