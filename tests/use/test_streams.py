"""Streams of lines, with a translator that compiles nothing."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

from seqlab.tasks.translator import Hypothesis
from seqlab.use import streams


class _Translator:
  """Gives each line one translation, the line itself; refuses the text `long`."""

  def hypotheses(self, lines, *, first, required):
    self.refused = {i: 'is too long' for i, x in enumerate(lines) if x == 'long'}
    ids = np.zeros(0, np.int32)
    return [[Hypothesis('' if x == 'long' else x, -1.0, ids)] for x in lines]


@pytest.fixture
def translate(monkeypatch):
  """Returns a function that translates a text: its output, and the error at the end."""
  task = SimpleNamespace(vocabularies=SimpleNamespace(source=None))
  loaded = SimpleNamespace(config={}), task, {}, [1]
  monkeypatch.setattr(streams, 'load_run', lambda *_, **__: loaded)
  monkeypatch.setattr(streams, 'needs', lambda task, _: task)
  monkeypatch.setattr(streams, 'join_models', lambda *_, **__: (None, {}))
  monkeypatch.setattr(streams, 'make_translator', lambda *_: _Translator())

  def call(text, **options):
    out = io.StringIO()
    with pytest.raises(ValueError, match='translated as an empty line') as error:
      streams.translate_stream('run', io.BytesIO(text.encode()), out, **options)
    return out.getvalue(), str(error.value)

  return call


@pytest.mark.parametrize('option', ['beam', 'mbr'])
def test_short_lists_of_later_chunks_are_counted_too(
  translate, monkeypatch, capsys, option
):
  monkeypatch.setattr(streams, '_CHUNK', 2)
  _, error = translate('long\na\nlong\nb\n\n', options={option: 2}, n_best=2)
  assert error.startswith('line 1 of the input is too long; line 3 of the input is too')
  assert capsys.readouterr().err == (
    '2 of 5 lines have fewer than 2 different translations among 2 hypotheses: '
    f'raise --{option}\n'
  )


def test_a_blank_source_that_requires_text_is_reported(translate):
  text = 'a\tb\n \tb\n\t\n\t\tc\n'
  output, error = translate(text, prefix=True, phrases=True)
  assert output == 'a\n\n\n\n'
  reason = (
    'of the input has a blank source, and text that its translation has to contain: '
    'write a source'
  )
  assert error == (
    f'line 2 {reason}; line 4 {reason} (2 of 4 lines, translated as an empty line)'
  )
