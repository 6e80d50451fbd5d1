"""Unicode, case and punctuation, as steps that a corpus names.

Nothing is changed unless an experiment asks for it: references are scored as they
are, so `corpus.normalize` changes what BLEU is counted on.
"""

from collections.abc import Callable, Sequence
import unicodedata

from seqlab.config import suggest

_PUNCTUATION = str.maketrans(
  {
    **dict.fromkeys('“”„‟«»', '"'),
    **dict.fromkeys('‘’‚‛‹›', "'"),
    **dict.fromkeys('‐‑‒–—−', '-'),
    **dict.fromkeys('\u00a0\u2007\u2009\u202f', ' '),
    '…': '...',
  }
)


def nfc(line: str) -> str:
  """One code point for each letter with its accent: e + ´ -> é. Looks the same."""
  return unicodedata.normalize('NFC', line)


def nfkc(line: str) -> str:
  """As NFC, and compatible signs become plain ones: ﬁ -> fi, ¾ -> 3⁄4, ™ -> TM."""
  return unicodedata.normalize('NFKC', line)


def lower(line: str) -> str:
  """Lower case, letter by letter, the same for every language."""
  return line.lower()


def punctuation(line: str) -> str:
  """Typographic quotes, dashes, dots and spaces become those of a keyboard."""
  return line.translate(_PUNCTUATION)


_STEPS = {'nfc': nfc, 'nfkc': nfkc, 'lower': lower, 'punctuation': punctuation}


def normalizer(names: str | Sequence[str] = 'none') -> Callable[[str], str]:
  """The steps as one function, applied in the order given.

  Args:
    names: 'none', 'nfc', 'nfkc', 'lower' or 'punctuation', or several of them.

  Raises:
    ValueError: a name is none of these.
  """
  steps = []
  for name in (names,) if isinstance(names, str) else names:
    if name != 'none' and name not in _STEPS:
      known = ('none', *_STEPS)
      raise ValueError(
        f'corpus.normalize has {name!r}{suggest(str(name), known)} '
        f'(known: {", ".join(known)})'
      )
    if name != 'none':
      steps.append(_STEPS[name])

  def normalize(line: str) -> str:
    for step in steps:
      line = step(line)
    return line

  return normalize
