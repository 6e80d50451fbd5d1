"""Attention of one example, to look at: a page, a figure, or lines of text.

The page has one component, `attention.js` with `attention.css`, which other pages may
use: an element with `data-attention="ID"` shows the data of the script element ID,

    {"sides": {"source": {"tokens": [...], "words": [...]}, ...},
     "maps": [{"kind": "cross", "rows": "target", "columns": "source", "layers": 6,
               "heads": 8, "weights": "..."}, ...],
     "first": 0}

where `weights` are float32 [layers, heads, rows, columns], little-endian, in base64, and
`first` is the number of the map that is shown at first.
"""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.io import files
from seqlab.io.files import replacing, write_text
from seqlab.pages.html import Component, Markup, element, facts, json_element, page
from seqlab.tasks.interface import Attended, AttentionMap
from seqlab.text.lines import words
from seqlab.use.alignment import Selection, alignment, pharaoh
from seqlab.use.attention import Shown

_PAGES, _FIGURES = ('.html', '.htm'), ('.png', '.svg')
_LARGEST = 2**26  # bytes of a page; browsers get slow with more
_MOST_PIXELS = 2**26  # of a figure; drawing as many takes seconds
_LISTED = 3  # columns that a line of text names
_LABELLED = 24  # tokens of a side that a small map has labels for
# Kind of attention -> its name in titles.
_NAMES = {
  'encoder': 'encoder self-attention',
  'decoder': 'decoder self-attention',
  'cross': 'cross-attention',
}


def check_options(
  output: str | Path | None,
  *,
  kind: str | None,
  selection: Selection,
  with_alignment: bool,
) -> None:
  """Raises an error if options of `show_attention` are wrong, or have no effect.

  Raises:
    ValueError: an option has no effect on what is written or printed, or the suffix of
      `output` is not one of a page or a figure.
    OSError: see `io.files.check_output`.
  """
  if output:
    _check_output(output)
  aligns = with_alignment or (output and _is_page(output))
  if selection.unit != 'word' and not aligns:
    raise ValueError(
      f'--unit {selection.unit} has no effect: it is for alignments; add --alignment, '
      'or leave it out'
    )
  if kind is not None and with_alignment and not output:
    raise ValueError(
      f'--kind {kind} has no effect: an alignment is of cross-attention; add --output, '
      'or leave one of them out'
    )


def _check_output(path: str | Path) -> None:
  if Path(path).suffix.lower() not in (*_PAGES, *_FIGURES):
    raise ValueError(
      f'--output {path}: name a page (.html) or a figure ({" or ".join(_FIGURES)})'
    )
  files.check_output(path)


def _is_page(path: str | Path) -> bool:
  return Path(path).suffix.lower() in _PAGES


def show_attention(
  shown: Shown,
  output: str | Path | None = None,
  *,
  kind: str | None = None,
  selection: Selection = Selection(),  # noqa: B008  # frozen
  with_alignment: bool = False,
) -> None:
  """Writes a page or a figure; prints the alignment, or the strongest weights.

  Args:
    shown: the attention of a run.
    output: a file for the page or the figure. Without one, and without the alignment,
      the tokens that get most attention are printed.
    kind: kind of attention; by default 'cross' if there is one.
    selection: layer, heads and units. A figure without a chosen layer or head has maps
      of all of them.
    with_alignment: whether to print the alignment in Pharaoh form.

  Raises:
    ValueError: the model has no such kind, layer or head, an option has no effect, or
      the page or the figure would be too large.
  """
  kind = _checked_kind(shown.attended, kind)
  pairs = alignment(shown.attended, selection) if with_alignment else None
  weights = selection.weights(shown.attended.maps[kind])
  if output and _is_page(output):
    _check_page_options(shown.attended, selection)
    write_text(output, attention_page(shown, kind, selection))
  elif output:
    attention_figure(output, shown.attended, kind, selection)
  elif pairs is None:
    print(_listed(shown, kind, weights, selection))
  if pairs is not None:
    print(pharaoh(pairs))
  if output:
    print(f'written: {output}')


def _check_page_options(attended: Attended, selection: Selection) -> None:
  if 'cross' not in attended.maps and selection != Selection():
    raise ValueError(
      '--layer, --heads and --unit have no effect: a page has all layers and heads, and '
      'this model has no cross-attention to align by; leave them out'
    )


