"""A large sparse matrix times a narrow dense one, with rows sharded over a mesh."""

import functools

from flax import struct
import jax
from jax.experimental.sparse import BCSR, bcsr_dot_general
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
from scipy import sparse

from seqlab.types import Array


@struct.dataclass
class Panels:
  """Rows of a sparse matrix, assigned to N devices in rotation.

  Row r is row r // N of panel r % N. So the panels have about the same number of
  nonzeros, although frequent words come first.

  Attributes:
    data: [N, Z] float32, nonzeros of each panel, padded with zeros.
    columns: [N, Z] int32.
    starts: [N, R + 1] int32, index of the first nonzero of each row.
    shape: V and C, the shape of the whole matrix.
    mesh: the devices; panels are sharded over all of its axes.
  """

  data: Array
  columns: Array
  starts: Array
  shape: tuple[int, int] = struct.field(pytree_node=False)
  mesh: Mesh = struct.field(pytree_node=False)

  @classmethod
  def create(cls, matrix: sparse.csr_array, mesh: Mesh) -> 'Panels':
    """Puts a [V, C] matrix on the devices.

    Raises:
      ValueError: a panel has 2^31 nonzeros or more.
    """
    N = mesh.size
    R = -(-matrix.shape[0] // N)
    parts = [sparse.csr_array(matrix[i::N]) for i in range(N)]
    Z = max(1, *(part.nnz for part in parts))
    if Z >= 2**31:
      raise ValueError(
        f'one device would hold {Z:,} nonzeros, 2^31 or more: use more devices'
      )
    data, columns = np.zeros((N, Z), np.float32), np.zeros((N, Z), np.int32)
    starts = np.empty((N, R + 1), np.int32)
    for i, part in enumerate(parts):
      data[i, : part.nnz] = part.data
      columns[i, : part.nnz] = part.indices
      starts[i] = np.pad(part.indptr, (0, R - part.shape[0]), mode='edge')
    put = functools.partial(jax.device_put, device=rows_sharding(mesh))
    return cls(put(data), put(columns), put(starts), matrix.shape, mesh)

  def __matmul__(self, dense: Array) -> Array:
    """Returns [V, C] @ [C, D], float32; each device computes its panel's rows."""
    rows = PartitionSpec(self.mesh.axis_names)

    @functools.partial(
      jax.shard_map,
      mesh=self.mesh,
      in_specs=(rows, rows, rows, PartitionSpec()),
      out_specs=rows,
    )
    def product(data, columns, starts, dense):
      shape = starts.shape[1] - 1, self.shape[1]  # R, C
      panel = BCSR((data[0], columns[0], starts[0]), shape=shape)
      return bcsr_dot_general(panel, dense, dimension_numbers=(((1,), (0,)), ((), ())))

    interleaved = product(self.data, self.columns, self.starts, dense)  # [N R, D]
    panels = interleaved.reshape(self.mesh.size, -1, dense.shape[1])  # [N, R, D]
    return panels.swapaxes(0, 1).reshape(interleaved.shape)[: self.shape[0]]


def rows_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of the first axis over all devices of the mesh."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))
