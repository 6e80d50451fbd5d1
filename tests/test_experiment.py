import json
from pathlib import Path
import re
import sys

import pytest

from launch.study import is_study
from seqlab.config import DEFAULTS
from seqlab.evaluators import EVALUATORS
from seqlab.experiment import load_experiment, split_name
from seqlab.pieces import find
from seqlab.tasks import task_of
from seqlab.train.checks import check_experiment
from seqlab.trust import check_names

FOLDER = Path(__file__).parents[1] / 'experiments'
FILES = sorted(path for path in FOLDER.rglob('*.py') if not is_study(str(path)))

TEXT = '''"""What this experiment shows.

And more.
"""

import ml_collections

from seqlab.config import parse_arg
from seqlab.results import Row


def get_config(arg=None):
  arg = parse_arg(arg, size='tiny')
  c = ml_collections.ConfigDict()
  c.steps, c.save_every = 900, '1 epochs'
  c.size = arg.size
  c.hyper = dict(peak=1e-3, clip=None)
  c.model = dict(layers=2, tie='all', remat=False, sizes=(1, 2), names=['a'])
  c.model.model = dict(model=1)
  c.evals = {}
  return c


def smoke(c):
  c.steps = c.save_every = 20
  c.minutes = 0.5


PAPER = [
  Row(metric='test/bleu', value=41.02, of='A', url='https://a.org', tolerance=0.5)
]
TIME = '2 hours'
'''


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(TEXT, 'utf-8')
  return path


def test_an_error_in_the_paper_is_a_warning(file, capsys):
  config = load(file)
  text = file.read_text('utf-8').replace('tolerance=0.5', 'tolerance=-1.0')
  file.write_text(text, 'utf-8')
  assert load(file) == config
  error = capsys.readouterr().err
  assert f'PAPER of {file} is left out: Row.tolerance of test/bleu is -1.0' in error


def load(file, *overrides):
  return load_experiment(str(file), [f'--config.{x}' for x in overrides])


def value(config, key):
  for part in key.split('.'):
    config = config[part]
  return config


def test_an_experiment_is_plain_data(file):
  assert load(file) == {
    **DEFAULTS,
    'steps': 900,
    'save_every': '1 epochs',
    'size': 'tiny',
    'hyper': {'peak': 0.001, 'clip': None},
    'model': {
      'layers': 2,
      'tie': 'all',
      'remat': False,
      'sizes': (1, 2),
      'names': ['a'],
      'model': {'model': 1},
    },
    'evals': {},
  }


def test_a_default_that_the_file_does_not_set_can_be_overridden(file):
  assert load(file, 'accumulate=4', 'keep_best=valid/nll') == {
    **load(file),
    'accumulate': 4,
    'keep_best': 'valid/nll',
  }


def test_the_text_after_the_colon_is_passed_to_get_config(file):
  config = load_experiment(f'{file}:smoke,size=small')
  assert config['size'] == 'small'


@pytest.mark.parametrize('argument', ['smoke', 'size=small,smoke', 'smoke=yes,size=x'])
def test_smoke_is_applied_at_the_end(file, argument):
  assert load_experiment(f'{file}:{argument}') == {
    **load_experiment(f'{file}:{argument.replace("smoke", "").replace("=yes", "")}'),
    'steps': 20,
    'save_every': 20,  # although it is text otherwise
    'minutes': 0.5,  # although `get_config` does not set it
  }
  assert load_experiment(f'{file}:{argument}', ['--config.steps=3'])['steps'] == 3


def test_smoke_can_be_turned_off(file):
  assert load_experiment(f'{file}:smoke=no') == load(file)


def test_smoke_is_refused_by_a_file_without_it(file):
  file.write_text(TEXT.replace('def smoke', 'def small'), 'utf-8')
  with pytest.raises(ValueError, match=r"no function smoke\(config\) .* out ':smoke'"):
    load_experiment(f'{file}:smoke')


@pytest.mark.parametrize(
  ('folder', 'arguments'),
  [
    ('2026-01-01T10:00', ''),
    ('2026-01-01T10:00', ':smoke'),
    ('a.py:b', ':smoke,size=small'),
    ('plain', ':size=x.py:y'),
    ('[brackets] and spaces', ':smoke'),
  ],
)
def test_a_colon_may_be_part_of_a_folder(tmp_path, folder, arguments):
  path = tmp_path / folder / 'mine.py'
  path.parent.mkdir()
  path.write_text(TEXT, 'utf-8')
  assert split_name(f'{path}{arguments}') == (path, arguments[1:])
  assert load_experiment(f'{path}{arguments}')['steps'] in (20, 900)


