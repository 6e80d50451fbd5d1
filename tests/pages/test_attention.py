"""The verb `attend`: the page has the model's own weights."""

import base64
import io
import json
import shutil
import sys

import numpy as np
import pytest

from seqlab.cli import main
from seqlab.pages.attention import attention_figure, attention_page, show_attention
from seqlab.tasks.interface import Attended, AttentionMap, Side
from seqlab.use.alignment import Selection, alignment, pharaoh
from seqlab.use.attention import Shown, attend
from seqlab.use.runs import load_run

TOKENS = ['▁<b>a</b>', '▁$x_1$', '</s>']


def _shown(layers=2, heads=3):
  """The attention of a model of three kinds; a target is decoded."""
  random = np.random.default_rng(0)
  source, target = Side(TOKENS, [0, 1, -1]), Side(['▁да', '</s>'], [0, -1])
  sides = {'source': source, 'target': target, 'read': Side(['<s>', '▁да'], [-1, 0])}
  shapes = {'encoder': (3, 3), 'decoder': (2, 2), 'cross': (2, 3)}
  names = dict(encoder=('source',) * 2, decoder=('target', 'read'))
  names['cross'] = ('target', 'source')
  maps = {
    kind: AttentionMap(
      random.dirichlet(np.ones(S), (layers, heads, L)).astype(np.float32), *names[kind]
    )
    for kind, (L, S) in shapes.items()
  }
  texts = {'source': '<b>a</b> $x_1$', 'target': 'да'}
  return Shown('runs/<run>', [10], texts, True, Attended(sides, maps))


@pytest.fixture
def data_of(scripts_of):
  """A function of a page: the data of its component."""
  return lambda text: json.loads(scripts_of(text)['attention-data'])


def _weights(map_):
  values = np.frombuffer(base64.b64decode(map_['weights']), '<f4')
  return values.reshape(map_['layers'], map_['heads'], -1)


def test_the_page_has_every_weight(data_of):
  shown = _shown()
  text = attention_page(shown)
  data = data_of(text)
  assert data['sides']['source'] == {'tokens': TOKENS, 'words': [0, 1, -1]}
  assert [x['kind'] for x in data['maps']] == ['encoder', 'decoder', 'cross']
  assert data['first'] == 2
  for map_ in data['maps']:
    expected = shown.attended.maps[map_['kind']].weights
    assert _weights(map_).tobytes() == expected.reshape(2, 3, -1).tobytes()
  assert '<b>a' not in text
  assert '&lt;b&gt;a&lt;/b&gt; $x_1$' in text


def test_a_page_too_large_for_a_browser_is_refused(monkeypatch):
  monkeypatch.setattr('seqlab.pages.attention._LARGEST', 100)
  with pytest.raises(ValueError, match='give a shorter text'):
    attention_page(_shown())


def test_a_figure_too_large_to_draw_is_refused(tmp_path):
  # Six layers of eight heads: a map of 180 x 180 tokens has 18 x 18 inches.
  weights = np.broadcast_to(np.float32(0), (6, 8, 180, 180))
  side = Side(['x'] * 180, [*range(180)])
  attended = Attended({'x': side}, {'encoder': AttentionMap(weights, 'x', 'x')})
  message = '21,840 x 16,470 pixels: choose --layer and --heads'
  with pytest.raises(ValueError, match=message):
    attention_figure(tmp_path / 'x.png', attended, 'encoder')


def test_a_page_without_an_alignment_takes_no_layer(tmp_path):
  shown = _shown()
  maps = {'encoder': shown.attended.maps['encoder']}
  shown = shown._replace(attended=shown.attended._replace(maps=maps))
  with pytest.raises(ValueError, match='--layer, --heads and --unit have no effect'):
    show_attention(shown, tmp_path / 'x.html', selection=Selection(layer=1))


@pytest.mark.parametrize('target', [None, 'b\udcffd'])
def test_bytes_of_a_command_line_that_are_not_text_are_refused(target):
  text = 'a\udcff' if target is None else 'a'
  name = 'text' if target is None else 'target'
  with pytest.raises(ValueError, match=f'the {name} is not UTF-8 at character 2'):
    attend(None, text, target, {})


def test_attend_writes_a_page_and_prints_an_alignment(
  finished, data_of, tmp_path, capsys
):
  path = tmp_path / 'new' / 'page.html'
  words = ['attend', str(finished), 'w1 w2', '--target', 'w2', '--output', str(path)]
  assert main([*words, '--alignment']) == 0
  printed = capsys.readouterr().out.splitlines()
  _, task, variables, _ = load_run(finished)
  (attended,) = task.attend(variables, [{'source': 'w1 w2', 'target': 'w2'}])
  assert printed[0] == pharaoh(alignment(attended, Selection()))
  for map_ in data_of(path.read_text('utf-8'))['maps']:
    expected = attended.maps[map_['kind']].weights
    assert _weights(map_).tobytes() == expected.tobytes()


