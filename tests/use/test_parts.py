"""A run whose sources have several parts: a lemma and features without an order."""

import io

import pytest

from seqlab.train.loop import train
from seqlab.use.streams import score_stream, translate_stream


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run of one update on a file of one's own, from which 'dev' is cut."""
  folder = tmp_path_factory.mktemp('inflection')
  lines = [f'geh{i}en;ge{i}t;V,{i % 3}\n' for i in range(80)]
  (folder / 'forms.csv').write_text(''.join(['lemma;form;features\n', *lines]), 'utf-8')
  features = dict(column='features', kind='symbols', separator=',', ordered=False)
  config = {
    'task': 'tasks.translation:Translation',
    'seed': 0,
    'steps': 1,
    'corpus': {
      'files': {'train': str(folder / 'forms.csv')},
      'source': 'lemma',
      'target': 'form',
      'reader': {'kind': 'csv', 'delimiter': ';'},
      'cut': {'dev': 0.2},
      'columns': {'source': [{'column': 'lemma', 'kind': 'char'}, features]}
      | {'target': 'form'},
    },
    'vocabulary': {'target': 'char'},
    'batching': {'tokens': 256, 'shapes': 1},
    'model': {'kind': 'transformer', 'width': 8, 'mlp_width': 8, 'heads': 2}
    | {'layers': 1, 'tie': 'none'},
    'hyper': {'peak': 1e-3},
    'schedule': {'kind': 'constant'},
    'mesh': {'data': 1, 'devices': 1},
  }
  train(config, folder / 'run')
  return folder / 'run'


def test_the_parts_of_a_line_are_separated_by_tabs(run):
  lines, out = 'geh1en\tV,2\ngeh1en\t2,V\ngeh1en\n\n', io.StringIO()
  with pytest.raises(ValueError, match=r'line 3.*has 1 parts, and 2 are needed'):
    translate_stream(run, io.BytesIO(lines.encode()), out, options={'beam': 1})
  first, second, third, fourth, _ = out.getvalue().split('\n')
  assert first == second  # the order of features has no effect
  assert (third, fourth) == ('', '')


def test_pairs_have_one_more_tab_than_sources(run):
  lines, out = 'geh1en\tV,2\tge1t\ngeh1en\tge1t\n', io.StringIO()
  with pytest.raises(ValueError, match=r'line 2.*has 1 tabs: .*2 parts of the source'):
    score_stream(run, io.BytesIO(lines.encode()), out)
  first, second, _ = out.getvalue().split('\n')
  assert first.endswith('\t5')  # four characters and the end
  assert second == ''