def test_the_missing_file_is_named_without_its_arguments():
  assert split_name('none.py:size=a.py') == (Path('none.py'), 'size=a.py')


def test_a_wrong_argument_is_named(file):
  with pytest.raises(ValueError, match=r"'smoek'; did you mean 'smoke'\?"):
    load_experiment(f'{file}:smoek')


@pytest.mark.parametrize(
  ('override', 'expected'),
  [
    ('steps=4000', 4000),
    ('steps=10 epochs', '10 epochs'),
    ("steps='3e6 tokens'", '3e6 tokens'),
    ('save_every=500', 500),
    ('save_every=none', None),
    ('save_every=2 epochs', '2 epochs'),
    ('size=small', 'small'),
    ("size='small'", 'small'),
    ('size=5', '5'),
    ('size=1.5', '1.5'),
    ('size=true', 'true'),
    ('hyper.peak=5e-4', 5e-4),
    ('hyper.peak=1', 1.0),
    ('hyper.peak=none', None),
    ('hyper.clip=1.0', 1.0),
    ('hyper.clip=norm', 'norm'),
    ('model.layers=6', 6),
    ('model.tie=none', 'none'),  # one of the choices
    ('model.tie=None', None),
    ('model.remat=true', True),
    ('model.remat=False', False),
    ('model.sizes=(3, 4, 5)', (3, 4, 5)),
    ('model.sizes=[3]', (3,)),
    ('model.sizes=3,4', (3, 4)),
    ("model.names=('b', 'c')", ['b', 'c']),
    ('model.model.model=2', 2),
  ],
)
def test_an_override_is_read_as_the_type_it_replaces(file, override, expected):
  key = override.partition('=')[0]
  config = load(file, override)
  assert value(config, key) == expected
  assert type(value(config, key)) is type(expected)


def test_an_override_changes_nothing_else(file):
  changed, plain = load(file, 'model.layers=6'), load(file)
  changed['model']['layers'] = 2
  assert changed == plain


def test_the_last_override_of_a_key_is_used(file):
  config = load(file, 'model.layers=6', 'hyper.peak=1', 'model.layers=3')
  assert (config['model']['layers'], config['hyper']['peak']) == (3, 1.0)


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('model.layers=2.5', r'config.model.layers=2.5 should be a int, like 2'),
    ('model.layers=two', r'config.model.layers=two should be a int, like 2'),
    ('model.layers=true', r'config.model.layers=true should be a int, like 2'),
    ('hyper.peak=high', r'config.hyper.peak=high should be a float, like 0.001'),
    ('hyper.peak=10 epochs', r'should be a float'),
    ('hyper.peak=', r'config.hyper.peak= should be a float'),
    ('model.remat=1', r'config.model.remat=1 should be true or false'),
    ('model.remat=none', r'config.model.remat=none should be true or false'),
    ('model.sizes=3', r'config.model.sizes=3 should be a tuple, like \(1, 2\)'),
    ('model=3', r'config.model is a section; set a key in it \(known: layers, '),
    ('model.model=3', r'config.model.model is a section; set a key in it'),
    ('hyper.paek=1', r"has no key 'hyper.paek'; did you mean 'peak'\?"),
    ('stpes=1', r"has no key 'stpes'; did you mean 'steps'\?"),
    ('hyper.xyz=1', r"has no key 'hyper.xyz' \(known: clip, peak\)"),
    ('hyper.peak.high=1', r"has no key 'hyper.peak.high'"),
    ('evals.valid.every=1', r"has no key 'evals.valid.every'"),
    ('steps=none', r'steps is None; it must be 1 or more steps'),
    ('steps=0', r'steps is 0; it must be 1 or more steps'),
    ('steps=-5', r'steps is -5; it must be 1 or more steps'),
    ('steps=0 epochs', r"steps is '0 epochs'; it must be 1 or more steps"),
    ('steps=1.2.3 epochs', r"steps is '1.2.3 epochs'; it must be 1 or more steps"),
    ('steps=3 hours', r'it must be 1 or more .* \(a time is limited by `minutes`\)'),
    ('steps=99999999999', r'steps is 99999999999; it must be 1 or more steps'),
    ('save_every=0', r'save_every is 0; it must be 1 or more steps'),
    ('minutes=10m', r"minutes is '10m'; it must be a number or None"),
    ('minutes=0', r'minutes is 0; it must be more than 0 or None'),
    ('minutes=1e999', r'minutes is inf; it must be a number or None'),
    ('threads=abc', r"threads is 'abc'; it must be a whole number or None"),
    ('threads=0', r'threads is 0; it must be at least 1 and at most 4,096 or None'),
    ('patience=three', r"patience is 'three'; it must be a whole number or None"),
    ('patience=-1', r'patience is -1; it must be at least 1 or None'),
    ('keep_latest=0', r'keep_latest is 0; it must be at least 1'),
    ('keep_latest=-1', r'keep_latest is -1; it must be at least 1'),
    ('keep_best_n=0', r'keep_best_n is 0; it must be at least 1'),
    ('keep_best=3', r'keep_best is 3; it must be a text or None'),
    ('best_is=most', r"best_is is 'most'; it must be 'max' or 'min'"),
    ('parallel=xmap', r"parallel is 'xmap'; it must be 'jit' or 'pmap'"),
    ('accumulate=0', r'accumulate is 0; it must be at least 1'),
    ('ema=1.5', r'ema is 1.5; it must be at least 0 and less than 1'),
    ('ema=1', r'ema is 1.0; it must be at least 0 and less than 1'),
    ('retries=-1', r'retries is -1; it must be at least 0'),
    ('steps', r"'--config.steps' should be written --config.key=value"),
  ],
)
def test_an_invalid_override_is_named(file, override, message):
  with pytest.raises(ValueError, match=message):
    load(file, override)


