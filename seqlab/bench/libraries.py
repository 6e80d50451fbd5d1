"""The libraries that `seqlab bench --against` knows, and where they are installed.

The requirements of several of them contradict each other, so each may have its own
environment: `--against fairseq=/path/to/python`, or
SEQLAB_BENCH_FAIRSEQ=/path/to/python.
"""

from collections.abc import Mapping, Sequence
import os
import shutil
import subprocess
import sys
from typing import Any, NamedTuple

from seqlab.config import suggest
from seqlab.text.workers import all_cores

_BASELINES = 'seqlab.bench.baselines'
_CODE = 'import sys, importlib.metadata as m; print(m.version(sys.argv[1]))'


class Variant(NamedTuple):
  """One way to use a library, which is measured as a contender.

  Attributes:
    name: name in the table.
    contender: path of the class; see `baselines`.
    options: its options besides those that all contenders get.
    keeps_memory: whether it has the settings of the allocator that `seqlab` has.
    stride: in decoding, it gets one of so many sentences; more for slow ones.
    trained: in decoding, whether it can have the weights of a run.
  """

  name: str
  contender: str
  options: Mapping[str, Any] = {}  # never changed
  keeps_memory: bool = False
  stride: int = 1
  trained: bool = False


class Library(NamedTuple):
  """A library.

  Attributes:
    package: name of its distribution.
    install: arguments of `pip install`, for an environment of its own.
    training: variants that train.
    decoding: variants that translate.
    separate_tables: whether its model may have three tables (`tie='none'`), with a
      vocabulary per side, and a source with features that have no order.
  """

  package: str
  install: str
  training: tuple[Variant, ...] = ()
  decoding: tuple[Variant, ...] = ()
  separate_tables: bool = False


def _torch(
  name: str, *, compile: bool = False, dtype: str = 'float32', keeps_memory: bool = True
) -> Variant:
  options = dict(compile=compile, dtype=dtype)
  path = f'{_BASELINES}.with_torch:Training'
  return Variant(f'PyTorch {name}', path, options, keeps_memory)


_TRAINING = (
  _torch('float32', keeps_memory=False),
  _torch('float32, compiled', compile=True, keeps_memory=False),
  _torch('float32, memory kept'),
  _torch('float32, compiled, memory kept', compile=True),
  _torch('bfloat16, memory kept', dtype='bfloat16'),
  _torch('bfloat16, compiled, memory kept', compile=True, dtype='bfloat16'),
  Variant(
    'PyTorch nn.Transformer',
    f'{_BASELINES}.with_torch:LibraryTraining',
    dict(compile=False, dtype='float32'),
  ),
)


def _own_model(name: str, module: str) -> tuple[Variant, ...]:
  options = dict(compile=False, dtype='float32')
  return (Variant(name, f'{_BASELINES}.{module}:Training', options),)


_CORES = len(all_cores())


def _ctranslate2(compute_type: str, workers: int, threads: int) -> Variant:
  name = f'CTranslate2 {compute_type}, {workers} x {threads} threads'
  options = dict(compute_type=compute_type, workers=workers, threads=threads, batch=32)
  return Variant(name, f'{_BASELINES}.with_ctranslate2:Decoding', options, trained=True)


# In each environment torch is named first, so that one version of it is chosen.
LIBRARIES = {
  'torch': Library('torch', 'torch', training=_TRAINING),
  'joeynmt': Library(
    'joeynmt',
    # It imports importlib_metadata, which it does not require.
    'torch joeynmt==2.3.0 importlib_metadata',
    training=_own_model('JoeyNMT', 'with_joeynmt'),
    decoding=(Variant('JoeyNMT', f'{_BASELINES}.with_joeynmt:Decoding', stride=4),),
  ),
  'ctranslate2': Library(
    'ctranslate2',
    'ctranslate2',
    decoding=tuple(
      _ctranslate2(compute_type, workers, threads)
      for compute_type in ('float32', 'int8')
      for workers, threads in ((_CORES, 1), (1, _CORES))
    ),
  ),
  # The last release of fairseq itself has no files for Python 3.11, and its source does
  # not build there.
  'fairseq': Library(
    'fairseq-fixed',
    'torch fairseq-fixed==0.12.3.1',
    training=_own_model('fairseq', 'with_fairseq'),
  ),
  'yoyodyne': Library(
    'yoyodyne',
    # Without torchvision, which its requirements bring and it does not use.
    'torch yoyodyne==0.5.27 && ENV/bin/pip uninstall torchvision',
    training=_own_model('yoyodyne', 'with_yoyodyne'),
    separate_tables=True,
  ),
}


class Installed(NamedTuple):
  """A library that was found.

  Attributes:
    library: the library.
    python: path of the interpreter that has it.
    version: its version.
  """

  library: Library
  python: str
  version: str


def find_libraries(names: Sequence[str]) -> dict[str, Installed]:
  """Returns the libraries that a command line names.

  Args:
    names: names, or name=path of the Python that has the library.

  Raises:
    ValueError: a name is unknown, or a library is not installed.
  """
  return {(pair := _split(name))[0]: _find(*pair) for name in names}


def describe_libraries() -> list[str]:
  """Returns a line per library: its version, or how to install it."""
  lines = []
  for name, library in LIBRARIES.items():
    python = _python_of(name)
    version = _version(python, library.package)
    state = f'{version} in {python}' if version else f'missing: {_advice(name)}'
    lines.append(f'{name}: {state}')
  return lines


def _split(text: str) -> tuple[str, str | None]:
  name, equals, python = text.partition('=')
  if name not in LIBRARIES:
    raise ValueError(
      f'--against does not know {name!r}{suggest(name, LIBRARIES)} '
      f'(known: {", ".join(LIBRARIES)})'
    )
  return name, python if equals else None


def _find(name: str, python: str | None) -> Installed:
  python, library = python or _python_of(name), LIBRARIES[name]
  if shutil.which(python) is None:
    raise ValueError(f'--against {name}: {python} is not a program')
  version = _version(python, library.package)
  if version is None:
    raise ValueError(
      f'{library.package} is not installed in {python}: {_advice(name)}, '
      f'or leave {name} out of --against'
    )
  return Installed(library, python, version)


def _python_of(name: str) -> str:
  return os.environ.get(_variable(name)) or sys.executable


def _variable(name: str) -> str:
  return f'SEQLAB_BENCH_{name.upper()}'


def _advice(name: str) -> str:
  library = LIBRARIES[name]
  return (
    f'run `python -m venv ENV && ENV/bin/pip install {library.install}` and name '
    f'{name}=ENV/bin/python, or set {_variable(name)}=ENV/bin/python'
  )


def _version(python: str, package: str) -> str | None:
  command = [python, '-c', _CODE, package]
  result = subprocess.run(command, capture_output=True, text=True)
  return result.stdout.strip() if result.returncode == 0 else None
