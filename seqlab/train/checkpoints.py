"""Checkpoints with orbax, saved atomically in the background."""

import asyncio
from collections.abc import Callable, Iterator
import contextlib
import json
import math
from pathlib import Path
import re
import time
from typing import Annotated, Any, Literal

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint._src.metadata import checkpoint as step_metadata
from orbax.checkpoint._src.path import atomicity
from orbax.checkpoint.experimental.v1._src.saving import saving
import tensorstore

from seqlab.domains import Range, check_value, checked
from seqlab.io import files
from seqlab.text.remote import is_remote
from seqlab.train import processes, seal
from seqlab.train.plain import PlainFolder
from seqlab.train.retry import GaveUp, lasting, may_pass, remedy, retry
from seqlab.types import PyTree

_policies = ocp.training.preservation_policies
_LATE = 300  # seconds that processes wait for each other after a save
_PROOF = 2**20  # number of bytes of a state that are read back after the first save


class _SealedPath(atomicity.AtomicRenameTemporaryPath):
  """A checkpoint during writing, which gets a seal before it gets its name."""

  async def finalize(self) -> None:
    """Syncs the checkpoint to the disk, seals and renames it, in the background."""
    await asyncio.to_thread(self._finalize)

  def _finalize(self) -> None:
    store, folder = self._checkpoint_metadata_store, Path(self._tmp_path)
    if store:
      store.wait_until_finished()
      store.update(
        file_path=step_metadata.step_metadata_file_path(self._tmp_path),
        commit_timestamp_nsecs=time.time_ns(),
      )
      store.wait_until_finished()
    seal.seal(folder, int(self._final_path.name))
    folder.rename(self._final_path)
    files.sync(folder.parent)


