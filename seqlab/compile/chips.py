"""Peak speeds of accelerators, from their makers' data sheets.

NVIDIA: https://www.nvidia.com/en-us/data-center/h100/, .../h200/, .../a100/ (the SXM
modules), and of the machines with eight of them and one network card for each,
https://docs.nvidia.com/dgx/dgxh100-user-guide/ (400 Gb/s per card) and
https://docs.nvidia.com/dgx/dgxa100-user-guide/ (200 Gb/s). NVLink's bandwidth is given
for both directions together; the numbers here are half of that.

Google: https://cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e. Bandwidth
of a chip's links is given for both directions too. The network bandwidth is that of a
pod in the data centre, divided by its chips (v4, v5p: 50 Gb/s per chip). Clocks: v4
1.05 GHz (Jouppi et al., "TPU v4", 2023, table 4, https://arxiv.org/abs/2304.01433);
others from the peak, 2 FLOP x multipliers x clock: v5e has 4 units of 128 x 128 (1.5
GHz), v5p 8 of them (1.75 GHz), v6e 4 of 256 x 256 (1.75 GHz). v4 and v5p have two cores.
"""

import dataclasses

from seqlab.config import suggest


@dataclasses.dataclass(frozen=True)
class Chip:
  """An accelerator and its connections to others.

  Attributes:
    kinds: first words of JAX's `device_kind`; the longest match counts.
    flops: peak FLOP/s, dense, in bfloat16 with float32 accumulation.
    memory: size of the memory, bytes.
    memory_speed: bandwidth of the memory, bytes/s.
    link: bandwidth from a chip to others of its node, all links together, bytes/s.
    node: number of chips that such links connect: those of a machine or of a TPU pod.
    network: bandwidth from a chip to other nodes, bytes/s.
    torus: number of dimensions of the torus that the links form; 0 for a switch.
    clock: cycles per second in which a TPU's compiler counts; 0 where it does not count.
    unit: a TPU's matrix unit multiplies rows with a square of this size.
    cores: number of cores; those of a TPU are one device, but run some kernels alone.
  """

  kinds: tuple[str, ...]
  flops: float
  memory: float = 0.0
  memory_speed: float = 0.0
  link: float = 0.0
  node: int = 1
  network: float = 0.0
  torus: int = 0
  clock: float = 0.0
  unit: int = 0
  cores: int = 1

  @property
  def is_tpu(self) -> bool:
    """Whether it is a TPU, whose links form a torus."""
    return self.torus > 0


CHIPS = {
  'a100': Chip(('NVIDIA A100',), 312e12, 80e9, 2.039e12, 300e9, 8, 25e9),
  'h100': Chip(('NVIDIA H100',), 989e12, 80e9, 3.35e12, 450e9, 8, 50e9),
  'h200': Chip(('NVIDIA H200',), 989e12, 141e9, 4.8e12, 450e9, 8, 50e9),
  'v4': Chip(('TPU v4',), 275e12, 32e9, 1.2e12, 300e9, 4096, 6.25e9, 3, 1.05e9, 128, 2),
  'v5e': Chip(
    ('TPU v5 lite', 'TPU v5e'), 197e12, 16e9, 0.8e12, 200e9, 256, 3.125e9, 2, 1.5e9, 128
  ),
  'v5p': Chip(
    ('TPU v5',), 459e12, 95e9, 2.765e12, 600e9, 8960, 6.25e9, 3, 1.75e9, 128, 2
  ),
  'v6e': Chip(
    ('TPU v6 lite', 'TPU v6e'), 918e12, 32e9, 1.6e12, 400e9, 256, 12.5e9, 2, 1.75e9, 256
  ),
}
# Chips of which only the peak is known here, since their connections vary.
OTHERS = (
  Chip(('NVIDIA H100 NVL',), 835e12),
  Chip(('NVIDIA H100 PCIe',), 756e12),
  Chip(('NVIDIA L4',), 121e12),
  Chip(('NVIDIA V100', 'Tesla V100'), 125e12),
  Chip(('Tesla T4',), 65e12),
  Chip(('TPU v2',), 45e12),
  Chip(('TPU v3',), 123e12),
)


def chip_of(device_kind: str) -> Chip | None:
  """Returns the chip of a JAX device kind; None if it is not known."""
  words = device_kind.replace('-', ' ').split()
  known = [(kind, chip) for chip in (*CHIPS.values(), *OTHERS) for kind in chip.kinds]
  for kind, chip in sorted(known, key=lambda pair: len(pair[0]), reverse=True):
    if words[: len(kind.split())] == kind.split():
      return chip
  return None


def find_chip(name: str) -> Chip:
  """Returns a chip of `CHIPS`.

  Raises:
    ValueError: there is no chip of that name.
  """
  if name.lower() not in CHIPS:
    known = ', '.join(CHIPS)
    raise ValueError(f'unknown chip {name!r}{suggest(name, CHIPS)} (known: {known})')
  return CHIPS[name.lower()]
