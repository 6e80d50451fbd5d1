r"""Sinusoidal positions: one rotation takes every p(t) to p(t + k).

  python -m launch.sweep experiments/lecture/rotation.py --workdir runs/studies

The lecture, point 7.1: "thanks to the rotation matrix there is a linear map between these
vectors" (Vaswani et al. 2017, section 3.5, https://arxiv.org/abs/1706.03762). Nothing is
trained. `layers.positions.sinusoidal` is computed in float64 for 2,000 positions, and M
from its frequencies.

Predicted: M is right at all positions. An error of M that grows with t, or one above
1e-9, would refute the claim. A matrix that is fitted to 64 positions, by least squares
with or without the condition that it is orthogonal, is right at these positions and wrong
at later ones, since they span fewer dimensions than a vector has.
"""

import csv

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.layers.positions.sinusoidal import rotation, sinusoidal
from seqlab.report.figures import COLOURS, figure, heatmap, lines
from seqlab.report.tables import Column, table

WIDTH, LENGTH, SHORT, K = 64, 2_000, 64, 5


def study(folder):
  with jax.enable_x64(True):  # float32 has an error of t * 1e-7 radians
    p = np.asarray(sinusoidal(jnp.arange(LENGTH + K), WIDTH))  # [T + K, D]
    M = np.asarray(rotation(K, WIDTH))
  _draw_vectors(folder, p)
  _draw_blocks(folder, M)
  _draw_clocks(folder, p)
  _draw_products(folder, p)
  maps = {
    'rotation by the frequencies': (M, 0),
    'least squares': (_least_squares(p, SHORT), SHORT),
    'least squares, orthogonal': (_procrustes(p, SHORT), SHORT),
    'least squares ': (_least_squares(p, LENGTH), LENGTH),
    'least squares, orthogonal ': (_procrustes(p, LENGTH), LENGTH),
  }
  rows = [
    [name.strip(), f'{n:,}' if n else 'none', *_errors(p, A, M)]
    for name, (A, n) in maps.items()
  ]
  titles = ['matrix A', 'positions it is fitted to', f'error, t < {SHORT}']
  titles += [f'error, {SHORT} <= t < {LENGTH:,}', 'A - M', 'A Aᵀ - 1']
  with (folder / 'rows.csv').open('w', encoding='utf-8', newline='') as file:
    csv.writer(file).writerows([titles, *rows])
  shown = [[*row[:2], *(f'{x:.1e}' for x in row[2:])] for row in rows]
  text = table(shown, [*titles[:2], *map(Column, titles[2:])])
  ranks = [np.linalg.matrix_rank(p[:n], tol=1e-9 * n) for n in (SHORT, LENGTH)]
  text += (
    f'\nLargest absolute entries; the error is A p(t) - p(t + {K}), for {WIDTH} '
    f'dimensions. The first {SHORT} positions span {ranks[0]} dimensions, all '
    f'{LENGTH:,} span {ranks[1]} (singular values above 1e-9 times their number).\n'
  )
  (folder / 'table.md').write_text(text, 'utf-8')


def _least_squares(p, n):
  """Returns the A of least norm with A p(t) nearest to p(t + K), t < n."""
  return np.linalg.lstsq(p[:n], p[K : n + K], rcond=1e-12)[0].T


def _procrustes(p, n):
  """Returns the orthogonal A with A p(t) nearest to p(t + K), t < n."""
  u, _, v = np.linalg.svd(p[K : n + K].T @ p[:n])
  return u @ v


def _errors(p, A, M):
  error = np.abs(p[:LENGTH] @ A.T - p[K : LENGTH + K]).max(axis=1)
  turned = np.abs(A @ A.T - np.eye(WIDTH)).max()
  return error[:SHORT].max(), error[SHORT:].max(), np.abs(A - M).max(), turned


def _draw_vectors(folder, p):
  heatmap(
    folder / 'vectors',
    p[:SHORT].T,
    [str(t) if t % 8 == 0 else '' for t in range(SHORT)],
    [str(i) if i % 8 == 0 else '' for i in range(WIDTH)],
    label='value',
    xlabel='position t',
    ylabel='component (sines, then cosines)',
    title='Sinusoidal positions',
    colours='RdBu',
    limits=(-1, 1),
  )


def _draw_blocks(folder, M, shown=16):
  """Draws M with each frequency's sine beside its cosine: blocks of 2 x 2."""
  order = np.arange(WIDTH).reshape(2, -1).T.reshape(-1)[:shown]
  names = [f'{"cos" if i % 2 else "sin"} {i // 2}' for i in range(shown)]
  heatmap(
    folder / 'rotation',
    M[np.ix_(order, order)],
    names,
    names,
    label='entry',
    xlabel='component of p(t)',
    ylabel=f'component of p(t + {K})',
    title=f'M for k = {K}: a rotation for each of the first {shown // 2} frequencies',
    colours='RdBu',
    limits=(-1, 1),
  )


def _draw_clocks(folder, p, frequencies=(0, 4, 8, 12), times=(0, 10, 20)):
  """Draws hands that point to (cos, sin) of a frequency at t, and at t + K."""
  labels = dict(xlabel='frequency, radians per position', ylabel='position t')
  title = f'Every hand turns by the same angle from t to t + {K}'
  with figure(folder / 'clocks', title=title, **labels, size=(6.4, 4.8)) as (axes, _):
    for x, i in enumerate(frequencies):
      for y, t in enumerate(times):
        axes.add_patch(_circle(x, y))
        for at, colour, label in (
          *((t, COLOURS[0], 't'), (t + K, COLOURS[1], f't + {K}')),
        ):
          sine, cosine = p[at, i], p[at, WIDTH // 2 + i]
          axes.plot(
            *([x, x + 0.4 * cosine], [y, y + 0.4 * sine]),
            **dict(color=colour, linewidth=2.2, solid_capstyle='round'),
            label=label if x == y == 0 else None,
          )
    rates = 10_000.0 ** -(np.array(frequencies) / (WIDTH // 2 - 1))
    axes.set(xlim=(-0.6, len(frequencies) - 0.4), ylim=(-0.6, len(times) - 0.4))
    axes.set_xticks(range(len(frequencies)), [f'{rate:.3g}' for rate in rates])
    axes.set_yticks(range(len(times)), [str(t) for t in times])
    axes.set_aspect('equal')
    axes.grid(False)
    axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False)


def _circle(x, y):
  from matplotlib.patches import Circle

  return Circle((x, y), 0.4, fill=False, color='#999999', linewidth=1.0)


def _draw_products(folder, p, distance=100, starts=(0, 500, 1_500)):
  """Draws p(t) · p(t + k) against k: the curves of all t are the same."""
  lines(
    folder / 'products',
    {
      f't = {t:,}': [([*range(distance + 1)], p[t : t + distance + 1] @ p[t])]
      for t in starts
    },
    'distance k',
    'p(t) · p(t + k)',
    title='The product of two positions depends on their distance alone',
  )


PAPER = []
TIME = '10 seconds'
