"""seqlab as a library: the functions that `import seqlab` offers.

    run = seqlab.run('experiments/agreement/transformer.py', 'runs/mine')
    run = seqlab.load('runs/mine')
    run.translate(['the old teacher'])
    seqlab.bleu(hypotheses, references)

`seqlab/__init__.py` imports this module when one of its names is first used, so that
`import seqlab` needs no JAX.
"""

from collections.abc import Mapping, Sequence
import functools
import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from seqlab import experiment as experiments
from seqlab.decoding.config import make_decoding
from seqlab.domains import Count, checked
from seqlab.metrics.corpus import Lines, check_parallel, corpus_statistics, score
from seqlab.metrics.measures import signature
from seqlab.tasks.generator import Generator
from seqlab.tasks.interface import Attended, HasVectors, Translates, needs
from seqlab.tasks.scorer import Scorer
from seqlab.tasks.translator import Translator
from seqlab.train.cluster import cluster
from seqlab.train.loop import train
from seqlab.train.runtime import prepare
from seqlab.use.attention import attend
from seqlab.use.ensembles import make_scorer, make_translator
from seqlab.use.evaluation import default_measure, evaluate_run
from seqlab.use.generation import generating_decoding, make_generator
from seqlab.use.runs import load_run
from seqlab.use.translations import evaluate_translations

__all__ = ['BLEU', 'FinishedRun', 'bleu', 'load', 'load_experiment', 'run']


