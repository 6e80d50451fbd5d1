"""The `seqlab` command: finds the verb, runs it, and ends the process.

The verbs and their options are in `seqlab.commands`.
"""

import argparse
import atexit
from collections.abc import Sequence
import contextlib
import os
import signal
import sys

from seqlab.commands import decoding, evaluation, results, training, vectors
from seqlab.io.secrets import scrub

_REFUSALS = (ValueError, ArithmeticError, OSError, RuntimeError, MemoryError)

# glibc returns large buffers to the kernel at every free, and a step on a CPU then
# spends up to half its time on fresh pages. Huge pages and one arena that keeps its
# memory avoid that; the allocator reads these settings once, when the process starts.
MALLOC = ':'.join(
  f'glibc.malloc.{name}'
  for name in (
    *('hugetlb=1', 'arena_max=1', 'mmap_max=0'),
    *('trim_threshold=1000000000000', 'top_pad=268435456'),
  )
)
_VERBS = {
  **training.VERBS,
  **evaluation.VERBS,
  **decoding.VERBS,
  **vectors.VERBS,
  **results.VERBS,
}


def _keep_memory(verb: str) -> None:
  """Restarts this command with `MALLOC`, unless the user has set tunables."""
  if (
    _VERBS[verb].computes
    and sys.platform == 'linux'
    and not os.environ.get('GLIBC_TUNABLES')
  ):
    environment = os.environ | {'GLIBC_TUNABLES': MALLOC}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit status.

  An error that the user can fix ends in one line on stderr and status 1, without a
  traceback; SEQLAB_TRACEBACK=1 shows the traceback.
  """
  if hasattr(sys.stdout, 'reconfigure'):
    # Text is UTF-8 whatever the locale; names of files may contain any other bytes.
    sys.stdout.reconfigure(encoding='utf-8', errors='surrogateescape')
  parser = command_parser()
  args, rest = parser.parse_known_args(argv)
  if rest and not _VERBS[args.verb].has_overrides:
    parser.error(f'unrecognized arguments: {" ".join(rest)}')
  if argv is not None:
    return _status_of(args, rest)
  _keep_memory(args.verb)
  statuses: list[int] = []
  atexit.register(_end_without_teardown, statuses)  # the first one is called last
  statuses.append(_status_of(args, rest))
  _end_with_threads(*statuses)
  return statuses[0]


def _end_with_threads(status: int) -> None:
  """Ends this process now if a thread works on something that nothing waits for.

  XLA cannot be interrupted, and Python's own exit would wait for its thread. A sink that
  hangs may have asked Python to call it at the exit. All files are closed by now.
  """
  background = sys.modules.get('seqlab.train.background')
  sinks = sys.modules.get('seqlab.train.sinks.background')
  if (background and background.is_compiling()) or (sinks and sinks.is_stuck()):
    _end_now(status)


def _end_without_teardown(statuses: Sequence[int]) -> None:
  """Ends this process, if a verb has ended, without freeing each of its objects.

  To take the interpreter, the modules and XLA's devices apart takes a third of a second.
  Python has waited for the threads by now.
  """
  for status in statuses:
    _end_now(status)


def _end_now(status: int) -> None:
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):  # it was reported, or is closed
      stream.flush()
  os._exit(status)


def _status_of(args: argparse.Namespace, rest: Sequence[str]) -> int:
  """Runs a verb; prints an error that the user can fix, and returns the status."""
  try:
    overrides = [rest] if _VERBS[args.verb].has_overrides else []
    status = args.run(args, *overrides) or 0
    sys.stdout.flush()
    return status
  except BrokenPipeError:  # the reader has closed the pipe, as `head` does
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE
  except _REFUSALS as error:
    if os.environ.get('SEQLAB_TRACEBACK'):
      raise
    reason = scrub(_reason_of(error, args.verb)) or type(error).__name__
    print(f'seqlab {args.verb}: {reason}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print(f'\nseqlab {args.verb}: interrupted', file=sys.stderr)
    return 130


def _reason_of(error: Exception, verb: str) -> str:
  """Returns the text of an error; if a device has no memory, with what takes it."""
  if 'RESOURCE_EXHAUSTED' not in str(error):
    return str(error)
  from seqlab.compile.memory import explain_out_of_memory, is_out_of_memory

  if not is_out_of_memory(error):
    return str(error)
  return explain_out_of_memory(error, _MEMORY_ADVICE.get(verb, _OTHER_MEMORY_ADVICE))


_MEMORY_ADVICE = {
  'train': 'Lower batching.tokens, set accumulate=2 or more (a batch is then computed in '
  "parts), model.remat='products' or 'full', or distribute the parameters over devices "
  'by mesh.fsdp. If an evaluator needs the memory, lower its option tokens. '
  '`seqlab plan EXPERIMENT --devices N --fit` finds the largest batching.tokens',
}
_OTHER_MEMORY_ADVICE = (
  'Lower --beam, --mbr or the number of --ensemble members, set --dtype bfloat16, or '
  'shorten the longest lines; for the evaluators of a run lower their option tokens'
)


def command_parser() -> argparse.ArgumentParser:
  """Returns the parser of all verbs."""
  parser = argparse.ArgumentParser(
    prog='seqlab', description='A laboratory for sequence learning in JAX/Flax.'
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
  for name, verb in _VERBS.items():
    text = verb.run.__doc__.splitlines()[0]
    sub = verbs.add_parser(name, help=text, description=text)
    sub.set_defaults(run=verb.run)
    verb.options(sub)
  return parser


if __name__ == '__main__':
  sys.exit(main())
