"""Generates text with a finished run of a language model."""

from collections.abc import Iterable, Mapping, Sequence
import itertools
import json
from typing import Any, Literal, TextIO

from seqlab.decoding.config import (
  OPTIONS_OF_SEARCH,
  DecodingConfig,
  make_decoding,
)
from seqlab.domains import Count, checked
from seqlab.tasks.generator import Generator
from seqlab.tasks.interface import Generates, needs
from seqlab.train.fingerprint import program_fingerprint
from seqlab.types import Variables
from seqlab.use.ensembles import described
from seqlab.use.runs import Choice, Run, load_run

_SEPARATOR = '---'


@checked
def generate_text(
  run: Run,
  prompts: Iterable[str],
  out: TextIO,
  *,
  length: Count = 256,
  samples: Count = 1,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  format: Literal['text', 'json'] = 'text',
  together: Count = 256,
  trust: bool = False,
) -> None:
  """Continues prompts, and writes each text as soon as its batch is done.

  Args:
    run: the folder of the run.
    prompts: texts to continue; an empty one starts a new text.
    out: receives the texts, prompts included, with a line '---' between two of them; or
      one JSON object per line with `prompt`, `text` and `log_probability`.
    length: number of tokens to generate; a document may end before.
    samples: number of texts per prompt.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how outputs are found, see `decoding.config`; samples by default.
    format: 'text' or 'json'.
    together: number of prompts that are continued together.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is outside its domain, the task cannot generate, or see
      `Generator.generate`.
  """
  decoding = generating_decoding(options)
  which = dict(average=average, choose=choose, trust=trust)
  folder, task, variables, _ = load_run(run, **which)
  generator = make_generator(task, variables, decoding, folder.config)
  stream, first = iter(prompts), 0
  while chunk := list(itertools.islice(stream, together)):
    texts = generator.generate(chunk, length=length, samples=samples, first=first)
    for number, (prompt, several) in enumerate(zip(chunk, texts, strict=True), first):
      for i, generated in enumerate(several):
        if format == 'json':
          row = {'prompt': prompt, **generated._asdict()}
          print(json.dumps(row, ensure_ascii=False), file=out)
          continue
        if number or i:
          print(_SEPARATOR, file=out)
        print(generated.text, file=out)
    out.flush()
    first += len(chunk)


def generating_decoding(options: Mapping[str, Any]) -> DecodingConfig:
  """Returns how text is found: by sampling, unless an option belongs to a search."""
  given = {name: x for name, x in options.items() if x is not None}
  searches = OPTIONS_OF_SEARCH & given.keys()
  return make_decoding(given if searches else {'decoding': 'sampling', **given})


def make_generator(
  task: Generates,
  variables: Variables,
  decoding: DecodingConfig,
  config: Mapping[str, Any] | None = None,
) -> Generator:
  """Returns a generator of a task.

  Args:
    task: gives the model and the vocabulary.
    variables: variables of the model.
    decoding: how outputs are found.
    config: the configuration of the run, by which compiled programs are found again.
  """
  task, fingerprint = needs(task, Generates), None
  if config is not None:
    fingerprint = program_fingerprint(config, task, 'generate', described(decoding))
  return Generator(task, variables, decoding, fingerprint=fingerprint)


def prompts_of(given: Sequence[str], lines: Iterable[str]) -> Iterable[str]:
  """Returns the prompts of a command line: '-' stands for every line of a stream."""
  for prompt in given:
    yield from lines if prompt == '-' else (prompt,)
