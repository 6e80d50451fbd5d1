"""Figures of word vectors: maps of chosen words, spectra, density by frequency."""

from collections.abc import Mapping, Sequence
import importlib
import itertools
from pathlib import Path
from types import ModuleType

from matplotlib.axes import Axes
from matplotlib.text import Annotation
import numpy as np

from seqlab.report.figures import COLOURS, MARKERS, figure, legend, lines

METHODS = ('pca', 'tsne', 'umap')
# Offsets of a label from its point, in points of 1/72 inch; the best come first.
_PLACES = (*itertools.product((5, -5), (0, 6, -6, 13, -13)), (0, 6), (0, -6))


def project(
  vectors: np.ndarray, method: str = 'pca', *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray | None]:
  """Projects the directions of vectors to the plane.

  Args:
    vectors: [N, D].
    method: 'pca', the two directions of the largest variance; 'tsne', which preserves
      neighbours (van der Maaten and Hinton 2008,
      https://jmlr.org/papers/v9/vandermaaten08a.html), by scikit-learn; 'umap', the
      same aim (McInnes et al. 2018, https://arxiv.org/abs/1802.03426), by umap-learn.
      In the latter two, large distances have little meaning.
    seed: integer seed of the latter two.

  Returns:
    Points [N, 2]; and for PCA the shares of the variance [2], else None.

  Raises:
    ValueError: the method is unknown, or there are fewer than three vectors.
    RuntimeError: its library is not installed.
  """
  N = len(vectors)
  if method not in METHODS:
    raise ValueError(f'method is {method!r}; it may be {", ".join(METHODS)}')
  if N < 3:
    raise ValueError(f'{N} vectors are too few for a map: give three or more')
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  unit = vectors / np.where(lengths > 0, lengths, 1)
  if method == 'pca':
    return _pca(unit)
  if method == 'tsne':
    kind = _library('sklearn.manifold', 'scikit-learn>=1.5').TSNE
    # Its default of 30 is for many more points.
    projection = kind(perplexity=min(30.0, N / 4), init='pca', random_state=seed)
  else:
    kind = _library('umap', 'umap-learn>=0.5').UMAP
    projection = kind(n_neighbors=min(15, N - 1), random_state=seed, n_jobs=1)
  return np.asarray(projection.fit_transform(unit), float), None


def _pca(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  left, singular, directions = np.linalg.svd(unit - unit.mean(axis=0), False)
  # The sign of a direction is arbitrary: fix it, so that a figure is reproducible.
  largest = np.abs(directions).argmax(axis=1)
  signs = np.sign(directions[np.arange(len(directions)), largest])
  points = (left * singular * signs)[:, :2]
  return points, singular[:2] ** 2 / max(np.sum(singular**2), 1e-30)


def _library(module: str, requirement: str) -> ModuleType:
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise RuntimeError(
      f"this map needs a library: pip install '{requirement}' ({error}); or use "
      "method='pca', which needs none"
    ) from None


def word_map(
  path: str | Path,
  words: Sequence[str],
  vectors: np.ndarray,
  *,
  method: str = 'pca',
  groups: Sequence[str] | None = None,
  links: Sequence[tuple[str, str]] = (),
  title: str = '',
  seed: int = 0,
) -> list[Path]:
  """Draws words as labelled points.

  Args:
    path: path of the figure without '.png' and '.svg'.
    words: N words; more than about a hundred are not readable.
    vectors: vectors [N, D] of these words.
    method: see `project`.
    groups: name of the group of each word; each group has one colour.
    links: pairs of words to be joined by a line, such as capitals and countries.
    title: title of the figure.
    seed: see `project`.

  Returns:
    The two files.

  Raises:
    ValueError: the number of vectors or groups is not that of the words, or a link has
      another word; or as `project`.
    RuntimeError: as `project`.
  """
  groups = [''] * len(words) if groups is None else list(groups)
  if not len(words) == len(vectors) == len(groups):
    raise ValueError(
      f'{len(words)} words have {len(vectors)} vectors and {len(groups)} groups'
    )
  if unknown := {word for pair in links for word in pair} - set(words):
    raise ValueError(f'links have words that are not on the map: {sorted(unknown)}')
  points, shares = project(np.asarray(vectors), method, seed=seed)
  names = list(dict.fromkeys(groups))
  axis = ['', ''] if shares is None else [f'{x:.0%} of the variance' for x in shares]
  titles = dict(title=title, xlabel=axis[0], ylabel=axis[1])
  with figure(path, **titles, size=(8.4, 6.4)) as (axes, files):
    at = dict(zip(words, points, strict=True))
    for pair in links:
      axes.plot(*zip(*(at[w] for w in pair), strict=True), color='#bbbbbb', linewidth=1)
    for i, name in enumerate(names):
      chosen = points[[group == name for group in groups]]
      style = dict(color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)])
      axes.scatter(*chosen.T, s=16, label=name, zorder=3, **style)
    if shares is None:
      axes.set(xticks=[], yticks=[])  # the coordinates have no meaning
    axes.margins(0.08)
    legend(axes, len(names) if any(names) else 0, outside=True)
    colours = [COLOURS[names.index(group) % len(COLOURS)] for group in groups]
    between = np.linspace(0, 1, 50)[:, None]
    along = [at[a] + between * (at[b] - at[a]) for a, b in links]
    _label(axes, points, words, colours, np.concatenate([points, *along]))
  return files


