"""Normalisation by statistics of the batch, over the positions of a mask.

Padding is masked, so neither buckets nor packing change a statistic. Under jit the rows
may be sharded: sums over them are the global batch's. Under pmap `axis` names the axis
to sum over. Where gradients are accumulated, each micro-batch is normalised by its
own statistics, and each updates the running ones.
"""

import functools
from typing import Annotated

from flax import linen as nn
import jax
import jax.numpy as jnp

from seqlab.domains import Count, Positive, Range, Rate
from seqlab.layers.dropout import uniform
from seqlab.types import Array


def masked_mean(x: Array, mask: Array, axis: str | None) -> tuple[Array, Array]:
  """Returns the mean over the masked positions of all devices, and their number.

  Args:
    x: [B, L, D] float32.
    mask: [B, L] bool, True for positions that are counted.
    axis: name of a pmapped axis, or None.

  Returns:
    Mean [D], and number of positions []; both are 0 if no position is counted.
  """
  total = jnp.where(mask[..., None], x, 0.0).sum(axis=(0, 1))  # [D]
  n = mask.sum().astype(jnp.float32)
  if axis is not None:
    total, n = jax.lax.psum((total, n), axis)
  return total / jnp.maximum(n, 1.0), n


class _Running(nn.Module):
  """The common part of the two norms.

  Attributes:
    momentum: share of the running statistics that an update keeps.
    axis: name of a pmapped axis whose devices share the statistics ('data' with
      parallel='pmap'); None under jit.
    epsilon: added to the divisor before its root is taken.
    dtype: dtype of the result; all else is float32.
    use_scale: whether there is a gain, by which each feature is multiplied.
    use_bias: whether there is a bias, which is added to each feature.
  """

  momentum: Rate = 0.9
  axis: str | None = None
  epsilon: Annotated[float, Positive] = 1e-5
  dtype: jnp.dtype = jnp.float32
  use_scale: bool = True
  use_bias: bool = True

  def affine(self, x: Array) -> Array:
    shape, ones, zeros = x.shape[-1:], nn.initializers.ones, nn.initializers.zeros
    if self.use_scale:
      init = nn.with_logical_partitioning(ones, ('features',))
      x = x * self.param('scale', init, shape)
    if self.use_bias:
      init = nn.with_logical_partitioning(zeros, ('features',))
      x = x + self.param('bias', init, shape)
    return x.astype(self.dtype)

  def update(self, running: nn.Variable, now: Array, n: Array) -> None:
    keep = jnp.where(n > 0, self.momentum, 1.0)  # a batch of padding has no statistic
    running.value = keep * running.value + (1.0 - keep) * now


class BatchNorm(_Running):
  """(x - mean) / standard deviation of each feature, with a gain and a bias.

  Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by
  Reducing Internal Covariate Shift", 2015, algorithms 1 and 2,
  https://arxiv.org/abs/1502.03167
  """

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the normalised states: [B, L, D] -> [B, L, D].

    With a mask, bool [B, L], the statistics are those of its positions, and update the
    running ones in the collection 'batch_stats'; with None they are the running ones.
    """
    D, x = x.shape[-1], x.astype(jnp.float32)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, D)
    running_variance = self.variable('batch_stats', 'variance', jnp.ones, D)
    if mask is None:
      mean, variance = running_mean.value, running_variance.value
    else:
      mean, n = masked_mean(x, mask, self.axis)
      variance, _ = masked_mean((x - mean) ** 2, mask, self.axis)
      self.update(running_mean, mean, n)
      unbiased = variance * n / jnp.maximum(n - 1.0, 1.0)  # as in algorithm 2
      self.update(running_variance, unbiased, n)
    return self.affine((x - mean) * jax.lax.rsqrt(variance + self.epsilon))


class NoisyBatchNorm(BatchNorm):
  """Batch normalisation whose results in training are moved and stretched at random.

  The counter-experiment of Santurkar et al., "How Does Batch Normalization Help
  Optimization?", 2018, section 2.1, https://arxiv.org/abs/1805.11604: noise whose mean
  and scale change at every update, so that the inputs of the next layer are not stable,
  although they were normalised. At each update every feature draws a shift from
  U(-shift, shift) and a scale from U(1, scale); each position of each row then adds to
  the shift a number from U(-spread, spread), and to the scale a normal one with
  deviation `spread`. Where a model does not train there is no noise.

  Attributes:
    shift: largest shift of a feature.
    scale: largest scale of a feature.
    spread: by how much positions differ.
  """

  shift: Annotated[float, Range(0)] = 0.5
  scale: Annotated[float, Range(1)] = 1.25
  spread: Annotated[float, Range(0)] = 0.1

  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the normalised states, [B, L, D]; `mask` as in `BatchNorm`."""
    y = super().__call__(x, mask)
    if mask is None:
      return y
    D = y.shape[-1]

    def signed(shape: tuple[int, ...], rows: int) -> Array:
      return 2.0 * uniform(self.make_rng('dropout'), shape, rows) - 1.0

    # Features have the same shift and scale on all devices: no axis of rows.
    shift = self.shift * signed((D,), rows=-1)
    scale = 1.0 + (self.scale - 1.0) * uniform(self.make_rng('dropout'), (D,), rows=-1)
    shift += self.spread * signed(y.shape, rows=0)
    normal = jax.scipy.special.ndtri(uniform(self.make_rng('dropout'), y.shape))
    scale += self.spread * normal
    return (y * scale + shift).astype(self.dtype)


