"""Completion of the command's words in a shell, by shtab (https://docs.iterative.ai/shtab)."""

import argparse
from collections.abc import Iterable, Iterator

_FOLDERS = (
  *('run_folder', 'run_folders', 'workdir', 'corpus', 'results', 'ensemble', 'folder'),
)
_FILES = (
  *('vectors', 'other', 'dictionary', 'evaluate', 'sets', 'hypothesis', 'references'),
  *('output', 'input', 'to', 'table'),
)


def script(
  parser: argparse.ArgumentParser, shell: str, experiments: Iterable[str]
) -> str:
  """Returns a shell's script that completes verbs, options, choices and files.

  Args:
    parser: parser of the command, whose actions get marks for shtab.
    shell: 'bash', 'zsh' or 'tcsh'.
    experiments: names that complete an experiment, besides Python files.

  Raises:
    RuntimeError: shtab is not installed.
  """
  try:
    import shtab  # imported here, because it is optional
  except ModuleNotFoundError as error:
    raise RuntimeError(
      "shtab is not installed: pip install 'seqlab[completion]'"
    ) from error

  names = ' '.join(sorted(experiments))
  by_name = {'bash': '_seqlab_names', 'zsh': '_seqlab_names', 'tcsh': 'f:*.py'}
  kinds = dict.fromkeys(_FOLDERS, shtab.DIRECTORY) | dict.fromkeys(_FILES, shtab.FILE)
  kinds |= {'experiment': by_name, 'experiments': by_name}
  for action in _actions(parser):
    if action.dest in kinds:
      action.complete = kinds[action.dest]
  functions = {
    'bash': '_seqlab_names() {\n'
    '  compgen -d -- "$1"\n'
    '  compgen -f -X \'!*.py\' -- "$1"\n'
    f'  compgen -W "{names}" -- "$1"\n'
    '}',
    'zsh': f"_seqlab_names() {{\n  _files -g '*.py'\n  compadd -- {names}\n}}",
    'tcsh': '',
  }
  return shtab.complete(parser, shell=shell, preamble=functions)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
  """Yields the actions of a parser and of the parsers of its verbs."""
  for action in parser._actions:
    yield action
    if isinstance(action, argparse._SubParsersAction):
      for verb in action.choices.values():
        yield from _actions(verb)
