"""Code that the launchers on clusters share: options, training command, templates."""

import argparse
from collections.abc import Callable, Sequence
import hashlib
from pathlib import Path
import re
import shutil
import string
import subprocess
import sys
from typing import NoReturn

from launch.trials import experiment_name
from seqlab.domains import Range, check_value
from seqlab.experiment import load_experiment
from seqlab.io.secrets import (
  HIDDEN,
  hide_url,
  hide_urls,
  is_secret_name,
  keep_secret,
  scrub,
)

_TEMPLATES = Path(__file__).parent / 'templates'
_REFUSALS = (ValueError, OSError, RuntimeError)
# Characters of a name in a cloud: 63 less what Kubernetes appends for job and pod.
_MAX_NAME = 40


class Parser(argparse.ArgumentParser):
  """A parser whose error messages hide the passwords of URLs."""

  def error(self, message: str) -> NoReturn:
    """Exits with status 2 and the message."""
    for word in sorted(sys.argv[1:], key=len, reverse=True):
      option, equals, value = (
        word.partition('=') if word[:2] == '--' else ('', '', word)
      )
      if '://' in value:
        message = message.replace(word, f'{option}{equals}{hide_url(value)}')
    super().error(scrub(message))


def whole(low: int = 1, high: int | None = None) -> Callable[[str], int]:
  """Returns a function that reads an option as a whole number in a range."""

  def read(text: str) -> int:
    value = int(text) if re.fullmatch('[+-]?[0-9]{1,18}', text) else text
    try:
      check_value('it', value, int)
      if value not in (domain := Range(low, high)):
        raise ValueError(f'it is {text}; it must be {domain}')
    except ValueError as error:
      raise argparse.ArgumentTypeError(str(error)) from None
    return value

  return read


positive = whole()
port = whole(1, 65_535)


def parser(launcher: str, description: str) -> argparse.ArgumentParser:
  """Returns a parser of the options that all launchers have.

  Args:
    launcher: name of the module.
    description: description of the command.
  """
  options = Parser(
    prog=f'python -m launch.{launcher}',
    description=description,
    epilog='Other options are passed to `seqlab train`, such as --config.seed=1.',
    allow_abbrev=False,
  )
  add = options.add_argument
  add('experiment', metavar='EXPERIMENT', help='a file, and maybe :arguments for it')
  add(
    '--workdir',
    required=True,
    help='folder of the run, on a disk or bucket of all machines',
  )
  add('--name', help="name of the job (the experiment's)")
  text = 'environment variable of the processes; may be repeated'
  env = dict(metavar='NAME=VALUE', type=_setting, action='append', default=[])
  add('--env', help=text, **env)
  add(
    '--dry-run', action='store_true', help='print what would be run, and start nothing'
  )
  return options


def launch(
  options: argparse.ArgumentParser,
  render: Callable[[argparse.Namespace, Sequence[str]], str],
  send: Callable[[argparse.Namespace, str], None],
  argv: Sequence[str] | None = None,
) -> int:
  """Reads the options, and prints or sends the text that is rendered from them.

  An error that the user can correct is reported in one line on stderr.

  Returns:
    The exit status.
  """
  args, rest = options.parse_known_args(argv)
  args.named = bool(args.name)
  args.name = args.name or experiment_name(args.experiment)
  prog = options.prog.removeprefix('python -m ')
  keep_secret(*(value for name, value in args.env if is_secret_name(name)))
  try:
    # The experiment is resolved here, so that its errors are reported at once and not
    # by every machine of a job that has waited in a queue.
    load_experiment(args.experiment, [word for word in rest if word != '--force'])
    text = render(args, rest)
    if args.dry_run:
      shown = render(*_without_secrets(args, rest))
      print(shown, end='')
      if shown != text:
        print(f'{prog}: {HIDDEN} replaces a password or key', file=sys.stderr)
    else:
      send(args, text)
  except _REFUSALS as error:
    print(f'{prog}: {scrub(str(error))}', file=sys.stderr)
    return 1
  return 0


def _without_secrets(
  args: argparse.Namespace, rest: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options with passwords and keys hidden, for printing."""
  env = [
    (name, HIDDEN if is_secret_name(name) else hide_urls(value))
    for name, value in args.env
  ]
  workdir = hide_urls(args.workdir)
  shown = argparse.Namespace(**{**vars(args), 'env': env, 'workdir': workdir})
  return shown, [*map(hide_urls, rest)]


def train_command(
  python: str, args: argparse.Namespace, rest: Sequence[str]
) -> list[str]:
  """Returns the same `seqlab train` command that trains on one machine."""
  words = ['train', args.experiment, '--workdir', args.workdir, *rest]
  return [python, '-m', 'seqlab.cli', *words]


def fill(template: str, **values: object) -> str:
  """Returns a file of templates/ with $name replaced by values, and $$ by $."""
  text = (_TEMPLATES / template).read_text('utf-8')
  return string.Template(text).substitute(values)


def hand_over(command: Sequence[str], text: str, where: str) -> str:
  """Runs a command with `text` as its input; returns its output.

  Args:
    command: its words.
    text: its standard input.
    where: machines that have this command, for the error message.

  Raises:
    FileNotFoundError: there is no such command.
    RuntimeError: it fails; the message is its own.
  """
  need(command[0], where)
  done = subprocess.run(command, input=text, capture_output=True, text=True)
  if done.returncode:
    reason = (done.stderr or done.stdout).strip() or f'status {done.returncode}'
    raise RuntimeError(f'{command[0]} refused it: {reason}')
  return done.stdout.strip()


def need(command: str, where: str) -> None:
  """Raises FileNotFoundError, which says where to run this, without the command."""
  if shutil.which(command) is None:
    raise FileNotFoundError(f'there is no command {command} here: run this {where}')


def run_name(args: argparse.Namespace, place: str | None = None) -> str:
  """Returns the name of a run in a cloud: --name, or one that is unique per workdir.

  The same command has the same name, and so finds the run that it started before. Two
  runs of one experiment in different folders have different names.

  Args:
    args: options of `parser`, completed by `launch`.
    place: text that identifies the workdir; by default its path.
  """
  if args.named:
    return dns_name(args.name)
  return dns_name(args.name, (place or args.workdir).rstrip('/'))


def dns_name(text: str, salt: str = '') -> str:
  """Returns a name that clouds accept (DNS-1123 and RFC 1035, at most 40 characters).

  Args:
    text: the name to be adapted. If its end is cut off, a digest replaces it, so that
      names with the same beginning stay different.
    salt: if not empty, a digest of it is added in any case.
  """
  name = re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')
  name = name if name[:1].isalpha() else f'run-{name}'.rstrip('-')
  if salt or len(name) > _MAX_NAME:
    digest = hashlib.sha256(f'{text}\0{salt}'.encode()).hexdigest()[:8]
    name = f'{name[: _MAX_NAME - 9].rstrip("-")}-{digest}'
  return name


def _setting(text: str) -> tuple[str, str]:
  name, equals, value = text.partition('=')
  if not equals or not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', name):
    raise argparse.ArgumentTypeError(f'{text!r} should be written NAME=VALUE')
  return name, value