class PowerNorm(_Running):
  """x / ψ, the running quadratic mean of each feature, with a gain and a bias.

  Shen et al., "PowerNorm: Rethinking Batch Normalization in Transformers", 2020,
  algorithm 2, https://arxiv.org/abs/2003.07845. For the first `warmup` updates ψ is
  the batch's own (their PN-V). The gradient is theirs,
  (dL/dx̂ - ν x̂) / ψ, except for ν: they keep a running average of Λ, the mean of
  x̂ dL/dx̂, which a backward pass of pure functions cannot write. Here ν is this
  batch's own Λ; with this batch's ψ that is the exact gradient.

  Attributes:
    warmup: number of updates before ψ is the running one.
    groups: number of groups of features, each of which is first divided by its root
      mean square at its position, as the paper's experiments do for stability (its
      appendix; as many groups as heads). It must divide D. None for no groups.
  """

  warmup: Annotated[int, Range(0)] = 4000
  groups: Count | None = None

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """Returns the normalised states, [B, L, D]; `mask` as in `BatchNorm`."""
    D, x = x.shape[-1], x.astype(jnp.float32)
    running = self.variable('batch_stats', 'square', jnp.ones, D)
    # A float, so that an average over devices leaves its dtype alone.
    updates = self.variable('batch_stats', 'updates', jnp.zeros, ())
    if self.groups is not None:
      x = self._scale_groups(x)
    if mask is None:
      return self.affine(x * jax.lax.rsqrt(running.value + self.epsilon))
    square, n = masked_mean(x * x, mask, self.axis)
    chosen = jnp.where(updates.value < self.warmup, square, running.value)
    psi = jnp.sqrt(chosen + self.epsilon)
    self.update(running, square, n)
    updates.value += 1.0
    return self.affine(power_normalize(x, psi, mask, self.axis))

  def _scale_groups(self, x: Array) -> Array:
    if x.shape[-1] % self.groups:
      raise ValueError(
        f'model.normalization.groups={self.groups} does not divide model.width={x.shape[-1]}'
      )
    groups = x.reshape(*x.shape[:2], self.groups, -1)  # [B, L, G, D / G]
    square = (groups * groups).mean(axis=-1, keepdims=True)
    return (groups * jax.lax.rsqrt(square + self.epsilon)).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def power_normalize(x: Array, psi: Array, mask: Array, axis: str | None) -> Array:
  """Returns x / ψ [B, L, D], with PowerNorm's gradient of x; mask [B, L], ψ [D]."""
  return x / psi


def _forward(x: Array, psi: Array, mask: Array, axis: str | None):
  y = x / psi
  return y, (y, psi, mask)


def _backward(axis: str | None, residuals, dy: Array):
  y, psi, mask = residuals
  nu, _ = masked_mean(y * dy, mask, axis)  # [D], the paper's Λ
  dx = (dy - jnp.where(mask[..., None], nu * y, 0.0)) / psi
  return dx, jnp.zeros_like(psi), None


power_normalize.defvjp(_forward, _backward)