class Checkpoints:
  """The checkpoints of one run.

  The processes of a run save and restore together, each its part of the arrays.

  A checkpoint has two parts: 'state', a tree of arrays, and 'meta', which is JSON. The
  newest and the best checkpoints are kept; the others are deleted. A checkpoint on a
  disk has a seal (see `train.seal`), and is never loaded if it does not match the seal.
  """

  @checked
  def __init__(
    self,
    directory: Path | epath.Path,
    *,
    keep_latest: Annotated[int, Range(1)] = 2,
    keep_best: str | None = None,
    keep_best_n: Annotated[int, Range(1)] = 1,
    best_mode: Literal['max', 'min'] = 'max',
    read_only: bool = False,
    retries: Annotated[int, Range(0)] = 0,
    say: Callable[[str], None] = print,
  ):
    """Opens a folder of checkpoints.

    Args:
      directory: the folder, on a disk or on gs://; it must exist if `read_only`.
      keep_latest: number of the newest checkpoints to keep.
      keep_best: name of a metric, by which the best checkpoints are also kept.
      keep_best_n: number of the best checkpoints to keep.
      best_mode: 'max' or 'min'.
      read_only: whether to leave the folder unchanged, because a run may be writing
        there. This also allows loading parts of a state.
      retries: maximum number of retries of a save after a temporary failure.
      say: called with messages about unreadable checkpoints and failed saves.

    Raises:
      FileNotFoundError: the folder does not exist, and `read_only` is set.
      ValueError: an option is outside its domain.
      OSError: the folder cannot be made or opened.
    """
    remote = is_remote(directory)
    self._directory = epath.Path(directory) if remote else Path(directory).absolute()
    if read_only and not self._directory.is_dir():
      raise FileNotFoundError(f'there are no checkpoints in {directory}; train first')
    self._remote, self._read_only = remote, read_only
    self._folder = None  # a bucket has no folder to keep open
    if not remote:
      if not read_only:
        self._directory.mkdir(parents=True, exist_ok=True)
      self._folder = PlainFolder(self._directory)
    policies = [_policies.LatestN(keep_latest)]
    if keep_best:
      policies.append(
        _policies.BestN(
          get_metric_fn=self._rank,
          reverse=best_mode == 'min',
          n=keep_best_n,
          keep_checkpoints_without_metrics=False,
        )
      )
    self._best, self._mode = keep_best, best_mode
    self._retries, self._say = retries, say
    self._title = f'a checkpoint in {self._directory}'
    self._reported = False  # whether the failure was reported already
    self._failed = False
    self._policy = _policies.AnyPreservationPolicy(policies)
    self._orbax: ocp.training.Checkpointer | None = None  # opened when needed
    # The first save: its step, and a part of the state, which is read back.
    self._proof: tuple[int, int, PyTree, PyTree] | None = None
    self._proven = False

  @property
  def _path(self) -> epath.Path:
    """The folder, by a name that no library interprets."""
    return epath.Path(self._folder.path) if self._folder else self._directory

  def _context(self, *, partial: bool = False) -> ocp.Context:
    context = ocp.Context()
    # With this on, each replica writes a share, for which slices would be compiled.
    context.array.saving.use_replica_parallel = False
    context.pytree.loading.partial_load = partial or self._read_only
    if jax.process_count() > 1:  # bounds the wait for a process that cannot write
      context.async_options.timeout_secs = _LATE
    elif not self._remote:
      # If a folder cannot be made, for example on a missing disk, Orbax's threads would
      # wait for it, and the process for the threads, for ten minutes.
      context.async_options.create_directories_asynchronously = False
    return context

  def _make_ready(self) -> None:
    """Opens Orbax early, because with several processes this compiles a barrier."""
    if self._orbax is None and not self._read_only:
      self._orbax = self._open()

  def _open(self) -> ocp.training.Checkpointer:
    """Opens Orbax, after renaming damaged checkpoints, with which it cannot work."""
    damaged = processes.broadcast_from_primary(
      [s for s in self.steps() if self._damage(s)] if processes.is_primary() else []
    )
    for step in damaged:
      self._say(f'the damaged checkpoint of step {step:,} is now broken-{step}')
    self.set_aside(damaged)
    opened = ocp.training.Checkpointer(
      self._path,
      context=self._context(),
      save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
      preservation_policy=self._policy,
      cleanup_tmp_directories=not self._read_only,
    )
    if jax.process_count() > 1:
      # Orbax asks JAX's preemption service about the step of a save, possibly a step
      # of the past, which the service would take for this process's current step.
      opened._manager.reached_preemption = lambda step: False
    return opened

  @property
  def latest(self) -> int | None:
    """The newest complete step; None if there is none."""
    steps = self.steps()
    return steps[-1] if steps else None

  def steps(self) -> list[int]:
    """Returns the complete steps, oldest first."""
    if not self._path.is_dir():
      return []
    # Names that Orbax gives to steps, without '007' or '²'.
    named = [p for p in self._path.iterdir() if re.fullmatch('0|[1-9][0-9]*', p.name)]
    # Buckets cannot rename atomically; there orbax writes a marker as the last file.
    complete = (p for p in named if p.is_dir() and (not self._remote or _committed(p)))
    return sorted(int(p.name) for p in complete)

  def save(
    self,
    step: int,
    parts: dict[str, PyTree],
    metrics: dict[str, float] | None = None,
    *,
    wait: bool = False,
  ) -> None:
    """Copies the parts and writes them in the background.

    An error of the background shows when the next save begins. The next save is then
    retried in place of this one, whose arrays no longer exist. With several processes
    nothing is retried: the others wait in orbax for the failed process, which must
    exit.

    Args:
      step: number of the checkpoint, larger than all existing ones.
      parts: 'state' and 'meta'.
      metrics: metrics of this step.
      wait: whether to wait until the checkpoint is written, with retries.

    Raises:
      OSError: this save or the previous one could not be written, or the first one
        cannot be read back; the message names the last good step.
      FileNotFoundError: the folder was removed, renamed or replaced.
    """

    def save(i: int) -> None:
      if i:  # removes the rest of the previous attempt
        self._failed = True
        self._end_orbax()
        self._proof = None
        if step in self.steps():
          return
      self._begin(step, parts, metrics)
      if wait or i:
        self._settle()

    self._check_folder()
    with self._explained():
      if jax.process_count() > 1:
        save(0)
      else:
        retry(save, self._title, tries=self._retries, say=self._say)

  def _check_folder(self) -> None:
    if self._folder:
      self._folder.check()

  def _begin(
    self, step: int, parts: dict[str, PyTree], metrics: dict[str, float] | None
  ) -> None:
    self._settle()
    self._make_ready()
    if not self._proven:
      count = len(jax.tree.leaves(parts['state']))
      self._proof = (step, count, *_sample(parts['state']))
    ranked = metrics if metrics and self._best in metrics else None
    if not self._start(step, parts, ranked):
      raise RuntimeError(f'step {step} was not saved: {self._directory} has later ones')

  def _start(self, step: int, parts: dict[str, PyTree], metrics: Any) -> bool:
    """Begins a save, as Orbax's `save_checkpointables_async` does.

    Orbax's function has no parameter for a class of temporary paths, and each of its
    responses holds a thread and three open files until its result is requested.
    """
    manager = self._orbax._manager
    with self._context():
      writer, args = saving.get_v0_checkpointer_and_args(dict(parts), metrics=metrics)
      if self._folder:
        writer._temporary_path_class = _SealedPath
      with contextlib.suppress(Exception):  # finished; its error was reported
        manager._checkpointer.close()
      manager._checkpointer = writer
      return manager.save(step, args=args, metrics=metrics)

  def _settle(self) -> None:
    """Waits for the current save, and reads the first one back."""
    if self._orbax is None:
      return
    self._orbax.wait()
    if self._proof:
      proof, self._proof, self._proven = self._proof, None, True
      self._prove(*proof)

  def _prove(self, step: int, count: int, abstract: PyTree, expected: PyTree) -> None:
    """Reads a small part of a checkpoint, as resuming will, and compares it.

    Args:
      step: number of the checkpoint.
      count: number of arrays and scalars in the state.
      abstract: shapes of a part of the state, see `_sample`.
      expected: values of this part when it was saved.

    Raises:
      OSError: the checkpoint cannot be read, or has other values.
    """
    try:
      self._count_entries(step, count)
      if abstract:
        loaded = self._load(step, {'state': abstract}, partial=True)['state']
        equal = jax.tree.map(
          lambda a, b: np.asarray(a).tobytes() == b.tobytes(), loaded, expected
        )
        if not all(jax.tree.leaves(equal)):
          raise ValueError('it has other values than were saved')
    except Exception as error:  # Orbax and TensorStore raise many types
      if may_pass(error) or lasting(error):
        raise
      raise OSError(
        f'the checkpoint of step {step:,} in {self._directory} was written and cannot '
        f'be read back ({self._reason(error)}): use another --workdir, on another disk '
        'or with a simpler name'
      ) from error

  def _count_entries(self, step: int, count: int) -> None:
    """Raises ValueError if a checkpoint's database has too few entries."""
    if self._remote or not processes.is_primary():
      return
    base = {'driver': 'file', 'path': f'{self._path / str(step)}/state/'}
    opened = tensorstore.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
    entries = len(opened.list().result())
    if entries < count:
      raise ValueError(f'it has {entries} entries for {count} arrays')

  def _end_orbax(self) -> None:
    if self._orbax:
      with contextlib.suppress(Exception):  # repeats an error that was reported
        self._orbax.close()
    self._orbax = None

  def wait(self) -> None:
    """Waits for the current save."""
    with self._explained():
      self._settle()

  def close(self) -> None:
    """Waits for the current save, and ends orbax's threads."""
    if self._reported and jax.process_count() > 1:
      return  # the other processes wait elsewhere, so waiting here would never end
    try:
      # An error that was reported would only be raised again.
      with contextlib.suppress(Exception) if self._reported else self._explained():
        self._settle()
    except BaseException:
      self._failed = True
      raise
    finally:
      self._end_orbax()
      # After a failure a thread of TensorStore may still be writing. The plain name must
      # refer to this folder, and not to one that is opened later.
      if self._folder and not self._failed:
        self._folder.close()

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Turns errors of the storage into an OSError with advice."""
    try:
      yield
    except Exception as error:  # errors of the background have many types
      reason = lasting(error) or may_pass(error)
      if not reason:
        self._failed = True
        self._check_folder()  # a removed folder causes other errors
        raise
      self._failed = self._reported = True
      text = str(error) if isinstance(error, GaveUp) else f'{reason} for {self._title}'
      raise OSError(
        f'{text}; the last good one is of step {self._latest_or_unknown()}. '
        f'{remedy(reason)}'
      ) from error

  def _latest_or_unknown(self) -> int | str | None:
    try:
      return self.latest
    except OSError:  # for example, because the process has too many open files
      return '(unknown)'

  def restore(
    self, abstract: dict[str, PyTree]
  ) -> tuple[int, dict[str, PyTree]] | None:
    """Loads the newest intact checkpoint.

    A damaged one, for example after a crash of the machine during a copy, is reported.
    It is renamed to `broken-<step>` after an older one was loaded, so that it does not
    conflict with new ones.

    Args:
      abstract: part -> tree of `jax.ShapeDtypeStruct` with shardings; None for
        JSON.

    Returns:
      The step and the parts, or None if there is no checkpoint.

    Raises:
      ValueError: none of the checkpoints can be read, or the newest intact one has
        another state.
      OSError: the storage has failed, while the checkpoint may be intact.
    """
    steps = processes.broadcast_from_primary(self.steps())
    for step in reversed(steps):
      parts = self._try(step, abstract)
      if parts is not None:
        self.set_aside([s for s in steps if s > step])
        self._make_ready()
        return step, parts
    if steps:
      raise ValueError(
        f'none of the checkpoints in {self._directory} can be read (steps '
        f'{", ".join(map(str, steps))}); if the model changed, use another workdir'
      )
    self._make_ready()
    return None

  def _try(self, step: int, abstract: dict[str, PyTree]) -> dict[str, PyTree] | None:
    """Loads a checkpoint; returns None, after a message, if it is damaged.

    All processes call it together, and the result is None in all of them or in none.

    Raises:
      ValueError: it is intact, and does not match `abstract`.
      OSError: the storage has failed.
    """
    sealed, parts, damage, error = False, None, '', None
    try:
      sealed = self._check(step)
      parts = self._load(step, abstract)
    except seal.DamagedError as caught:
      damage = str(caught)
    except Exception as caught:  # orbax and tensorstore raise many types
      error = caught
      storage = isinstance(error, OSError) or lasting(error) or may_pass(error)
      if not sealed and not storage:
        damage = self._reason(error)  # without a seal, any error may be damage
    problem = f'damaged:{damage}' if damage else ''
    if error and not damage:
      problem = f'error:{self._reason(error)}'
    problems = [text for text in processes.gather_from_all(problem) if text]
    for text in problems:
      if text.startswith('error:'):
        raise self._unloadable(step, text.removeprefix('error:'), error) from error
    for text in problems[:1]:
      reason = text.removeprefix('damaged:')[:200]
      self._say(f'the checkpoint of step {step:,} cannot be read ({reason})')
    return None if problems else parts

  def _unloadable(self, step: int, text: str, error: Exception | None) -> Exception:
    """Returns the error for an intact checkpoint that could not be loaded."""
    where = f'the checkpoint of step {step:,} in {self._directory}'
    reason = error and (lasting(error) or may_pass(error))
    if reason:
      return OSError(f'{reason}: {where} cannot be read now ({text}). {remedy(reason)}')
    if isinstance(error, OSError):
      return OSError(f'{where} cannot be read now: {text}')
    return ValueError(
      f'{where} is intact and cannot be loaded ({text}); if the model or the optimizer '
      'changed, use another workdir'
    )

  def _check(self, step: int) -> bool:
    """Compares a checkpoint with its seal, in process 0 for all processes.

    Returns:
      Whether it has a seal.

    Raises:
      DamagedError: it is damaged.
    """
    if self._remote:
      return False  # buckets compare digests themselves
    state, error = '', None
    if processes.is_primary():
      try:
        state = 'sealed' if seal.check(Path(self._path / str(step))) else 'unsealed'
      except seal.DamagedError as caught:
        state = f'damaged:{caught}'
      except OSError as caught:
        state, error = f'error:{self._reason(caught)}', caught
    state = processes.broadcast_from_primary(state)
    if state.startswith('damaged:'):
      raise seal.DamagedError(state.removeprefix('damaged:'))
    if state.startswith('error:'):
      raise error or OSError(state.removeprefix('error:'))
    return state == 'sealed'

  def _damage(self, step: int) -> str | None:
    """Returns the damage of a checkpoint by a quick check; None if it is intact."""
    if self._remote:
      return None
    try:
      seal.check(Path(self._path / str(step)), quick=True)
    except seal.DamagedError as error:
      return str(error)
    return None

  def _reason(self, error: Exception) -> str:
    """Returns the first line of an error, with the folder's original path."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.replace(str(self._path), str(self._directory))

  def set_aside(self, broken: list[int]) -> None:
    """Renames checkpoints to `broken-<step>`."""
    if not broken:
      return
    self._settle()
    self._end_orbax()
    if processes.is_primary():
      for step in broken:
        target = self._path / f'broken-{step}'
        target.rmtree(missing_ok=True)
        (self._path / str(step)).rename(target)
    processes.barrier('broken checkpoints')

  def load(self, step: int, abstract: dict[str, PyTree]) -> dict[str, PyTree]:
    """Loads one checkpoint; see `restore`.

    Raises:
      DamagedError: it has changed since it was saved.
    """
    try:
      self._check(step)
    except seal.DamagedError as error:
      where = f'the checkpoint of step {step:,} in {self._directory}'
      raise seal.DamagedError(f'{where} is damaged: {error}') from None
    return self._load(step, abstract)

  def _load(
    self, step: int, abstract: dict[str, PyTree], *, partial: bool = False
  ) -> dict[str, PyTree]:
    path = self._path / str(step)
    with self._context(partial=partial):
      # One part at a time, so that an error leaves no other part half loaded.
      return {
        part: ocp.load_checkpointables(path, {part: tree})[part]
        for part, tree in abstract.items()
      }

  def average(
    self, n: Annotated[int, Range(1)], abstract: PyTree, *, by: str = 'last'
  ) -> tuple[list[int], PyTree]:
    """Returns the mean of a part of the state over the last or best n checkpoints.

    It is computed in float32, one checkpoint at a time (Vaswani et al., "Attention Is
    All You Need", 2017, section 6.1). Damaged checkpoints are reported and skipped.

    Args:
      n: number of checkpoints.
      abstract: tree of `jax.ShapeDtypeStruct` of the part of the state.
      by: 'last' or 'best'.

    Returns:
      The steps of the checkpoints and the mean.

    Raises:
      FileNotFoundError: there are no checkpoints.
      ValueError: there are fewer than n, or one has another state.
      OSError: the storage has failed.
    """
    check_value('average', n, Annotated[int, Range(1)])
    total, used = None, []
    ranked = self._ranked(by)
    for step in ranked:
      if len(used) == n:
        break
      parts = self._try(step, {'state': abstract})
      if parts is not None:
        used.append(step)
        newest = parts['state']
        if n > 1:
          wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), newest)
          total = wide if total is None else jax.tree.map(jnp.add, total, wide)
    if len(used) < n:
      raise ValueError(
        f'{n} checkpoints were asked for, and {len(used)} can be read (steps {used}): '
        f'lower --average, or train with a larger {"keep_best_n" if by == "best" else "keep_latest"}'
      )
    if used != ranked[:n]:  # damaged ones were skipped
      self._say(f'used instead: the checkpoints of steps {used}')
    if n == 1:  # operations would be compiled, one program per shape of arrays
      return used, newest
    return used, jax.tree.map(lambda x, a: (x / n).astype(a.dtype), total, abstract)

  def _ranked(self, by: str) -> list[int]:
    """Returns the steps, the newest or the best first."""
    steps = self.steps()
    if not steps:
      raise FileNotFoundError(
        f'there are no checkpoints in {self._directory}; train first'
      )
    if by == 'last':
      return steps[::-1]
    if self._best is None:
      raise ValueError('the experiment sets no keep_best, by which one could be best')
    ranked, sign = [], -1.0 if self._mode == 'min' else 1.0
    for step in steps:
      if damage := self._damage(step):
        self._say(f'the checkpoint of step {step:,} cannot be read ({damage})')
        continue
      metrics = self._metrics(step)
      if self._best in metrics:
        ranked.append((sign * self._rank(metrics), step))
    return [step for _, step in sorted(ranked, reverse=True)]

  def _rank(self, metrics: Any) -> float:
    """Returns the value of `keep_best`; the worst possible value if it is missing."""
    value = metrics.get(self._best)
    if not isinstance(value, int | float) or math.isnan(value):
      return math.inf if self._mode == 'min' else -math.inf
    return float(value)

  def _metrics(self, step: int) -> dict[str, float]:
    """Returns the metrics of a checkpoint."""
    file = self._path / str(step) / 'metrics' / 'metrics'
    metrics = json.loads(file.read_text('utf-8')) if file.exists() else {}
    return metrics if isinstance(metrics, dict) else {}


