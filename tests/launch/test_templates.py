"""The templates for Kubernetes and TPU pods, parsed as their readers parse them."""

import os
import re
import shutil

import pytest
import yaml

from launch import kubernetes, slurm, tpu
from launch.options import dns_name

ODD = 'a "b" \'c\' $(HOME) $d $$e\n# f: {g}'
EXPERIMENT = """
import ml_collections


def get_config(arg=None):
  return ml_collections.ConfigDict(dict(task='none', text='', seed=0))
"""


@pytest.fixture
def experiment(tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text(EXPERIMENT, 'utf-8')
  return str(file)


@pytest.fixture
def jobset(experiment, capsys):
  """jobset(options): what `python -m launch.kubernetes --dry-run` prints, parsed."""

  def render(*options, workdir='gs://mine/run'):
    command = [experiment, '--workdir', workdir, '--image', 'seqlab:1', '--dry-run']
    assert kubernetes.main([*command, *options]) == 0
    return yaml.safe_load(capsys.readouterr().out)

  return render


def _pod(jobset):
  (job,) = jobset['spec']['replicatedJobs']
  return job['template']['spec']['template']['spec']


def _container(jobset):
  (container,) = _pod(jobset)['containers']
  return container


def _expanded(text, environ):
  """Expands a word as Kubernetes does: $(NAME) to its value, and $$ to $."""
  return re.sub(
    r'\$\$|\$\((\w+)\)',
    lambda m: '$' if m[0] == '$$' else environ.get(m[1], m[0]),
    text,
  )


def test_pods_know_process_0_and_their_index(jobset):
  manifest = jobset('--nodes', '4', '--name', 'Big_run')
  assert (manifest['apiVersion'], manifest['kind']) == (
    'jobset.x-k8s.io/v1alpha2',
    'JobSet',
  )
  assert manifest['metadata'] == {'name': 'big-run', 'namespace': 'default'}
  assert manifest['spec']['network']['enableDNSHostnames'] is True
  (job,) = manifest['spec']['replicatedJobs']
  spec = job['template']['spec']
  assert job['replicas'] == 1
  assert [spec[k] for k in ('completionMode', 'parallelism', 'completions')] == [
    *('Indexed', 4, 4)
  ]
  environ = {entry['name']: entry for entry in _container(manifest)['env']}
  address, port = environ['JAX_COORDINATOR_ADDRESS']['value'].split(':')
  # <JobSet>-<job>-<number of the job>-<number of the pod>.<JobSet>
  assert address == f'big-run-{job["name"]}-0-0.big-run'
  assert _container(manifest)['ports'] == [{'containerPort': int(port)}]
  assert environ['JAX_NUM_PROCESSES']['value'] == '4'
  index = environ['JAX_PROCESS_ID']['valueFrom']['fieldRef']['fieldPath']
  assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_preempted_pods_restart_the_set_without_counting(jobset):
  manifest = jobset('--grace', '300', '--restarts', '7')
  policy = manifest['spec']['failurePolicy']
  assert policy['maxRestarts'] == 7
  (rule,) = policy['rules']
  assert rule['action'] == 'RestartJobSetAndIgnoreMaxRestarts'
  assert rule['onJobFailureReasons'] == ['PodFailurePolicy']
  spec = manifest['spec']['replicatedJobs'][0]['template']['spec']
  assert spec['backoffLimit'] == 0
  stopped, disrupted = spec['podFailurePolicy']['rules']
  assert stopped['onExitCodes'] == {
    'containerName': _container(manifest)['name'],
    'operator': 'In',
    'values': [os.EX_TEMPFAIL],
  }
  # A string: `True` would be refused.
  condition = {'type': 'DisruptionTarget', 'status': 'True'}
  assert disrupted['onPodConditions'] == [condition]
  assert {stopped['action'], disrupted['action']} == {'FailJob'}
  assert _pod(manifest)['restartPolicy'] == 'Never'
  assert _pod(manifest)['terminationGracePeriodSeconds'] == 300


def test_gpus_and_volumes(jobset):
  options = ('--gpus-per-node', '8', '--volume', 'runs:/runs', '--volume', 'data:/data')
  manifest = jobset(*options, workdir='/runs/big')
  assert _container(manifest)['resources'] == {'limits': {'nvidia.com/gpu': 8}}
  assert _container(manifest)['volumeMounts'] == [
    {'name': 'runs', 'mountPath': '/runs'},
    {'name': 'data', 'mountPath': '/data'},
  ]
  assert [
    v['persistentVolumeClaim']['claimName'] for v in _pod(manifest)['volumes']
  ] == [*('runs', 'data')]


@pytest.mark.parametrize('text', [ODD, 'ä 🙂 \u2028 \x85 \x7f', 'yes', '1e3', ''])
def test_any_text_reaches_the_pod_unchanged(text, jobset, experiment):
  name = {'HOME': 'expanded'}
  manifest = jobset(f'--config.text={text}', f'--env=TEXT={text}', '--env', 'N=1')
  command = [_expanded(word, name) for word in _container(manifest)['command']]
  assert command == [
    *('python3', '-m', 'seqlab.cli', 'train', experiment),
    *('--workdir', 'gs://mine/run', f'--config.text={text}'),
  ]
  environ = {e['name']: e.get('value') for e in _container(manifest)['env']}
  assert _expanded(environ['TEXT'], name) == text
  assert environ['N'] == '1'


def _fails(main, argv, capsys):
  assert main(argv) == 1
  (line,) = capsys.readouterr().err.splitlines()
  return line


@pytest.mark.parametrize('workdir', ['/elsewhere/run', 'run', '/runs-too'])
def test_a_folder_that_is_deleted_with_its_pod_is_refused(workdir, experiment, capsys):
  command = [experiment, '--workdir', workdir, '--image', 'a', '--volume', 'b:/runs']
  assert f'--workdir {workdir} is deleted with its pod' in _fails(
    kubernetes.main, command, capsys
  )


def test_mistakes_show_before_anything_is_started(experiment, capsys, monkeypatch):
  monkeypatch.setenv('PATH', '')
  command = [experiment, '--workdir', 'gs://mine/run', '--image', 'seqlab:1']
  line = _fails(kubernetes.main, [*command, '--config.sed=1'], capsys)
  assert "no key 'sed'; did you mean 'seed'" in line
  line = _fails(kubernetes.main, command, capsys)
  assert line.startswith('launch.kubernetes: there is no command kubectl here: run')
  command = [experiment, '--workdir', 'gs://mine/run', '--accelerator', 'v4-8']
  line = _fails(tpu.main, [*command, '--zone', 'a'], capsys)
  assert line.startswith('launch.tpu: there is no command gcloud here')
  command[2] = 'runs/mine'
  line = _fails(tpu.main, [*command, '--zone', 'a'], capsys)
  assert 'the machines of a pod do not share a disk' in line


@pytest.mark.parametrize('option', ['--env=A', '--env=1A=2', '--volume=a', '--nodes=0'])
def test_options_of_the_wrong_form_are_refused(option, experiment, capsys):
  with pytest.raises(SystemExit):
    kubernetes.main([experiment, '--workdir', '/r', '--image', 'a', option])
  assert option.partition('=')[0] in capsys.readouterr().err


def _programs(folder, monkeypatch, **programs):
  """Replaces commands by scripts that write their words as JSON."""
  folder.mkdir()
  for name, body in programs.items():
    (folder / name).write_text(f'#!{shutil.which("bash")}\n{body}\n')
    (folder / name).chmod(0o755)
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')


def test_kubectl_gets_the_yaml_and_its_errors_are_shown(
  experiment, tmp_path, monkeypatch, capsys
):
  _programs(
    tmp_path / 'bin',
    monkeypatch,
    kubectl=f'cat > {tmp_path}/got; echo "$@" > {tmp_path}/words; echo no such kind >&2; '
    f'exit 1',
  )
  command = [experiment, '--workdir', 'gs://mine/run', '--image', 'seqlab:1']
  line = _fails(kubernetes.main, command, capsys)
  assert line == 'launch.kubernetes: kubectl refused it: no such kind'
  assert (tmp_path / 'words').read_text() == 'apply -f -\n'
  assert yaml.safe_load((tmp_path / 'got').read_text())['kind'] == 'JobSet'


# Writes its words down, runs what a machine of the pod would run, and has no machine.
GCLOUD = """
printf '%s\\0' "$@" >> {log}; printf '\\036' >> {log}
[ "$4" != describe ] || exit 1
for word; do case "$word" in
  */environment) cp "$word" {home} ;;
  --command=*) HOME={home} PATH={home}:$PATH bash -c "cd; ${{word#--command=}}" ;;
esac; done
"""
TRAIN = 'printf "%s\\0" "$SEQLAB_CLUSTER" "$TEXT" "$@" > {log}; echo said'


def _recipe(experiment, tmp_path, monkeypatch, *options, train=TRAIN):
  """Runs a recipe; returns its status, the calls of gcloud, and the home folder."""
  home = tmp_path / 'home'
  (home / 'seqlab' / '.venv' / 'bin').mkdir(parents=True)
  python = home / 'seqlab' / '.venv' / 'bin' / 'python'
  python.write_text('#!/bin/bash\n' + train.format(log=tmp_path / 'trained'))
  for name in ('sudo', 'python3.11', 'tar', 'pip'):  # they would install it
    (home / name).write_text('#!/bin/bash\n')
  _programs(
    tmp_path / 'bin',
    monkeypatch,
    gcloud=GCLOUD.format(log=tmp_path / 'calls', home=home),
    git='[ "$1" = archive ]',
  )
  pip = home / 'seqlab' / '.venv' / 'bin' / 'pip'
  pip.write_text('#!/bin/bash\n')
  for file in (python, pip, *home.glob('*')):
    file.chmod(0o755)
  command = [experiment, '--workdir', 'gs://mine/run', '--zone', 'us-west4-a']
  status = tpu.main([*command, '--accelerator', 'v5litepod-16', *options])
  calls = (tmp_path / 'calls').read_text().split('\x1e')[:-1]
  gcloud_calls = [words.split('\0')[:-1] for words in calls]
  return status, gcloud_calls, home


def test_a_tpu_pod_is_created_and_runs_the_command(
  experiment, tmp_path, monkeypatch, capfd
):
  options = ['--spot', f'--config.text={ODD}', f'--env=TEXT={ODD}', '--name', 'Big run']
  status, gcloud_calls, home = _recipe(experiment, tmp_path, monkeypatch, *options)
  assert status == 0
  assert {tuple(words[:3]) for words in gcloud_calls} == {('compute', 'tpus', 'tpu-vm')}
  assert [words[3] for words in gcloud_calls] == [
    'describe',
    'create',
    'scp',
    'ssh',
    'ssh',
  ]
  assert {'--zone=us-west4-a', 'big-run'} <= set(gcloud_calls[1])
  assert gcloud_calls[1][-3:] == [
    *('--accelerator-type=v5litepod-16', '--version=v2-alpha-tpuv5-lite', '--spot')
  ]
  assert all('--worker=all' in words for words in gcloud_calls[2:])
  cluster, text, *command = (tmp_path / 'trained').read_text().split('\0')[:-1]
  assert (cluster, text) == ('gcetpu', ODD)
  assert command == [
    *('-m', 'seqlab.cli', 'train', experiment, '--workdir', 'gs://mine/run'),
    f'--config.text={ODD}',
  ]
  shown = capfd.readouterr().out
  assert shown.splitlines()[0] == 'said'
  assert (home / 'big-run.log').read_text() == 'said\n'
  assert 'gcloud compute tpus tpu-vm delete big-run --zone=us-west4-a' in shown


def test_the_status_of_a_failure_on_a_pod_is_reported(
  experiment, tmp_path, monkeypatch, capfd
):
  assert _recipe(experiment, tmp_path, monkeypatch, train='exit 75')[0] == 1
  shown = capfd.readouterr()
  assert 'a gcloud command ended with status 75: correct what it reports' in shown.err
  assert 'tpu-vm delete' in shown.out  # since the machines still cost money


def test_names_are_valid_in_clouds():
  names = ['Multi30k-transformer,size=a/b', '30k', '...']
  assert [dns_name(name) for name in names] == [
    *('multi30k-transformer-size-a-b', 'run-30k', 'run')
  ]
  long = [dns_name('x' * 100), dns_name('x' * 101)]
  assert [len(name) for name in long] == [40, 40]
  assert long[0] != long[1]


def _jobset_name(jobset, *options, **workdir):
  return jobset(*options, **workdir)['metadata']['name']


def test_two_runs_of_one_experiment_have_two_names(jobset):
  names = [_jobset_name(jobset, workdir=f'gs://mine/{i}') for i in 'ab']
  assert names[0] != names[1]
  assert all(re.fullmatch('mine-[0-9a-f]{8}', name) for name in names)
  again = [_jobset_name(jobset, workdir=f'gs://mine/{i}') for i in ('a', 'a/')]
  assert again == [names[0]] * 2  # so that resuming finds it
  claims = [
    _jobset_name(jobset, '--volume', f'{claim}:/runs', workdir='/runs/a')
    for claim in 'ab'
  ]
  assert claims[0] != claims[1]
  assert _jobset_name(jobset, '--name', 'mine') == 'mine'


def test_two_pods_of_one_experiment_have_two_names(experiment, capsys):
  names = set()
  for run in 'ab':
    command = [experiment, '--workdir', f'gs://mine/{run}', '--zone', 'a']
    assert tpu.main([*command, '--accelerator', 'v4-8', '--dry-run']) == 0
    names |= {*re.findall(r'tpu-vm create (\S+)', capsys.readouterr().out)}
  assert len(names) == 2


SECRET = 's3cr3t-value'


@pytest.mark.parametrize('launcher', ['slurm', 'kubernetes', 'tpu'])
def test_secrets_are_not_printed(launcher, experiment, capsys):
  options = {
    'slurm': [slurm.main],
    'kubernetes': [kubernetes.main, '--image', 'a'],
    'tpu': [tpu.main, '--zone', 'a', '--accelerator', 'v4-8'],
  }
  main, *extra = options[launcher]
  command = [
    experiment,
    '--workdir',
    f'gs://key:{SECRET}@mine/run',
    *extra,
    '--dry-run',
  ]
  command += [f'--env=WANDB_API_KEY={SECRET}', f'--env=P=http://me:{SECRET}@proxy:80']
  assert main([*command, f'--config.text=https://h/x?token={SECRET}']) == 0
  captured = capsys.readouterr()
  assert SECRET not in captured.out + captured.err
  assert captured.out.count('***') >= 4
  assert captured.err == f'launch.{launcher}: *** replaces a password or key\n'


def test_output_of_kubectl_shows_no_secret(experiment, tmp_path, monkeypatch, capsys):
  body = 'cat >&2; exit 1'  # prints its input
  _programs(tmp_path / 'bin', monkeypatch, kubectl=body)
  command = [experiment, '--workdir', 'gs://mine/run', '--image', 'seqlab:1']
  assert kubernetes.main([*command, f'--env=MY_TOKEN={SECRET}']) == 1
  error = capsys.readouterr().err
  assert 'MY_TOKEN' in error
  assert SECRET not in error


def test_the_words_of_gcloud_contain_no_setting(
  experiment, tmp_path, monkeypatch, capfd
):
  options = [f'--env=MY_TOKEN={SECRET}', f'--env=TEXT={SECRET}']
  status, gcloud_calls, home = _recipe(experiment, tmp_path, monkeypatch, *options)
  assert status == 0
  assert not any(SECRET in word for words in gcloud_calls for word in words)
  assert (home / 'environment').stat().st_mode & 0o777 == 0o600
  assert (tmp_path / 'trained').read_text().split('\0')[1] == SECRET
  assert SECRET not in ''.join(capfd.readouterr())


def test_a_dry_run_prints_the_recipe(experiment, capsys):
  command = [experiment, '--workdir', 'gs://mine/run', '--zone', 'a']
  assert tpu.main([*command, '--accelerator', 'v4-8', '--dry-run']) == 0
  text = capsys.readouterr().out
  assert '--accelerator-type=v4-8 --version=tpu-ubuntu2204-base\n' in text
  assert '$where' not in text
