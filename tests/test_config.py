import sys

import ml_collections
import pytest

from seqlab.config import (
  DEFAULTS,
  call,
  check_keys,
  flatten,
  parse_arg,
  resolve,
  split_smoke,
  steps_of,
  suggest,
  with_defaults,
)
from seqlab.tasks import TASKS, task_class
from seqlab.tasks.interface import ChecksOptions, has

ARGUMENTS = dict(size='tiny', layers=4, rate=0.1, fast=False, note=None)


def test_without_an_argument_the_defaults_are_used():
  for arg in (None, ''):
    assert parse_arg(arg, **ARGUMENTS).to_dict() == ARGUMENTS


@pytest.mark.parametrize(
  ('arg', 'expected'),
  [
    ('fast', {'fast': True}),
    ('fast=no', {'fast': False}),
    ('fast=TRUE', {'fast': True}),
    ('size=small,fast', {'size': 'small', 'fast': True}),
    ('layers=6', {'layers': 6}),
    ('rate=1e-3', {'rate': 0.001}),
    ('rate=1', {'rate': 1.0}),
    ('note=2', {'note': '2'}),
    (' size=small , layers=2,', {'size': 'small', 'layers': 2}),
    ('size=a=b', {'size': 'a=b'}),
    ("size='a, b',fast", {'size': 'a, b', 'fast': True}),
    ('layers=2,size="a,b"', {'size': 'a,b', 'layers': 2}),
    ("size='a',layers=2", {'size': 'a', 'layers': 2}),
    ("size=it's,note=so's", {'size': "it's", 'note': "so's"}),
  ],
)
def test_an_argument_is_read_as_its_defaults_type(arg, expected):
  config = parse_arg(arg, **ARGUMENTS)
  assert config.to_dict() == {**ARGUMENTS, **expected}
  for name, value in expected.items():
    assert type(config[name]) is type(value)


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('fas', r"unknown experiment argument 'fas'; did you mean 'fast'\?"),
    ('smok', r"did you mean 'smoke'\?"),  # which the loader removes
    ('xyz=1', r"argument 'xyz' \(known: size, layers, rate, fast, note, smoke;"),
    ('layers=two', r"layers='two' should be a int"),
    ('layers=2.5', r"layers='2.5' should be a int"),
    ('rate=high', r"rate='high' should be a float"),
    ('fast=maybe', r"fast='maybe' should be true or false"),
    ('size', r"argument 'size' needs a value, as in size=tiny"),
  ],
)
def test_an_argument_that_cannot_be_read_is_named(arg, message):
  with pytest.raises(ValueError, match=message):
    parse_arg(arg, **ARGUMENTS)


def test_a_comma_belongs_to_the_path_of_something_that_exists(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'my, data').mkdir()
  config = parse_arg('size=my, data,fast', **ARGUMENTS)
  assert (config.size, config.fast) == ('my, data', True)


@pytest.mark.parametrize(
  ('arg', 'expected'),
  [
    ('', ('', False)),
    ('smoke', ('', True)),
    ('size=small,smoke', ('size=small', True)),
    ('smoke=no, size=small', (' size=small', False)),
    ("smoke,size='a,smoke',layers=2", ("size='a,smoke',layers=2", True)),
    ('size="a, b",smoke=TRUE', ('size="a, b"', True)),
    ('fast,size=smoke', ('fast,size=smoke', False)),
  ],
)
def test_smoke_is_removed_from_the_arguments(arg, expected):
  assert split_smoke(arg) == expected


def test_smoke_may_follow_a_path_with_a_comma(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'my, data').mkdir()
  assert split_smoke('size=my, data,smoke') == ('size=my, data', True)


def test_smoke_that_is_neither_true_nor_false_is_refused():
  with pytest.raises(ValueError, match=r"smoke='maybe' should be true or false"):
    split_smoke('smoke=maybe')


@pytest.mark.parametrize('name', TASKS)
def test_a_task_has_a_short_name(name):
  assert has(task_class({'task': name}), ChecksOptions)


def test_a_path_below_seqlab_resolves():
  from seqlab.data.buckets import Buckets

  assert resolve('data.buckets:Buckets') is Buckets
  assert resolve('seqlab.data.buckets:Buckets') is Buckets


@pytest.fixture
def modules(tmp_path, monkeypatch):
  """Writes a user's modules, and removes them from `sys.modules` afterwards."""
  monkeypatch.syspath_prepend(tmp_path)
  before = set(sys.modules)

  def write(path, text):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, 'utf-8')

  yield write
  for name in set(sys.modules) - before:
    if (getattr(sys.modules[name], '__file__', None) or '').startswith(str(tmp_path)):
      del sys.modules[name]


@pytest.mark.parametrize('path', ['own_models', 'own_package.deep'])
def test_a_users_own_module_resolves(modules, path):
  modules(f'{path.replace(".", "/")}.py', 'class Mine:\n  number = 7\n')
  assert resolve(f'{path}:Mine').number == 7


def test_seqlabs_names_take_precedence_over_a_users_module(modules):
  modules('config.py', 'def resolve(name):\n  return "the wrong one"\n')
  assert resolve('config:resolve') is resolve


def test_a_users_module_may_have_the_name_of_one_of_seqlab(modules):
  modules('domains.py', 'class Mine:\n  number = 7\n')
  assert resolve('domains:Mine').number == 7
  with pytest.raises(ValueError, match=r"seqlab\.domains and domains has no 'Yours'"):
    resolve('domains:Yours')


