"""A user's own folder: files on the Python path, and every verb of the command.

Nothing in these tests reaches into the project's tests: a user has the installed
package only.
"""

from collections.abc import Iterator
import os
from pathlib import Path
import signal
import sys

import pytest

from launch import sweep
from seqlab import cli
from seqlab.train.writer import Writer


class Outside:
  """The working folder of a user.

  Attributes:
    folder: path of the folder, which is the working directory and on the Python path.
  """

  def __init__(self, folder: Path, capsys: pytest.CaptureFixture):
    """`capsys` captures the output of the verbs."""
    self.folder, self._capsys = folder, capsys

  def write(self, name: str, text: str) -> Path:
    """Writes a file below the folder, and returns its path."""
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, 'utf-8')
    return path

  def seqlab(self, *argv: str, status: int = 0) -> str:
    """Runs `seqlab ...`; returns its output and errors."""
    return self._run(cli.main, argv, status)

  def sweep(self, *argv: str, status: int = 0) -> str:
    """Runs `python -m launch.sweep ...`; returns its output and errors."""
    return self._run(sweep.main, argv, status)

  def interrupt(self, *argv: str, step: int) -> str:
    """Runs `seqlab train ...`, which gets SIGTERM once the row of a step is written.

    Returns:
      Its output and errors.
    """
    write = Writer.write

    def write_and_terminate(writer, number, row):
      write(writer, number, row)
      if number == step:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(Writer, 'write', write_and_terminate)
      return self.seqlab('train', *argv, status=os.EX_TEMPFAIL)

  def _run(self, main, argv: tuple[str, ...], status: int) -> str:
    self._capsys.readouterr()
    returned = main([str(word) for word in argv])
    printed = self._capsys.readouterr()
    assert returned == status, printed.err + printed.out
    return printed.out + printed.err


@pytest.fixture
def outside(tmp_path, monkeypatch, capsys) -> Iterator[Outside]:
  """A fresh folder of a user."""
  monkeypatch.chdir(tmp_path)
  before = {*sys.modules}
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
  yield Outside(tmp_path, capsys)
  # The next test may write another module of the same name.
  for name in {*sys.modules} - before:
    if str(tmp_path) in str(getattr(sys.modules[name], '__file__', '')):
      del sys.modules[name]