def _checked_kind(attended: Attended, kind: str | None) -> str:
  if kind is None:
    return 'cross' if 'cross' in attended.maps else next(iter(attended.maps))
  if kind not in attended.maps:
    raise ValueError(f'--kind {kind}: the model has {", ".join(attended.maps)}')
  return kind


def attention_page(
  shown: Shown,
  kind: str | None = None,
  selection: Selection = Selection(),  # noqa: B008
) -> str:
  """Returns a self-contained page with all kinds, layers and heads.

  Args:
    shown: the attention of a run.
    kind: kind of attention that is shown at first; see `show_attention`.
    selection: layer and heads of the alignment of words on the page.

  Raises:
    ValueError: the page would be too large for a browser.
  """
  data = attention_data(shown.attended, _checked_kind(shown.attended, kind))
  size = sum(len(x['weights']) for x in data['maps'])
  if size > _LARGEST:
    raise ValueError(
      f'the page would have {size / 2**20:,.0f} MB, and at most '
      f'{_LARGEST / 2**20:,.0f} MB are written: give a shorter text'
    )
  component = Component.of('attention')
  body = [
    _facts(shown),
    element('p', EXPLANATION),
    element('div', element('p', NO_SCRIPT), data_attention='attention-data'),
    *_alignment_of(shown, selection),
    json_element('attention-data', data),
  ]
  return page(f'Attention of {Path(shown.run).name}', body, [component])


EXPLANATION = (
  'Each row of attention weights sums to 1. Point at a token, or move to it with the '
  'keyboard (Tab, then the arrow keys): the tokens of the other line show the weights. '
  '</s> is the end of a sentence or a line, and <s> the beginning.'
)
NO_SCRIPT = 'The weights are shown by a script, which this browser has not run.'


def attention_data(attended: Attended, first: str) -> dict[str, Any]:
  """Returns the data of the component, see this module; `first` is a kind."""
  kinds = [*attended.maps]
  return {
    'sides': {name: side._asdict() for name, side in attended.sides.items()},
    'maps': [_encoded(kind, x) for kind, x in attended.maps.items()],
    'first': kinds.index(first),
  }


def _encoded(kind: str, attention: AttentionMap) -> dict[str, Any]:
  layers, heads = attention.weights.shape[:2]
  weights = np.ascontiguousarray(attention.weights, '<f4').tobytes()
  return {
    'kind': kind,
    'rows': attention.rows,
    'columns': attention.columns,
    'layers': layers,
    'heads': heads,
    'weights': base64.b64encode(weights).decode(),
  }


def _facts(shown: Shown) -> Markup:
  names = {'target': 'target (decoded)' if shown.decoded else 'target (given)'}
  texts = {names.get(side, side): text for side, text in shown.texts.items()}
  steps = ', '.join(f'{step:,}' for step in shown.steps)
  return facts({'run': shown.run, 'steps of checkpoints': steps, **texts})


def _alignment_of(shown: Shown, selection: Selection) -> list[Markup]:
  """Returns a section with the alignment, if the model has cross-attention."""
  attended = shown.attended
  if 'cross' not in attended.maps:
    return []
  pairs = alignment(attended, selection)
  source, target = (
    _units(shown, side, selection.unit) for side in ('source', 'target')
  )
  rows = [
    element(
      'tr',
      *(element('td', text, dir='auto') for text in (target[j], source[i], f'{i}-{j}')),
    )
    for i, j in sorted(pairs, key=lambda pair: pair[1])
  ]
  head = element(
    'tr', *(element('th', x, scope='col') for x in ('target', 'source', 'pair'))
  )
  made = selection.describe(attended.maps['cross'])
  return [
    element('h2', f'Alignment of {selection.unit}s'),
    element(
      'p',
      f'Each {selection.unit} of the target with the {selection.unit} of the source that '
      f'gets most attention when it is predicted ({made}).',
    ),
    element('p', element('code', pharaoh(pairs))),
    element('div', element('table', head, *rows), class_='scroll'),
  ]


