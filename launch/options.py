"""What the launchers on clusters share: options, the command of training, templates."""

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
_LONGEST = 40  # of a name in a cloud: 63 with what Kubernetes adds for job and pod


class Parser(argparse.ArgumentParser):
  """A parser whose error messages do not show the passwords of URLs."""

  def error(self, message: str) -> NoReturn:
    """Ends with status 2 and the message."""
    for word in sorted(sys.argv[1:], key=len, reverse=True):
      option, equals, value = (
        word.partition('=') if word[:2] == '--' else ('', '', word)
      )
      if '://' in value:
        message = message.replace(word, f'{option}{equals}{hide_url(value)}')
    super().error(scrub(message))


def whole(low: int = 1, high: int | None = None) -> Callable[[str], int]:
  """Returns a reader of options that are whole numbers in a range."""

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


def parser(launcher: str, about: str) -> argparse.ArgumentParser:
  """The options that all of them have; `launcher` is the module's name."""
  found = Parser(
    prog=f'python -m launch.{launcher}',
    description=about,
    epilog='What is not listed here goes to `seqlab train`, such as --config.seed=1.',
    allow_abbrev=False,
  )
  add = found.add_argument
  add('experiment', metavar='EXPERIMENT', help='a file, and maybe :arguments for it')
  add('--workdir', required=True, help='folder of the run, which all machines see')
  add('--name', help="of the job (the experiment's)")
  about = 'set this for the processes; may be given again'
  env = dict(metavar='NAME=VALUE', type=_setting, action='append', default=[])
  add('--env', help=about, **env)
  add('--dry-run', action='store_true', help='print what would be run, start nothing')
  return found


def launch(
  options: argparse.ArgumentParser,
  render: Callable[[argparse.Namespace, Sequence[str]], str],
  send: Callable[[argparse.Namespace, str], None],
  argv: Sequence[str] | None = None,
) -> int:
  """Reads the options, and prints or sends what is rendered of them.

  What the user can mend ends in one line on stderr.

  Returns:
    The exit status.
  """
  args, rest = options.parse_known_args(argv)
  args.named = bool(args.name)
  args.name = args.name or experiment_name(args.experiment)
  prog = options.prog.removeprefix('python -m ')
  keep_secret(*(value for name, value in args.env if is_secret_name(name)))
  try:
    # Says what is wrong with it here, and not on a hundred machines an hour later.
    load_experiment(args.experiment, [word for word in rest if word != '--force'])
    text = render(args, rest)
    if args.dry_run:
      shown = render(*_without_secrets(args, rest))
      print(shown, end='')
      if shown != text:
        print(f'{prog}: {HIDDEN} stands for a password or key', file=sys.stderr)
    else:
      send(args, text)
  except _REFUSALS as error:
    print(f'{prog}: {scrub(str(error))}', file=sys.stderr)
    return 1
  return 0


def _without_secrets(
  args: argparse.Namespace, rest: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
  """The options with passwords and keys hidden, to be printed."""
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
  """The same `seqlab train` that one would type on one machine."""
  words = ['train', args.experiment, '--workdir', args.workdir, *rest]
  return [python, '-m', 'seqlab.cli', *words]


def fill(template: str, **values: object) -> str:
  """A file of templates/ with $name replaced by values, and $$ by $."""
  text = (_TEMPLATES / template).read_text('utf-8')
  return string.Template(text).substitute(values)


def hand_over(command: Sequence[str], text: str, where: str) -> str:
  """Runs a command with `text` as its input; returns what it says.

  Args:
    command: its words.
    text: its standard input.
    where: what has such a command, for those who lack it.

  Raises:
    FileNotFoundError: there is no such command.
    RuntimeError: it fails; in its own words.
  """
  need(command[0], where)
  done = subprocess.run(command, input=text, capture_output=True, text=True)
  if done.returncode:
    said = (done.stderr or done.stdout).strip() or f'status {done.returncode}'
    raise RuntimeError(f'{command[0]} refused it: {said}')
  return done.stdout.strip()


def need(command: str, where: str) -> None:
  """Raises FileNotFoundError if there is no such command, and says where there is."""
  if shutil.which(command) is None:
    raise FileNotFoundError(f'there is no command {command} here: run this {where}')


def run_name(args: argparse.Namespace, place: str | None = None) -> str:
  """Returns the name of a run in a cloud: --name, or one of its own for each workdir.

  The same command has the same name, and so finds what it started before. Two runs of
  one experiment in different folders have different names.

  Args:
    args: options of `parser`, completed by `launch`.
    place: what tells the workdir from others; by default its path.
  """
  if args.named:
    return dns_name(args.name)
  return dns_name(args.name, (place or args.workdir).rstrip('/'))


def dns_name(text: str, salt: str = '') -> str:
  """Returns a name that clouds admit (DNS-1123 and RFC 1035, 40 characters at most).

  Args:
    text: the name to be adapted. What is cut from the end is replaced by a digest, so
      that names which begin alike stay different.
    salt: if not empty, a digest of it is added in any case.
  """
  name = re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')
  name = name if name[:1].isalpha() else f'run-{name}'.rstrip('-')
  if salt or len(name) > _LONGEST:
    digest = hashlib.sha256(f'{text}\0{salt}'.encode()).hexdigest()[:8]
    name = f'{name[: _LONGEST - 9].rstrip("-")}-{digest}'
  return name


def _setting(text: str) -> tuple[str, str]:
  name, equals, value = text.partition('=')
  if not equals or not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', name):
    raise argparse.ArgumentTypeError(f'{text!r} should be written NAME=VALUE')
  return name, value
