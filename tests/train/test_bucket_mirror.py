"""Runs in a bucket. A local folder with the same interface takes the bucket's place.

One difference is left: a bucket has no folders, so an empty one does not exist there.
"""

import shutil

import jax
import numpy as np
import pytest

from seqlab.train import retry
from seqlab.train.bucket_mirror import BucketMirror
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.folder import RunFolder, open_folder
from seqlab.train.loop import train
from seqlab.use.runs import load_run

RUN = 's3://bucket/runs/a'


def _files(folder):
  return {p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file()}


def test_new_and_changed_files_are_uploaded(bucket):
  mirror, remote = BucketMirror(RUN), bucket.path / 'runs' / 'a'
  (mirror.path / 'samples').mkdir()
  (mirror.path / 'samples' / 'x.txt').write_text('x', 'utf-8')
  (mirror.path / 'log').write_text('one\n', 'utf-8')
  (mirror.path / '.half').write_text('', 'utf-8')
  mirror.upload()
  assert _files(remote) == {'samples/x.txt', 'log'}
  (
    remote / 'samples' / 'x.txt'
  ).unlink()  # it has not changed here, so it is not uploaded again
  with (mirror.path / 'log').open('a', encoding='utf-8') as file:
    file.write('two\n')
  mirror.upload()
  assert (remote / 'log').read_text('utf-8') == 'one\ntwo\n'
  assert _files(remote) == {'log'}


def test_a_file_deleted_here_is_deleted_in_the_bucket(bucket):
  mirror, remote = BucketMirror(RUN), bucket.path / 'runs' / 'a'
  (mirror.path / 'a').write_text('', 'utf-8')
  mirror.upload()
  (remote / 'b').write_text('', 'utf-8')  # a file that this run did not upload
  (mirror.path / 'a').unlink()
  mirror.upload()
  assert _files(remote) == {'b'}


def test_another_machine_downloads_what_it_needs(bucket):
  first = BucketMirror(RUN)
  for name in ('config.json', 'vocabulary/words', 'events/e', 'checkpoints/4/x'):
    (first.path / name).parent.mkdir(parents=True, exist_ok=True)
    (first.path / name).write_text(name, 'utf-8')
  first.upload()
  second = BucketMirror(RUN)
  second.download()
  assert _files(second.path) == {'config.json', 'vocabulary/words', 'checkpoints/4/x'}
  (bucket.path / 'runs' / 'a' / 'config.json').unlink()
  second.upload()  # nothing, since all of it was downloaded
  assert not (bucket.path / 'runs' / 'a' / 'config.json').exists()


def test_the_folder_on_disk_is_deleted_with_its_mirror(bucket):
  mirror = BucketMirror(RUN)
  path = mirror.path
  assert path.is_dir()
  del mirror
  assert not path.exists()


def test_errors_name_the_bucket_and_not_its_mirror(bucket):
  config = {
    'task': 'tasks.glove:GlobalVectors',
    'seed': 0,
    'steps': 5,
    'hyper': {},
    'schedule': {},
  }
  folder = open_folder(RUN, config)
  assert folder.name == RUN
  folder.write_config()
  folder.upload()
  assert RunFolder.open(RUN).config == config
  with pytest.raises(ValueError, match=f'{RUN} was made by a different experiment'):
    open_folder(RUN, config | {'steps': 6})
  with pytest.raises(FileNotFoundError, match='s3://bucket/none is not a run'):
    RunFolder.open('s3://bucket/none')


def test_an_error_of_the_driver_names_the_bucket(bucket):
  mirror = BucketMirror(RUN)
  (mirror.path / 'a').write_text('', 'utf-8')
  bucket.driver.refusals = 1
  with pytest.raises(OSError, match=f'{RUN}: connection reset by peer'):
    mirror.upload()
  mirror.upload()
  assert (bucket.path / 'runs' / 'a' / 'a').is_file()


def test_a_run_in_a_bucket_equals_one_on_disk(bucket, point, point_run, read_run):
  train(point, RUN)
  remote = bucket.path / 'runs' / 'a'
  assert read_run(remote) == read_run(point_run)
  names = {path.name for path in remote.iterdir()}
  assert names | {'.lock', 'samples'} == {path.name for path in point_run.iterdir()}
  steps = {name.partition('/')[0] for name in _files(remote / 'checkpoints')}
  assert steps == {path.name for path in (point_run / 'checkpoints').iterdir()}
  log = (remote / 'train.log').read_text('utf-8')
  assert f'let no other run train in {RUN}' in log


def test_another_machine_resumes_the_run(bucket, point, point_run, read_run):
  remote = bucket.path / 'runs' / 'a'
  shutil.copytree(point_run, remote)
  shutil.rmtree(remote / 'checkpoints' / '12')
  train(point, RUN)
  assert 'resuming from the checkpoint of step 8' in (remote / 'train.log').read_text()
  assert read_run(remote) == read_run(point_run)


def test_a_temporary_failure_of_a_bucket_does_not_end_a_run(
  bucket, point, point_run, read_run, monkeypatch, capsys
):
  monkeypatch.setattr(retry, 'PAUSE', 0.01)
  save = Checkpoints.save

  def away(self, step, *args, **options):
    save(self, step, *args, **options)
    if step == 8:
      bucket.driver.refusals = 2

  monkeypatch.setattr(Checkpoints, 'save', away)
  train(point, RUN)
  assert read_run(bucket.path / 'runs' / 'a') == read_run(point_run)
  output = capsys.readouterr().out
  assert 'does not answer' in output
  assert (
    f'for the checkpoint of step 8 in {RUN}; trying again in 0.02 s (5 more)' in output
  )


def test_a_permanent_failure_of_a_bucket_ends_a_run(bucket, point, monkeypatch):
  monkeypatch.setattr(retry, 'PAUSE', 0.01)
  save = Checkpoints.save

  def away(self, step, *args, **options):
    save(self, step, *args, **options)
    if step == 8:
      bucket.driver.refusals = 10**6

  monkeypatch.setattr(Checkpoints, 'save', away)
  message = r'does not answer .* after 3 tries; .*Wait until it does and run the same'
  with pytest.raises(OSError, match=message):
    train(point | {'retries': 2}, RUN)
  steps = {
    name.partition('/')[0] for name in _files(bucket.path / 'runs/a/checkpoints')
  }
  assert steps == {'4'}


@pytest.mark.slow  # compiles a Transformer
def test_a_run_in_a_bucket_translates(bucket, tiny, finished):
  train(tiny, RUN)
  names = [p.name for p in (bucket.path / 'runs/a/samples').iterdir()]
  assert 'valid-00000012.txt' in names
  (_, _, remote, _), (_, _, local, _) = load_run(RUN), load_run(finished)
  for a, b in zip(*map(jax.tree.leaves, (remote, local)), strict=True):
    np.testing.assert_array_equal(a, b)
