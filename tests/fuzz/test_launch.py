"""Random names, URLs and options in everything that launchers write and print."""

import argparse
from pathlib import Path
import re
import shlex
import subprocess
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest

from launch import kubernetes, slurm, tpu
from launch.options import dns_name, port, run_name, whole
from launch.trials import _names, experiment_name, with_argument
from seqlab.experiment import split_name
from seqlab.io import secrets
from seqlab.io.secrets import hide_url, hide_urls, keep_secret, scrub, url_secrets
from seqlab.report.tables import table
from seqlab.train.cluster import cluster_options

yaml = pytest.importorskip('yaml', reason='PyYAML is not installed')
pytest.importorskip('optuna', reason='Optuna is not installed')

from launch.storage import checked_url, hidden  # noqa: E402

pytestmark = pytest.mark.slow

# Words that an operating system allows in a command.
WORD = st.text(
  st.one_of(
    st.characters(exclude_characters='\0', exclude_categories=['Cs']),
    st.sampled_from(list('$`"\'\\ \n\t[]{}():;,=%#@!&*?~<>|/-+.')),
  ),
  max_size=40,
)
FOLDER = WORD.map(lambda text: 'runs/' + re.sub(r'[\\\r\n]', '_', text) + '/x')
MARK = 'zqX7'  # occurs only in secrets
SECRET = st.tuples(WORD, WORD).map(MARK.join)
FORMS = (
  *('{0}://me:{1}@host/db', '{0}://me:{1}@host:5432/db', '{0}://:{1}@/db'),
  *('{0}://host/db?password={1}', '{0}://host:1/db?user=me&password={1}'),
  *('{0}://me:a/{1}@host/db', '{0}://me:a@{1}@host/db', '{0}://me/x:{1}@host/db'),
  *('{0}://me:{1}@host:99999/db', '{0}://me:{1}@host:port/db', '{0}://me:{1}'),
  *('{0}://me:{1}@[::1]:1/db', '{0}:me:{1}@host/db', 'me:{1}@host/db'),
)
URL = st.tuples(
  st.sampled_from(FORMS),
  st.sampled_from(['postgresql', 'postgresql+psycopg', 'mysql', 'moon']),
  st.one_of(SECRET, SECRET.map(lambda text: quote(text, safe=''))),
).map(lambda parts: parts[0].format(*parts[1:]))


def examples(count):
  """Returns the settings of a test of `count` inputs, which are always the same."""
  checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
  return settings(
    max_examples=count, deadline=None, derandomize=True, suppress_health_check=checks
  )


def attempt(function, *args):
  """Returns the result of a function, or None, and the message of its error."""
  try:
    return function(*args), ''
  except (ValueError, argparse.ArgumentTypeError) as error:
    return None, str(error)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
  monkeypatch.setattr(secrets, '_known', set())


@examples(2_000)
@given(url=URL)
def test_the_secret_of_a_storage_never_appears(url):
  secrets._known.clear()
  assert MARK not in hidden(url)
  assert MARK not in hide_url(url)
  assert MARK not in attempt(checked_url, url)[1]


@examples(1_000)
@given(text=SECRET)
def test_a_known_secret_never_appears_in_messages(text):
  secrets._known.clear()
  keep_secret(text)
  for message in (
    text,
    repr(text),
    quote(text),
    shlex.quote(text),
    f'no {text}, {text!r}',
  ):
    assert text not in scrub(message)
    if '%' not in text:  # otherwise it is ambiguous
      assert MARK not in scrub(message), message


@examples(1_000)
@given(text=SECRET, form=st.sampled_from(FORMS[:5]))
def test_the_secret_of_a_url_never_appears_in_a_sentence(text, form):
  word = quote(text, safe='')
  url = form.format('https', word)
  assert MARK not in hide_urls(f'no ({url}), "{url}": {url}.')
  assert word in url_secrets(url) or text in url_secrets(url)


def _args(workdir, env, **options):
  return argparse.Namespace(
    name='Mein Lauf',
    named=False,
    workdir=workdir,
    env=env,
    experiment='a.py',
    **options,
  )


SCRIPT = """
srun() {{ while [ "$1" != {python} ]; do shift; done; printf '%s\\0' "$@"; }}
squeue() {{ :; }}
{script}
"""


@examples(300)
@given(workdir=FOLDER, value=WORD, words=st.lists(WORD, max_size=4))
def test_a_script_of_slurm_has_the_arguments_of_the_command(workdir, value, words):
  options = dict(nodes=2, processes_per_node=1, time='1:00:00', grace=60, sbatch=[])
  options |= dict(partition=None, account=None, gpus_per_node=None, mem=None)
  args = _args(workdir, [('TEXT', value)], cpus_per_task=None, **options)
  script = slurm.script(args, words).replace('exit "$status"', '')
  tail = 'printf "%s\\0" "$TEXT"'
  text = SCRIPT.format(python=shlex.quote(slurm.sys.executable), script=script) + tail
  done = subprocess.run(['bash', '-c', text], capture_output=True)
  printed = done.stdout.decode('utf-8', 'surrogateescape').split('\0')[:-1]
  assert not done.stderr, done.stderr
  assert printed[1:] == [
    *('-m', 'seqlab.cli', 'train', 'a.py', '--workdir', workdir, *words, value)
  ]


