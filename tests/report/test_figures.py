import re

import matplotlib
import numpy as np
from PIL import Image
import pytest

from seqlab.report.figures import COLOURS, bars, heatmap, lines, text_colour

STEPS = [0, 10, 20]
SERIES = {
  'ГРУ': [(STEPS, [0.0, 1.0, 2.0]), (STEPS, [0.0, 2.0, 3.0])],
  'LSTM': [(STEPS, [0.0, 3.0, 4.0])],
}


def _pixels(path):
  return np.asarray(Image.open(path).convert('RGB')).reshape(-1, 3)


def _has(path, colour):
  """Returns whether some pixel has that colour."""
  rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
  return (abs(_pixels(path).astype(int) - rgb).max(1) < 3).any()


def test_lines_are_drawn_into_both_files(tmp_path):
  png, svg = lines(
    tmp_path / 'new' / 'peak=0.5', SERIES, 'steps', 'BLEU (%)', reference={'paper': 4.5}
  )
  assert (png.name, svg.name) == ('peak=0.5.png', 'peak=0.5.svg')
  assert _has(png, COLOURS[0])
  assert _has(png, COLOURS[1])
  assert not _has(png, COLOURS[2])


def test_a_range_is_shaded(tmp_path):
  for name, shaded in (('without', None), ('with', {'training': (0, 10)})):
    png, _ = lines(tmp_path / name, SERIES, 'steps', 'BLEU (%)', shaded=shaded)
    grey = abs(_pixels(png).astype(int) - 0xEB).max(1) < 2  # a fifth of #999999
    assert (grey.mean() > 0.1) == bool(shaded)


def test_a_figure_has_the_same_bytes_each_time(tmp_path):
  for name in ('a', 'b'):
    lines(tmp_path / f'{name}.png', SERIES, 'шаги', 'BLEU (%)', spread='bars')
  for suffix in ('png', 'svg'):
    first, second = (tmp_path / f'{name}.{suffix}' for name in 'ab')
    assert first.read_bytes() == second.read_bytes()


def test_the_settings_of_matplotlib_are_restored(tmp_path):
  before = dict(matplotlib.rcParams)
  bars(tmp_path / 'a', {'x': {'a': [1.0]}}, 'y')
  assert dict(matplotlib.rcParams) == before


def test_a_mean_is_drawn_where_all_seeds_have_a_value(tmp_path):
  short = [([0, 10], [1.0, 2.0]), (STEPS, [3.0, 4.0, 900.0])]
  cut = [(curve[0][:2], curve[1][:2]) for curve in short]
  lines(tmp_path / 'a', {'x': short}, 'steps', 'loss')
  lines(tmp_path / 'b', {'x': cut}, 'steps', 'loss')
  assert (tmp_path / 'a.svg').read_bytes() == (tmp_path / 'b.svg').read_bytes()


def test_seeds_without_a_common_step_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r"2 curves of 'x' have no x in common"):
    lines(tmp_path / 'a', {'x': [([1], [1.0]), ([2], [1.0])]}, 'steps', 'loss')


def test_a_spread_that_is_not_known_is_refused(tmp_path):
  with pytest.raises(ValueError, match="spread is 'box'"):
    lines(tmp_path / 'a', SERIES, 'steps', 'loss', spread='box')


def test_few_points_of_a_logarithmic_axis_are_named_themselves(tmp_path):
  curve = [([2, 4, 32], [1.0, 2.0, 3.0])]
  plain = lines(tmp_path / 'a', {'x': curve}, 'beam', 'BLEU (%)')[1]
  log = lines(tmp_path / 'b', {'x': curve}, 'beam', 'BLEU (%)', xlog=True)[1]
  assert plain.read_text('utf-8').count('id="xtick_') > 3
  assert log.read_text('utf-8').count('id="xtick_') == 3


def test_counts_along_x_have_whole_numbers_as_ticks(tmp_path):
  _, svg = lines(tmp_path / 'a', {'x': [([0, 1, 2], [7, 8, 9])]}, 'repairs', 'BLEU')
  _, other = lines(tmp_path / 'b', {'x': [([0, 0.5, 2], [7, 8, 9])]}, 'rate', 'BLEU')
  assert {'0', '1', '2'} <= {*_shown(svg)}
  assert '0.5' not in ''.join(_shown(svg))
  assert any('0.5' in text for text in _shown(other))


def test_a_long_label_of_y_has_several_lines(tmp_path):
  label = 'pieces after the first error that are right (%)'
  _, svg = lines(tmp_path / 'a', SERIES, 'steps', label)
  shown = _shown(svg)
  assert label not in shown
  assert 'pieces after the first error' in ' '.join(shown)


def _shown(svg):
  """Returns the texts of a figure, which SVG has as comments."""
  return re.findall(r'<!-- (.*?) -->', svg.read_text('utf-8'))


