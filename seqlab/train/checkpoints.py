"""Checkpoints on orbax: saved in the background, whole or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path
import shutil
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from seqlab.types import PyTree

_policies = ocp.training.preservation_policies


class Checkpoints:
  """The checkpoints of one run.

  A checkpoint is a set of named parts: trees of arrays, and 'meta', which is
  JSON. Parts can be loaded without the others, so that translating needs no
  optimiser. The newest ones and the best one stay; the rest are deleted.
  """

  def __init__(
    self,
    directory: Path,
    *,
    keep_latest: int = 1,
    keep_best: str | None = None,
    keep_best_n: int = 1,
    best_mode: str = 'max',
    say: Callable[[str], None] = print,
  ):
    """Opens a folder of checkpoints, which need not exist.

    Args:
      directory: the folder.
      keep_latest: how many of the newest to keep.
      keep_best: a metric's name; checkpoints where it was best are kept too.
      keep_best_n: how many of them.
      best_mode: 'max' or 'min'.
      say: told of checkpoints that cannot be read.
    """
    if best_mode not in ('max', 'min'):
      raise ValueError(f"best_is is {best_mode!r}; it may be 'max' or 'min'")
    policies = [_policies.LatestN(keep_latest)]
    if keep_best:
      policies.append(
        _policies.BestN(
          get_metric_fn=lambda metrics: metrics[keep_best],
          reverse=best_mode == 'min',
          n=keep_best_n,
          keep_checkpoints_without_metrics=False,
        )
      )
    self._directory = Path(directory).absolute()  # orbax asks for that
    self._best, self._mode = keep_best, best_mode
    self._policy, self._say = _policies.AnyPreservationPolicy(policies), say
    self._orbax = self._open()

  def _open(self) -> ocp.training.Checkpointer:
    return ocp.training.Checkpointer(
      epath.Path(self._directory),
      save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
      preservation_policy=self._policy,
      cleanup_tmp_directories=True,
    )

  @property
  def latest(self) -> int | None:
    """The newest step that was saved, None if there is none."""
    steps = self.steps()
    return steps[-1] if steps else None

  def steps(self) -> list[int]:
    """The steps there are, oldest first."""
    return sorted(c.step for c in self._orbax.checkpoints)

  def save(
    self, step: int, parts: dict[str, PyTree], metrics: dict[str, float] | None = None
  ) -> None:
    """Copies the parts and writes them in the background.

    Args:
      step: the checkpoint's number; one that is there already stays.
      parts: name -> tree of arrays; 'meta' holds JSON.
      metrics: what was measured at this step.

    Raises:
      OSError: this or the save before it could not be written; names the last
        good step.
    """
    if step in self.steps():
      return
    ranked = metrics if metrics and self._best in metrics else None
    self._guard(
      lambda: self._orbax.save_checkpointables_async(step, parts, metrics=ranked)
    )

  def wait(self) -> None:
    """Waits for what is being written."""
    self._guard(self._orbax.wait)

  def close(self) -> None:
    """Waits for what is being written, and ends orbax's threads."""
    self._guard(self._orbax.close)

  def _guard(self, action: Callable[[], Any]) -> Any:
    try:
      return action()
    except (OSError, ValueError) as error:
      text = str(error)
      if 'No space left' not in text and 'RESOURCE_EXHAUSTED' not in text:
        raise
      raise OSError(
        f'no space left for a checkpoint in {self._directory}; the last good one is '
        f'of step {self.latest}. Free some space and run the same command again'
      ) from error

  def restore(
    self, abstract: dict[str, PyTree]
  ) -> tuple[int, dict[str, PyTree]] | None:
    """Loads parts of the newest checkpoint that can be read.

    One that cannot be, say because the machine went down while it was copied,
    is renamed to `broken-<step>` and reported, and the one before it is taken.

    Args:
      abstract: name -> tree of `jax.ShapeDtypeStruct` with shardings; None for
        JSON.

    Returns:
      The step and the parts, or None if there is no checkpoint.

    Raises:
      ValueError: checkpoints are there, and none can be read.
    """
    broken = []
    for step in reversed(self.steps()):
      try:
        return step, self.load(step, abstract)
      except Exception as error:  # orbax and tensorstore raise many kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        self._say(f'the checkpoint of step {step:,} cannot be read ({reason[0][:200]})')
        broken.append(step)
    if broken and len(broken) == len(self.steps()):
      raise ValueError(
        f'none of the checkpoints in {self._directory} can be read (steps '
        f'{", ".join(map(str, broken))}); if the model changed, use another workdir'
      )
    return None

  def set_aside(self, after: int) -> None:
    """Renames checkpoints newer than `after`, which could not be read."""
    bad = [step for step in self.steps() if step > after]
    if not bad:
      return
    self._orbax.close()
    for step in bad:
      target = self._directory / f'broken-{step}'
      shutil.rmtree(target, ignore_errors=True)
      (self._directory / str(step)).rename(target)
    self._orbax = self._open()

  def load(self, step: int, abstract: dict[str, PyTree]) -> dict[str, PyTree]:
    """Loads parts of one checkpoint; see `restore`."""
    return self._orbax.load_checkpointables(step, abstract)

  def choose(self, n: int, *, by: str = 'last') -> list[int]:
    """The steps of the last or the best n checkpoints.

    Raises:
      FileNotFoundError: there are none.
      ValueError: there are fewer than n.
    """
    found = [(c.step, c.metrics) for c in self._orbax.checkpoints]
    if not found:
      raise FileNotFoundError(
        f'there are no checkpoints in {self._directory}; train first'
      )
    if by == 'best':
      found = [(s, m) for s, m in found if m and self._best in m]
      sign = -1 if self._mode == 'max' else 1
      ranked = sorted(found, key=lambda item: (sign * item[1][self._best], -item[0]))
    else:
      ranked = sorted(found, key=lambda item: -item[0])
    if len(ranked) < n:
      raise ValueError(
        f'{n} checkpoints were asked for, and {len(ranked)} are there (steps '
        f'{[s for s, _ in ranked]}): lower --average, or train with a larger keep_latest'
      )
    return [step for step, _ in ranked[:n]]

  def average(
    self, steps: Sequence[int], abstract: PyTree, part: str = 'variables'
  ) -> PyTree:
    """The mean over checkpoints of one part, taken in float32, one at a time.

    Vaswani et al., "Attention Is All You Need", 2017, section 6.1.

    Args:
      steps: which checkpoints.
      abstract: the part's tree of `jax.ShapeDtypeStruct`.
      part: its name.
    """
    total = None
    for step in steps:
      tree = self.load(step, {part: abstract})[part]
      wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)
      total = wide if total is None else jax.tree.map(jnp.add, total, wide)
    return jax.tree.map(lambda x, a: (x / len(steps)).astype(a.dtype), total, abstract)
