"""The rule by which all pieces are found and made."""

import dataclasses
import typing
from typing import Annotated, Any

from flax import linen as nn
import pytest

from seqlab import domains
from seqlab.config import Settings, resolve
from seqlab.data.batching import CONTEXT
from seqlab.domains import Count
from seqlab.models import MODELS
from seqlab.pieces import Piece, Specification, find, make, options_of
from seqlab.tasks import TASKS, task_class
from seqlab.tasks.interface import ChecksOptions, Estimator, has
from seqlab.text.vocabulary import VOCABULARIES, vocabulary_options
from seqlab.train.checks import check_section
from seqlab.train.engine import Engine
from seqlab.train.engines import ENGINES, make_engine


@dataclasses.dataclass
class Near:
  width: int
  reach: Count = 4


def far(reach: Count = 9, *, width: int) -> tuple:
  return 'far', reach, width


def anything(**options):
  return options


KINDS = {'near': Near, 'far': far, 'anything': anything, 'lazy': f'{__name__}:far'}


@pytest.mark.parametrize(
  ('specification', 'expected'),
  [
    ('near', Near(8)),
    ({'kind': 'near', 'reach': 2}, Near(8, 2)),
    ({'kind': 'far', 'reach': 2}, ('far', 2, 8)),
    ('anything', {'width': 8, 'unused': 1}),
    ('fractions:Fraction', 0),
    ({'kind': 'fractions:Fraction', 'numerator': 3}, 3),
  ],
)
def test_a_piece_is_a_name_a_path_or_a_section(specification, expected):
  assert make(specification, KINDS, 'model.piece', width=8, unused=1) == expected


def test_a_short_name_may_replace_a_path():
  kinds = {'fraction': 'fractions:Fraction'}
  assert make({'kind': 'fraction', 'numerator': 2}, kinds, 'x') == 2


@pytest.mark.parametrize(
  ('specification', 'message'),
  [
    ('neer', r"unknown model\.piece 'neer'; did you mean 'near'\? \(known: 'near', "),
    (
      {'kind': 'near', 'reech': 3},
      r"unknown key model\.piece\.reech; did you mean 're",
    ),
    ({'kind': 'near', 'reach': 0}, r'model\.piece\.reach is 0; it must be at least 1'),
    ({'reach': 3}, r"model\.piece names no kind: set model\.piece\.kind to 'near'"),
    ({'kind': 3}, r'model\.piece\.kind is 3; it must be'),
    ('no_such_module:X', r"model\.piece: 'no_such_module:X': no module"),
    ('fractions:Fractoin', r"has no 'Fractoin'; did you mean 'Fraction'"),
    ('math:pi', r"model\.piece: 'math:pi' is not a class or function"),
    (3, r'model\.piece is 3; it must be a name'),
    (None, r'model\.piece is None; it must be a name'),
  ],
)
def test_a_wrong_piece_is_named(specification, message):
  with pytest.raises(ValueError, match=message):
    make(specification, KINDS, 'model.piece', width=8)


def test_an_error_inside_the_piece_is_not_changed():
  def fail():
    raise TypeError('inside')

  with pytest.raises(TypeError, match='inside'):
    make('fail', {'fail': fail}, 'x')


def test_a_signature_declares_which_pieces_an_option_takes():
  piece = Annotated[Specification, Piece(KINDS, context=('width',))]

  def model(positions: piece = 'near', other: piece | None = None):
    pass

  domains.check(model, {'positions': {'kind': 'near', 'reach': 3}, 'other': None})
  for wrong in ('neer', {'kind': 'near', 'reach': 0}, {'kind': 'near', 'width': 3}):
    with pytest.raises(ValueError, match=r'^(unknown .*|)model\.positions'):
      domains.check(model, {'positions': wrong}, 'model.')
    with pytest.raises(ValueError, match=r'model\.other'):
      domains.check(model, {'other': wrong}, 'model.')


def test_find_does_not_change_the_options():
  specification = {'kind': 'near', 'reach': 3}
  assert find(specification, KINDS, 'x') == (Near, {'reach': 3})
  assert specification == {'kind': 'near', 'reach': 3}


DICTIONARIES = {
  'batching': ('data.batching:BATCHINGS', CONTEXT),
  'corpus': ('text.corpora:CORPORA', ()),
  'corpus.normalize': ('text.normalize:NORMALIZATIONS', ('line',)),
  'decoding': ('decoding.config:DECODINGS', ()),
}


@pytest.mark.parametrize('where', DICTIONARIES)
def test_every_short_name_leads_to_a_piece_whose_options_are_declared(where):
  path, context = DICTIONARIES[where]
  kinds = resolve(path)
  for name in kinds:
    builder, _ = find(name, kinds, where)
    options = options_of(builder, hidden=context)
    assert all(hint is not Any for hint in options.values()) or name == 'files'
    with pytest.raises(ValueError, match=r'did you mean|it must be'):
      find(f'{name}e', kinds, where)
    with pytest.raises(ValueError, match=rf'unknown key {where}\.no_such_option'):
      check_section(where, {'no_such_option': 1}, [{'kind': str}, options])


@pytest.mark.parametrize('name', VOCABULARIES)
def test_every_vocabulary_declares_its_options(name):
  for options in vocabulary_options({'kind': name}):
    assert Any not in options.values()


@pytest.mark.parametrize('name', MODELS)
def test_every_model_is_a_module_whose_options_are_declared(name):
  model, _ = find(name, MODELS, 'model')
  assert issubclass(model, nn.Module)
  assert {'start', 'step'} <= set(dir(model))
  # The factors of the logits, or a distribution that is no softmax of two factors.
  assert hasattr(model, 'features') or model.is_mixture
  assert hasattr(model, 'encode') != hasattr(model, 'read')  # the source, or a prompt
  assert Any not in options_of(model, hidden=('parent', 'name')).values()
  with pytest.raises(ValueError, match='did you mean'):
    find(f'{name}s', MODELS, 'model')


@pytest.mark.parametrize('name', TASKS)
def test_every_task_has_the_interface_and_is_trained_or_fitted(name):
  task = task_class({'task': name})
  assert {'corpus', 'vocabulary'} <= {*task.sections}
  assert has(task, ChecksOptions)
  assert has(task, Estimator) or callable(task.batches)
  with pytest.raises(ValueError, match='did you mean'):
    task_class({'task': f'{name}s'})


def test_every_engine_can_be_chosen():
  choices = domains.annotations(Settings)['parallel']
  assert typing.get_args(choices) == tuple(ENGINES)
  methods = {name for name in vars(Engine) if not name.startswith('_')}
  assert all(methods <= {*dir(engine)} for engine in ENGINES.values())
  with pytest.raises(ValueError, match=r'^parallel .*jit.*pmap'):
    make_engine({'parallel': 'pjit'}, None, 1)
