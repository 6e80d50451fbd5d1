"""A stack of equal layers: a scan, whose variables are stacked along axis 0."""

from collections.abc import Callable
from typing import Literal

from flax import linen as nn
import jax

from seqlab.layers.device import platform

# What a backward pass computes again: name -> policy of `jax.checkpoint`, which says what
# is stored. Without an entry everything is stored.
Remat = Literal['none', 'products', 'full']
PRODUCT = 'product'  # name of the results of linear maps, for policies
_POLICIES: dict[str, Callable] = {
  'products': jax.checkpoint_policies.save_only_these_names(PRODUCT),
  'full': jax.checkpoint_policies.nothing_saveable,
}
_MOST_UNROLLED = 12  # layers; a program of 24 would compile for several minutes


def scan_layers(
  layer: type[nn.Module], length: int, inputs: int, remat: Remat, unroll: int | None
) -> type[nn.Module]:
  """Returns a module that applies `length` layers one after another.

  Args:
    layer: class of a layer, called with the states and with `inputs` further arguments;
      returns new states and None.
    length: number of layers.
    inputs: number of further arguments, equal for all layers.
    remat: what the backward pass computes again: 'none'; 'products': all but the results
      of linear maps; 'full': all but the states between layers. See
      `jax.checkpoint_policies`.
    unroll: layers per iteration; None for `layers_per_iteration`.
  """
  per_iteration = min(length, unroll or layers_per_iteration(length))
  if remat != 'none':
    # Without a loop, the compiler would find that the layers are computed twice.
    alone = per_iteration == length
    layer = nn.remat(layer, policy=_POLICIES[remat], prevent_cse=alone)
  collections = ('params', 'batch_stats', 'ablation', 'intermediates')
  return nn.scan(
    layer,
    variable_axes=dict.fromkeys(collections, 0),
    split_rngs={'params': True, 'dropout': True},
    in_axes=(nn.broadcast,) * inputs,
    length=length,
    unroll=per_iteration,
    metadata_params={nn.PARTITION_NAME: 'layers'},
  )


def layers_per_iteration(length: int) -> int:
  """Returns how many layers of a stack an iteration of the scan has by default.

  A loop stores what its backward pass needs in arrays of all layers, which a TPU first
  clears and then updates slice by slice. Without a loop, Transformer-big takes half the
  time and half the memory on a v5p, and takes twice as long to compile (see
  docs/accelerators.md). On a CPU the difference is small.
  """
  return 1 if platform() == 'cpu' else min(length, _MOST_UNROLLED)
