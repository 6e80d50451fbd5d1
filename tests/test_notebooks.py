"""The notebooks of docs/notebooks run, and have no outputs in the repository."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / 'docs' / 'notebooks'
NAMES = ('quick_start', 'attention', 'word_vectors')


def _read(name):
  return json.loads((FOLDER / f'{name}.ipynb').read_text('utf-8'))


@pytest.mark.parametrize('name', NAMES)
def test_notebooks_have_no_outputs(name):
  code = [cell for cell in _read(name)['cells'] if cell['cell_type'] == 'code']
  assert not any(cell['outputs'] or cell['execution_count'] for cell in code)
  assert {path.stem for path in FOLDER.glob('*.ipynb')} == {*NAMES}


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_notebooks_run(name, tmp_path, monkeypatch):
  """The experiments are made small; all else is executed as it is written."""
  nbclient, nbformat = map(pytest.importorskip, ('nbclient', 'nbformat'))
  pytest.importorskip('ipykernel')
  monkeypatch.setenv('PYTHONPATH', str(FOLDER.parents[1]), prepend=':')
  text = json.dumps(_read(name), ensure_ascii=False)
  small = text.replace("'agreement/transformer'", "'agreement/transformer:smoke'")
  notebook = nbformat.reads(small, as_version=4)
  options = dict(timeout=900, resources={'metadata': {'path': str(tmp_path)}})
  nbclient.NotebookClient(notebook, **options).execute()
  outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == 'code']
  assert outputs[-1] or outputs[-2]
