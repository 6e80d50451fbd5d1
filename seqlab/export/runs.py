"""Exports the model of a run: `seqlab export RUN --to FORMAT DIR`."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import importlib.util
from pathlib import Path
import shutil
from typing import Any, Literal
import uuid

from seqlab.decoding.config import OF_MBR, OF_SAMPLING, make_decoding
from seqlab.domains import Count, checked
from seqlab.io.files import UNFINISHED, sync_tree
from seqlab.tasks.interface import Generates, Translates, has, needs
from seqlab.use.attention import option_name
from seqlab.use.ensembles import join_models
from seqlab.use.runs import Choice, Run, load_run

Format = Literal['stablehlo', 'ctranslate2']
# Format -> the package that it needs.
_LIBRARIES = {'stablehlo': 'flatbuffers', 'ctranslate2': 'ctranslate2'}


@checked
def export_run(
  run: Run,
  folder: str | Path,
  *,
  to: Format,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  ensemble: Sequence[Run] = (),
  batch_sizes: Sequence[Count] = (),
  lengths: Sequence[Count] = (),
  quantization: Literal['float32', 'int8'] | None = None,
  trust: bool = False,
) -> Path:
  """Writes the model of a run for programs that do not have seqlab.

  Args:
    run: the folder of the run.
    folder: the new folder, which must be empty if it exists. It is complete or absent.
    to: 'stablehlo', the whole search for JAX, or 'ctranslate2', the model for the
      program of that name.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how outputs are found, see `decoding.config`; 'stablehlo' only.
    ensemble: further runs, whose models decode together with this one's; 'stablehlo'
      only.
    batch_sizes: see `stablehlo.save_search`; empty for its default.
    lengths: see `stablehlo.save_search`; empty for its default.
    quantization: 'float32' (default) or 'int8', the weights; 'ctranslate2' only.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Returns:
    The folder.

  Raises:
    FileExistsError: the folder has files.
    RuntimeError: a package that the format needs is not installed.
    ValueError: an option is wrong or has no effect, or the model has no such form.
  """
  decoding, folder = make_decoding(options), Path(folder)
  _check_options(to, options, ensemble, batch_sizes, lengths, quantization)
  if decoding.is_random:
    raise ValueError(
      f'{_random_option(options)} draws outputs at random, and an exported program '
      'would draw the same ones at every call: leave it out, and search'
    )
  _check_library(to)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise FileExistsError(f'{folder} exists: name a new folder, or empty this one')
  which = dict(average=average, choose=choose, trust=trust)
  loaded = load_run(run, **which)
  if has(loaded.task, Generates):
    raise ValueError(
      f'{run} is a language model, and only models that translate can be exported'
    )
  task = needs(loaded.task, Translates)
  about = {'run': loaded.folder.path.name, 'steps': loaded.steps}
  with new_folder(folder) as temporary:
    if to == 'ctranslate2':
      from seqlab.export.ctranslate2 import save_translator

      save_translator(
        temporary,
        task,
        loaded.variables,
        quantization=quantization or 'float32',
        about=about,
      )
    else:
      from seqlab.export.stablehlo import System, save_search

      model, variables = join_models(task, loaded.variables, ensemble, **which)
      system = System(
        model, variables, task.vocabularies, task.reverse_source, decoding
      )
      sizes = {'batch_sizes': batch_sizes, 'lengths': lengths}
      given = {name: x for name, x in sizes.items() if x}
      save_search(temporary, system, **given, about=about)
  return folder


def _check_options(
  to: Format,
  options: Mapping[str, Any],
  ensemble: Sequence[Run],
  batch_sizes: Sequence[int],
  lengths: Sequence[int],
  quantization: str | None,
) -> None:
  """Raises ValueError for an option that the format does not have."""
  shapes = {'--batch-sizes': batch_sizes, '--lengths': lengths}
  if to == 'stablehlo':
    if quantization is not None:
      raise ValueError(
        '--quantization is for --to ctranslate2: leave it out; --dtype is the dtype of '
        'the products of the search'
      )
    return
  for name, given in {'--ensemble': ensemble, **shapes}.items():
    if given:
      raise ValueError(f'{name} is for --to stablehlo: leave it out')
  for name in options:
    raise ValueError(
      f'{option_name(name)} is for --to stablehlo: CTranslate2 is told how to search when '
      'it translates; docs/export.md says which of its options have the same meaning. '
      'Leave it out'
    )


def _random_option(options: Mapping[str, Any]) -> str:
  """Returns the option that chooses a kind of decoding with random numbers."""
  chosen = [name for name in options if name in (*OF_MBR, *OF_SAMPLING)]
  return option_name([*chosen, 'decoding'][0])


def _check_library(to: Format) -> None:
  name = _LIBRARIES[to]
  if importlib.util.find_spec(name) is None:
    raise RuntimeError(
      f'--to {to} needs the package {name}: pip install {name}, or '
      "pip install '.[export]'"
    )


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
  """Yields an empty folder, which gets its name if the block succeeds.

  Args:
    path: the name; a folder there is empty.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f'{UNFINISHED}{uuid.uuid4().hex[:12]}'
  temporary.mkdir()
  try:
    yield temporary
    sync_tree(temporary)
    temporary.rename(path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
