"""Checkpoints on orbax: saved in the background, whole or not at all."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
from pathlib import Path

from etils import epath
import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from seqlab.text.remote import is_remote
from seqlab.train import processes
from seqlab.train.retry import GaveUp, may_pass, remedy, retry
from seqlab.types import PyTree

_policies = ocp.training.preservation_policies
_COMMITTED = 'commit_success.txt'  # orbax's name for it
_LATE = 300  # seconds that processes wait for each other after a save


class Checkpoints:
  """The checkpoints of one run.

  Several processes that train as one save and restore together, each its own part.

  Each holds two parts: 'state', a tree of arrays, and 'meta', which is JSON. The
  newest ones and the best ones stay; the rest are deleted.
  """

  def __init__(
    self,
    directory: Path | epath.Path,
    *,
    keep_latest: int = 2,
    keep_best: str | None = None,
    keep_best_n: int = 1,
    best_mode: str = 'max',
    read_only: bool = False,
    retries: int = 0,
    say: Callable[[str], None] = print,
  ):
    """Opens a folder of checkpoints.

    Args:
      directory: the folder, on a disk or on gs://; need not exist, unless only read.
      keep_latest: how many of the newest to keep.
      keep_best: a metric's name; checkpoints where it was best are kept too.
      keep_best_n: how many of them.
      best_mode: 'max' or 'min'.
      read_only: leave all as it is, since a training may be writing there; and
        let parts of a state be loaded.
      retries: how often a save that fails for what may pass is tried again.
      say: told of checkpoints that cannot be read, and of saves that failed.

    Raises:
      FileNotFoundError: there is no folder, and it is to be read.
    """
    if best_mode not in ('max', 'min'):
      raise ValueError(f"best_is is {best_mode!r}; it may be 'max' or 'min'")
    remote = is_remote(directory)
    self._directory = epath.Path(directory if remote else Path(directory).absolute())
    if read_only and not self._directory.is_dir():
      raise FileNotFoundError(f'there are no checkpoints in {directory}; train first')
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
    self._best, self._mode = keep_best, best_mode
    self._retries, self._say, self._remote = retries, say, remote
    self._what, self._failed = f'a checkpoint in {self._directory}', False
    self._policy, self._read_only = _policies.AnyPreservationPolicy(policies), read_only
    self._orbax = self._open()

  def _open(self) -> ocp.training.Checkpointer:
    context = ocp.Context()
    # Replicas would each write a share, which needs slices that get compiled.
    context.array.saving.use_replica_parallel = False
    context.pytree.loading.partial_load = self._read_only
    if jax.process_count() > 1:  # for those that wait for one that could not write
      context.async_options.timeout_secs = _LATE
    opened = ocp.training.Checkpointer(
      self._directory,
      context=context,
      save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
      preservation_policy=self._policy,
      cleanup_tmp_directories=not self._read_only,
    )
    if jax.process_count() > 1:
      # Orbax asks JAX's preemption service about the step of a save, maybe when that
      # has long passed, and the service takes it for where this process stands.
      opened._manager.reached_preemption = lambda step: False
    return opened

  @property
  def latest(self) -> int | None:
    """The newest step that is saved whole, None if there is none."""
    steps = self.steps()
    return steps[-1] if steps else None

  def steps(self) -> list[int]:
    """The steps that are saved whole, oldest first."""
    if not self._directory.is_dir():
      return []
    found = [p for p in self._directory.iterdir() if p.name.isdigit()]
    # In a bucket nothing can be renamed at once: orbax writes this file last.
    whole = (p for p in found if not self._remote or (p / _COMMITTED).exists())
    return sorted(int(p.name) for p in whole)

  def save(
    self,
    step: int,
    parts: dict[str, PyTree],
    metrics: dict[str, float] | None = None,
    *,
    wait: bool = False,
  ) -> None:
    """Copies the parts and writes them in the background.

    What goes wrong there shows when the next save begins, and that is then tried
    again in place of this one, whose arrays are gone. Among several processes it is
    not: the others wait in orbax for the one where it failed, which has to end.

    Args:
      step: the checkpoint's number, above those there are.
      parts: 'state' and 'meta'.
      metrics: what was measured at this step.
      wait: until all is written, and try again if it was not.

    Raises:
      OSError: this or the save before it could not be written; names the last
        good step.
    """

    def save(i: int) -> None:
      if i:  # what is left of the last try would be in the way
        self._reopen()
        if step in self.steps():
          return
      self._begin(step, parts, metrics)
      if wait or i:
        self._orbax.wait()

    with self._explained():
      if jax.process_count() > 1:
        save(0)
      else:
        retry(save, self._what, tries=self._retries, say=self._say)

  def _begin(
    self, step: int, parts: dict[str, PyTree], metrics: dict[str, float] | None
  ) -> None:
    ranked = metrics if metrics and self._best in metrics else None
    if self._orbax.save_checkpointables_async(step, parts, metrics=ranked) is None:
      raise RuntimeError(f'step {step} was not saved: {self._directory} has later ones')

  def _reopen(self) -> None:
    with contextlib.suppress(Exception):  # says once more what went wrong
      self._orbax.close()
    self._orbax = self._open()

  def wait(self) -> None:
    """Waits for what is being written."""
    with self._explained():
      self._orbax.wait()

  def close(self) -> None:
    """Waits for what is being written, and ends orbax's threads."""
    if self._failed and jax.process_count() > 1:
      return  # the others wait elsewhere, and it would wait for them
    # What failed and was said would only be said once more.
    with contextlib.suppress(Exception) if self._failed else self._explained():
      self._orbax.close()

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Makes what the storage has to say an OSError with a remedy."""
    try:
      yield
    except Exception as error:  # what runs in the background comes as many kinds
      reason = may_pass(error)
      if not reason:
        raise
      self._failed = True
      text = str(error) if isinstance(error, GaveUp) else f'{reason} for {self._what}'
      raise OSError(
        f'{text}; the last good one is of step {self.latest}. {remedy(reason)}'
      ) from error

  def restore(
    self, abstract: dict[str, PyTree]
  ) -> tuple[int, dict[str, PyTree]] | None:
    """Loads the newest checkpoint that can be read.

    One that cannot be, say because the machine went down while it was copied, is
    reported, renamed to `broken-<step>` once an older one was read, and so is no
    longer in the way of new ones.

    Args:
      abstract: part -> tree of `jax.ShapeDtypeStruct` with shardings; None for
        JSON.

    Returns:
      The step and the parts, or None if there is no checkpoint.

    Raises:
      ValueError: checkpoints are there, and none can be read.
    """
    steps = processes.from_first(self.steps())
    for step in reversed(steps):
      found = self._try(step, abstract)
      if processes.everywhere(found is not None):
        self.set_aside([s for s in steps if s > step])
        return step, found
    if steps:
      raise ValueError(
        f'none of the checkpoints in {self._directory} can be read (steps '
        f'{", ".join(map(str, steps))}); if the model changed, use another workdir'
      )
    return None

  def _try(self, step: int, abstract: dict[str, PyTree]) -> dict[str, PyTree] | None:
    try:
      return self.load(step, abstract)
    except Exception as error:  # orbax and tensorstore raise many kinds
      reason = str(error).strip().splitlines() or [type(error).__name__]
      self._say(f'the checkpoint of step {step:,} cannot be read ({reason[0][:200]})')
      return None

  def set_aside(self, broken: list[int]) -> None:
    """Renames checkpoints to `broken-<step>`."""
    if not broken:
      return
    self._orbax.close()
    if processes.first():
      for step in broken:
        target = self._directory / f'broken-{step}'
        target.rmtree(missing_ok=True)
        (self._directory / str(step)).rename(target)
    processes.wait('broken checkpoints')
    self._orbax = self._open()

  def load(self, step: int, abstract: dict[str, PyTree]) -> dict[str, PyTree]:
    """Loads one checkpoint; see `restore`."""
    # One by one: what fails leaves none of the others half-way.
    return {
      part: self._orbax.load_checkpointables(step, {part: tree})[part]
      for part, tree in abstract.items()
    }

  def average(
    self, n: int, abstract: PyTree, *, by: str = 'last'
  ) -> tuple[list[int], PyTree]:
    """The mean of part of the state over the last or the best n checkpoints.

    Taken in float32, one at a time (Vaswani et al., "Attention Is All You Need",
    2017, section 6.1). Those that cannot be read are reported and passed over.

    Args:
      n: how many.
      abstract: a tree of `jax.ShapeDtypeStruct`: the part of the state.
      by: 'last' or 'best'.

    Returns:
      Their steps and the mean.

    Raises:
      FileNotFoundError: there are no checkpoints.
      ValueError: there are fewer than n.
    """
    total, used = None, []
    for step in self._ranked(by):
      if len(used) == n:
        break
      found = self._try(step, {'state': abstract})
      if found is not None:
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), found['state'])
        total = wide if total is None else jax.tree.map(jnp.add, total, wide)
        used.append(step)
    if len(used) < n:
      raise ValueError(
        f'{n} checkpoints were asked for, and {len(used)} can be read (steps {used}): '
        f'lower --average, or train with a larger {"keep_best_n" if by == "best" else "keep_latest"}'
      )
    return used, jax.tree.map(lambda x, a: (x / n).astype(a.dtype), total, abstract)

  def _ranked(self, by: str) -> list[int]:
    """Steps, the newest or the best first."""
    steps = self.steps()
    if not steps:
      raise FileNotFoundError(
        f'there are no checkpoints in {self._directory}; train first'
      )
    if by == 'last':
      return steps[::-1]
    if self._best is None:
      raise ValueError('the experiment sets no keep_best, by which one could be best')
    found: list[tuple[int, Mapping]] = [
      (c.step, c.metrics) for c in self._orbax.checkpoints if c.metrics
    ]
    sign = -1 if self._mode == 'max' else 1
    ranked = [(sign * m[self._best], -s) for s, m in found if self._best in m]
    return [-step for _, step in sorted(ranked)]
