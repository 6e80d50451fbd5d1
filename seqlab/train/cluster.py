"""Joins processes that train as one, and lets none of them wait for a dead one."""

from collections.abc import Iterator, Mapping
import contextlib
import importlib.util
import os
import re
import socket
import sys
import traceback
from typing import Any, NoReturn

import jax

from seqlab.train import processes

# Seconds: for all to come together; until a process that gives no sign of life is
# dead, which ends the others; for all to be done in the end.
_TIMES = dict(
  initialization_timeout=300, heartbeat_timeout_seconds=40, shutdown_timeout_seconds=120
)
# What must be set, and the number of processes, where JAX finds the rest by itself.
_DETECTED = (
  (
    ('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_PROCID', 'SLURM_LOCALID'),
    'SLURM_NTASKS',
  ),
  (('OMPI_MCA_orte_hnp_uri',), 'OMPI_COMM_WORLD_SIZE'),
)
_REFUSALS = (ValueError, ArithmeticError, OSError, RuntimeError)
_LOST = re.compile('gloo|nccl|barrier|coordination|connection', re.IGNORECASE)


@contextlib.contextmanager
def cluster(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
  """Joins the cluster that the environment names; if it names none, does nothing.

  To be entered before anything is computed. An error inside ends this process at once,
  with a line on stderr: an orderly end waits for the others, which wait for this one.

  Args:
    environ: see `cluster_options`.

  Raises:
    ValueError: the environment names a cluster wrongly.
    RuntimeError: the others did not come.
  """
  options = cluster_options(environ)
  if options is None:
    yield
    return
  hosts = _join(options)
  try:
    yield
  except processes.Stopped:
    raise
  except BaseException as error:
    _end(error, hosts)


def cluster_options(environ: Mapping[str, str]) -> dict[str, Any] | None:
  """What `jax.distributed.initialize` needs to be told here; None if there is no need.

  A launcher sets JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES
  and JAX_PROCESS_ID, and perhaps JAX_LOCAL_DEVICE_IDS. Slurm, Open MPI, Kubernetes
  (indexed jobs) and TPUs on GKE are found by what they set. SEQLAB_CLUSTER names JAX's
  method for what cannot be seen ('gcetpu', 'mpi4py', ...), or 'none'.

  Raises:
    ValueError: a number is none.
  """
  method = environ.get('SEQLAB_CLUSTER')
  if method:
    return None if method == 'none' else {'cluster_detection_method': method}
  if 'JAX_COORDINATOR_ADDRESS' in environ:
    found = {}
    for argument in ('num_processes', 'process_id'):
      name = f'JAX_{argument.upper()}'
      if not environ.get(name, '').isdecimal():
        raise ValueError(
          f'JAX_COORDINATOR_ADDRESS is set, and {name} is {environ.get(name)!r}; '
          f'it should be a number'
        )
      found[argument] = int(environ[name])
    return {**found, 'cluster_detection_method': 'deactivate'}
  for names, size in _DETECTED:
    if all(name in environ for name in names) and int(environ.get(size, '1')) > 1:
      return {}
  if ',' in environ.get('TPU_WORKER_HOSTNAMES', ''):
    return {}
  indexed = {'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX'} <= set(environ)
  return {} if indexed and importlib.util.find_spec('kubernetes') else None


def _join(options: Mapping[str, Any]) -> list[str]:
  """Joins; returns the host of each process."""
  jax.distributed.initialize(**options, **_TIMES)
  hosts = processes.from_all(socket.gethostname())
  i = jax.process_index()
  print(f'process {i} of {len(hosts)} on {hosts[i]}, pid {os.getpid()}', flush=True)
  return hosts


def _end(error: BaseException, hosts: list[str]) -> NoReturn:
  """Says what went wrong, and who is gone if that is why; ends this process."""
  if os.environ.get('SEQLAB_TRACEBACK') or not isinstance(
    error, (*_REFUSALS, KeyboardInterrupt)
  ):
    traceback.print_exc()
  i, text = jax.process_index(), str(error) or type(error).__name__
  if _LOST.search(text):
    gone = processes.missing()
    named = ', '.join(f'process {p} on {hosts[p]}' for p in gone)
    text = f'{named} did not answer: {text}' if gone else text
  where = f'process {i} of {len(hosts)} on {hosts[i]}'
  print(f'seqlab train: {where}: {text}', file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)
