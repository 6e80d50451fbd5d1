"""Finds the largest batch that fits a chip's memory."""

from collections.abc import Callable, Mapping
import math
from typing import Any

from seqlab.plan.programs import DoesNotFitError, PlannedStep

_TRIES = 6  # programs that are compiled at most
_ENOUGH = 0.95  # share of the memory from which on no larger batch is tried


def largest_tokens(
  plan: Callable[[int], PlannedStep],
  batching: Mapping[str, Any],
  memory: float,
) -> tuple[int, PlannedStep]:
  """Returns the largest `batching.tokens` that fits, and the program for it.

  The memory of a program is nearly a linear function of its batch. The next number to
  try is where the line through the last two programs meets the memory of the chip.

  Args:
    plan: compiles the program for a number of tokens; raises DoesNotFitError if its
      compiler says so.
    batching: the experiment's section, whose `tokens` is tried first.
    memory: bytes of the chip.

  Raises:
    ValueError: the section has no `tokens`, or not even the smallest batch fits.
  """
  if 'tokens' not in batching:
    raise ValueError(
      '--fit varies batching.tokens, which this experiment does not have'
    )
  unit = batching.get('rows_multiple', 1) * (batching.get('max_length') or 64)
  tokens = max(batching['tokens'] // unit, 1) * unit
  measured: dict[int, float] = {}
  best: tuple[int, PlannedStep] | None = None
  too_large = None  # the smallest number that does not fit
  for tries_left in reversed(range(_TRIES)):
    try:
      step = plan(tokens)
      measured[tokens] = needed = step.memory.total
    except DoesNotFitError as error:
      if error.needed is not None:
        measured[tokens] = error.needed
      needed = math.inf
    if needed <= memory:
      best = max(best or (0, step), (tokens, step), key=lambda pair: pair[0])
    else:
      too_large = min(too_large or tokens, tokens)
    if best and best[1].memory.total > _ENOUGH * memory:
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