@pytest.mark.parametrize('missing', ['not_installed', 'need', 'needs_it.too'])
def test_a_missing_import_inside_a_module_is_its_own_error(modules, missing):
  # 'need' and 'needs_it.too' look like parts of the module's own name.
  modules('needs_it.py', f'import {missing}\n')
  with pytest.raises(ModuleNotFoundError, match=f"No module named '{missing}'"):
    resolve('needs_it:Mine')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('data.buckets.Buckets', r"'data.buckets.Buckets' should be written 'module:n"),
    ('data.bucket:Buckets', r'no module seqlab.data.bucket and no data.bucket'),
    ('nowhere.at.all:X', r'no module seqlab.nowhere.at.all and no nowhere.at.all'),
    ('config.deeper:X', r'no module seqlab.config.deeper and no config.deeper'),
    ('data.buckets:Bucket', r"has no 'Bucket'; did you mean 'Buckets'\?"),
  ],
)
def test_a_path_that_cannot_be_resolved_is_named(name, message):
  with pytest.raises(ValueError, match=message):
    resolve(name)


def scale(x, *, factor=2, shift=0):
  return x * factor + shift


def test_call_merges_the_experiments_options_with_others():
  options = ml_collections.ConfigDict({'factor': 3})
  assert call(scale, options, 'scaling', x=5, shift=1) == 16


def test_call_takes_a_class():
  class Model:
    def __init__(self, width):
      self.width = width

  assert call(Model, {'width': 8}, 'model').width == 8


def test_call_lets_the_function_check_its_keyword_arguments():
  def gather(**options):
    return options

  assert call(gather, {'anything': 1}, 'x', more=2) == {'anything': 1, 'more': 2}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'facter': 3}, r"unknown key scaling.facter; did you mean 'factor'\?"),
    ({'depth': 3}, r'unknown key scaling.depth \(known: factor, shift\)'),
    ({'x': 1}, r'unknown key scaling\.x \(known: factor, shift\)'),
  ],
)
def test_call_names_an_option_that_does_not_fit(options, message):
  with pytest.raises(ValueError, match=message):
    call(scale, options, 'scaling', x=5)


def test_call_names_a_missing_option():
  with pytest.raises(ValueError, match=r"scaling: missing a required argument: 'x'"):
    call(scale, {'factor': 3}, 'scaling')


def test_an_error_inside_the_function_is_not_reported_as_one_of_an_option():
  def fail(x):
    raise TypeError('inside')

  with pytest.raises(TypeError, match='inside'):
    call(fail, {'x': 1}, 'scaling')


def test_defaults_fill_in_what_an_experiment_does_not_set():
  config = with_defaults({'ema': 0.5, 'evals': {'loss': {}}, 'steps': 3})
  assert config['ema'] == 0.5
  assert config['evals'] == {'loss': {}}
  assert config['mesh'] == config['optimizer'] == {}
  assert config['best_is'] == 'max'  # of no metric
  assert {**config, **DEFAULTS, 'ema': 0.5, 'best_is': 'max'} == config


def test_known_keys_are_accepted():
  check_keys({'steps': 1, 'seed': 0}, ('seed', 'mesh'), needed=('steps',))


@pytest.mark.parametrize(
  ('keys', 'message'),
  [
    (
      ('steps', 'sed'),
      r"unknown key hyper.sed; did you mean 'seed'\? \(known: seed, s",
    ),
    (('seed',), r'sets no hyper.steps'),
  ],
)
def test_unknown_and_missing_keys_are_named(keys, message):
  with pytest.raises(ValueError, match=message):
    check_keys(keys, ('seed',), needed=('steps',), where='hyper.')


@pytest.mark.parametrize(
  ('duration', 'steps'),
  [
    (None, None),
    (4000, 4000),
    ('4000 steps', 4000),
    ('1 step', 1),
    ('10 epochs', 570),
    ('0.5 epochs', 28),
    ('1e4 steps', 10_000),
    ('3_000 steps', 3_000),
    ('3e6 tokens', 2_000),
    ('3000000tokens', 2_000),
    (' 1 epoch ', 57),
    ('1 tokens', 1),  # a duration has at least one step
  ],
)
def test_durations_in_steps(duration, steps):
  assert steps_of(duration, steps_per_epoch=57, tokens_per_step=1_500.0) == steps


@pytest.mark.parametrize('duration', ['soon', '4000', '10 days', '-1 steps', 'epochs'])
def test_a_value_that_is_not_a_duration_is_refused(duration):
  with pytest.raises(ValueError, match=rf"'{duration}' is not a duration: write 4000"):
    steps_of(duration, steps_per_epoch=57, tokens_per_step=1_500.0)


@pytest.mark.parametrize('duration', ['30 minutes', '30m', '2 hours', '90 s', '1 h'])
def test_a_time_is_not_a_number_of_steps(duration):
  with pytest.raises(ValueError, match=f"'{duration}' is a time, .* by `minutes`"):
    steps_of(duration, steps_per_epoch=57, tokens_per_step=1_500.0)


def test_flatten_joins_names_with_dots():
  config = {'a': {'b': 1, 'c': {'d': [2]}}, 'e': {}, 'f': None}
  assert flatten(config) == {'a.b': 1, 'a.c.d': [2], 'e': {}, 'f': None}


def test_suggest_names_close_matches_only():
  assert suggest('dropuot', ('dropout', 'peak')) == "; did you mean 'dropout'?"
  assert suggest('xyz', ('dropout', 'peak')) == ''


def test_an_argument_has_the_values_that_the_experiment_knows():
  sizes = {'tiny': 1, 'small': 2}
  assert parse_arg('size=small', {'size': sizes}, size='tiny').size == 'small'
  with pytest.raises(ValueError, match='size=huge must be one of tiny, small'):
    parse_arg('size=huge', {'size': sizes}, size='tiny')
