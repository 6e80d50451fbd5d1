"""Which environments name a cluster."""

import subprocess
import sys

import pytest

from seqlab.train.cluster import cluster, cluster_options

SLURM = {'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'a[1-2]', 'SLURM_PROCID': '1'}
SLURM |= {'SLURM_LOCALID': '0', 'SLURM_NTASKS': '2'}
MPI = {'OMPI_MCA_orte_hnp_uri': '1.0;tcp://10.0.0.1:3', 'OMPI_COMM_WORLD_SIZE': '2'}
LAUNCHED = {'JAX_COORDINATOR_ADDRESS': 'a:1', 'JAX_NUM_PROCESSES': '4'}


@pytest.mark.parametrize(
  ('environ', 'found'),
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
def test_a_cluster_is_seen_where_there_is_one(environ, found):
  assert cluster_options(environ) == found


def test_what_a_launcher_says_counts_more_than_what_is_seen():
  options = cluster_options(SLURM | LAUNCHED | {'JAX_PROCESS_ID': '3'})
  assert options['num_processes'] == 4
  assert options['process_id'] == 3
  assert options['cluster_detection_method'] == 'deactivate'


@pytest.mark.parametrize('value', [None, '', 'x', '-1'])
def test_a_process_without_a_number_is_told(value):
  environ = LAUNCHED | ({} if value is None else {'JAX_PROCESS_ID': value})
  with pytest.raises(ValueError, match='JAX_PROCESS_ID is'):
    cluster_options(environ)


def test_without_a_cluster_nothing_is_done():
  with pytest.raises(KeyError, match='mine'), cluster({}):
    raise KeyError('mine')  # in a cluster this would end the process


def test_training_starts_no_backend_before_it_may_join():
  code = (
    'import seqlab.train.cluster, seqlab.train.loop, jax._src.xla_bridge as b, sys;'
    'sys.exit(b.backends_are_initialized())'
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
