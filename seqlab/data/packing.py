"""Several sentence pairs in one row, with as little padding as first fit leaves."""

import numpy as np

_OPEN = 64  # rows that may be open at a time


def pack(
  source: np.ndarray, target: np.ndarray, width: int, *, order: np.ndarray
) -> list[np.ndarray]:
  """Fills rows of `width` source and `width` target positions, first fit.

  Rows that have no room for a pair of average size are closed, so that only a
  few are open at a time and packing takes linear time.

  Args:
    source: [R] lengths of the source sides.
    target: [R] lengths of the target sides.
    width: positions of a row, on either side.
    order: the pairs to pack, in the order in which they are placed.

  Returns:
    For each row, the pairs in it.
  """
  small = max(1, int(np.minimum(source[order], target[order]).mean()) // 2)
  room: list[list[int]] = []  # of each open row: source left, target left
  held: list[list[int]] = []
  rows: list[np.ndarray] = []
  for pair, s, t in zip(
    order.tolist(), source[order].tolist(), target[order].tolist(), strict=True
  ):
    fits = (i for i, free in enumerate(room) if s <= free[0] and t <= free[1])
    i = next(fits, len(room))
    if i == len(room):
      room.append([width, width])
      held.append([])
    room[i][0] -= s
    room[i][1] -= t
    held[i].append(pair)
    full = i if min(room[i]) < small else 0 if len(room) > _OPEN else None
    if full is not None:
      rows.append(np.array(held.pop(full)))
      room.pop(full)
  rows += [np.array(pairs) for pairs in held]
  return rows
