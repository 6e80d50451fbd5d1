"""Durable files."""

import os
from pathlib import Path
import tempfile

import pytest

from seqlab.io import files


def test_a_write_that_fails_keeps_the_old_file(tmp_path):
  path = tmp_path / 'a.json'
  files.write_text(path, 'old')
  with pytest.raises(RuntimeError), files.replacing(path) as part:  # noqa: PT012
    part.write_text('half')
    raise RuntimeError
  assert path.read_text() == 'old'
  assert os.listdir(tmp_path) == ['a.json']


def test_the_data_is_synced_before_the_name_appears(tmp_path, monkeypatch):
  seen = []
  monkeypatch.setattr(os, 'fsync', lambda handle: seen.append(os.listdir(tmp_path)))
  files.write_text(tmp_path / 'a', 'x')
  before, after = seen
  assert before != ['a']  # the temporary file
  assert after == ['a']  # the folder, once the name is there


def test_a_name_may_have_the_maximum_length(tmp_path):
  name = 'x' * 255
  files.write_text(tmp_path / name, 'x')
  assert (tmp_path / name).read_text() == 'x'


def test_permissions_follow_the_umask(tmp_path):
  old = os.umask(0o022)
  try:
    files.write_text(tmp_path / 'a', 'x')
  finally:
    os.umask(old)
  assert (tmp_path / 'a').stat().st_mode & 0o777 == 0o644


def test_a_device_is_written_and_not_replaced(tmp_path):
  pipe = tmp_path / 'pipe'
  os.mkfifo(pipe)
  reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
  files.write_text(pipe, 'text')
  assert os.read(reader, 9) == b'text'
  os.close(reader)
  assert pipe.is_fifo()
  files.write_text('/dev/null', 'text')
  assert not Path('/dev/null').is_file()


def test_a_file_in_memory_is_replaced():
  if not os.access('/dev/shm', os.W_OK):
    pytest.skip('there is no file system in memory')
  with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
    path = Path(folder) / 'a'
    files.write_text(path, 'old')
    old = path.stat().st_ino
    files.write_text(path, 'new')
    assert path.stat().st_ino != old


def test_a_link_stays_a_link(tmp_path):
  (tmp_path / 'link').symlink_to(tmp_path / 'file')
  files.write_text(tmp_path / 'link', 'text')
  assert (tmp_path / 'link').is_symlink()
  assert (tmp_path / 'file').read_text() == 'text'


def test_an_output_is_checked_before_it_is_written(tmp_path):
  files.check_output(tmp_path / 'new' / 'file')
  assert (tmp_path / 'new').is_dir()
  with pytest.raises(IsADirectoryError, match=r'--output .*new is a folder'):
    files.check_output(tmp_path / 'new')


def test_a_folder_by_its_handle_is_written_durably(tmp_path, monkeypatch):
  handle, synced = os.open(tmp_path, os.O_RDONLY), []
  sync = os.fsync
  monkeypatch.setattr(os, 'fsync', lambda h: synced.append(h) or sync(h))
  try:
    files.write_text(f'/proc/self/fd/{handle}/a', 'x')
  finally:
    os.close(handle)
  assert (tmp_path / 'a').read_text() == 'x'
  assert len(synced) == 2  # the file and its folder
