"""Searches for the largest batch that fits a device's memory."""

from collections.abc import Callable, Mapping
import math
from typing import TypeVar

from seqlab.compile.memory import DoesNotFitError

_Program = TypeVar('_Program')

_TRIES = 6  # programs that are compiled at most
_ENOUGH = 0.95  # share of the memory from which on no larger batch is tried


def largest_tokens(
  compile_for: Callable[[int], tuple[float, _Program]],
  *,
  first: int,
  unit: int,
  memory: float,
  most: float = math.inf,
) -> tuple[int, _Program]:
  """Returns the largest `batching.tokens` that fits, and the program for it.

  The memory of a program is nearly a linear function of its batch. The next number to
  try is where the line through the last two programs meets the memory of the chip.

  Args:
    compile_for: compiles the program for a number of tokens; returns the bytes that it
      needs on a device, and the program. It raises DoesNotFitError if the compiler
      refuses it.
    first: number of tokens that is tried first.
    unit: tokens of the smallest batch, of which the others are multiples.
    memory: bytes of the device.
    most: bound on the tokens.

  Raises:
    ValueError: not even the smallest batch fits.
  """
  tokens = max(int(min(first, most)) // unit, 1) * unit
  measured: dict[int, float] = {}
  best: tuple[int, _Program] | None = None
  # The smallest number that does not fit, or is above the bound.
  too_large = None if most == math.inf else max(int(most) // unit, 1) * unit + unit
  for tries_left in reversed(range(_TRIES)):
    try:
      needed, program = compile_for(tokens)
      measured[tokens] = needed
    except DoesNotFitError as error:
      if error.needed is not None:
        measured[tokens] = error.needed
      needed = math.inf
    if needed <= memory:
      best = tokens, program  # larger than the ones before that fit
    else:
      too_large = min(too_large or tokens, tokens)
    if best and measured[best[0]] > _ENOUGH * memory:
      break
    tokens = _next(measured, best and best[0], too_large, memory, unit)
    if tokens is None:
      break
    if best is None and tries_left == 1:
      tokens = unit  # whether any batch fits is known only after the smallest one
  if best is None:
    raise ValueError(
      f"not even a batch of {unit:,} tokens fits: set model.remat='products' or 'full', "
      f'shard the parameters (mesh.fsdp), or lower batching.rows_multiple'
    )
  return best


def _next(
  measured: Mapping[int, float],
  fits: int | None,
  too_large: int | None,
  memory: float,
  unit: int,
) -> int | None:
  """Returns the next number of tokens to try; None if there is none in between."""
  low, high = (fits or 0) // unit, too_large and too_large // unit
  guess = _on_the_line(measured, memory, unit)
  if guess is None:
    guess = 2 * low if high is None else (low + high) // 2
  guess = max(guess, low + 1)
  if high is not None:
    guess = min(guess, high - 1)
  return guess * unit if guess > low else None


def _on_the_line(measured: Mapping[int, float], memory: float, unit: int) -> int | None:
  if len(measured) < 2:  # as if nothing but the batch took memory
    return next(
      (int(memory / x * tokens // unit) for tokens, x in measured.items()), None
    )
  (a, bytes_a), (b, bytes_b) = sorted(measured.items())[-2:]
  slope = (bytes_b - bytes_a) / (b - a)
  if slope <= 0:
    return None
  return int((a + (0.99 * memory - bytes_a) / slope) // unit)
