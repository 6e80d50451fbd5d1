"""A queue of trials in an Optuna study, shared by any number of processes.

Each attempt at a trial is one of Optuna's trials: when the process or the machine that
ran it died, another attempt with the same values is put into the queue. Optuna numbers
the attempts; the trials are numbered here, from 0.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import sys
import threading
import time
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from launch import storage

_MAX_DEATHS = 5  # of a trial's processes, before it counts as failed


@dataclasses.dataclass(eq=False)
class Claim:
  """An attempt at a trial that this process makes.

  Attributes:
    attempt: the attempt, as Optuna's trial.
    number: number of the trial, from 0.
  """

  attempt: optuna.Trial
  number: int | None = None  # None until the study was asked which one it is

  @property
  def name(self) -> str:
    """Name of the trial's folder, such as '0012'."""
    return f'{self.number:04d}'


class TrialQueue:
  """The trials of a study, and the claims of this process to run some of them.

  Its methods raise what Optuna's storage raises, except where they are said to wait.
  """

  def __init__(self, study: optuna.Study, size: int, connection: storage.Connection):
    """Claims nothing yet.

    Args:
      study: Optuna's study, which holds all that processes must know of each other.
      size: number of trials that the study is to have in all.
      connection: how calls are repeated while the storage does not answer.
    """
    self.study, self.size, self.claims = study, size, []
    self._connection = connection
    self._unnamed: dict[int, float] = {}  # running attempt -> when it was first seen

  def claim(self) -> Claim | None:
    """Claims the next trial for this process; None after the last."""
    self.fail_stale_trials()
    while self.has_work():
      with storage.without_heartbeat_warnings():
        claim = Claim(self.study.ask())
      self.claims.append(claim)
      try:
        self.send_heartbeats()
        if self._assign_number(claim):
          return claim
      except storage.STORAGE_ERRORS:
        self.abandon(claim)
        raise
    return None

  def _assign_number(self, claim: Claim) -> bool:
    """Numbers a claim; ends it and returns False if the study has enough trials."""
    attempt = claim.attempt
    claim.number = trial_numbers(self.study)[attempt.number]
    if claim.number >= self.size and 'of' not in attempt.user_attrs:
      # Another process was quicker: all trials were there before this one.
      self.close(claim, TrialState.FAIL, surplus=True)
      return False
    attempt.set_user_attr('name', claim.name)
    return True

  def abandon(self, claim: Claim) -> None:
    """Forgets a claim without a message to the study, where its trial becomes stale."""
    self.claims.remove(claim)

  def close(
    self,
    claim: Claim,
    state: TrialState,
    value: float | None = None,
    **attributes: Any,
  ) -> bool:
    """Ends an attempt in the study.

    Args:
      claim: the claim of this process.
      state: how the attempt ended.
      value: value of the metric, of a complete trial.
      **attributes: user attributes to be stored with it.

    Returns:
      False if another process had marked it failed before.
    """
    self.claims = [other for other in self.claims if other is not claim]
    try:
      for key, x in attributes.items():
        claim.attempt.set_user_attr(key, x)
      self.study.tell(claim.attempt, value, state)
    except (UpdateFinishedTrialError, ValueError):
      return False
    return True

  def requeue(self, attempt: FrozenTrial | optuna.Trial, *, died: bool) -> bool:
    """Queues another attempt at the same trial, with the same values.

    Args:
      attempt: the attempt that did not end.
      died: whether its process died; a trial whose processes die too often has failed.

    Returns:
      Whether it was queued.
    """
    deaths = attempt.user_attrs.get('deaths', 0) + died
    if deaths > _MAX_DEATHS:
      return False
    number = trial_numbers(self.study)[attempt.number]
    self.study.enqueue_trial(attempt.params, dict(of=number, deaths=deaths))
    return True

  def requeue_claims(self) -> None:
    """Queues again the trials that run in this process; their folders stay."""
    for claim in self.claims:
      if self.close(claim, TrialState.FAIL):
        self.requeue(claim.attempt, died=False)

  def requeue_abandoned(self) -> None:
    """Queues again the trials of a killed process, in a study in a file.

    On a server, running trials may belong to other processes; there a trial without a
    heartbeat is found by `fail_stale_trials`.
    """
    if self._connection.is_server:
      return
    for attempt in self.study.get_trials(states=(TrialState.RUNNING,)):
      self.study.tell(attempt.number, state=TrialState.FAIL)
      self.requeue(attempt, died=False)

  def fail_stale_trials(self) -> None:
    """Marks trials of processes that died as failed, and queues them again."""
    if not self._connection.is_server:
      return
    if self._connection.seconds_up < 2 * storage.HEARTBEAT:
      return  # processes that live could not send a heartbeat yet
    with storage.without_heartbeat_warnings():
      optuna.storages.fail_stale_trials(self.study)  # whose callback queues them again
    self._fail_unnamed()

  def _fail_unnamed(self) -> None:
    """Does the same for processes that died before the first heartbeat of a trial.

    Optuna's function knows only trials that had one.
    """
    now = time.monotonic()
    running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    unnamed = {t.number: t for t in running if 'name' not in t.user_attrs}
    self._unnamed = {n: self._unnamed.get(n, now) for n in unnamed}
    for number, since in self._unnamed.items():
      if now - since > storage.GRACE:
        with contextlib.suppress(UpdateFinishedTrialError, ValueError):
          self.study.tell(number, state=TrialState.FAIL)
          self.requeue(unnamed[number], died=True)

  def has_work(self) -> bool:
    """Returns whether the study has too few trials, or trials in its queue."""
    attempts = self.study.get_trials(deepcopy=False)
    first = sum(not {'of', 'surplus'} & {*t.user_attrs} for t in attempts)
    return first < self.size or any(t.state == TrialState.WAITING for t in attempts)

  def wait_for_work(self) -> bool:
    """Returns whether there is a trial to claim; waits while others may leave one.

    It waits, too, while a server does not answer.
    """
    reported = False
    while True:
      self._connection.retry(self.fail_stale_trials)
      if self._connection.retry(self.has_work):
        return True
      running = [t.state for t in self.latest().values()].count(TrialState.RUNNING)
      if not running:
        return False
      if not reported:
        trials = f'{running} trials that run' if running > 1 else 'a trial that runs'
        print(f'waiting for {trials} elsewhere', flush=True)
      reported = True
      time.sleep(storage.POLL)

  def latest(self) -> dict[int, FrozenTrial]:
    """Returns number of a trial -> its last attempt; waits for a server."""
    attempts = self._connection.retry(lambda: self.study.get_trials(deepcopy=False))
    numbers = _number(attempts)
    return {numbers[t.number]: t for t in attempts if not t.user_attrs.get('surplus')}

  @contextlib.contextmanager
  def heartbeats(self) -> Iterator[None]:
    """Sends heartbeats of the claims to a server, from a thread, in its context.

    `Study.optimize` would send them; `ask` and `tell` do not.
    """
    if not self._connection.is_server:
      yield
      return
    ended = threading.Event()
    thread = threading.Thread(target=self._send_until, args=(ended,), daemon=True)
    thread.start()
    try:
      yield
    finally:
      ended.set()
      thread.join()

  def _send_until(self, ended: threading.Event) -> None:
    while not ended.wait(storage.HEARTBEAT):
      try:
        self.send_heartbeats()
      except Exception as error:
        self._connection.note_failure()
        print(
          f'the storage of {self.study.study_name} got no heartbeat of its trials '
          f'({storage.first_line(error)}); after {storage.GRACE} s without one they are '
          f'marked as failed',
          file=sys.stderr,
        )

  def send_heartbeats(self) -> None:
    """Sends one heartbeat of each claim to a server."""
    if self._connection.is_server:
      for claim in self.claims:
        self.study._storage.record_heartbeat(claim.attempt._trial_id)


def trial_numbers(study: optuna.Study) -> dict[int, int]:
  """Returns Optuna's number of each attempt -> the number of its trial.

  Trials are counted in the order in which the study was asked for them. All processes
  see the same order, and so agree on which one was asked for too late.
  """
  return _number(study.get_trials(deepcopy=False))


def _number(attempts: Sequence[FrozenTrial]) -> dict[int, int]:
  numbers, num_trials = {}, 0
  for attempt in sorted(attempts, key=lambda attempt: attempt.number):
    trial = attempt.user_attrs.get('of')
    numbers[attempt.number] = num_trials if trial is None else trial
    num_trials += trial is None and not attempt.user_attrs.get('surplus')
  return numbers