def _label(
  axes: Axes,
  points: np.ndarray,
  words: Sequence[str],
  colours: Sequence[str],
  drawn: np.ndarray,
) -> None:
  """Labels the points, each where its label covers least of points and other labels.

  Args:
    axes: axes with the points.
    points: coordinates [N, 2].
    words: N labels.
    colours: colour of each label.
    drawn: points [n, 2] that a label should not cover.
  """
  axes.figure.draw_without_rendering()  # fixes the positions in pixels
  drawn = axes.transData.transform(drawn)
  frame, occupied = axes.get_window_extent().extents, np.zeros((0, 4))
  for word, point, colour in zip(words, points, colours, strict=True):
    texts = [_text(axes, word, point, place, colour) for place in _PLACES]
    boxes = [text.get_window_extent().extents for text in texts]  # [x, y, x, y]
    # A label far from its point is ambiguous.
    distance_cost = [y * y for _, y in _PLACES]
    cost = [_covered(box, drawn, occupied, frame) for box in boxes]
    best = np.argmin(np.add(cost, distance_cost))
    for i, text in enumerate(texts):
      if i != best:
        text.remove()
    occupied = np.concatenate([occupied, boxes[best][None]])


def _text(
  axes: Axes, word: str, point: np.ndarray, place: tuple[int, int], colour: str
) -> Annotation:
  x, y = np.sign(place)
  return axes.annotate(
    word,
    point,
    place,
    textcoords='offset points',
    ha=('center', 'left', 'right')[x],
    va='center' if x or not y else ('bottom' if y > 0 else 'top'),
    fontsize=9,
    color=colour,
  )


def _covered(
  box: np.ndarray, drawn: np.ndarray, occupied: np.ndarray, frame: np.ndarray
) -> float:
  """Returns the cost of a place: covered labels and points, and parts outside."""
  inside = (drawn > box[:2] - 2).all(axis=1) & (drawn < box[2:] + 2).all(axis=1)
  size = np.minimum(occupied[:, 2:], box[2:]) - np.maximum(occupied[:, :2], box[:2])
  out = np.maximum(frame[:2] - box[:2], 0) + np.maximum(box[2:] - frame[2:], 0)
  shared = np.prod(np.maximum(size, 0), axis=1)
  # Two labels on each other are harder to read than a label on a line.
  return float(150 * inside.sum() + 5 * shared.sum() + 100 * out.sum())


def spectrum(
  path: str | Path, values: Mapping[str, Sequence[np.ndarray]], *, title: str = ''
) -> list[Path]:
  """Draws singular values by their rank, with both axes logarithmic.

  Args:
    path: path of the figure without '.png' and '.svg'.
    values: label -> singular values [D] of each seed, the largest first.
    title: title of the figure.

  Returns:
    The two files.

  Raises:
    ValueError: singular values increase, or are not positive.
  """
  for label, seeds in values.items():
    for one in seeds:
      if np.any(np.diff(one) > 0) or np.min(one) <= 0:
        raise ValueError(f'singular values of {label!r} increase, or are not positive')
  curves = {
    label: [(list(range(1, len(one) + 1)), list(one)) for one in seeds]
    for label, seeds in values.items()
  }
  axes = dict(xlog=True, ylog=True, title=title)
  return lines(path, curves, 'rank', 'singular value', **axes)


def by_rank(
  path: str | Path,
  series: Mapping[str, tuple[np.ndarray, np.ndarray]],
  *,
  ylabel: str = 'mean cosine to the nearest 10 words',
  title: str = '',
  bins: int = 12,
) -> list[Path]:
  """Draws values of words by the rank of their frequency, with medians of bins.

  Args:
    path: path of the figure without '.png' and '.svg'.
    series: label -> ranks [W], 1 for the most frequent word, and values [W], such as
      the arrays `density/rank` and `density/cosine` of the evaluator `similarity`.
    ylabel: label of the values.
    title: title of the figure.
    bins: number of bins, of equal width in the logarithm of the rank.

  Returns:
    The two files.
  """
  labels = dict(xlabel='rank of frequency', ylabel=ylabel, title=title)
  with figure(path, **labels) as (axes, files):
    for i, (label, (rank, values)) in enumerate(series.items()):
      rank, values = np.asarray(rank), np.asarray(values)
      colour = COLOURS[i % len(COLOURS)]
      axes.scatter(rank, values, s=7, alpha=0.25, linewidth=0, color=colour)
      middle, median = _medians(rank, values, bins)
      marker = MARKERS[i % len(MARKERS)]
      axes.plot(middle, median, color=colour, marker=marker, label=label)
    axes.set_xscale('log')
    # The points leave no room inside the axes for more than two entries.
    legend(axes, len(series), outside=len(series) > 2)
  return files


def _medians(
  rank: np.ndarray, values: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the middle rank and the median value of each bin that has words."""
  edges = np.geomspace(1, rank.max() + 1, bins + 1)
  bin_of = np.digitize(rank, edges)
  masks = [bin_of == k for k in np.unique(bin_of)]
  middle = [np.exp(np.log(rank[mask]).mean()) for mask in masks]
  return np.array(middle), np.array([np.median(values[mask]) for mask in masks])
