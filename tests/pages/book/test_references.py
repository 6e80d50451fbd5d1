"""Checks how references of pages are resolved, on a small tree."""

import re

import pytest

from book.references import fill

TABLE = """\
| decoder | share | loss | n |
| --- | --- | ---: | --: |
| plain | 10% | **0.55 ± 0.06** | 3 |
| plain | 30% | -1,234.5 | 3 |
| fast | 10% | 2.1e-13 | 1 |
| fast | 30% | 1.5e+00 | 1 |

The power is -0.516 here.
"""
MODULE = 'A = 1\n\n\n' + '\n'.join(
  ['class B:', *(f'  x{i} = {i}' for i in range(13)), '  @property', '  def c(self):']
  + [f'    y{i} = {i}' for i in range(15)]
)


@pytest.fixture
def tree(tmp_path):
  (tmp_path / 'docs' / 'study').mkdir(parents=True)
  (tmp_path / 'docs' / 'study' / 'table.md').write_text(TABLE, 'utf-8')
  rows = 'kind,seed,value\na,0,0.25\na,1,0.5\n"b, c",0,1e-3\n'
  (tmp_path / 'docs' / 'study' / 'rows.csv').write_text(rows, 'utf-8')
  (tmp_path / 'module.py').write_text(MODULE, 'utf-8')
  return tmp_path


@pytest.mark.parametrize(
  ('reference', 'en', 'ru'),
  [
    ('study/table.md | plain / 10% | loss', '0.55 ± 0.06', '0,55 ± 0,06'),
    ('study/table.md | plain / 30% | loss', '−1,234.5', '−1 234,5'),
    ('study/table.md | plain | n', '3', '3'),
    ('study/table.md | fast / 10% | loss', '2.1 · 10⁻¹³', '2,1 · 10⁻¹³'),
    ('study/table.md | fast / 30% | loss', '1.5', '1,5'),
    (r'study/table.md ~ power is (\S+) here', '−0.516', '−0,516'),
    (r'study/table.md ~ 10% \| (\S+ ± \S+)', '0.55 ± 0.06', '0,55 ± 0,06'),
    ('study/rows.csv | a / 1 | value', '0.5', '0,5'),
    ('study/rows.csv | b, c / 0 | value', '1 · 10⁻³', '1 · 10⁻³'),
  ],
)
def test_numbers(tree, reference, en, ru):
  for language, expected in (('en', en), ('ru', ru)):
    filled = fill(f'a {{{{ {reference} }}}}.', language, tree)
    assert filled.replace('\u00a0', ' ') == f'a {expected}.'


@pytest.mark.parametrize(
  ('reference', 'message'),
  [
    ('study/other.md | plain | n', 'other.md does not exist'),
    ('study/table.md | plain / 10% | time', "no table with a column 'time'"),
    ('study/table.md | slow | n', "0 different cells in the column 'n'"),
    ('study/table.md | plain | loss', 'name one row'),
    (r'study/table.md ~ (\d)%', 'it must have one'),
    ('study.plain.loss', 'is no reference'),
    ('code module.py A', 'A have 1 lines, and a block has 15 to 30'),
    ('code module.py D', 'has no D'),
    ('code other.py A', 'other.py does not exist'),
  ],
)
def test_a_reference_to_nothing_is_an_error(tree, reference, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    fill(f'{{{{ {reference} }}}}', 'en', tree)


def test_code_is_the_text_of_the_module(tree):
  text = fill('{{ code module.py A B.c }}', 'ru', tree)
  title, *lines, end = text.splitlines()
  assert (title, end) == ('```python title="module.py"', '```')
  assert lines[:6] == ['A = 1', '', '', '@property', 'def c(self):', '  y0 = 0']
  assert len(lines) == 20
