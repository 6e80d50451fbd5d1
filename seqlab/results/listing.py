"""Prints the results of rows as text, JSON or Markdown.

Files are read only, and nothing is computed with JAX.
"""

from collections.abc import Sequence
import json
from pathlib import Path

from seqlab.experiment_files import default_folder
from seqlab.io.columns import aligned
from seqlab.results.page import page
from seqlab.results.state import read_results

_HEADER = (
  *('experiment', 'row', 'paper', 'here', 'n', 'verdict', 'stale'),
  *('evaluations', 'date'),
)


def print_results(names: Sequence[str], folder: Path, output: str = 'text') -> None:
  """Prints what the registry has on the rows of experiments.

  Args:
    names: files, maybe with arguments after a colon, or folders of files. None are the
      experiments of the current folder, or else those of seqlab.
    folder: folder of the registry.
    output: 'text': one line per row; 'json': a list of objects; 'md': the page
      `docs/results.md`.

  Raises:
    FileNotFoundError: there is no such experiment.
    ValueError: PAPER of an experiment is wrong, or a file of the registry is damaged.
  """
  results = read_results(names or [str(default_folder())], folder)
  if output == 'json':
    plain = [result.plain() for result in results]
    print(json.dumps(plain, indent=2, ensure_ascii=False))
  elif output == 'md':
    print(page(results), end='')
  else:
    print('\n'.join(aligned([_HEADER, *(result.texts() for result in results)])))
