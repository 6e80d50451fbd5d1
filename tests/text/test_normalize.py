import pytest

from seqlab.text.normalize import lower, nfc, nfkc, normalizer, punctuation


@pytest.mark.parametrize(
  ('step', 'before', 'after'),
  [
    (nfc, 'e\u0301 ﬁ ¾ ™', 'é ﬁ ¾ ™'),
    (nfkc, 'e\u0301 ﬁ ¾ ™ Ｋ', 'é fi 3⁄4 TM K'),
    (lower, 'ÄÖÜ Привет', 'äöü привет'),
    (
      punctuation,
      '„Ja“ – sagte\u00a0er … «oui» l’eau',
      '"Ja" - sagte er ... "oui" l\'eau',
    ),
  ],
)
def test_step(step, before, after):
  assert step(before) == after


@pytest.mark.parametrize('step', [nfc, nfkc, lower, punctuation])
def test_steps_are_idempotent(step):
  text = '„Éﬁ¾™“ – l’eau … e\u0301 Ж'
  assert step(step(text)) == step(text)


def test_none_changes_nothing():
  text = '„Éﬁ¾™“ – e\u0301\u00a0…'
  assert normalizer()(text) == normalizer('none')(text) == normalizer(())(text) == text


def test_steps_are_applied_in_order():
  assert normalizer(('nfkc', 'lower'))('™') == 'tm'
  assert normalizer(('lower', 'nfkc'))('™') == 'TM'


def test_unknown_step():
  with pytest.raises(
    ValueError, match=r"'lowre'; did you mean 'lower'\? \(known: 'none', 'nfc"
  ):
    normalizer(('nfc', 'lowre'))
