"""Two compiled programs of accelerators, kept as text, and how they were made.

The program is a training step of a residual network whose layers are scanned, over four
devices. `python tests/compile/programs.py v5e` compiles it again, where the compiler of
the chip is installed (extras `tpu` and `cuda`).
"""

import gzip
from pathlib import Path
import re
import sys

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqlab.compile.topologies import make_topology

LAYERS, WIDTH, ROWS, DEVICES = 3, 8, 2**23, 4
FOLDER = Path(__file__).parent / 'fixtures'


def step(weights, x):
  """Returns the weights after one step of gradient descent."""

  def loss(weights):
    def layer(x, w):
      return x + jnp.tanh(x @ w), None

    return (jax.lax.scan(layer, x, weights)[0] ** 2).sum()

  return weights - 0.1 * jax.grad(loss)(weights)


def _compile(chip):
  devices = make_topology(chip, DEVICES).devices
  jax.config.update('jax_platforms', 'cpu')
  mesh = jax.make_mesh((DEVICES,), ('data',), (AxisType.Auto,), devices=devices)
  everywhere, rows = (
    NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ('data',))
  )
  arrays = (
    jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32, sharding=everywhere),
    jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32, sharding=rows),
  )
  return jax.jit(step, out_shardings=everywhere).lower(*arrays).compile()


if __name__ == '__main__':
  name = sys.argv[1]
  # Without the paths of the machine that compiled it.
  text = re.sub(r'"/\S*?/(?=site-packages/|tests/)', '"', _compile(name).as_text())
  FOLDER.mkdir(exist_ok=True)
  (FOLDER / f'{name}.hlo.gz').write_bytes(gzip.compress(text.encode(), mtime=0))
