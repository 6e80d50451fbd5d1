"""Joins the processes of one run, and ends them if one of them dies."""

from collections.abc import Iterator, Mapping
import contextlib
import importlib.util
import os
import re
import socket
import sys
import time
import traceback
from typing import Any, NoReturn

import jax

from seqlab.io.secrets import scrub
from seqlab.train import processes

# Seconds: for all processes to join; until a process without heartbeats counts as dead,
# which ends the others; for all processes to finish at the end.
_TIMES = dict(
  initialization_timeout=300, heartbeat_timeout_seconds=40, shutdown_timeout_seconds=120
)
_NAMED = 60.0  # seconds until the name of process 0's host must be known
_HOST = re.compile(r'\[[0-9A-Fa-f:.]+(%\w+)?\]|[\w.-]+')
# For the launchers that JAX detects: variables that must be set, and the variable of the
# number of processes.
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
  """Joins the cluster that the environment describes; without one it does nothing.

  It must be entered before any computation. After an error inside, this process exits
  immediately with a line on stderr: a normal exit would wait for the other processes,
  which wait for this one.

  Args:
    environ: environment variables; see `cluster_options`.

  Raises:
    ValueError: a variable of the cluster is invalid.
    OSError: the address of process 0 cannot be used.
    RuntimeError: the other processes did not join in time.
  """
  options = cluster_options(environ)
  if options is None:
    yield
    return
  hosts = _join(options, environ)
  try:
    yield
  except processes.Stopped:
    raise
  except BaseException as error:
    _end(error, hosts)


def cluster_options(environ: Mapping[str, str]) -> dict[str, Any] | None:
  """Returns the options of `jax.distributed.initialize`; None without a cluster.

  A launcher sets JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES
  and JAX_PROCESS_ID, and optionally JAX_LOCAL_DEVICE_IDS. Slurm, Open MPI, Kubernetes
  (indexed jobs) and TPUs on GKE are detected by their variables. For other clusters
  SEQLAB_CLUSTER names JAX's method of detection ('gcetpu', 'mpi4py', ...); 'none' never
  joins.

  Raises:
    ValueError: a number or an address is not valid.
  """
  method = environ.get('SEQLAB_CLUSTER')
  if method:
    return None if method == 'none' else {'cluster_detection_method': method}
  if 'JAX_COORDINATOR_ADDRESS' in environ:
    for name in ('JAX_COORDINATOR_ADDRESS', 'JAX_COORDINATOR_BIND_ADDRESS'):
      if name in environ:
        _host_and_port(name, environ[name])
    options = {}
    for argument in ('num_processes', 'process_id'):
      name = f'JAX_{argument.upper()}'
      if not re.fullmatch('[0-9]{1,9}', environ.get(name, '')):
        raise ValueError(
          f'JAX_COORDINATOR_ADDRESS is set, and {name} is {environ.get(name)!r}; '
          f'it should be a number'
        )
      options[argument] = int(environ[name])
    if options['process_id'] >= options['num_processes']:
      raise ValueError(
        f'JAX_PROCESS_ID is {options["process_id"]}, and JAX_NUM_PROCESSES is '
        f'{options["num_processes"]}: number the processes from 0'
      )
    ids = environ.get('JAX_LOCAL_DEVICE_IDS', '')
    if ids and not re.fullmatch('[0-9]+(,[0-9]+)*', ids):
      raise ValueError(f'JAX_LOCAL_DEVICE_IDS is {ids!r}; it should be like 0,1,2')
    # Else JAX would add what it detects, for example Slurm's variables of a job in which
    # a launcher starts the processes.
    return {**options, 'cluster_detection_method': 'deactivate'}
  for names, size in _DETECTED:
    # A job of one process has the same variables, and nothing to join.
    if all(name in environ for name in names) and int(environ.get(size, '1')) > 1:
      return {}
  if ',' in environ.get('TPU_WORKER_HOSTNAMES', ''):
    return {}
  # JAX asks the Kubernetes API for the job, and needs this package to do so.
  indexed = {'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX'} <= set(environ)
  return {} if indexed and importlib.util.find_spec('kubernetes') else None


