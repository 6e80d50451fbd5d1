"""Environments that describe a cluster."""

import socket
import subprocess
import sys

import jax
import pytest

from seqlab.train.cluster import cluster, cluster_options

SLURM = {'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'a[1-2]', 'SLURM_PROCID': '1'}
SLURM |= {'SLURM_LOCALID': '0', 'SLURM_NTASKS': '2'}
MPI = {'OMPI_MCA_orte_hnp_uri': '1.0;tcp://10.0.0.1:3', 'OMPI_COMM_WORLD_SIZE': '2'}
LAUNCHED = {'JAX_COORDINATOR_ADDRESS': 'a:1', 'JAX_NUM_PROCESSES': '4'}


@pytest.mark.parametrize(
  ('environ', 'options'),
  [
    ({}, None),
    (SLURM, {}),
    (SLURM | {'SLURM_NTASKS': '1'}, None),  # one process, or a trial of an array
    ({k: v for k, v in SLURM.items() if k != 'SLURM_STEP_NODELIST'}, None),  # no srun
    (MPI, {}),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, {}),
    ({'TPU_WORKER_HOSTNAMES': 'a'}, None),
    ({'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, None),
    ({'SEQLAB_CLUSTER': 'gcetpu'}, {'cluster_detection_method': 'gcetpu'}),
    (SLURM | {'SEQLAB_CLUSTER': 'none'}, None),
  ],
)
def test_clusters_are_detected(environ, options):
  assert cluster_options(environ) == options


def test_variables_of_a_launcher_take_precedence_over_detection():
  options = cluster_options(SLURM | LAUNCHED | {'JAX_PROCESS_ID': '3'})
  assert options['num_processes'] == 4
  assert options['process_id'] == 3
  assert options['cluster_detection_method'] == 'deactivate'


@pytest.mark.parametrize('value', [None, '', 'x', '-1'])
def test_a_process_without_a_number_is_refused(value):
  environ = LAUNCHED | ({} if value is None else {'JAX_PROCESS_ID': value})
  with pytest.raises(ValueError, match='JAX_PROCESS_ID is'):
    cluster_options(environ)


@pytest.mark.parametrize(
  'address',
  [
    *('', 'host', 'host:', 'host:0', 'host:99999', 'host:abc', 'host:-1', 'host:٣٣'),
    *(':1234', 'a b:1234', '::1:1234', '[::1:1234', 'http://host:1234', 'host:1 2'),
  ],
)
@pytest.mark.parametrize('name', ['COORDINATOR', 'COORDINATOR_BIND'])
def test_an_address_without_a_host_or_a_port_is_refused(address, name):
  name = f'JAX_{name}_ADDRESS'
  environ = LAUNCHED | {'JAX_PROCESS_ID': '0'} | {name: address}
  with pytest.raises(ValueError, match=f'{name} is .*: it needs a'):
    cluster_options(environ)


@pytest.mark.parametrize('address', ['host:1', 'a-b.c_d:65535', '[fd00::1]:8476'])
def test_valid_addresses_are_accepted(address):
  environ = {'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '1'}
  assert cluster_options(environ | {'JAX_PROCESS_ID': '0'})['process_id'] == 0


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ({'JAX_PROCESS_ID': '4'}, 'number the processes from 0'),
    ({'JAX_NUM_PROCESSES': '0'}, 'number the processes from 0'),
    ({'JAX_LOCAL_DEVICE_IDS': 'a'}, "is 'a'; it should be like 0,1,2"),
  ],
)
def test_numbers_that_do_not_fit_are_refused(setting, message):
  with pytest.raises(ValueError, match=message):
    cluster_options(LAUNCHED | {'JAX_PROCESS_ID': '0'} | setting)


def _join(address, monkeypatch):
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **_: pytest.fail('joins'))
  environ = {'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '2'}
  with cluster(environ | {'JAX_PROCESS_ID': '0'}):
    pass


@pytest.mark.parametrize('host', ['127.0.0.1', '0.0.0.0'])
def test_a_port_that_is_taken_is_refused_before_jax_takes_it(host, monkeypatch):
  with (
    socket.create_server((host, 0)) as other,
    pytest.raises(OSError, match=r'process 0 cannot listen at port \d+ \(Address alr'),
  ):
    _join(f'127.0.0.1:{other.getsockname()[1]}', monkeypatch)


def test_an_unknown_host_is_named(monkeypatch):
  monkeypatch.setattr('seqlab.train.cluster._NAMED', 0.0)
  monkeypatch.setattr('seqlab.train.cluster.time.sleep', lambda _: None)
  with pytest.raises(OSError, match=r'does not know the host nowhere\.invalid: '):
    _join('nowhere.invalid:1234', monkeypatch)


def test_missing_processes_are_reported_in_one_line(monkeypatch):
  def late(**_):
    raise RuntimeError('DEADLINE_EXCEEDED: too late\nand more')

  monkeypatch.setattr(jax.distributed, 'initialize', late)
  environ = {'JAX_COORDINATOR_ADDRESS': '127.0.0.1:1', 'JAX_NUM_PROCESSES': '2'}
  with (
    pytest.raises(
      RuntimeError, match=r'join the others within 300 s: D.* too late\. C'
    ),
    cluster(environ | {'JAX_PROCESS_ID': '1'}),
  ):
    pass


def test_without_a_cluster_nothing_is_done():
  with pytest.raises(KeyError, match='mine'), cluster({}):
    raise KeyError('mine')  # in a cluster this would end the process


def test_training_starts_no_backend_before_it_may_join():
  code = (
    'import seqlab.train.cluster, seqlab.train.loop, jax._src.xla_bridge as b, sys;'
    'sys.exit(b.backends_are_initialized())'
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
