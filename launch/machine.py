"""The environment of a process that computes on this machine."""

import os
import sys

from seqlab.cli import MALLOC


def environment() -> dict[str, str]:
  """Returns the environment of a new process; the user's settings take precedence."""
  malloc_settings = {'GLIBC_TUNABLES': MALLOC} if sys.platform == 'linux' else {}
  return malloc_settings | os.environ