def test_points_that_are_near_on_a_logarithmic_axis_have_one_label(tmp_path):
  x = [100, 1000, 2000, 3004, 3010]
  _, svg = lines(tmp_path / 'a', {'x': [(x, x)]}, 'sentences', 'BLEU', xlog=True)
  shown = _shown(svg)
  assert {'100', '1000', '2000'} <= {*shown}
  assert '3010' not in shown


@pytest.mark.parametrize('last', [4.0, 400.0, 4e7])
def test_labels_of_a_logarithmic_y_are_numbers(tmp_path, last):
  _, svg = lines(tmp_path / 'a', {'x': [([1, 2], [0.7, last])]}, 'x', 'y', ylog=True)
  shown = [text for text in _shown(svg) if text not in ('1', '2', 'x', 'y')]
  if last < 100:
    assert '3' in shown
    assert not any('$' in text for text in shown)
  else:
    # A formula that matplotlib has read leaves a comment and no plain text of itself.
    assert any('10^{' in text for text in shown)
  assert not any('$' in text and 'mathdefault' not in text for text in shown)


def test_bars_of_several_series_have_their_colours(tmp_path):
  values = {'a': [1.0, 2.0], 'b': [2.0, 3.0]}
  png, _ = bars(tmp_path / 'a', {'train': values, 'test': {'b': [2.0]}}, 'y', digits=1)
  assert _has(png, COLOURS[0])
  assert _has(png, COLOURS[1])


def test_a_heatmap_spans_its_limits(tmp_path):
  matrix = [[0.0, 0.5], [0.5, np.nan]]
  options = dict(label='weight', digits=1)
  labels = ['кот', 'пёс'], ['cat', 'dog']
  default_scale, _ = heatmap(tmp_path / 'a', matrix, *labels, **options)
  wide, _ = heatmap(tmp_path / 'b', matrix, *labels, limits=(-1, 2), **options)
  yellow = (_pixels(default_scale) == (253, 231, 36)).all(1).sum()
  assert yellow > 1.5 * (_pixels(wide) == (253, 231, 36)).all(1).sum()


@pytest.mark.parametrize(
  ('background', 'colour'),
  [
    ((1, 1, 1), 'black'),
    ((0, 0, 0), 'white'),
    # #757575 has a contrast of 4.61 with white, and #777777 of 4.69 with black.
    ((0x75 / 255,) * 3, 'white'),
    ((0x77 / 255,) * 3, 'black'),
    ((33 / 255, 145 / 255, 140 / 255), 'black'),  # the middle of viridis
  ],
)
def test_text_has_the_colour_of_the_larger_contrast(background, colour):
  assert text_colour(background) == colour


def test_a_heatmap_needs_a_label_for_each_row_and_column(tmp_path):
  with pytest.raises(ValueError, match=r'\(1, 2\); there are 1 labels for rows and 1'):
    heatmap(tmp_path / 'a', [[1.0, 2.0]], ['x'], ['y'], label='weight')


@pytest.mark.parametrize('text', [r'$\frac$', '$x$', '$', '100 $ or \\$'])
def test_names_are_not_read_as_formulas(tmp_path, text):
  data = {text: {text: [1.0], 'b': [2.0]}, 'c': {text: [1.0], 'b': [2.0]}}
  texts = dict(xlabel=text, title=text, reference={text: 1.5})
  _, svg = bars(tmp_path / 'a', data, text, **texts)
  lines(tmp_path / 'b', {text: SERIES['LSTM']}, text, text, title=text)
  heatmap(tmp_path / 'c', np.eye(2), [text, 'b'], [text, 'b'], label=text)
  shown = re.findall(r'<!-- (.*?) -->', svg.read_text('utf-8'))
  assert shown.count(text) >= 4  # category, axes and title


def test_powers_of_ten_stay_formulas(tmp_path):
  x = [10**i for i in range(12)]
  _, svg = lines(tmp_path / 'a', {'a': [(x, x)]}, 'x', 'y', xlog=True)
  assert '$\\mathdefault{10^{' in svg.read_text('utf-8')


@pytest.mark.parametrize(
  ('values', 'title'),
  [
    ({'a': [1.0, 2.0, 3.0], 'b': [1.0, 2.0, 3.0]}, 'BLEU (n = 3)'),
    ({'a': [1.0, 2.0, 3.0], 'b': [1.0, 2.0]}, 'BLEU (n = 2 to 3)'),
    ({'a': [1.0]}, 'BLEU'),
  ],
)
def test_the_title_has_the_number_of_seeds(tmp_path, values, title):
  _, svg = bars(tmp_path / 'a', {'model': values}, 'BLEU (%)', title='BLEU')
  assert f'<!-- {title} -->' in svg.read_text('utf-8')
