"""Starts a command that the kernel kills when the process that started it ends.

  python leash.py PARENT COMMAND ...

PARENT is the id of the process that starts it. On systems other than Linux the command
is started without this protection.
"""

from collections.abc import Sequence
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def leashed(command: Sequence[str]) -> list[str]:
  """Returns a command that the kernel kills when this process ends."""
  # -P, since modules in this folder have names of the standard library's.
  return [sys.executable, '-P', __file__, str(os.getpid()), *command]


def main() -> None:
  """Becomes the command; the kernel's setting survives the call of exec."""
  parent, *command = sys.argv[1:]
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before prctl was called
      sys.exit(1)
  os.execvp(command[0], command)


if __name__ == '__main__':
  main()
