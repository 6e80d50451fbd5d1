"""Chooses the batch of a run that leaves `batching.tokens` to its devices."""

from collections.abc import Mapping
import dataclasses

import jax

from seqlab.compile.fit import largest_tokens
from seqlab.compile.memory import explain_refusal, program_bytes
from seqlab.data.batching import AUTO, TOKENS, smallest_batch
from seqlab.io.console import amount
from seqlab.train import processes
from seqlab.train.device import memory_limit
from seqlab.train.engines import make_engine
from seqlab.train.folder import RunFolder
from seqlab.train.setup import prepare

# Share of a device's memory that is left for what is not in the program of a step: the
# arrays of evaluators, the batch of the next step, gaps between arrays.
_RESERVE = 0.1


def with_largest_batch(folder: RunFolder) -> RunFolder:
  """Replaces `batching.tokens='auto'` by the largest number that fits the devices.

  Programs of all shapes have to fit. The number is at most the tokens of an epoch
  divided by the number of shapes: with less than about one full batch per shape, most
  positions would be padding.

  Args:
    folder: folder of a run; if it has a `config.json`, `open_folder` has taken the
      number from there.

  Returns:
    The folder, with a number in its experiment.

  Raises:
    ValueError: the devices do not state the size of their memory, or no batch fits.
  """
  batching = folder.config.get('batching')
  if not isinstance(batching, Mapping) or batching.get('tokens') != AUTO:
    return folder
  # Process 0 decides, since all processes have to compile the same programs.
  limit = processes.broadcast_from_primary(memory_limit())
  if limit is None:
    raise ValueError(
      f"batching.tokens='{AUTO}' takes the largest batch that fits the memory of the "
      'devices, and these do not state its size (CPUs never do): set a number'
    )
  memory, unit = (1 - _RESERVE) * limit, smallest_batch(batching)
  first = max(TOKENS, unit)
  _, batches, _ = prepare(_with_tokens(folder, first))
  epoch = batches.tokens_per_step * batches.steps_per_epoch
  tokens, needed = largest_tokens(
    _Sizes(folder, memory),
    first=first,
    unit=unit,
    memory=memory,
    most=epoch / len(batches.shapes),
  )
  if processes.is_primary():
    print(
      f'{folder.name}: the largest batch that fits is batching.tokens={tokens:,}, with '
      f'{amount(needed)} of {amount(limit)} per device'
    )
  return _with_tokens(folder, tokens)


def _with_tokens(folder: RunFolder, tokens: int) -> RunFolder:
  batching = {**folder.config['batching'], 'tokens': tokens}
  return dataclasses.replace(folder, config={**folder.config, 'batching': batching})


class _Sizes:
  """Compiles the steps of a run with other batches, to know their memory."""

  def __init__(self, folder: RunFolder, memory: float):
    """Takes the run, and the bytes above which a program does not fit."""
    self._folder, self._memory = folder, memory
    self._last: dict[int, int] = {}  # number of a shape -> bytes of its last program

  def __call__(self, tokens: int) -> tuple[int, int]:
    """Returns the bytes of the largest program, twice; or of one that does not fit."""
    folder = _with_tokens(self._folder, tokens)
    task, batches, timetable = prepare(folder)
    engine = make_engine(folder.config, task, timetable.steps)
    engine.definition.check(batches.shapes)
    # What was largest before comes first, since the others need not be compiled where
    # it does not fit. At first that is the shape of the longest sentences.
    numbers = range(len(batches.shapes))
    needed = 0
    for i in sorted(numbers, key=lambda i: self._last.get(i, i), reverse=True):
      try:
        self._last[i] = program_bytes(engine.compile(batches.shapes[i]))
      except jax.errors.JaxRuntimeError as error:
        raise explain_refusal(error) from None
      needed = max(needed, self._last[i])
      if needed > self._memory:
        break
    return needed, needed