@pytest.mark.parametrize('override', ['--steps=3', 'steps=3', '--conf.steps=3'])
def test_an_override_must_begin_with_config(file, override):
  with pytest.raises(ValueError, match=f"'{override}' should be written --config.key"):
    load_experiment(str(file), [override])


@pytest.mark.parametrize('name', ['missing.py', '', 'notes.txt'])
def test_a_file_that_is_not_an_experiment_is_named(tmp_path, name):
  (tmp_path / 'notes.txt').write_text('no Python', 'utf-8')
  with pytest.raises(FileNotFoundError, match=r'there is no experiment .*' + name):
    load_experiment(str(tmp_path / name))


def test_a_file_without_get_config_is_named(tmp_path):
  path = tmp_path / 'empty.py'
  path.write_text('"""Nothing."""\n', 'utf-8')
  with pytest.raises(ValueError, match=r'empty.py has no function get_config'):
    load_experiment(str(path))


def test_there_are_experiments():
  assert FILES


@pytest.mark.parametrize('argument', ['', ':smoke'])
@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_an_experiment_in_the_tree_has_known_keys_only(path, argument):
  config = load_experiment(f'{path}{argument}')
  task_of(config)  # raises an error for a key that nothing reads
  json.dumps(config)  # as the run's folder stores it


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_every_name_in_an_experiment_resolves(path):
  config = load_experiment(str(path))
  check_names(config, str(path))  # a run of it needs no trust
  for name, evaluator in config.get('evals', {}).items():
    assert callable(find(evaluator, EVALUATORS, name)[0])


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_a_docstring_shows_how_to_run_its_own_file(path):
  name = re.escape(str(path.relative_to(FOLDER.parent)))
  command = rf'(seqlab train|python -m launch\.sweep) {name}'
  assert re.search(command, path.read_text('utf-8'))


TREE = {
  'agreement/transformer.py': [
    ('model.normalization=rms', 'rms'),
    ('model.positions=rotary', 'rotary'),
    ('model.activation=gelu', 'gelu'),
    ('model.dtype=bfloat16', 'bfloat16'),
    ('model.decoder_layers=3', 3),
    ('model.window=none', None),
    ('optimizer.b1=0.95', 0.95),
    ('optimizer.eps=1e-8', 1e-8),
    ('hyper.weight_decay=0.1', 0.1),
    ('batching.sampling=0.1', 0.1),
    ('schedule.floor=0.1', 0.1),
    ('fallback.times=2', 2),
    ('mesh.fsdp=2', 2),
    ('evals.valid.alpha=1.0', 1.0),
    ('evals.valid.tokenizer=char', 'char'),
  ],
  'multi30k/recurrent.py': [('model.layer_norm=true', True)],
  'enwiki/sgns.py': [
    ('model.output_vectors=both', 'both'),
    ('batching.formula=levy', 'levy'),
  ],
}