@pytest.mark.slow
def test_translations_have_alignments(finished, monkeypatch, capsys):
  stream = io.TextIOWrapper(io.BytesIO(b'w1 w2\n\nw3\n'), encoding='utf-8')
  monkeypatch.setattr(sys, 'stdin', stream)
  assert main(['translate', str(finished), '--beam=1', '--alignment']) == 0
  first, blank, last = capsys.readouterr().out.splitlines()
  assert blank == ' ||| '
  for line, words in ((first, 2), (last, 1)):
    text, pairs = line.split(' ||| ')
    pairs = [tuple(map(int, pair.split('-'))) for pair in pairs.split()]
    assert [target for _, target in sorted(pairs, key=lambda x: x[1])] == [
      *range(len(text.split()))
    ]
    assert all(0 <= source < words for source, _ in pairs)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['attend', 'RUN', 'w1', '--output', 'x'], 'name a page'),
    (
      ['attend', 'RUN', 'w1', '--output', 'x.pdf'],
      'name a page (.html) or a figure (.png or .svg)',
    ),
    (['attend', 'RUN', 'w1', '--unit', 'token'], '--unit token has no effect'),
    (
      ['attend', 'RUN', 'w1', '--kind', 'encoder', '--alignment'],
      '--kind encoder has no effect',
    ),
    (['attend', 'RUN', 'w1', '--layer', '0'], '--layer is 0'),
    (['translate', 'RUN', '--heads', '1'], '--heads chooses an alignment: add'),
    (['translate', 'RUN', '--alignment', '--ensemble', 'x'], 'attention of one model'),
  ],
)
def test_wrong_options_are_errors_before_a_run_is_loaded(options, message, capsys):
  assert main(options) == 1
  assert message in capsys.readouterr().err


_MARKED = """[...document.querySelectorAll('.attention-tokens')].map(
  line => [...line.querySelectorAll('[aria-pressed=true] span')].map(x => x.textContent))"""


@pytest.mark.slow
def test_the_page_works_in_a_browser(chromium, tmp_path):
  shown = _shown()
  path = tmp_path / 'page.html'
  path.write_text(attention_page(shown), 'utf-8')
  page = chromium
  for options in ({}, {'dark': True}, {'width': 390}):
    page.open(path, **options)
    page.run("document.querySelector('details').open = true")
    assert page.faint_texts() == []
    assert page.run('document.documentElement.scrollWidth <= innerWidth')
  assert page.run(_MARKED) == [['▁да'], []]

  # By keyboard: three menus, then the tokens that attend, and the arrow keys.
  for _ in range(4):
    page.press('Tab')
  page.press('ArrowRight')
  assert page.run('document.activeElement.textContent') == '</s>'
  assert page.run(_MARKED) == [['</s>'], []]
  expected = shown.attended.maps['cross'].weights[1].mean(axis=0)[1]
  small = (
    "[...document.querySelectorAll('.attention-tokens')[1].querySelectorAll('small')]"
  )
  written = page.run(f'{small}.map(x => Number(x.textContent))')
  np.testing.assert_allclose(written, expected, atol=0.006)

  # By mouse: a token that is attended to, and a head.
  page.hover('.attention-side:nth-of-type(2) button:nth-child(2)')
  assert page.run(_MARKED) == [[], ['▁$x_1$']]
  page.run("document.querySelector(\"[data-layer='0'][data-head='2']\").click()")
  assert page.run("document.querySelector('[name=layer]').value") == '0'
  first = small.replace('[1]', '[0]')
  written = page.run(f'{first}.map(x => Number(x.textContent))')
  column = shown.attended.maps['cross'].weights[0, 2, :, 1]
  np.testing.assert_allclose(written, column, atol=0.006)
  assert page.errors == []


@pytest.mark.slow
def test_a_figure_has_one_map_or_all(tmp_path, finished, capsys):
  run = shutil.copytree(finished, tmp_path / 'run')
  for name, options in (('all.png', []), ('one.svg', ['--heads', '2'])):
    path = tmp_path / name
    words = ['attend', str(run), 'w1 w2', '--beam=1', '--kind=encoder']
    assert main([*words, '--output', str(path), *options]) == 0
    assert path.read_bytes().startswith(b'\x89PNG' if name == 'all.png' else b'<?xml')
  assert {x.name for x in tmp_path.iterdir() if x.suffix} == {'all.png', 'one.svg'}
  assert main(['attend', str(run), 'w1 w2', '--beam=1', '--layer', '1']) == 0
  assert 'cross-attention, layer 1, mean of 2 heads' in capsys.readouterr().out