def _committed(path: epath.Path) -> bool:
  return (path / seal.NAME).exists()


def _sample(state: PyTree) -> tuple[PyTree, PyTree]:
  """Returns a small part of a state: the smallest arrays of up to `_PROOF` bytes.

  It has at least one array, but with several processes it is empty, because loading
  arrays together would compile a program.

  Returns:
    Nested dicts of the shapes, and of the values.
  """
  if jax.process_count() > 1:
    return {}, {}
  leaves = jax.tree_util.tree_leaves_with_path(state)
  # Parts of a state can be loaded by names, but not by indices of lists.
  named = [(_names(path), x) for path, x in leaves if _is_plain_array(x)]
  named = sorted(((n, x) for n, x in named if n), key=lambda item: item[1].nbytes)
  shapes, numbers, size = {}, {}, 0
  for names, x in named:
    size += x.nbytes
    if shapes and size > _PROOF:
      break
    inner = [shapes, numbers]
    for name in names[:-1]:
      inner = [tree.setdefault(name, {}) for tree in inner]
    inner[0][names[-1]] = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    inner[1][names[-1]] = np.array(x)
  return shapes, numbers


def _names(path: tuple) -> list[str] | None:
  """Returns the names of the keys of a path; None if a key has no name."""
  keys = (
    [getattr(path[0], 'name', None) or getattr(path[0], 'key', None)] if path else []
  )
  keys += [getattr(key, 'key', None) for key in path[1:]]
  return keys if keys and all(isinstance(key, str) for key in keys) else None


def _is_plain_array(x: Any) -> bool:
  return isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.extended)
