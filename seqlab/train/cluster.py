"""Joins processes that train as one, and lets none of them wait for a dead one."""

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

# Seconds: for all to come together; until a process that gives no sign of life is
# dead, which ends the others; for all to be done in the end.
_TIMES = dict(
  initialization_timeout=300, heartbeat_timeout_seconds=40, shutdown_timeout_seconds=120
)
_NAMED = 60.0  # seconds for the name of process 0's host to become known
_HOST = re.compile(r'\[[0-9A-Fa-f:.]+(%\w+)?\]|[\w.-]+')
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
    OSError: the address of process 0 cannot be used.
    RuntimeError: the others did not come.
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
  """What `jax.distributed.initialize` needs to be told here; None if there is no need.

  A launcher sets JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES
  and JAX_PROCESS_ID, and perhaps JAX_LOCAL_DEVICE_IDS. Slurm, Open MPI, Kubernetes
  (indexed jobs) and TPUs on GKE are found by what they set. SEQLAB_CLUSTER names JAX's
  method for what cannot be seen ('gcetpu', 'mpi4py', ...), or 'none'.

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
    found = {}
    for argument in ('num_processes', 'process_id'):
      name = f'JAX_{argument.upper()}'
      if not re.fullmatch('[0-9]{1,9}', environ.get(name, '')):
        raise ValueError(
          f'JAX_COORDINATOR_ADDRESS is set, and {name} is {environ.get(name)!r}; '
          f'it should be a number'
        )
      found[argument] = int(environ[name])
    if found['process_id'] >= found['num_processes']:
      raise ValueError(
        f'JAX_PROCESS_ID is {found["process_id"]}, and JAX_NUM_PROCESSES is '
        f'{found["num_processes"]}: the processes are numbered from 0'
      )
    ids = environ.get('JAX_LOCAL_DEVICE_IDS', '')
    if ids and not re.fullmatch('[0-9]+(,[0-9]+)*', ids):
      raise ValueError(f'JAX_LOCAL_DEVICE_IDS is {ids!r}; it should be like 0,1,2')
    return {**found, 'cluster_detection_method': 'deactivate'}
  for names, size in _DETECTED:
    if all(name in environ for name in names) and int(environ.get(size, '1')) > 1:
      return {}
  if ',' in environ.get('TPU_WORKER_HOSTNAMES', ''):
    return {}
  indexed = {'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX'} <= set(environ)
  return {} if indexed and importlib.util.find_spec('kubernetes') else None


def _host_and_port(name: str, address: str) -> tuple[str, int]:
  """Reads `host:port`.

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
  """Looks at the address of process 0 first, as JAX waits for minutes or crashes.

  Raises:
    OSError: process 0 cannot listen there, or nobody knows the name of its host.
  """
  name = 'JAX_COORDINATOR_ADDRESS'
  host, port = _host_and_port(name, environ[name])
  started, said = time.monotonic(), False
  while True:
    try:
      socket.getaddrinfo(host, port)
      break
    except OSError as error:  # in Kubernetes a host may be known a little later
      if not said:
        print(f'waiting for {_NAMED:.0f} s until the host {host} is known', flush=True)
      said = True
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
    host = '::'  # where JAX has process 0 listen
  try:
    _listen(host, port)
  except OSError as error:
    raise OSError(
      f'process 0 cannot listen at port {port} ({os.strerror(error.errno)}): choose '
      f'another port in JAX_COORDINATOR_ADDRESS, and let that host be this machine'
    ) from None


def _listen(host: str, port: int) -> None:
  """Listens there for a moment; raises OSError if that is not possible."""
  if host == '::' and not socket.has_dualstack_ipv6():
    host = '0.0.0.0'
  (family, _, _, _, address), *_ = socket.getaddrinfo(
    host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
  )
  both = host == '::'
  with socket.create_server(address[:2], family=family, dualstack_ipv6=both):
    pass


def _join(options: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
  """Joins; returns the host of each process."""
  if 'process_id' in options:
    _check_address(options['process_id'], environ)
  try:
    jax.distributed.initialize(**options, **_TIMES)
  except RuntimeError as error:
    lines = str(error).strip().splitlines() or ['']
    seconds = _TIMES['initialization_timeout']
    raise RuntimeError(
      f'this process could not join the others within {seconds} s: {lines[0]}. Look '
      f'whether all were started, and whether process 0 can be reached at '
      f'{environ.get("JAX_COORDINATOR_ADDRESS", "its host")}'
    ) from error
  hosts = processes.gather_from_all(socket.gethostname())
  i = jax.process_index()
  print(f'process {i} of {len(hosts)} on {hosts[i]}, pid {os.getpid()}', flush=True)
  return hosts


def _end(error: BaseException, hosts: list[str]) -> NoReturn:
  """Says what went wrong, and who is gone if that is why; ends this process."""
  if os.environ.get('SEQLAB_TRACEBACK') or not isinstance(
    error, (*_REFUSALS, KeyboardInterrupt)
  ):
    print(scrub(traceback.format_exc()), end='', file=sys.stderr)
  i, text = jax.process_index(), scrub(str(error)) or type(error).__name__
  if _LOST.search(text):
    gone = processes.missing_processes()
    named = ', '.join(f'process {p} on {hosts[p]}' for p in gone)
    text = f'{named} did not answer: {text}' if gone else text
  where = f'process {i} of {len(hosts)} on {hosts[i]}'
  print(f'seqlab train: {where}: {text}', file=sys.stderr)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)
