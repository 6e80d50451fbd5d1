"""The layers of the tree: which modules may import which."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

import seqlab

ROOT = Path(seqlab.__file__).parent
# From the bottom; modules of one layer may import each other.
FLOORS = (
  {'types', 'domains', 'io', 'numerics', 'sources', 'upgrade'},
  {'config', 'experiment_files', 'metrics_file', 'packaging', 'pieces', 'programs'},
  {'text', 'metrics', 'compile'},
  {'data'},
  {'layers'},
  {'models', 'embeddings'},
  {'decoding'},
  {'tasks'},
  {'evaluators'},
  {'trust'},
  {'train'},
  {'experiment', 'experiment_list', 'results', 'testing'},
  {'use', 'bench', 'export', 'plan', 'word_vectors'},
  {'library'},
  {
    'cli',
    'commands',
    'pages',
    'report',
  },  # independent of the rest; it reads the folders of runs only
)
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}


def _imports(path):
  for node in ast.walk(ast.parse(path.read_text('utf-8'))):
    if isinstance(node, ast.ImportFrom) and node.module == 'seqlab':
      yield from (f'seqlab.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('seqlab.'):
      yield node.module
    elif isinstance(node, ast.Import):
      yield from (a.name for a in node.names if a.name.startswith('seqlab'))


@pytest.mark.parametrize(
  'path', sorted(ROOT.rglob('*.py')), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_point_downwards(path):
  floor = path.relative_to(ROOT).parts[0].removesuffix('.py')
  if floor == '__init__':
    return
  for module in _imports(path):
    other = module.split('.')[1]
    assert HEIGHT[other] <= HEIGHT[floor], f'{path} imports {module}'


def test_reports_import_neither_models_nor_training():
  files = sorted((ROOT / 'report').glob('*.py'))
  packages = {module.split('.')[1] for path in files for module in _imports(path)}
  assert packages <= {
    'types',
    'config',
    'domains',
    'io',
    'metrics_file',
    'text',
    'report',
    'upgrade',
  }


@pytest.mark.parametrize(
  'module',
  [
    *('types', 'config', 'text.corpora', 'text.word2phrase', 'text.wordsets'),
    *('data.packing', 'data.text_store', 'data.windows'),
    *('report.tables', 'report.figures', 'results.listing', 'results.reproduce'),
  ],
)
def test_text_data_and_reports_need_no_jax(module):
  code = f'import sys, seqlab.{module}; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