@examples(300)
@given(workdir=FOLDER, value=WORD, words=st.lists(WORD, max_size=4))
def test_a_recipe_of_a_pod_has_the_arguments_of_the_command(workdir, value, words):
  options = dict(zone=value or 'z', project=value, accelerator=value, version=None)
  args = _args(f'gs://{workdir}', [('TEXT', value)], spot=False, **options)
  script = tpu.recipe(args, words)
  stub = 'gcloud() { printf "%s\\0" "$@"; printf "\\036"; }; git() { :; }\n'
  done = subprocess.run(['bash', '-c', stub + script], capture_output=True)
  calls = done.stdout.decode('utf-8', 'surrogateescape').split('\0\x1e')
  train = next(c for c in calls if 'seqlab.cli' in c)
  (command,) = [w for w in train.split('\0') if w.startswith('--command=')]
  python = shlex.split(command.partition('cd seqlab; ')[2].partition(' 2>&1 | ')[0])
  if ' 2>&1 | ' not in ''.join(words) + workdir:
    assert python == [
      *('.venv/bin/python', '-m', 'seqlab.cli', 'train', 'a.py', '--workdir'),
      *(f'gs://{workdir}', *words),
    ]
  assert f'--zone={value or "z"}' in train.split('\0')


@examples(500)
@given(workdir=FOLDER, value=WORD, words=st.lists(WORD, max_size=4), namespace=WORD)
def test_a_jobset_has_the_arguments_of_the_command(workdir, value, words, namespace):
  options = dict(namespace=namespace, restarts=1, nodes=2, grace=1, image=value)
  args = _args(f'/{workdir}', [('TEXT', value)], gpus_per_node=1, **options)
  args.volume = [('claim', '/runs')]
  jobset = yaml.safe_load(kubernetes.jobset(args, words))
  assert jobset['metadata']['namespace'] == namespace
  pod = jobset['spec']['replicatedJobs'][0]['template']['spec']['template']['spec']
  (container,) = pod['containers']
  assert container['image'] == value
  assert [word.replace('$$', '$') for word in container['command'][1:]] == [
    *('-m', 'seqlab.cli', 'train', 'a.py', '--workdir', f'/{workdir}', *words)
  ]
  (text,) = [e['value'] for e in container['env'] if e['name'] == 'TEXT']
  assert text.replace('$$', '$') == value


@examples(1_000)
@given(name=WORD, other=WORD)
def test_names_are_valid_in_dns(name, other):
  for salt in ('', other):
    assert re.fullmatch('[a-z]([a-z0-9-]*[a-z0-9])?', dns_name(name, salt))
    assert len(f'{dns_name(name, salt)}-train-0-12345') <= 63
  names = {run_name(_args(f'gs://a/{x}', [])) for x in (name, other)}
  assert len(names) == len({x.rstrip('/') for x in (name, other)})


@examples(1_000)
@given(text=st.one_of(WORD, st.integers().map(str), st.floats().map(str)))
def test_an_option_is_a_number_in_its_range_or_refused(text):
  for read, low, high in (
    (whole(), 1, 10**18),
    (port, 1, 65_535),
    (whole(0), 0, 10**18),
  ):
    value, refusal = attempt(read, text)
    if refusal:
      assert 'it must be' in refusal
    else:
      assert low <= value <= high
      assert value == int(text)
  minutes, refusal = attempt(slurm.minutes, text)
  assert refusal.startswith('--time ') or minutes > 0


@examples(1_000)
@given(
  host=st.one_of(WORD, st.sampled_from(['a', '[::1]', '10.0.0.1'])),
  number=st.one_of(WORD, st.integers(-10, 10**6).map(str)),
  process=st.one_of(WORD, st.integers(-2, 9).map(str)),
)
def test_an_address_is_valid_or_refused(host, number, process):
  environ = {'JAX_COORDINATOR_ADDRESS': f'{host}:{number}', 'JAX_NUM_PROCESSES': '4'}
  options, refusal = attempt(cluster_options, environ | {'JAX_PROCESS_ID': process})
  if refusal:
    assert refusal.startswith('JAX_')
  else:
    assert 0 < int(number) < 65_536
    assert 0 <= options['process_id'] < 4


@examples(1_000)
@given(folder=WORD, argument=WORD, added=WORD)
def test_the_name_of_an_experiment_can_name_a_folder(folder, argument, added):
  folder = folder.replace('.py', '')
  experiment = f'{folder}/mine.py:{argument}'
  assert split_name(experiment) == (Path(f'{folder}/mine.py'), argument)
  joined = f'{argument},{added}' if argument else added
  assert split_name(with_argument(experiment, added))[1] == joined
  name = experiment_name(experiment)
  assert name not in ('', '.', '..')
  assert len(name.encode()) < 250
  assert re.fullmatch(r'[\w.,=+-]+', name)


VALUE = st.one_of(WORD, st.integers(), st.floats(allow_nan=False), st.booleans())


@examples(1_000)
@given(
  st.lists(st.dictionaries(st.sampled_from(['seed', 'a.b', 'c.b']), VALUE), max_size=5)
)
def test_trials_have_different_names(listed):
  names, refusal = attempt(_names, listed)
  if refusal:
    assert 'adds the same trial twice' in refusal
    return
  assert len({name.lower() for name in names}) == len(listed)
  for name in names:
    assert name not in ('', '.', '..')
    assert len(name.encode()) < 250
    assert re.fullmatch(r'[\w.,=+-]+', name)


@examples(1_000)
@given(st.lists(st.tuples(WORD, st.floats()), min_size=1, max_size=4), WORD)
def test_a_table_has_one_line_per_row(rows, title):
  rows = [[name, value] for name, value in rows]
  lines = table(rows, [title, 'value']).split('\n')
  assert len(lines) == len(rows) + 3
  assert not lines[-1]
  for line in lines[:-1]:
    assert len(re.findall(r'(?<!\\)\|', line)) == 3
  assert table(rows, [title, 'value'], format='latex').count('\n') == len(rows) + 6