@pytest.mark.parametrize(
  ('name', 'override', 'expected'),
  [(name, *case) for name, cases in TREE.items() for case in cases],
)
def test_an_option_that_the_file_does_not_spell_out_can_be_set(
  name, override, expected
):
  config = load(FOLDER / name, override)
  assert value(config, override.partition('=')[0]) == expected
  check_experiment(config)


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('model.normalisation=rms', r"model\.normalisation; did you mean 'normalization'"),
    ('model.normalization=rsm', r"model\.normalization 'rsm'; did you mean 'rms'"),
    ('model.decoder_layers=two', r"model\.decoder_layers is 'two'; it must be a whole"),
    (
      'optimizer.b1=1.5',
      r'optimizer\.b1 is 1.5; it must be at least 0 and less than 1',
    ),
    ('evals.valid.bem=3', r"unknown key evals\.valid\.bem; did you mean 'beam'"),
    ('evals.vali.beam=3', r"has no key 'evals\.vali\.beam'; did you mean 'valid'"),
    ('stpes=3', r"has no key 'stpes'; did you mean 'steps'"),
    ('modle.width=3', r"has no key 'modle\.width'; did you mean 'model'"),
  ],
)
def test_an_unknown_option_is_named(override, message):
  with pytest.raises(ValueError, match=message):
    load(FOLDER / 'agreement/transformer.py', override)


PIECES = """
from typing import Annotated

from seqlab.domains import Range
from seqlab.pieces import Piece, Specification
from seqlab.tasks.interface import Task


def buckets(*, count: Annotated[int, Range(2)] = 32): ...


def plain(): ...


KINDS = {'buckets': buckets, 'plain': plain}


def model(
  *,
  width: int = 8,
  positions: Annotated[Specification, Piece(KINDS)] = 'buckets',
  other: Annotated[Specification, Piece(KINDS)] | None = None,
): ...


class Own(Task):
  sections = ('model',)

  @classmethod
  def signatures(cls, config):
    return {'model': (model,)}
"""


OWN = """
import ml_collections


def get_config(arg=None):
  c = ml_collections.ConfigDict(dict(task='task_pieces:Own', seed=0, steps=1))
  c.hyper, c.model = dict(peak=1e-3), dict(width=8)
  return c
"""


@pytest.fixture
def users_file(tmp_path, monkeypatch):
  """Writes an experiment with its own pieces, none of which it names."""
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'task_pieces.py').write_text(PIECES, 'utf-8')
  monkeypatch.delitem(sys.modules, 'task_pieces', raising=False)
  file = tmp_path / 'own.py'
  file.write_text(OWN, 'utf-8')
  return file


@pytest.mark.parametrize(
  ('overrides', 'expected'),
  [
    (['model.positions.count=64'], {'positions': {'kind': 'buckets', 'count': 64}}),
    (['model.positions=plain'], {'positions': 'plain'}),
    (
      ['model.positions=buckets', 'model.positions.count=4'],
      {'positions': {'kind': 'buckets', 'count': 4}},
    ),
    (
      ['model.other=buckets', 'model.other.count=2'],
      {'other': {'kind': 'buckets', 'count': 2}},
    ),
  ],
)
def test_an_option_inside_a_piece_that_the_file_leaves_out(
  users_file, overrides, expected
):
  assert load(users_file, *overrides)['model'] == {'width': 8, **expected}


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (
      ['model.positions.count=1'],
      r'model\.positions\.count is 1; it must be at least 2',
    ),
    (['model.positions.coutn=4'], r"positions\.coutn; did you mean 'count'"),
    (
      ['model.positions=plain', 'model.positions.count=4'],
      'unknown key model.positions',
    ),
    (['model.other.count=4'], r"has no key 'model\.other\.count'"),
    (['model.width.count=4'], r"has no key 'model\.width\.count'"),
  ],
)
def test_an_unknown_option_of_a_piece_is_named(users_file, overrides, message):
  with pytest.raises(ValueError, match=message):
    load(users_file, *overrides)


AGREEMENT = FOLDER / 'agreement/transformer.py'