def load_experiment(
  path: str | Path, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> dict[str, Any]:
  """Returns the configuration of an experiment's file.

  Args:
    path: the file, and after a colon arguments for its `get_config`, as in
      'experiments/multi30k/transformer.py:smoke'.
    overrides: option -> value, as in {'hyper.peak': 1e-3}; or words of the command
      line, as in ['--config.hyper.peak=1e-3'].

  Returns:
    Nested dictionaries, to be changed as one likes and given to `run`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: an option is unknown, or a value is outside its domain.
  """
  if isinstance(overrides, Mapping):
    overrides = [f'--config.{key}={_plain(x)!r}' for key, x in overrides.items()]
  return experiments.load_experiment(str(path), overrides)


def _plain(value: Any) -> Any:
  """Returns a value as Python writes it: scalars of NumPy and paths are converted."""
  if isinstance(value, Mapping):
    return {key: _plain(x) for key, x in value.items()}
  if isinstance(value, list | tuple):
    return type(value)(map(_plain, value))
  if isinstance(value, np.generic):
    return value.item()
  return str(value) if isinstance(value, Path) else value


def run(
  experiment: str | Path | Mapping[str, Any],
  workdir: str | Path,
  *,
  overrides: Mapping[str, Any] | Sequence[str] = (),
  force: bool = False,
) -> 'FinishedRun':
  """Trains an experiment, or resumes it, as `seqlab train` does.

  Args:
    experiment: a file, see `load_experiment`; or a configuration.
    workdir: the folder of the run. It keeps the configuration, metrics, checkpoints.
    overrides: options of a file, see `load_experiment`.
    force: whether to continue in a folder that another experiment made.

  Returns:
    The run, with the parameters of its last checkpoint.

  Raises:
    ValueError: the experiment is wrong, or `overrides` come with a configuration.
    FloatingPointError: training diverged; the last good checkpoint stays.
    Stopped: SIGTERM arrived (`seqlab.train.processes`); the same call resumes.
  """
  if isinstance(experiment, Mapping):
    if overrides:
      raise ValueError('overrides are for a file: change the configuration instead')
    config = dict(experiment)
  else:
    config = load_experiment(experiment, overrides)
  prepare(config.get('threads'))
  with cluster():
    train(config, str(workdir), force=force)
  # This process has just executed the code that the folder names.
  return load(workdir, trust=True)


def load(
  path: str | Path,
  *,
  average: Count = 1,
  choose: Literal['last', 'best'] = 'last',
  trust: bool = False,
) -> 'FinishedRun':
  """Opens the folder of a run.

  Args:
    path: the folder, on this machine or in a bucket.
    average: number of checkpoints whose parameters are averaged (Vaswani et al. 2017,
      section 6.1).
    choose: the 'last' checkpoints or the 'best' ones.
    trust: whether the run may name code that is not part of seqlab, which is then
      executed.

  Raises:
    FileNotFoundError: it is not a run, or it has no checkpoint yet.
    ValueError: the folder is damaged, or names code that is not trusted.
  """
  prepare()
  return FinishedRun(path, average=average, choose=choose, trust=trust)


class FinishedRun:
  """A run with the parameters of its checkpoints.

  Attributes:
    path: the folder of the run, as `load` was given it.
    config: its experiment.
    task: its task; see `tasks.interface`.
    variables: Linen collections, on the first device.
    steps: steps of the checkpoints that the variables come from.
  """

  def __init__(
    self,
    path: str | Path,
    *,
    average: int,
    choose: Literal['last', 'best'],
    trust: bool,
  ):
    """See `load`."""
    self._which = dict(average=average, choose=choose, trust=trust)
    # By decoding options:
    self._translators: dict[str, Translator] = {}
    self._generators: dict[str, Generator] = {}
    self._loaded = loaded = load_run(path, **self._which)
    self.path, self.config = path, loaded.folder.config
    self.task, self.variables, self.steps = loaded.task, loaded.variables, loaded.steps

  def __repr__(self) -> str:
    return f'<run {self.path}, {type(self.task).__name__}, steps {self.steps}>'

  @checked
  def translate(self, lines: Sequence[str], **decoding: Any) -> list[str]:
    """Returns the best translation of each line.

    Args:
      lines: source sentences; a blank one gives an empty translation.
      **decoding: options of `decoding.config:DecodingConfig`, such as beam=5.

    Raises:
      ValueError: the task cannot translate, an option is wrong, or a line is too long.
    """
    translator = self._translator(decoding)
    translations = translator.translate(list(lines))
    _check_refused(translator.refused)
    return translations

  @checked
  def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
    """Returns log p(target | source) in nats, with the end of the sentence.

    Args:
      sources: R sentences.
      targets: R translations of them.

    Raises:
      ValueError: the task cannot translate, the lists have different lengths, or a
        sentence is too long.
    """
    if len(sources) != len(targets):
      raise ValueError(f'{len(sources):,} sources and {len(targets):,} targets')
    logps = self._scorer.score(list(zip(sources, targets, strict=True)))
    _check_refused(self._scorer.refused)
    return [math.fsum(logp.tolist()) for logp in logps]

  @checked
  def generate(
    self,
    prompts: Sequence[str] = ('',),
    *,
    length: Count = 256,
    samples: Count = 1,
    **decoding: Any,
  ) -> list[list[str]]:
    """Returns texts of a language model, with the prompts that they begin with.

    Args:
      prompts: texts to continue; an empty one starts a new text.
      length: number of tokens to generate.
      samples: number of texts per prompt.
      **decoding: options of `decoding.config`, such as temperature=0.8; samples by
        default.

    Returns:
      For each prompt its texts.

    Raises:
      ValueError: the task cannot generate, or an option is wrong.
    """
    key = repr(sorted(decoding.items()))
    if key not in self._generators:
      self._generators[key] = make_generator(
        self.task, self.variables, generating_decoding(decoding)
      )
    generator = self._generators[key]
    texts = generator.generate(list(prompts), length=length, samples=samples)
    return [[x.text for x in several] for several in texts]

  def evaluate(self, split: str | None = None, **options: Any) -> dict[str, Any]:
    """Evaluates the run, prints the result and records it in the folder of the run.

    A task that translates is scored on the split ('test' by default) by the measures
    that its evaluators name, or by BLEU and chrF; any other by the evaluators of its
    experiment.

    Args:
      split: name of a split of the data.
      **options: options of decoding, as in `translate`.

    Returns:
      The results that were printed.

    Raises:
      ValueError: decoding options are given, and the task does not translate.
    """
    measure = default_measure(self.path, trust=self._which['trust'])
    if measure != 'translations':
      if options:
        raise ValueError(
          f'evaluate({next(iter(options))}=...): decoding options are for tasks that '
          f'translate; {type(self.task).__name__} does not: leave them out'
        )
      return evaluate_run(self.path, split=split, **self._which)
    split = 'test' if split is None else split
    return evaluate_translations(self.path, split=split, options=options, **self._which)

  def vectors(self) -> Any:
    """Returns the word vectors, `embeddings.vectors:Vectors` or `SparseVectors`.

    Raises:
      ValueError: the task has no word vectors.
    """
    return needs(self.task, HasVectors).vectors(self.variables)

  @checked
  def attention(
    self, text: str, target: str | None = None, **decoding: Any
  ) -> Attended:
    """Returns where the model attends while it reads a text, or a pair of sentences.

    Args:
      text: a source sentence, or the text of a language model.
      target: a target sentence; None for the run's own translation.
      **decoding: options of decoding, as in `translate`, where nothing is given.

    Returns:
      `sides` with the tokens of each side, and `maps` with the weights of each kind of
      attention: see `tasks.interface.Attended`.

    Raises:
      ValueError: the task cannot show attention, the model has none, or an option is
        wrong.
    """
    return attend(self._loaded, text, target, decoding)[1]

  def _translator(self, decoding: Mapping[str, Any]) -> Translator:
    """Returns the translator for decoding options, which keeps what it compiled."""
    key = repr(sorted(decoding.items()))
    if key not in self._translators:
      task = needs(self.task, Translates)
      self._translators[key] = make_translator(
        task, task.model, self.variables, make_decoding(decoding)
      )
    return self._translators[key]

  @functools.cached_property
  def _scorer(self) -> Scorer:
    task = needs(self.task, Translates)
    return make_scorer(task, task.model, self.variables)


def _check_refused(refused: Mapping[int, str]) -> None:
  """Raises ValueError if there are lines without a result; they count from 1."""
  if refused:
    number, reason = next(iter(sorted(refused.items())))
    raise ValueError(f'line {number + 1:,} {reason} ({len(refused):,} such lines)')


class BLEU(NamedTuple):
  """A corpus's BLEU.

  Attributes:
    score: BLEU in percent, from 0 to 100.
    signature: sacreBLEU's signature of the score.
    counts: matching n-grams, for n = 1 to 4.
    totals: n-grams of the hypotheses, for n = 1 to 4.
    hypothesis_length: tokens of the hypotheses.
    reference_length: tokens of the references that count for the brevity penalty.
    brevity_penalty: factor from 0 to 1.
  """

  score: float
  signature: str
  counts: list[int]
  totals: list[int]
  hypothesis_length: int
  reference_length: int
  brevity_penalty: float

  def __str__(self) -> str:
    return f'BLEU {self.score:.2f} ({self.signature})'


@checked
def bleu(
  hypotheses: Sequence[str],
  references: Sequence[str] | Sequence[Sequence[str]],
  *,
  tokenizer: Literal['13a', 'none', 'char'] = '13a',
  lowercase: bool = False,
) -> BLEU:
  """Computes corpus BLEU, equal to sacreBLEU's to the last digit.

  Args:
    hypotheses: R detokenised sentences.
    references: R sentences; or, for several references per sentence, one list of R
      sentences per set of references, as sacreBLEU takes them.
    tokenizer: '13a', 'none' or 'char'.
    lowercase: whether case is folded first.

  Returns:
    The score, its parts and sacreBLEU's signature.

  Raises:
    ValueError: there are no hypotheses, the lists have different lengths, or something
      in them is not a string.

  Source: Papineni et al. 2002, https://aclanthology.org/P02-1040; Post 2018,
  https://aclanthology.org/W18-6319.
  """
  several = len(references) > 0 and not isinstance(references[0], str)
  sets = [list(each) for each in references] if several else [list(references)]
  sides = [list(hypotheses), *sets]
  names = ['hypotheses', *(f'references {i + 1}' for i in range(len(sets)))]
  check_parallel(dict(zip(names, sides, strict=True)))
  lines = [Lines([line.encode('utf-8') for line in side]) for side in sides]
  options = dict(tokenizer=tokenizer, lowercase=lowercase)
  result = score(corpus_statistics(lines[0], lines[1:], **options).sum(axis=0))
  return BLEU(
    score=result['score'],
    signature=signature(references=len(sets), **options),
    counts=result['counts'],
    totals=result['totals'],
    hypothesis_length=result['sys_len'],
    reference_length=result['ref_len'],
    brevity_penalty=result['bp'],
  )