def _host_and_port(name: str, address: str) -> tuple[str, int]:
  """Parses `host:port`.

  Raises:
    ValueError: the address has another form, or the port is not 1 to 65535.
  """
  host, colon, port = address.rpartition(':')
  problem = ''
  if not colon or not re.fullmatch('[0-9]{1,5}', port) or not 0 < int(port) < 65_536:
    problem = 'it needs a port from 1 to 65535'
  elif not _HOST.fullmatch(host):
    problem = 'it needs a host name or an IP address, IPv6 in brackets'
  if problem:
    raise ValueError(
      f'{name} is {address!r}: {problem}, such as node-1:8476 or [fd00::1]:8476'
    )
  return host.strip('[]'), int(port)


def _check_address(process: int, environ: Mapping[str, str]) -> None:
  """Checks the address of process 0, because JAX would wait for minutes or crash.

  Raises:
    OSError: process 0 cannot listen at it, or the name of its host is unknown.
  """
  name = 'JAX_COORDINATOR_ADDRESS'
  host, port = _host_and_port(name, environ[name])
  started, announced = time.monotonic(), False
  while True:
    try:
      socket.getaddrinfo(host, port)
      break
    except OSError as error:  # in Kubernetes a host may become known with a delay
      if not announced:
        print(f'waiting for {_NAMED:.0f} s until the host {host} is known', flush=True)
      announced = True
      if time.monotonic() - started > _NAMED:
        raise OSError(
          f'{name} is {environ[name]!r}, and this machine does not know the host '
          f'{host}: {error.strerror}'
        ) from None
      time.sleep(1)
  if process:
    return
  name = 'JAX_COORDINATOR_BIND_ADDRESS'
  if name in environ:
    host, port = _host_and_port(name, environ[name])
  else:
    host = '::'  # JAX's default address for process 0
  try:
    _listen(host, port)
  except OSError as error:
    raise OSError(
      f'process 0 cannot listen at port {port} ({os.strerror(error.errno)}): set '
      f'JAX_COORDINATOR_ADDRESS to another port of this machine'
    ) from None


def _listen(host: str, port: int) -> None:
  """Opens a server socket and closes it; raises OSError if that is not possible."""
  if host == '::' and not socket.has_dualstack_ipv6():
    host = '0.0.0.0'
  (family, _, _, _, address), *_ = socket.getaddrinfo(
    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
  )
  both = host == '::'
  with socket.create_server(address[:2], family=family, dualstack_ipv6=both):
    pass


def _join(options: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
  """Joins the cluster and returns the host of each process."""
  if 'process_id' in options:
    _check_address(options['process_id'], environ)
  try:
    jax.distributed.initialize(**options, **_TIMES)
  except RuntimeError as error:
    lines = str(error).strip().splitlines() or ['']
    seconds = _TIMES['initialization_timeout']
    raise RuntimeError(
      f'this process could not join the others within {seconds} s: {lines[0]}. Check '
      f'that all were started, and that process 0 can be reached at '
      f'{environ.get("JAX_COORDINATOR_ADDRESS", "its host")}'
    ) from error
  hosts = processes.gather_from_all(socket.gethostname())
  i = jax.process_index()
  print(f'process {i} of {len(hosts)} on {hosts[i]}, pid {os.getpid()}', flush=True)
  return hosts


def _end(error: BaseException, hosts: list[str]) -> NoReturn:
  """Prints the error, with the processes that are missing, and ends this process."""
  if os.environ.get('SEQLAB_TRACEBACK') or not isinstance(
    error, (*_REFUSALS, KeyboardInterrupt)
  ):
    print(scrub(traceback.format_exc()), end='', file=sys.stderr)
  i, text = jax.process_index(), scrub(str(error)) or type(error).__name__
  if _LOST.search(text):
    missing = processes.missing_processes()
    named = ', '.join(f'process {p} on {hosts[p]}' for p in missing)
    text = f'{named} did not answer: {text}' if missing else text
  where = f'process {i} of {len(hosts)} on {hosts[i]}'
  print(f'seqlab train: {where}: {text}', file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)