@pytest.mark.parametrize(
  ('overrides', 'key', 'expected'),
  [
    # An option whose default is no piece, or a piece named 'none'
    (['model.decoder_normalization=none'], 'model.decoder_normalization', 'none'),
    (['model.decoder_normalization=None'], 'model.decoder_normalization', None),
    (
      ['model.decoder_normalization.kind=batch'],
      'model.decoder_normalization',
      {'kind': 'batch'},
    ),
    (
      ['model.decoder_normalization=batch', 'model.decoder_normalization=None'],
      'model.decoder_normalization',
      None,
    ),
    (
      ['model.decoder_normalization.kind=batch', 'model.decoder_normalization=None'],
      'model.decoder_normalization',
      None,
    ),
    (['model.positions.kind=t5', 'model.positions=none'], 'model.positions', 'none'),
    (['model.positions.kind=none'], 'model.positions.kind', 'none'),
    (["model.positions.kind='t5'"], 'model.positions.kind', 't5'),
    (
      ['evals.valid.decoding.kind=sampling'],
      'evals.valid.decoding',
      {'kind': 'sampling'},
    ),
    (['evals.valid.kind=perplexity'], 'evals.valid.kind', 'perplexity'),
    # A piece is set before its options
    (
      ['model.positions.buckets=64', 'model.positions.kind=t5'],
      'model.positions',
      {'kind': 't5', 'buckets': 64},
    ),
    (
      ['model.positions.buckets=64', 'model.positions=t5'],
      'model.positions',
      {'kind': 't5', 'buckets': 64},
    ),
    # Sections and evaluators that the file lacks
    (["evals.foo={'kind': 'loss', 'split': 'valid'}"], 'evals.foo.split', 'valid'),
    (
      ['evals.foo.split=valid', 'evals.foo=loss'],
      'evals.foo',
      {'kind': 'loss', 'split': 'valid'},
    ),
    (['evals.foo.kind=leak'], 'evals.foo', {'kind': 'leak'}),
    (['optimizer=lion'], 'optimizer', 'lion'),
    (["fallback={'times': 3}"], 'fallback', {'times': 3}),
    (['corpus.kind=multi30k'], 'corpus.kind', 'multi30k'),
  ],
)
def test_pieces_can_be_replaced_and_added(overrides, key, expected):
  assert value(load(AGREEMENT, *overrides), key) == expected


def test_kinds_that_have_the_option_are_named():
  message = r'buckets.*; model\.positions has it with kind t5'
  with pytest.raises(ValueError, match=message):
    load(AGREEMENT, 'model.positions.buckets=64')


@pytest.mark.parametrize(
  ('end', 'message'),
  [
    ('c.lock()', None),
    ('c = c.to_dict()', None),
    (
      'c = None',
      r'get_config of .*mine\.py returned None; it must return a ConfigDict',
    ),
  ],
)
def test_the_result_of_get_config(file, end, message):
  text = TEXT.replace('  return c\n', f'  {end}\n  return c\n')
  file.write_text(text, 'utf-8')
  if message:
    with pytest.raises(ValueError, match=message):
      load(file)
  else:
    config = load(file, 'keep_best=a', "fallback={'times': 2}", 'steps=3')
    assert (config['fallback'], config['steps']) == ({'times': 2}, 3)


GROUPS = "c.optimizer = dict(kind='adam', groups=[dict(rate=1.0, match='a'), dict()])"


@pytest.mark.parametrize(
  ('override', 'groups'),
  [
    ('optimizer.groups.0.rate=2', [{'rate': 2.0, 'match': 'a'}, {}]),
    ('optimizer.groups.1.frozen=true', [{'rate': 1.0, 'match': 'a'}, {'frozen': True}]),
    ('optimizer.groups.2.rate=2', 'a number from 0 to 1 in place of'),
    ('optimizer.groups.rate=2', 'a number from 0 to 1 in place of'),
    ('optimizer.groups.0.match.x=2', "'a' is not a section"),
    ('optimizer.groups.0.rate=x', 'should be a float'),
  ],
)
def test_an_item_of_a_list_can_be_set(file, override, groups):
  file.write_text(TEXT.replace('c.evals = {}', f'c.evals = {{}}\n  {GROUPS}'), 'utf-8')
  if isinstance(groups, str):
    with pytest.raises(ValueError, match=groups):
      load(file, override)
  else:
    assert load(file, override)['optimizer']['groups'] == groups


def test_a_reference_follows_an_override_in_a_file_of_the_first_edition(file):
  lines = "c.evals = {'x': {'type': 'leak'}}\n  c.seed = 1\n"
  lines += "  c.hyper.clip = c.get_ref('seed')"
  file.write_text(TEXT.replace('c.evals = {}', lines), 'utf-8')
  config = load(file, 'seed=7')
  assert (config['hyper']['clip'], config['evals']) == (7, {'x': {'kind': 'leak'}})


def test_the_kind_of_a_corpus_replaces_its_name():
  languages = ['corpus.source=de', 'corpus.target=en']
  recurrent = FOLDER / 'multi30k/recurrent.py'
  check_experiment(load(recurrent, 'corpus.kind=multi30k', *languages))
  config = load(recurrent)
  config['corpus']['name'] = 'multi30k-tok'  # in addition to the kind
  with pytest.raises(ValueError, match=r'unknown key corpus\.name'):
    check_experiment(config)


def test_a_name_of_a_corpus_that_is_no_text_is_refused():
  config = load(FOLDER / 'multi30k/recurrent.py')
  config['corpus'] = {**config['corpus'], 'name': ['x']}
  del config['corpus']['kind']
  with pytest.raises(ValueError, match=r"unknown corpus \['x'\]"):
    check_experiment(config)
