"""How long a compiled step takes on some chip, at best: a model, not a measurement.

Williams, Waterman and Patterson, "Roofline", 2009, https://doi.org/10.1145/1498765.1498785,
for what happens on a device; rings for what happens between them (Thakur, Rabenseifner
and Gropp, "Optimization of Collective Communication Operations in MPICH", 2005).
"""

import dataclasses
import itertools
import math

from seqlab.chips import Chip
from seqlab.train.collectives import Collective

UTILISATION = 0.5  # of the peak that matrix products reach; an assumption
# Seconds until the first byte is at the next chip of a node, at the next node; assumed.
HOP, NETWORK_HOP = 1e-6, 5e-6

ASSUMPTIONS = f"""\
Assumed: matrix products at {UTILISATION:.0%} of the peak in bfloat16, whatever their size; each
reads and writes memory once, all else is fused; the optimiser reads and writes its state
once. Collectives of one place in the program go as one, at full bandwidth of the links,
as rings within a node and between nodes, {HOP * 1e6:.0f} us a hop within and {NETWORK_HOP * 1e6:.0f} us x log2(nodes) between
them. 'step' is without any overlap of computing and sending, 'at best' with all of it.
Memory is as XLA's CPU compiler lays arrays out: up to about twice what a GPU's needs."""


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Seconds of a step.

  Attributes:
    compute: matrix products.
    memory: reading and writing the device's memory.
    sending: collectives.
    latency: the part of sending that is waiting, however little is sent.
  """

  compute: float
  memory: float
  sending: float
  latency: float

  @property
  def alone(self) -> float:
    """What a device does by itself."""
    return max(self.compute, self.memory)

  @property
  def step(self) -> float:
    """One after the other."""
    return self.alone + self.sending

  @property
  def at_best(self) -> float:
    """All of one while the other."""
    return max(self.alone, self.sending)


def estimate(
  chip: Chip, flops: float, moved: float, found: list[Collective]
) -> Estimate:
  """Of a program of `flops` and `moved` bytes of memory traffic on each device."""
  sending = latency = 0.0
  # What stands in one place along the same devices is combined by accelerators' XLA.
  keyed = sorted(found, key=_place)
  for _, group in itertools.groupby(keyed, key=_place):
    together = list(group)
    inside, outside = _span(together[0], chip)
    kind, runs = together[0].kind, together[0].runs
    size = sum(one.bytes for one in together)
    waiting = runs * _wait(kind, inside, outside, chip)
    latency += waiting
    sending += waiting + runs * _seconds(kind, size, inside, outside, chip)
  return Estimate(
    flops / (chip.flops * UTILISATION), moved / chip.memory_speed, sending, latency
  )


def _place(one: Collective) -> tuple:
  # A gather forwards and one backwards stand in different places already.
  return one.place, one.kind, one.runs, one.groups.shape, tuple(one.groups[0].tolist())


def _span(one: Collective, chip: Chip) -> tuple[int, int]:
  """Devices of the group in a node, and nodes; neighbours by number share a node."""
  nodes = len(set((one.groups[0] // chip.node).tolist()))
  return math.ceil(one.groups.shape[1] / nodes), nodes


def _seconds(kind: str, size: float, inside: int, outside: int, chip: Chip) -> float:
  """Of bytes on their way: a ring in the node, and one between nodes of its shares."""
  if kind == 'collective-permute':
    return size / (chip.link if outside == 1 else chip.network)
  times = 2 if kind == 'all-reduce' else 1  # scattered, then gathered
  if kind == 'all-to-all':
    size /= inside * outside  # each sends all but its own part of its part
  within = (inside - 1) / inside * size / chip.link
  between = (outside - 1) / outside * size / inside / chip.network if outside > 1 else 0
  return times * (within + between)


def _wait(kind: str, inside: int, outside: int, chip: Chip) -> float:
  """Until the first byte has been everywhere."""
  times = 2 if kind == 'all-reduce' else 1
  hops = inside - 1
  if chip.torus:  # half way round each dimension
    hops = min(hops, math.ceil(chip.torus * inside ** (1 / chip.torus) / 2))
  return times * (hops * HOP + math.log2(outside) * NETWORK_HOP)
