"""Old configurations as today's.

The first edition (format 1) wrote no format into `config.json`. Experiments and runs of
it keep working: `upgrade` turns their keys into today's, one function per kind of key.
"""

from collections.abc import Callable, Mapping
from typing import Any

FORMAT = 2  # of a run's config.json
Config = dict[str, Any]

_MODELS = {
  'models.transformer:Transformer': 'transformer',
  'models.recurrent:Recurrent': 'recurrent',
}
_SCORES = {
  'Dot': 'dot',
  'ScaledDot': 'scaled_dot',
  'Cosine': 'cosine',
  'General': 'general',
  'Additive': 'additive',
  'Concat': 'concat',
  'Location': 'location',
  'LocalMonotonic': 'local_monotonic',
  'LocalPredictive': 'local_predictive',
  'Coverage': 'coverage',
}
# Old key of the Transformer -> (key of today, the kinds that take it, their option).
_BATCH_NORMS = ('batch', 'power')
_NORMALIZATIONS = ('normalization', 'decoder_normalization')
_MOVED = {
  'max_positions': (('positions',), ('learned',), 'max_length'),
  'clip': (('positions',), ('shaw',), 'clip'),
  'buckets': (('positions',), ('t5',), 'buckets'),
  'max_distance': (('positions',), ('t5',), 'max_distance'),
  'norm_momentum': (_NORMALIZATIONS, _BATCH_NORMS, 'momentum'),
  'norm_warmup': (_NORMALIZATIONS, ('power',), 'warmup'),
  'norm_groups': (_NORMALIZATIONS, ('power',), 'groups'),
  'batch_axis': (_NORMALIZATIONS, _BATCH_NORMS, 'axis'),
}


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a configuration with today's keys only; one of today is returned as it is.

  Args:
    config: an experiment, or the content of a run's `config.json`.

  Raises:
    ValueError: a later version of seqlab wrote it.
  """
  config = dict(config)
  number = config.pop('format', 1)
  if not isinstance(number, int) or number > FORMAT:
    raise ValueError(
      f'its format is {number!r}, and this version of seqlab reads formats up to '
      f'{FORMAT}: use the version that made the run'
    )
  for step in UPGRADES:
    config = step(config)
  return config


def _model_section(config: Config) -> Config:
  """Turns model='transformer' into model.kind='transformer'."""
  model = config.get('model')
  return {**config, 'model': {'kind': model}} if _is_text(model) else config


def _model_name(config: Config) -> Config:
  """Renames model_name='models.recurrent:Recurrent' to model.kind='recurrent'."""
  if 'model_name' not in config:
    return config
  name, model = config['model_name'], config.get('model', {})
  if not isinstance(model, Mapping):
    return config
  others = {key: value for key, value in config.items() if key != 'model_name'}
  kind = _MODELS.get(name.removeprefix('seqlab.'), name) if _is_text(name) else name
  config = _transformer_options({**others, 'model': {'kind': kind, **model}})
  if kind == 'transformer':
    # The first edition ignored an option of other positions; today it is an error.
    model = {k: value for k, value in config['model'].items() if k not in _MOVED}
    config = {**config, 'model': model}
  return config


def _transformer_options(config: Config) -> Config:
  """Moves options of one kind of positions or normalisation into that piece.

  An option that no piece of the configuration takes stays, and is reported as unknown.
  """
  model = config.get('model')
  if not isinstance(model, Mapping) or model.get('kind') != 'transformer':
    return config
  old = [key for key in _MOVED if key in model and _takers(model, key)]
  changed = {key: value for key, value in model.items() if key not in old}
  for key in old:
    for place in _takers(model, key):
      piece = changed[place]
      piece = {'kind': piece} if _is_text(piece) else piece
      changed[place] = {_MOVED[key][2]: model[key], **piece}
  return {**config, 'model': changed}


def _takers(model: Mapping[str, Any], key: str) -> list[str]:
  """Returns the options of a Transformer whose piece takes an old key."""
  places, kinds, _ = _MOVED[key]
  return [place for place in places if _kind(model.get(place)) in kinds]


def _kind(piece: Any) -> Any:
  return piece.get('kind') if isinstance(piece, Mapping) else piece


def _attention_score(config: Config) -> Config:
  """Joins attention='layers.alignment:Dot', attention_options={...} to one piece."""
  model = config.get('model')
  if not isinstance(model, Mapping) or model.get('kind') != 'recurrent':
    return config
  model = dict(model)
  options, score = model.pop('attention_options', None), model.get('attention')
  if _is_text(score):
    module, _, name = score.removeprefix('seqlab.').partition(':')
    if module == 'layers.alignment':
      score = _SCORES.get(name, score)
    has_options = isinstance(options, Mapping) and options
    model['attention'] = {'kind': score, **options} if has_options else score
  return {**config, 'model': model}


def _forget_bias(config: Config) -> Config:
  """Moves forget_bias of a recurrent model into its cell, if that is an LSTM."""
  model = config.get('model')
  if not isinstance(model, Mapping) or 'forget_bias' not in model:
    return config
  others = {key: value for key, value in model.items() if key != 'forget_bias'}
  cell, bias = others.get('cell', 'lstm'), model['forget_bias']
  cell = {'kind': cell} if _is_text(cell) else cell
  if isinstance(cell, Mapping) and cell.get('kind') == 'lstm':
    return {**config, 'model': {**others, 'cell': {'forget_bias': bias, **cell}}}
  # The default, which other cells never read, means nothing; any other value is refused.
  return {**config, 'model': others} if bias == 1.0 else config


def _first_token(config: Config) -> Config:
  """Renames start_token=False to first_token=None."""
  model = config.get('model')
  if not isinstance(model, Mapping) or 'start_token' not in model:
    return config
  model = dict(model)
  if model.pop('start_token') is False:
    model['first_token'] = None
  return {**config, 'model': model}


def _evaluator_type(config: Config) -> Config:
  """Renames evals.valid.type='translation' to evals.valid.kind='translation'."""
  evals = config.get('evals')
  if not isinstance(evals, Mapping):
    return config
  return {**config, 'evals': {name: _with_kind(x) for name, x in evals.items()}}


def _with_kind(evaluator: Any) -> Any:
  if not isinstance(evaluator, Mapping) or 'type' not in evaluator:
    return evaluator
  return {('kind' if k == 'type' else k): value for k, value in evaluator.items()}


# Options that one kind of vocabulary has no use for. The first edition took them for
# every kind: an experiment that sets one to its default means nothing by it.
_UNUSED = {
  'word': {'byte_fallback': False, 'character_coverage': 1.0},
  'bpe': {'min_count': 1},
  'unigram': {'min_count': 1},
}


def _vocabulary_options(config: Config) -> Config:
  """Drops options of other kinds of vocabulary that have their default values."""
  section = config.get('vocabulary')
  if not isinstance(section, Mapping):
    return config
  kind = section.get('kind', 'bpe')
  unused = _UNUSED.get(kind, {}) if _is_text(kind) else {}
  kept = {
    key: value
    for key, value in section.items()
    if key not in unused or value != unused[key]
  }
  return {**config, 'vocabulary': kept}


# Corpora that the first edition called `name`, and that are a `kind` today.
_CORPORA = (
  *('agreement', 'multi30k', 'multi30k-tok', 'kyoto-kftt', 'tatoeba'),
  *('wmt14-en-de', 'iwslt14-de-en'),
)


def _corpus_name(config: Config) -> Config:
  """Renames corpus.name='multi30k' to corpus.kind='multi30k'."""
  corpus = config.get('corpus')
  if not isinstance(corpus, Mapping) or {'kind', 'files'} & {*corpus}:
    return config
  if corpus.get('name') not in _CORPORA:
    return config
  return {**config, 'corpus': _renamed(corpus, {'name': 'kind'})}


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _renamed(section: Any, names: Mapping[str, str]) -> Any:
  """Returns a section with some keys renamed; anything else is returned as it is."""
  if not isinstance(section, Mapping):
    return section
  return {names.get(key, key): value for key, value in section.items()}


_WORD_TASKS = {
  'tasks.word2vec:WordPrediction': 'tasks.word2vec:WordPrediction',
  'tasks.counting:Explicit': 'tasks.estimators.ppmi:PPMIVectors',
  'tasks.counting:SingularVectors': 'tasks.estimators.svd:SingularVectors',
  'tasks.peer:Gensim': 'tasks.estimators.gensim_baseline:GensimBaseline',
}
_SVD = ('svd', 'tasks.estimators.svd:SingularVectors')
_TRAINING = (  # settings of training, which estimators no longer have
  *('steps', 'hyper', 'schedule', 'optimizer', 'parallel', 'accumulate', 'ema'),
  *('minutes', 'patience', 'keep_best', 'keep_best_n', 'best_is', 'keep_latest'),
  *('save_every', 'fallback'),
)


def _word_vectors(config: Config) -> Config:
  """Renames options of word vectors, and removes those without effect."""
  name = config.get('task')
  if not isinstance(name, str):  # the caller reports what is wrong with the file
    return config
  name = name.removeprefix('seqlab.')
  if name not in _WORD_TASKS:
    return config
  names = {'use': 'output_vectors', 'most': 'max_pairs_per_row'}
  model = _renamed(config.get('model', {}), names)
  if name == 'tasks.counting:SingularVectors' and isinstance(model, Mapping):
    steps = {'iterations': config['steps']} if 'steps' in config else {}
    model = {**model, **steps}
  if name == 'tasks.peer:Gensim':
    model = _with_alpha(model, config.get('hyper'), config.get('schedule'))
  config = {**config, 'task': _WORD_TASKS[name], 'model': model}
  if 'batching' in config:
    names = {'lanes': 'streams', 'holes': 'keep_gaps'}
    config['batching'] = _renamed(config['batching'], names)
  if name == 'tasks.counting:Explicit':
    config.pop('model')
  if name != 'tasks.word2vec:WordPrediction':
    config = {key: value for key, value in config.items() if key not in _TRAINING}
  return config


def _default_iterations(config: Config) -> Config:
  """Drops the iterations of an SVD where they are the default.

  The first edition always set them, so old runs and experiments of today that leave
  them out would otherwise differ.
  """
  model, task = config.get('model'), config.get('task')
  if not _is_text(task) or task.removeprefix('seqlab.') not in _SVD:
    return config
  if not isinstance(model, Mapping):
    return config
  width, block = model.get('width', 300), model.get('block', 32)
  if not (_is_count(width) and _is_count(block)):
    return config
  if model.get('iterations') != -(-5 * width // (2 * block)):
    return config
  kept = {key: value for key, value in model.items() if key != 'iterations'}
  return {**config, 'model': kept}


def _with_alpha(model: Any, hyper: Any, schedule: Any) -> Any:
  """Adds the learning rates of Gensim, which were those of training, to its model."""
  peak = hyper.get('peak') if isinstance(hyper, Mapping) else None
  floor = schedule.get('floor', 0.0) if isinstance(schedule, Mapping) else 0.0
  if not isinstance(model, Mapping) or not (_is_number(peak) and _is_number(floor)):
    return model
  return {**model, 'alpha': peak, 'min_alpha': peak * floor}


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
  return type(value) is int and value > 0


def _remat(config: Config) -> Config:
  """Turns model.remat=True of the Transformer into 'full', and False into 'none'."""
  model = config.get('model')
  if not isinstance(model, Mapping) or model.get('kind') != 'transformer':
    return config
  if not isinstance(model.get('remat'), bool):
    return config
  return {**config, 'model': {**model, 'remat': 'full' if model['remat'] else 'none'}}


# One function per kind of piece; each reads the configuration of the one before it.
UPGRADES: tuple[Callable[[Config], Config], ...] = (
  _model_section,
  _model_name,
  _transformer_options,
  _attention_score,
  _forget_bias,
  _first_token,
  _evaluator_type,
  _vocabulary_options,
  _corpus_name,
  _word_vectors,
  _default_iterations,
  _remat,
)
