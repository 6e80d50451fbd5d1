"""Experiment files: loading them, and overriding from the command line."""

import ast
from collections.abc import Iterable, Mapping, Sequence
import contextlib
import importlib.util
import os
from pathlib import Path
import re
import sys
import typing
from typing import Any

from ml_collections import config_dict

from seqlab import domains
from seqlab.config import (
  DEFAULTS,
  INNER_SECTIONS,
  SECTIONS,
  SMOKE,
  WATCHING,
  Settings,
  split_smoke,
  steps_of,
  suggest,
)
from seqlab.experiment_files import find_experiment, known_names
from seqlab.pieces import piece_in
from seqlab.results.paper import assignments
from seqlab.sources import note_source
from seqlab.upgrade import upgrade

_PIECES = ('optimizer', 'schedule')  # sections that may be the name of a piece


def load_experiment(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
  """Returns the resolved configuration of `path.py:arguments` with overrides.

  Args:
    name: path of the file, and after a colon the arguments of its `get_config`. With
      `smoke`, the file's `smoke(config)` then makes the experiment small.
    overrides: options such as '--config.hyper.peak=1e-3'; the value is read as the
      type of the value that it replaces. 'None' means no value, and so does 'none'
      where the experiment has no text, for which 'none' may be one of the choices.
      A section or piece is set before the options inside it, whatever their order.

  Returns:
    Plain dicts, lists and scalars.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no `get_config`, or no `smoke` although that was asked for, or
      an override does not fit.
  """
  path, arg = split_name(name)
  module = load_module(path)
  arg, smoke = split_smoke(arg)
  config = _config_of(module, arg, path)
  if smoke:
    _make_small(config, module, path)
  with config.unlocked():
    for key, value in (DEFAULTS | dict.fromkeys(WATCHING)).items():
      if key not in config:
        config[key] = value
  config = _upgraded(config)
  for override in sorted(overrides, key=_depth):
    _override(config, override, path)
  resolved = upgrade(config.to_dict())
  for key in WATCHING:
    if resolved[key] is None:
      del resolved[key]
  domains.check(Settings, resolved)  # here, since `threads` counts before JAX starts
  return resolved


def split_name(name: str) -> tuple[Path, str]:
  """Divides 'folder/file.py:size=small' into the file and its arguments.

  A colon may also be part of a folder's name. The name is divided at the first colon
  that follows the path of a file, or if there is none at the first one after '.py', or
  at the first colon of all. A name such as 'multi30k/transformer:smoke' may leave out
  '.py' and the folder of experiments, see `find_experiment`.

  Returns:
    The path, and the arguments, which may be empty.
  """
  if os.path.isfile(name):  # False where a file system refuses the name
    return Path(name), ''
  places = [match.end() for match in re.finditer(r'\.py(?=:)', name)]
  for place in places:
    if os.path.isfile(name[:place]):
      return Path(name[:place]), name[place + 1 :]
  end = places[0] if places else len(name.partition(':')[0])
  path = find_experiment(name[:end])
  if path is None and not places:
    return Path(name), ''
  return path or Path(name[:end]), name[end + 1 :]


def load_module(path: Path, function: str = 'get_config') -> Any:
  """Returns an experiment's file as a module.

  Its PAPER never makes this fail: an error in it is a warning on stderr.

  Args:
    path: the file.
    function: function that it must have: 'get_config', or 'study' for one that trains
      nothing.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no such function.
  """
  if path.suffix != '.py' or not path.is_file():
    name = path.with_suffix('').as_posix().removeprefix('experiments/')
    close = suggest(name, known_names())
    raise FileNotFoundError(
      f'there is no experiment {path}{close}; `seqlab experiments` lists the known ones'
    )
  note_source(path)
  spec = importlib.util.spec_from_file_location(f'experiment_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  _execute(module, path)
  if not hasattr(module, function):
    raise ValueError(f'{path} has no function {_FUNCTIONS[function]}{_other(module)}')
  return module


_FUNCTIONS = {'get_config': 'get_config(arg=None)', 'study': 'study(folder)'}


def _other(module: Any) -> str:
  """Returns what else can be done with a file that has the other function."""
  if hasattr(module, 'study'):
    return '; it trains nothing: run it by `python -m launch.sweep`'
  if hasattr(module, 'get_config'):
    return '; it trains: run it by `seqlab train` or `python -m launch.sweep`'
  return ''


def _execute(module: Any, path: Path) -> None:
  """Executes an experiment's file: first all else, and then what it assigns to PAPER.

  PAPER describes the experiment and is not a part of it.
  """
  tree = ast.parse(path.read_bytes(), str(path))
  paper = [*assignments(tree, 'PAPER')]
  tree.body = [node for node in tree.body if node not in paper]
  exec(compile(tree, str(path), 'exec', dont_inherit=True), vars(module))
  try:
    rows = ast.Module(paper, type_ignores=[])
    exec(compile(rows, str(path), 'exec', dont_inherit=True), vars(module))
  except Exception as error:
    print(f'PAPER of {path} is left out: {error}', file=sys.stderr)
    module.PAPER = []


def _config_of(module: Any, arg: str, path: Path) -> config_dict.ConfigDict:
  """Returns what the file's `get_config` returns, unlocked."""
  config = module.get_config(*([arg] if arg else []))
  if isinstance(config, Mapping) and not isinstance(config, config_dict.ConfigDict):
    config = config_dict.ConfigDict(config)
  if not isinstance(config, config_dict.ConfigDict):
    raise ValueError(
      f'get_config of {path} returned {config!r}; it must return a ConfigDict'
    )
  return config.unlock()


def _upgraded(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
  """Returns an experiment with today's keys, so that overrides can name them.

  References between options, as by `get_ref`, are kept.
  """
  resolved = config.to_dict()
  if upgrade(resolved) == resolved:
    return config
  return config_dict.ConfigDict(upgrade(config.to_dict(preserve_field_references=True)))


def _depth(override: str) -> int:
  """Returns how deep an override reaches; `task` decides on all others."""
  key = override.removeprefix('--').partition('=')[0].removeprefix('config.')
  return 0 if key == 'task' else len(key.removesuffix('.kind').split('.'))


def _make_small(config: config_dict.ConfigDict, module: Any, path: Path) -> None:
  if not hasattr(module, SMOKE):
    raise ValueError(
      f'{path} has no function smoke(config) that makes the experiment small: define '
      f"it, or leave out ':smoke'"
    )
  with config.unlocked(), config.ignore_type():  # 20 steps may replace '5 epochs'
    module.smoke(config)


def _override(config: config_dict.ConfigDict, override: str, path: Path) -> None:
  """Sets one option, even if the file does not spell it out."""
  name, equals, text = override.removeprefix('--').partition('=')
  if not name.startswith('config.') or not equals:
    raise ValueError(f'{override!r} should be written --config.key=value')
  key = name.removeprefix('config.')
  *sections, last = key.split('.')
  section = config
  for i in range(len(sections)):
    outer, section = section, section.get(sections[i])
    if isinstance(section, list | tuple):
      items = _with_item(section, key.split('.')[i + 1 :], text, name)
      with outer.ignore_type():
        outer[sections[i]] = items
      return
    section = _section(config, outer, '.'.join(sections[: i + 1]), key, path)
  if _is_kind(config, key, text):  # 'none' may be a kind
    value = _value(text, '', name)
  elif last in section:
    value = _replacement(config, section[last], text, name)
  elif _names_piece(key, text):
    value = _literal(text)
  else:
    value = _unspelled(config, section, key, text, path)
  with section.ignore_type():  # a duration may turn from steps into text, and back
    section[last] = value


def _section(
  config: config_dict.ConfigDict,
  outer: config_dict.ConfigDict,
  name: str,
  key: str,
  path: Path,
) -> config_dict.ConfigDict:
  """Returns a section for an option to be set in it.

  Args:
    config: the experiment.
    outer: the section of it that contains the one that is asked for.
    name: dotted name of the section, such as 'model.positions'. It is created if the
      experiment may have such a section, or if it names a piece by a short name: by
      that of the file or else by its default.
    key: the option, for messages.
    path: the experiment's file, for messages.
  """
  part = name.rpartition('.')[2]
  is_new = outer.get(part) is None and name in (*SECTIONS, *INNER_SECTIONS)
  if is_new or (outer.get(part) is None and _sets_kind(config, name, key)):
    with outer.ignore_type():
      outer[part] = config_dict.ConfigDict()
  existing = outer.get(part)
  if existing is None:
    existing = _default_piece(config, name)
  if isinstance(existing, str):  # 't5' -> dict(kind='t5'), which may have options
    with outer.ignore_type():
      outer[part] = config_dict.ConfigDict({'kind': existing})
    return outer[part]
  if not isinstance(existing, config_dict.ConfigDict):
    raise ValueError(_no_key(path, key, part, outer))
  return existing


def _default_piece(config: config_dict.ConfigDict, name: str) -> Any:
  """Returns the short name that an option has by default; None for other options."""
  if '.' not in name or 'task' not in config:
    return None
  from seqlab.train.checks import default_of  # imports JAX, so only where needed

  with contextlib.suppress(ValueError):  # no piece takes such an option
    return default_of(config.to_dict(), name)
  return None


def _sets_kind(config: config_dict.ConfigDict, name: str, key: str) -> bool:
  """Returns whether a key is the kind of a piece, or of a new evaluator."""
  if key != f'{name}.kind':
    return False
  if name.rpartition('.')[0] == 'evals':
    return True
  return piece_in(_annotation(config, name)) is not None


def _is_kind(config: config_dict.ConfigDict, key: str, text: str) -> bool:
  """Returns whether a text that may mean no value is the name of a piece or its kind."""
  if key.endswith('.kind'):
    outer = key.removesuffix('.kind')
    return (
      outer.startswith('evals.') or piece_in(_annotation(config, outer)) is not None
    )
  if text.lower() != 'none':
    return False
  piece = piece_in(_annotation(config, key))
  return piece is not None and text in piece.kinds


def _names_piece(key: str, text: str) -> bool:
  """Returns whether a text replaces a whole section or evaluator that the file lacks."""
  value = _literal(text)
  if key in SECTIONS:
    return isinstance(value, Mapping) or (isinstance(value, str) and key in _PIECES)
  return key.startswith('evals.') and key.count('.') == 1 and _is_piece(value)


def _is_piece(value: Any) -> bool:
  return isinstance(value, str) or (isinstance(value, Mapping) and 'kind' in value)


def _annotation(config: config_dict.ConfigDict, name: str) -> Any:
  """Returns the annotation of an option; None if nothing takes it."""
  if '.' not in name or 'task' not in config:
    return None
  from seqlab.train.checks import annotation_of  # imports JAX, so only where needed

  with contextlib.suppress(ValueError):
    return annotation_of(config.to_dict(), name)
  return None


def _with_item(
  items: Sequence[Any], keys: Sequence[str], text: str, name: str
) -> Sequence[Any]:
  """Returns a list with one value inside of it replaced.

  Args:
    items: a list of the experiment, such as `optimizer.groups`.
    keys: the index of an item, and the keys inside it.
    text: the new value.
    name: the option as the user wrote it, for messages.
  """
  first, *others = keys
  if not first.isdecimal() or int(first) >= len(items):
    raise ValueError(
      f'{name} is inside a list of {len(items)}: write a number from 0 to '
      f'{len(items) - 1} in place of {first!r}'
    )
  changed = list(items)
  changed[int(first)] = _with_value(changed[int(first)], others, text, name)
  return type(items)(changed)


def _with_value(item: Any, keys: Sequence[str], text: str, name: str) -> Any:
  """Returns an item of a list with the value at the given keys replaced."""
  if not keys:
    return _value(text, item, name)
  if isinstance(item, list | tuple):
    return _with_item(item, keys, text, name)
  if item is not None and not isinstance(item, Mapping):
    raise ValueError(f'{name}: {item!r} is not a section, so it has no {keys[0]!r}')
  item = dict(item or {})
  return {**item, keys[0]: _with_value(item.get(keys[0]), keys[1:], text, name)}


def _no_key(path: Path, key: str, part: str, known: Iterable[str]) -> str:
  return f'{path} has no key {key!r}{suggest(part, known)} (known: {", ".join(known)})'


def _replacement(
  config: config_dict.ConfigDict, existing: Any, text: str, name: str
) -> Any:
  """Reads a text as the type of the value that it replaces."""
  key, value = name.removeprefix('config.'), _literal(text)
  if isinstance(existing, config_dict.ConfigDict):
    if _names_piece(key, text) or ('kind' in existing and _is_piece(value)):
      return value  # another piece, with options or without
    if value is None and _may_be_none(_annotation(config, key)):
      return None
    raise ValueError(
      f'{name} is a section; set a key in it (known: {", ".join(existing) or "none"})'
    )
  if isinstance(existing, str) != isinstance(value, str) and _allows(
    _annotation(config, key), value
  ):
    return value  # such as 'auto' for a number, or a number for 'auto'
  try:
    return _value(text, existing, name)
  except ValueError:
    if key not in domains.annotations(Settings):
      raise
    return value  # `Settings` declares its type more precisely than a default


def _allows(annotation: Any, value: Any) -> bool:
  if annotation in (None, Any):
    return False
  with contextlib.suppress(ValueError):
    domains.check_value('', value, annotation)
    return True
  return False


def _may_be_none(annotation: Any) -> bool:
  return annotation is not None and type(None) in typing.get_args(annotation)


def _unspelled(
  config: config_dict.ConfigDict,
  section: config_dict.ConfigDict,
  key: str,
  text: str,
  path: Path,
) -> Any:
  """Reads a text as the type that the signature of the piece declares."""
  from seqlab.train.checks import annotation_of  # imports JAX, so only where needed

  last = key.rpartition('.')[2]
  if '.' not in key or 'task' not in config:
    raise ValueError(_no_key(path, key, last, section))
  try:
    annotation = annotation_of(config.to_dict(), key)
  except ValueError as error:
    if str(error).startswith('task'):  # its pieces cannot be looked up
      raise ValueError(_no_key(path, key, last, section)) from None
    raise ValueError(f'{path}: {error}') from None
  value = _literal(text)
  try:
    domains.check_value(key, value, annotation)
  except ValueError:
    if isinstance(value, str):
      raise
    with contextlib.suppress(ValueError):  # a text that looks like a number
      domains.check_value(key, text, annotation)
      return text
    raise
  return value


def _literal(text: str) -> Any:
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return {'true': True, 'false': False, 'none': None}.get(text.lower(), text)


def _value(text: str, default: Any, key: str) -> Any:
  """Reads a text as the type of the default."""
  value = _literal(text)
  if isinstance(default, bool):
    if isinstance(value, bool):
      return value
    raise ValueError(f'{key}={text} should be true or false')
  if isinstance(default, str):
    if _is_duration(default) and (value is None or type(value) is int):
      return value
    if isinstance(value, dict) and 'kind' in value:
      return value  # a piece with options instead of a short name
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
