"""Compares README.md and docs/ with their tables, the tree and the parsers."""

import functools
from pathlib import Path
import re
import shlex

import pytest

from launch import check_device, kubernetes, local, slurm, sweep, tpu
from launch.study import is_study
import seqlab
from seqlab import cli
from seqlab.experiment import load_experiment

ROOT = Path(seqlab.__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
SOURCES = sorted(
  path for folder in ('experiments', 'launch') for path in (ROOT / folder).rglob('*.py')
)

# Pattern -> a sentence that was withdrawn, and why. A sentence may come back only with
# a study that supports it; its line here is then removed.
WITHDRAWN = {
  r'forcing and its price|that is the price|does not pay it': (
    'That is the price.',
    'compares a marginal probability (of one piece) with a joint one (of ten)',
  ),
  r'84 (of 100|against 41)|all ten of its own': (
    'the tenth piece is right in 84 of 100 sentences; all ten of its own',
    'the same: both numbers come from the same events under greedy search',
  ),
  r'(errors|everything|all) until here, its own': (
    'teacher forcing: all until here, its own',
    'under greedy search it is the same with true words given',
  ),
  r'least squares[^.]{0,40}the same matrix|for m by least squares': (
    'and least squares over all t find the same matrix',
    'it is another one: 64 positions span 25 of 64 dimensions',
  ),
  r'windows?[^.]{0,40}(do|does) not suit|suit russian': (
    "Windows of local attention do not suit Russian's order here",
    'both windows have a higher mean than their base score in all cells',
  ),
  r'nearly half of its bleu': (
    'loses nearly half of its BLEU, at every length',
    '28 to 72 %, by length',
  ),
  r't5[^.]{0,50}fall fastest': (
    "T5's coarse buckets and learned positions fall fastest beyond 15 words",
    'rotary positions lose the most points',
  ),
  r'at equal parameters|(of )?about 400,000 parameters': (
    'At equal parameters, by time',
    '386,512, 415,744 and 468,096 parameters',
  ),
  r'powernorm with the settings of its paper': (
    'PowerNorm with the settings of its paper is unstable',
    'its warm-up was 100 updates, not 4,000, and it had no groups',
  ),
  r'sequences ill|small batches do not suit': (
    'Batch normalisation suits sequences ill',
    'it is level with layer normalisation down to 512 positions per batch',
  ),
  r'head minds|minds? its own|minding its own|part the work': (
    'Each head minds its own matter',
    'one seed, no baseline, and looks and losses do not go together',
  ),
  r'best one at gender': (
    'Layer 2, head 2: the best one at gender',
    'the sentence that is shown is in the plural, whose endings show no gender',
  ),
  r'transformer wins': (
    'The Transformer wins',
    'unequal parameters, one learning rate',
  ),
  r'attention is worth|without recurrence it is|one vector is worth': (
    'attention is worth four times the BLEU of one fixed vector',
    'the models differ in parameters and output layers',
  ),
  r'(attention may be|any function of query).{0,30}(function|score)': (
    'Attention may be any function',
    'a score that is blind to the source does better than three that are not',
  ),
  r'encoder-decoder forgets|what a fixed context keeps': (
    'The encoder-decoder forgets',
    'the position in the source was not varied; unequal parameters',
  ),
  r'positions bring it back': (
    'Order was lost, positions bring it back',
    'no model was trained on all lengths',
  ),
  r'tea from coffee|ranks go with the men': (
    'Both know tea from coffee and a spring that comes',
    'two nearest neighbours of one seed, and a picture',
  ),
  r'0\.95 \(400 wide\)': (
    'go to PMI - log k with a correlation of 0.95 (400 wide)',
    'stood under the table of another text; it is of 7 million words and one seed',
  ),
  r'go to (shifted )?pmi|factorises what counting': (
    'Dot products go to shifted PMI',
    'one seed; the correlation is 0.78 to 0.95, and does not rise with k',
  ),
  r'no (road|method) (is the best|wins)': (
    'No road is the best everywhere',
    'the differences were not tested, and the sets have errors of 0.01 to 0.04',
  ),
  r'beyond the deviations, but for': (
    'nor is it better or worse beyond the deviations, but for rare words',
    'other sets differ by more than their deviations too',
  ),
  r'come back, seed by seed': (
    'The findings of Levy, Goldberg and Dagan (2015) come back, seed by seed',
    'several gains are smaller than one deviation',
  ),
  r'what a wide window costs|has? to learn them|dimensions a word needs': (
    'What a wide window costs',
    'window and epochs were changed together; one learning rate for all widths',
  ),
  r'stops (scaling|being worth)|h100s do not hold': (
    'Eight H100s do not hold the batch as it stands',
    "memory is the CPU compiler's: 81 GB, where a GPU's plans 51",
  ),
  r'17 million words': (
    'The same, 100 wide, 17 million words',
    'parts 0 to 4 have 19.6 million',
  ),
  r'52 to 55 times|ratios less\b': (
    "52 to 55 times sacreBLEU's speed",
    'of four runs one is kept',
  ),
  r'number beside its own': (
    "ends with the paper's number beside its own",
    'no command prints that; `seqlab experiments` lists the number, for two of them',
  ),
  r'38\.86 \|[^|]*\| 4,000 of 5,000': (
    '38.86 | 41.02 (Wu et al. 2021) | 4,000 of 5,000 updates',
    'the command beside it trains 5,000 updates, and was stopped',
  ),
}


@functools.cache
def _texts():
  """Returns path -> its text, in lower case on one line."""
  texts = {path: path.read_text('utf-8') for path in PAGES}
  for folder in ('experiments', 'launch', 'seqlab'):
    for path in (ROOT / folder).rglob('*.py'):
      texts[path] = path.read_text('utf-8')
  for path in (ROOT / 'docs').rglob('*.svg'):  # Matplotlib keeps text as comments
    texts[path] = '. '.join(re.findall('<!-- (.*?) -->', path.read_text('utf-8')))
  return {path: ' '.join(text.lower().split()) for path, text in texts.items()}


@pytest.mark.parametrize('pattern', WITHDRAWN)
def test_withdrawn_sentences_do_not_come_back(pattern):
  occurrences = [
    f'{path.relative_to(ROOT)}: {match.group()}'
    for path, text in _texts().items()
    for match in re.finditer(pattern, text)
  ]
  assert not occurrences, WITHDRAWN[pattern][1]


@pytest.mark.parametrize('pattern', WITHDRAWN)
def test_patterns_match_what_was_withdrawn(pattern):
  assert re.search(pattern, WITHDRAWN[pattern][0].lower())


_PAIR = re.compile(r'(-?\d+(?:\.(\d+))?) ± (\d+(?:\.(\d+))?)')


def _pairs(text):
  """Returns printed means and deviations: the numbers, and their decimal places."""
  for mean, places, deviation, more in _PAIR.findall(' '.join(text.split())):
    yield float(mean), len(places), float(deviation), len(more)


def _carries(table, mean, places, deviation, more):
  """Returns whether a cell rounds to this, as a number or in per cent."""
  return any(
    abs(abs(scale * m) - abs(mean)) <= 0.5001 * 10**-places  # 'loses 1.6 ± 1.2'
    and abs(scale * d - deviation) <= 0.5001 * 10**-more
    for m, _, d, _ in _pairs(table)
    for scale in (1, 100)
  )


def _sections():
  """Yields sections of docs/README.md with a table: heading, text, the table's text."""
  text = (ROOT / 'docs/README.md').read_text('utf-8')
  for section in re.split(r'(?m)^(?=#+ )', text):
    if link := re.search(r'\]\(([^)]*table\.md)\)', section):
      table = (ROOT / 'docs' / link.group(1)).read_text('utf-8')
      yield section.partition('\n')[0], section, table


@pytest.mark.parametrize(
  ('text', 'table'),
  [pytest.param(text, table, id=heading) for heading, text, table in _sections()],
)
def test_deviations_in_the_text_are_those_of_the_table(text, table):
  assert not [pair for pair in _pairs(text) if not _carries(table, *pair)]


def test_every_study_that_has_a_table_has_a_section():
  tables = {path.read_text('utf-8') for path in (ROOT / 'docs').glob('*/table.md')}
  assert tables == {table for _, _, table in _sections()}


def test_the_readmes_rows_are_those_of_the_files_they_link():
  text = (ROOT / 'README.md').read_text('utf-8')
  rows = [line for line in text.splitlines() if line.startswith('|') and '±' in line]
  assert rows
  for line in rows:
    link = re.search(r'\]\((docs/[^)#]*)\)', line)
    assert link, line
    table = (ROOT / link.group(1)).read_text('utf-8').replace('|', ' ')
    assert not [pair for pair in _pairs(line) if not _carries(table, *pair)], line


def _rows(text, first):
  """Returns the Markdown table whose header starts with `first`: label -> cells."""
  lines = iter(text.splitlines())
  header = next(line for line in lines if re.match(rf'\| {first} *\|', line))
  next(lines)
  table = {}
  for line in (header, *lines):
    if not line.startswith('|'):
      break
    label, *cells = [cell.strip(' *') for cell in line.strip('|').split('|')]
    table[label] = cells
  return table


def test_the_readmes_word_vectors_are_those_of_the_table():
  short = _rows((ROOT / 'README.md').read_text('utf-8'), 'method')
  text = (ROOT / 'docs/enwiki-whole/table.md').read_text('utf-8')
  whole = _rows(text, 'method')
  sets = ('ws353', 'men', 'simlex', 'rw', 'mturk', 'google (%)', 'msr (%)')
  at = [whole['method'].index(name) for name in sets]
  labels = {'SVD, p = 0.5': 'SVD', 'GloVe, 15 epochs': 'GloVe'}
  labels["gensim's SGNS, same settings"] = "SGNS, gensim's"
  for label, cells in list(short.items())[1:]:
    row = whole[labels.get(label, label)]
    assert cells == [row[i].partition(' ')[0] for i in at], label


def _slug(heading):
  """Returns GitHub's anchor of a heading."""
  return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_have_a_target(page):
  text = page.read_text('utf-8')
  for link in re.findall(r'\]\(([^)\s]+)\)', text):
    if re.match('[a-z]+:', link):
      continue
    path, _, anchor = link.partition('#')
    target = page.parent / path if path else page
    assert target.exists(), link
    if anchor:
      headings = re.findall(r'(?m)^#+ (.*)$', target.read_text('utf-8'))
      assert anchor in map(_slug, headings), link


_PATH = re.compile(r'(?<![\w./:-])(?:docs|experiments|launch|seqlab|tests)/[\w./-]*\w')


@pytest.mark.parametrize(
  'page', PAGES + SOURCES, ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_that_are_named_exist(page):
  for path in _PATH.findall(page.read_text('utf-8')):
    assert (ROOT / path).exists(), path


def test_experiments_that_are_named_without_their_folder_exist():
  names = {path.name for path in ROOT.glob('experiments/*/*.py')}
  for name in re.findall(r'`(\w+\.py)`', (ROOT / 'README.md').read_text('utf-8')):
    assert name in names, name


def _commands():
  """Yields path and words of the commands in code blocks, code spans, docstrings."""
  for path in PAGES + SOURCES:
    text = path.read_text('utf-8')
    if path.suffix == '.py':
      docstring = re.match(r'r?"""(.*?)"""', text, re.DOTALL)
      blocks = re.findall(r'(?m)^  .*$', docstring.group(1)) if docstring else []
    else:
      fenced = re.findall(r'(?ms)^```(\w*)\n(.*?)^```', text)
      blocks = [block for language, block in fenced if language in ('', 'sh')]
      spans = re.findall(r'`([^`\n]+)`', re.sub(r'(?ms)^```.*?^```', '', text))
      blocks += [span for span in spans if len(span.split()) > 2]
    for line in '\n'.join(blocks).replace('\\\n', ' ').splitlines():
      if re.match(r' *(seqlab|python -m) ', line):
        words = shlex.split(re.split(' [<>] ', line)[0], comments=True)
        if '...' not in words:  # short for another line
          yield path, words


_PLACEHOLDERS = ('EXPERIMENT',)


def _check_experiments(names, overrides=()):
  for name in names:
    for path in sorted(ROOT.glob(name)) if '*' in name else [name]:
      if not is_study(str(path)):
        load_experiment(str(path), overrides)


def _check_seqlab(words):
  args, rest = cli.command_parser().parse_known_args(words)
  assert not rest or args.verb in ('train', 'plan', 'bench')
  if 'experiment' in args and args.experiment not in _PLACEHOLDERS:
    _check_experiments([args.experiment], rest)


def _check_launch(module, words):
  if module == 'sweep':
    args = sweep._arguments(words)
    _check_experiments(x for x in args.experiments if x not in _PLACEHOLDERS)
  elif module == 'local':
    args, rest = local._parser().parse_known_args(words)
    _check_experiments([args.experiment], rest)
  elif module == 'check_device':
    check_device._parser().parse_args(words)
  else:
    main = {'slurm': slurm, 'kubernetes': kubernetes, 'tpu': tpu}[module].main
    assert main([*words, '--dry-run']) == 0


@pytest.mark.parametrize(
  'words',
  sorted({tuple(words) for _, words in _commands()}),
  ids=lambda words: ' '.join(words)[:60],
)
def test_commands_are_accepted(words, monkeypatch):
  """Parses them as they would be run, with their experiment and options."""
  monkeypatch.chdir(ROOT)
  if words[0] == 'seqlab':
    _check_seqlab(words[1:])
  else:
    package, _, module = words[2].partition('.')
    assert package == 'launch'
    _check_launch(module, words[3:])


def test_the_commands_of_the_pages_are_found():
  """The list of commands above is not empty."""
  commands = [words for path, words in _commands() if path.name == 'README.md']
  verbs = {words[1] for words in commands if words[0] == 'seqlab'}
  assert verbs == set(cli._VERBS)
  assert {words[2] for words in commands if words[0] != 'seqlab'} >= {
    *('launch.local', 'launch.slurm', 'launch.sweep')
  }
