"""Normalisation of Unicode, case and punctuation, as steps that a corpus names.

Nothing is changed unless an experiment asks for it. References are normalised, too, so
`corpus.normalize` changes the text on which BLEU is computed.
"""

from collections.abc import Callable, Sequence
import unicodedata

from seqlab.pieces import find

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


NORMALIZATIONS = {
  'none': lambda line: line,
  'nfc': nfc,
  'nfkc': nfkc,
  'lower': lower,
  'punctuation': punctuation,
}
# Short names of `NORMALIZATIONS`, or paths to functions from a line to a line.
Normalization = str | Sequence[str]


def normalizer(names: Normalization = 'none') -> Callable[[str], str]:
  """Returns the steps as one function, applied in the order given.

  Args:
    names: one step or several: short names of `NORMALIZATIONS`, or paths such as
      'my_package.text:simplify' to a function from a line to a line.

  Raises:
    ValueError: a name is none of these.
  """
  steps = [
    find(name, NORMALIZATIONS, 'corpus.normalize')[0]
    for name in ((names,) if isinstance(names, str) else names)
  ]

  def normalize(line: str) -> str:
    for step in steps:
      line = step(line)
    return line

  return normalize
