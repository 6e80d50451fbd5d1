"""A stack of equal layers: a scan, whose variables are stacked along axis 0.

The layers may share their parameters, as in Dehghani et al., "Universal Transformers",
2019, https://arxiv.org/abs/1807.03819 (without their halting and their embedding of the
number of the layer), and Lan et al., "ALBERT", 2020, https://arxiv.org/abs/1909.11942.
"""

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
  layer: type[nn.Module],
  length: int,
  inputs: int,
  *,
  share: bool = False,
  remat: Remat,
  unroll: int | None,
  sown: bool,
) -> type[nn.Module]:
  """Returns a module that applies `length` layers one after another.

  Args:
    layer: class of a layer, called with the states and with `inputs` further arguments;
      returns new states and None.
    length: number of layers.
    inputs: number of further arguments, equal for all layers.
    share: whether all layers have the same parameters, which are then not stacked.
      Running statistics and what is sown belong to one application of the layer each.
    remat: what the backward pass computes again: 'none'; 'products': all but the
      results of linear maps; 'full': all but the states between layers. See
      `jax.checkpoint_policies`.
    unroll: layers per iteration; None for `layers_per_iteration`.
    sown: whether the layers return attention weights. Then the default is one layer per
      iteration: libtpu 0.0.42 overflows its stack on such layers outside of a loop.
  """
  default = 1 if sown else layers_per_iteration(length)
  per_iteration = min(length, unroll or default)
  if remat != 'none':
    # Outside of a loop, the compiler would find that a layer is computed twice. A loop
    # that runs once is none, and the layers that remain are computed after it.
    runs, remaining = divmod(length, per_iteration)
    outside = runs == 1 or remaining > 0
    layer = nn.remat(layer, policy=_POLICIES[remat], prevent_cse=outside)
  stacked = ('batch_stats', 'ablation', 'intermediates')
  stacked += () if share else ('params',)
  return nn.scan(
    layer,
    variable_axes=dict.fromkeys(stacked, 0),
    variable_broadcast='params' if share else False,
    split_rngs={'params': not share, 'dropout': True},
    in_axes=(nn.broadcast,) * inputs,
    length=length,
    unroll=per_iteration,
    metadata_params={nn.PARTITION_NAME: 'layers'},
  )


def unstacked(
  stack: nn.Module, layer: nn.Module, length: int, *, share: bool = False
) -> list[tuple]:
  """Returns the layers of a stack as (layer, its variables).

  A step of decoding is not a scan over layers, which would copy every layer's cache at
  every step, to stack what was written.

  Args:
    stack: a bound module of `scan_layers`.
    layer: one such layer, unbound.
    length: number of layers.
    share: whether all layers have the same parameters.
  """
  stacked = dict(nn.unbox(stack.variables))
  shared = {'params': stacked.pop('params')} if share else {}
  return [
    (layer, jax.tree.map(lambda x, i=i: x[i], stacked) | shared) for i in range(length)
  ]


def layers_per_iteration(length: int) -> int:
  """Returns how many layers of a stack an iteration of the scan has by default.

  A loop stores what its backward pass needs in arrays of all layers, which a TPU first
  clears and then updates slice by slice. On a v5p a Transformer-big without a loop
  takes half the time and a third of the memory (docs/accelerators.md), and about twice
  as long to compile. On a CPU compiling counts more, since runs are short; see
  `unroll`.
  """
  if platform() == 'cpu':
    return 1
  divisors = [n for n in range(1, _MOST_UNROLLED + 1) if length % n == 0]
  return divisors[-1]  # without layers that remain after the loop
