"""Normalisation of Unicode, case and punctuation, as steps that a corpus names.

Nothing is changed unless an experiment asks for it. References are normalised, too, so
`corpus.normalize` changes the text on which BLEU is computed.
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
  """Composes each letter with its accent: e + ´ -> é. The text looks the same."""
  return unicodedata.normalize('NFC', line)


def nfkc(line: str) -> str:
  """Applies NFC and replaces compatibility characters: ﬁ -> fi, ¾ -> 3⁄4, ™ -> TM."""
  return unicodedata.normalize('NFKC', line)


def lower(line: str) -> str:
  """Returns the text in lower case, by rules that do not depend on the language."""
  return line.lower()


def punctuation(line: str) -> str:
  """Replaces typographic quotes, dashes, dots and spaces by those of a keyboard."""
  return line.translate(_PUNCTUATION)


_STEPS = {'nfc': nfc, 'nfkc': nfkc, 'lower': lower, 'punctuation': punctuation}


def normalizer(names: str | Sequence[str] = 'none') -> Callable[[str], str]:
  """Returns one function that applies the steps in the given order.

  Args:
    names: 'none', 'nfc', 'nfkc', 'lower' or 'punctuation', or several of them.

  Raises:
    ValueError: a name is unknown.
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