def _units(shown: Shown, name: str, unit: str) -> list[str]:
  """Returns the texts of a side's tokens or words, by their numbers."""
  side = shown.attended.sides[name]
  if unit == 'token':
    return side.tokens
  texts: dict[int, list[str]] = {}
  for token, word in zip(side.tokens, side.words, strict=True):
    texts.setdefault(word, []).append(token)
  count = max(texts, default=-1) + 1
  written = words(shown.texts[name])
  if len(written) == count:
    return written
  return [' '.join(texts.get(i, ())) for i in range(count)]


def _listed(shown: Shown, kind: str, weights: np.ndarray, selection: Selection) -> str:
  """Returns the tokens that get most attention, one line per token that attends."""
  attention = shown.attended.maps[kind]
  rows = shown.attended.sides[attention.rows].tokens
  columns = shown.attended.sides[attention.columns].tokens
  lines = [f'{_NAMES.get(kind, kind)}, {selection.describe(attention)}']
  width = max(map(len, rows), default=0)
  for token, row in zip(rows, weights, strict=True):
    best = np.argsort(-row, kind='stable')[:_LISTED]
    strongest = '  '.join(f'{columns[j]} {row[j]:.2f}' for j in best)
    lines.append(f'  {token:{width}s}  {strongest}')
  return '\n'.join(lines)


def attention_figure(
  path: str | Path,
  attended: Attended,
  kind: str,
  selection: Selection = Selection(),  # noqa: B008
) -> None:
  """Draws one map with its weights, or small maps of all layers and heads.

  Args:
    path: the file; its suffix gives the format.
    attended: the attention.
    kind: kind of attention.
    selection: layer and heads of one map; without them all are drawn.

  Raises:
    ValueError: the figure would be too large.
  """
  from matplotlib import rc_context
  from matplotlib.figure import Figure

  from seqlab.report.figures import STYLE

  attention = attended.maps[kind]
  rows, columns = (
    attended.sides[side].tokens for side in (attention.rows, attention.columns)
  )
  name = _NAMES.get(kind, kind)
  if selection.is_default:
    grid = attention.weights
    title = f'{name}: rows attend to columns'
  else:
    grid = selection.weights(attention)[None, None]
    title = f'{name}, {selection.describe(attention)}'
  layers, heads = grid.shape[:2]
  is_single = (layers, heads) == (1, 1)
  cell = 0.26 if is_single else 0.17  # inches
  if max(len(rows), len(columns)) > _LABELLED:
    cell = 0.1
  size = [max(n * cell, 1.2) for n in (len(columns), len(rows))]
  with rc_context({**STYLE, 'axes.grid': False, 'font.size': 9 if is_single else 7}):
    width = max(heads * size[0] + 1.6, 5.0)  # room for the title
    height = layers * size[1] + 1.8
    _check_pixels(width * STYLE['savefig.dpi'], height * STYLE['savefig.dpi'])
    drawn = Figure(figsize=(width, height))
    drawn.suptitle(title)
    for i, j in np.ndindex(layers, heads):
      axes = drawn.add_subplot(layers, heads, i * heads + j + 1)
      axes.imshow(grid[i, j], cmap='Blues', vmin=0, vmax=1, aspect='auto')
      _label(axes, rows if j == 0 else [], columns if i == layers - 1 else [])
      if not is_single:
        axes.set_title(f'layer {i + 1}, head {j + 1}', fontsize=8)
    suffix = Path(path).suffix[1:].lower()
    metadata = {'png': {'Software': None}, 'svg': {'Date': None}}[suffix]
    with replacing(path) as temporary:
      drawn.savefig(temporary, format=suffix, metadata=metadata)


def _check_pixels(width: float, height: float) -> None:
  if width * height > _MOST_PIXELS:
    raise ValueError(
      f'the figure would have {width:,.0f} x {height:,.0f} pixels: choose --layer and '
      '--heads, give a shorter text, or write a page (.html)'
    )


def _label(axes: Any, rows: list[str], columns: list[str]) -> None:
  """Labels the tokens along a map, where there is room for them."""
  rows = rows if len(rows) <= _LABELLED else []
  columns = columns if len(columns) <= _LABELLED else []
  # Without mathematics: a token may be a dollar sign.
  axes.set_yticks(range(len(rows)), rows, parse_math=False)
  axes.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
