"""Experiment files: loading, overriding from the command line, listing."""

import ast
from collections.abc import Sequence
import importlib.util
from pathlib import Path
from typing import Any

from ml_collections import config_dict
from rich.table import Column, Table

from seqlab.config import DEFAULTS, steps_of, suggest
from seqlab.io.console import print_table


def load_experiment(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
  """The resolved configuration of `path.py:arguments` with `--config.key=value`.

  Args:
    name: path of the file, and after a colon what its `get_config` gets.
    overrides: '--config.hyper.peak=1e-3' and the like; the value is read as the
      type that the experiment has there. 'None' unsets, and so does 'none' where
      the experiment has no text, for which 'none' may be a choice of its own.

  Returns:
    Plain dicts, lists and scalars.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no `get_config`, or an override does not fit.
  """
  path, _, arg = name.partition(':')
  config = load_module(Path(path)).get_config(*([arg] if arg else []))
  with config.unlocked():
    for key, value in DEFAULTS.items():
      if key not in config:
        config[key] = value
  for override in overrides:
    _override(config, override, path)
  return config.to_dict()


def load_module(path: Path) -> Any:
  """An experiment's file as a module.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no `get_config`.
  """
  if path.suffix != '.py' or not path.is_file():
    raise FileNotFoundError(
      f'there is no experiment {path}; `seqlab experiments` lists those in experiments/'
    )
  spec = importlib.util.spec_from_file_location(f'experiment_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, 'get_config'):
    raise ValueError(f'{path} has no function get_config(arg=None)')
  return module


def _override(config: config_dict.ConfigDict, override: str, path: str) -> None:
  key, equals, text = override.removeprefix('--').partition('=')
  if not key.startswith('config.') or not equals:
    raise ValueError(f'{override!r} should be written --config.key=value')
  *sections, last = key.removeprefix('config.').split('.')
  section = found = config
  for part in (*sections, last):
    section = found
    if not isinstance(section, config_dict.ConfigDict) or part not in section:
      known = section if isinstance(section, config_dict.ConfigDict) else ()
      raise ValueError(
        f'{path} has no key {key.removeprefix("config.")!r}{suggest(part, known)} '
        f'(there: {", ".join(known)})'
      )
    found = section[part]
  if isinstance(found, config_dict.ConfigDict):
    raise ValueError(
      f'{key} is a section; set a key in it (there: {", ".join(found) or "none"})'
    )
  with section.ignore_type():  # a duration may turn from steps into text, and back
    section[last] = _value(text, found, key)


def _value(text: str, default: Any, key: str) -> Any:
  """`text` as the type of the value it replaces."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = {'true': True, 'false': False, 'none': None}.get(text.lower(), text)
  if isinstance(default, bool):
    if isinstance(value, bool):
      return value
    raise ValueError(f'{key}={text} should be true or false')
  if isinstance(default, str):
    if _is_duration(default) and (value is None or type(value) is int):
      return value
    return value if isinstance(value, str) or text == 'None' else text
  if default is None or value is None or type(value) is type(default):
    return value
  if isinstance(default, int) and _is_duration(value):  # '10 epochs' for 4000
    return value
  if isinstance(default, float) and type(value) is int:
    return float(value)
  if isinstance(default, list | tuple) and isinstance(value, list | tuple):
    return type(default)(value)
  raise ValueError(
    f'{key}={text} should be a {type(default).__name__}, like {default!r}'
  )


def _is_duration(value: Any) -> bool:
  try:
    return isinstance(value, str) and bool(
      steps_of(value, steps_per_epoch=1, tokens_per_step=1.0)
    )
  except ValueError:
    return False


def list_experiments(folder: Path) -> None:
  """Prints a table of the experiments below `folder`.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f'there is no folder {folder}; give one with experiments')
  table = Table(
    Column('experiment', no_wrap=True),  # whole, to be copied
    Column('what it shows', overflow='fold'),
    Column("the paper's number", overflow='fold'),
    'time',
  )
  for path in sorted(folder.rglob('*.py')):
    module = load_module(path)
    paper = ', '.join(f'{k} {v:g}' for k, v in getattr(module, 'PAPER', {}).items())
    title = (module.__doc__ or '-').splitlines()[0]
    table.add_row(str(path), title, paper or '-', getattr(module, 'TIME', '-'))
  print_table(table)
