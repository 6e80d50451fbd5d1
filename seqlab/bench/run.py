"""Measures an experiment, prints a table, and writes it as JSON."""

import datetime
import json
import os
from pathlib import Path
import tempfile
from typing import Any

import jax
from rich.table import Table

from seqlab.bench.measure import Row, Subject
from seqlab.bench.parts import choose_parts
from seqlab.config import with_defaults
from seqlab.experiment import load_experiment
from seqlab.io.console import print_table
from seqlab.io.files import check_output, write_text
from seqlab.tasks import task_of
from seqlab.train.checks import check_experiment


def run_bench(experiment: str, *, output: str, only: str | None = None) -> list[Row]:
  """Measures an experiment's speed.

  Args:
    experiment: path of its file, and arguments for it, as on the command line.
    output: path of the JSON file to write.
    only: name of the one part to measure, see `parts.PARTS`; None measures all that
      apply to the experiment and are not slow.

  Returns:
    The rows of the table.

  Raises:
    ValueError: the experiment is wrong, or has no such part.
  """
  check_output(output)
  config = with_defaults(load_experiment(experiment))
  check_experiment(config)
  with tempfile.TemporaryDirectory() as folder:
    task = task_of(config).from_config(config, Path(folder) / 'vocabulary')
    subject = Subject(experiment, config, task)
    rows: list[Row] = []
    for part in choose_parts(subject, only):
      rows += part.measure(subject)
  result = _describe(experiment, rows)
  _print(result, rows)
  write_text(output, json.dumps(result, indent=2) + '\n')
  print(f'the same as JSON: {output}')
  return rows


def _describe(experiment: str, rows: list[Row]) -> dict[str, Any]:
  return {
    'experiment': experiment,
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'cores': os.cpu_count(),
    'jax': jax.__version__,
    'rows': [row._asdict() for row in rows],
  }


def _print(result: dict[str, Any], rows: list[Row]) -> None:
  title = f'{result["experiment"]}, {result["device"]}'
  table = Table('what', 'value', 'unit', 'how', title=title)
  for row in rows:
    table.add_row(row.name, f'{row.value:,.4g}', row.unit, row.note)
  print_table(table)
