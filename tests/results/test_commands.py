"""Commands in processes: their cores, their output, and signals."""

import os
import signal
import threading
import time

import pytest

from seqlab.results.commands import Commands, StoppingError
from seqlab.text.workers import all_cores

SLEEPS = """
import pathlib, time
pathlib.Path('started').touch()
time.sleep(60)
"""


def test_a_command_has_a_status_and_its_output_in_a_log(tmp_path):
  log = tmp_path / 'log'
  commands = Commands(2)
  assert commands.run(['experiments', str(tmp_path)], log) == 0
  assert commands.run(['experiments', 'nowhere'], log) == 1
  assert log.read_text().endswith('give one with experiments\n')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_commands_and_starts_no_other(tmp_path, monkeypatch, number):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'sleeps.py').write_text(SLEEPS)
  errors, commands = [], Commands(1)

  def run():
    for _ in range(2):
      try:
        commands.run(['plan', 'sleeps.py', '--devices=1'])
      except StoppingError as error:
        errors.append(error)

  thread = threading.Thread(target=run)
  with commands.handle_signals():
    thread.start()
    while not (tmp_path / 'started').exists():
      time.sleep(0.02)
    os.kill(os.getpid(), number)
    thread.join(20)
  assert commands.received == number
  assert len(errors) == 2


def test_the_cores_are_shared():
  shares = [Commands(2)._shares.get() for _ in range(2)]
  assert {*shares[0]} <= {*all_cores()}
