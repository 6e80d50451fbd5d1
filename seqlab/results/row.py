"""A published number that an experiment is to reproduce."""

import dataclasses
import math
import shlex


@dataclasses.dataclass(frozen=True)
class Row:
  """One published number: what it measures, and how it is reproduced here.

  It is written before the run. A change of `value`, `tolerance` or `evaluate` after a
  seed was evaluated stays visible in the registry.

  Attributes:
    metric: '<split>/<measure>' for measures of outputs ('test/exact'); for evaluators
      of the experiment '<evaluator>/<metric>' ('valid/nll'); for word vectors
      '<set>/known' or '<set>/all' ('men/known'). See `measurement`.
    value: the published value, in the unit in which the measure is reported here:
      'exact' and rates of errors are shares from 0 to 1, BLEU is in percent.
    of: the source: 'Lake and Baroni 2018, section 4'.
    url: address of the paper or repository.
    tolerance: largest difference between mean and published value that counts as
      reproduced, in the unit of `value`.
    args: arguments of the experiment's `get_config`: 'split=length,model=lstm'.
    seeds: number of seeds; their numbers are 0 to `seeds` - 1.
    evaluate: further options of `seqlab evaluate`: '--average 10 --alpha 1.0'.
    equal: what is equal to the paper: data, measure, selection of the checkpoint.
    differs: what is known to differ; the verdict is then 'different protocol'.
    prediction: what is expected of the run, written before it.

  Raises:
    ValueError: a field cannot be used; the message names it.
  """

  metric: str
  value: float
  of: str
  url: str
  tolerance: float
  args: str = ''
  seeds: int = 3
  evaluate: str = ''
  equal: str = ''
  differs: str = ''
  prediction: str = ''

  def __post_init__(self):
    for field in dataclasses.fields(self):
      self._check_type(field)
    split, slash, measure = self.metric.partition('/')
    if not (split and slash and measure):
      raise ValueError(
        f"Row.metric is {self.metric!r}: write 'split/measure', such as 'test/bleu'"
      )
    if not math.isfinite(self.value):
      raise ValueError(f'Row.value of {self.metric} is {self.value}: write a number')
    if not 0 < self.tolerance < math.inf:
      raise ValueError(
        f'Row.tolerance of {self.metric} is {self.tolerance}: write a number above 0'
      )
    if self.seeds < 1:
      raise ValueError(f'Row.seeds of {self.metric} is {self.seeds}: write 1 or more')
    if not self.of.strip():
      raise ValueError(
        f'Row.of of {self.metric} is empty: name the paper and its table'
      )
    if not self.url.startswith(('https://', 'http://')):
      raise ValueError(
        f'Row.url of {self.metric} is {self.url!r}: write an address with https://'
      )
    self._check_options()

  def _check_type(self, field: dataclasses.Field) -> None:
    value, kinds = getattr(self, field.name), _KINDS[field.type]
    if not isinstance(value, kinds) or isinstance(value, bool):
      raise ValueError(f'Row.{field.name} is {value!r}: write a {field.type.__name__}')

  def _check_options(self) -> None:
    """Raises ValueError if `evaluate` cannot be divided, or repeats the metric."""
    try:
      words = shlex.split(self.evaluate)
    except ValueError as error:
      raise ValueError(f'Row.evaluate of {self.metric}: {error}') from None
    options = {word.partition('=')[0] for word in words}
    taken = {'--measures', '--sets', '--output'}
    taken |= set() if '--evals' in options else {'--split'}
    if repeated := sorted(options & taken):
      raise ValueError(
        f'Row.evaluate of {self.metric} has {repeated[0]}, which the metric decides: '
        'leave it out'
      )

  @property
  def name(self) -> str:
    """The metric and the arguments: 'test/exact:split=length,model=lstm'."""
    return f'{self.metric}:{self.args}' if self.args else self.metric

  @property
  def key(self) -> tuple[str, str, str]:
    """What is measured: rows of an experiment have different keys."""
    return self.metric, self.args, self.evaluate

  def has_args(self, args: str) -> bool:
    """Returns whether a row has some arguments, as 'split=a,model=b' has 'split=a'."""
    return {*filter(None, args.split(','))} <= {*self.args.split(',')}

  @property
  def split(self) -> str:
    """The part of `metric` before the first slash."""
    return self.metric.partition('/')[0]

  @property
  def measure(self) -> str:
    """The part of `metric` after the first slash."""
    return self.metric.partition('/')[2]


_KINDS = {str: str, int: int, float: int | float}
