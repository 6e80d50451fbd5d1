"""Estimates of the time of a compiled step on a chip, by a model without measurement.

The model of a device is that of Williams, Waterman and Patterson, "Roofline", 2009,
https://doi.org/10.1145/1498765.1498785. Communication between devices is modelled by
rings (Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication
Operations in MPICH", 2005).
"""

import dataclasses
import itertools
import math

from seqlab.compile.chips import Chip
from seqlab.compile.collectives import Collective

UTILISATION = 0.5  # assumed share of the peak that matrix products reach
# Assumed seconds until the first byte arrives at the next chip of a node, the next node.
HOP, NETWORK_HOP = 1e-6, 5e-6

ASSUMPTIONS = f"""\
Assumptions: matrix products of any size run at {UTILISATION:.0%} of the peak in bfloat16; each reads
and writes memory once, and all other operations are fused; the optimiser reads and writes
its state once. The collectives of one computation are combined, and use the full bandwidth
of the links, as rings within a node and between nodes, with latencies of {HOP * 1e6:.0f} us per hop
within a node and {NETWORK_HOP * 1e6:.0f} us x log2(nodes) between nodes. 'step' is without any overlap of computation
and communication, 'at best' with complete overlap. Memory is that of XLA's CPU compiler,
which is up to about twice that of a GPU."""


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Estimated times of a step, in seconds.

  Attributes:
    compute: time of the matrix products.
    memory: time of reading and writing the device's memory.
    sending: time of the collectives.
    latency: part of `sending` that does not depend on the number of bytes.
  """

  compute: float
  memory: float
  sending: float
  latency: float

  @property
  def alone(self) -> float:
    """Time of a device's own computation."""
    return max(self.compute, self.memory)

  @property
  def step(self) -> float:
    """Time of the step without overlap of computation and communication."""
    return self.alone + self.sending

  @property
  def at_best(self) -> float:
    """Time of the step with complete overlap."""
    return max(self.alone, self.sending)


def estimate(
  chip: Chip, flops: float, moved: float, collectives: list[Collective]
) -> Estimate:
  """Estimates the times of a program.

  Args:
    chip: data sheet of the devices.
    flops: operations per device.
    moved: bytes of memory traffic per device.
    collectives: the collectives of the program.
  """
  sending = latency = 0.0
  # On accelerators XLA combines the collectives of one computation and device group.
  keyed = sorted(collectives, key=_place)
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
  # Gathers of the forward and the backward pass are in different computations already.
  return one.place, one.kind, one.runs, one.groups.shape, tuple(one.groups[0].tolist())


def _span(one: Collective, chip: Chip) -> tuple[int, int]:
  """Returns the group's devices per node, and nodes, numbered node by node."""
  nodes = len(set((one.groups[0] // chip.node).tolist()))
  return math.ceil(one.groups.shape[1] / nodes), nodes


def _seconds(kind: str, size: float, inside: int, outside: int, chip: Chip) -> float:
  """Returns the transfer time: a ring in each node, and one between nodes."""
  if kind == 'collective-permute':
    return size / (chip.link if outside == 1 else chip.network)
  times = 2 if kind == 'all-reduce' else 1  # scattered, then gathered
  if kind == 'all-to-all':
    size /= inside * outside  # each device sends all but one part of its share
  within = (inside - 1) / inside * size / chip.link
  between = (outside - 1) / outside * size / inside / chip.network if outside > 1 else 0
  return times * (within + between)


def _wait(kind: str, inside: int, outside: int, chip: Chip) -> float:
  """Returns the latency until the first byte has arrived everywhere."""
  times = 2 if kind == 'all-reduce' else 1
  hops = inside - 1
  if chip.torus:  # half way round each dimension
    hops = min(hops, math.ceil(chip.torus * inside ** (1 / chip.torus) / 2))
  return times * (hops * HOP + math.log2(outside) * NETWORK_HOP)
