"""What the launchers on clusters share: options, the command of training, templates."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
import re
import shutil
import string
import subprocess
import sys

from launch.trials import experiment_name
from seqlab.experiment import load_experiment

_TEMPLATES = Path(__file__).parent / 'templates'
_REFUSALS = (ValueError, OSError, RuntimeError)


def parser(launcher: str, about: str) -> argparse.ArgumentParser:
  """The options that all of them have; `launcher` is the module's name."""
  found = argparse.ArgumentParser(
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
  args.name = args.name or experiment_name(args.experiment)
  try:
    # Says what is wrong with it here, and not on a hundred machines an hour later.
    load_experiment(args.experiment, [word for word in rest if word != '--force'])
    text = render(args, rest)
    if args.dry_run:
      print(text, end='')
    else:
      send(args, text)
  except _REFUSALS as error:
    print(f'{options.prog.removeprefix("python -m ")}: {error}', file=sys.stderr)
    return 1
  return 0


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


def dns_name(text: str) -> str:
  """What clouds take for a name: small letters, digits, dashes; 40 at most of them."""
  name = re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')[:40].strip('-')
  return name if name[:1].isalpha() else f'run-{name}'.rstrip('-')


def positive(text: str) -> int:
  """Reads an option that counts something."""
  if not text.isdecimal() or not int(text):
    raise argparse.ArgumentTypeError(f'{text!r} is no number; give 1 or more')
  return int(text)


def _setting(text: str) -> tuple[str, str]:
  name, equals, value = text.partition('=')
  if not equals or not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', name):
    raise argparse.ArgumentTypeError(f'{text!r} should be written NAME=VALUE')
  return name, value
