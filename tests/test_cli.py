"""The `seqlab` command, as a user types it."""

import io
import json
import subprocess
import sys

import pytest

from seqlab import cli
from seqlab.cli import main
from seqlab.commands import shared
from seqlab.metrics.tokenizers import TOKENIZERS


def _stdin(monkeypatch, text):
  stream = io.TextIOWrapper(io.BytesIO(text.encode()), encoding='utf-8')
  monkeypatch.setattr(sys, 'stdin', stream)


def test_translate_reads_stdin_and_writes_stdout(finished, monkeypatch, capsys):
  _stdin(monkeypatch, 'w1 w2\n\n')
  assert main(['translate', str(finished), '--beam=1']) == 0
  assert capsys.readouterr().out.count('\n') == 2


def test_evaluate_prints_a_signature(finished, capsys):
  assert main(['evaluate', str(finished), '--split=test', '--beam=1']) == 0
  assert 'nrefs:1|case:mixed|eff:no|tok:13a' in capsys.readouterr().out


def test_score_prints_a_line_for_each_pair(finished, monkeypatch, capsys):
  _stdin(monkeypatch, 'w1 w2\tw2 w1\nw3\tw3\n')
  assert main(['score', str(finished)]) == 0
  first, second = capsys.readouterr().out.splitlines()
  assert first.split('\t')[1] == '3'
  assert float(second.split('\t')[0]) < 0


def test_table_lists_the_results_of_runs(finished, capsys):
  assert main(['table', str(finished), '--metric', 'valid/bleu', 'loss']) == 0
  head, _, row = capsys.readouterr().out.splitlines()
  assert 'valid/bleu' in head
  assert row.count('|') == head.count('|')


def test_experiments_are_listed(capsys):
  assert main(['experiments']) == 0
  out = capsys.readouterr().out
  assert 'multi30k' in out
  assert '41.02' in out


def test_a_closed_pipe_is_not_an_error(finished):
  """`head` closes its input early; the remaining output is dropped without an error."""
  code = 'import sys; from seqlab.cli import main; sys.exit(main(sys.argv[1:]))'
  command = [sys.executable, '-c', code, 'table', str(finished)]
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  with subprocess.Popen(command, **pipes) as process:
    process.stdout.close()
    assert process.stderr.read() == b''
  assert process.returncode == 128 + 13  # SIGPIPE, as a shell counts


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['train', 'nowhere.py', '--workdir=x'], 'there is no experiment nowhere.py'),
    (['evaluate', 'nowhere'], 'nowhere is not a run'),
    (['translate', 'nowhere'], 'nowhere is not a run'),
    (['experiments', 'nowhere'], 'there is no folder nowhere'),
    (
      [
        *('train', 'experiments/agreement/transformer.py', '--workdir=x'),
        '--config.hyper.paek=1',
      ],
      "did you mean 'peak'",
    ),
    (
      ['train', 'experiments/agreement/transformer.py:smok', '--workdir=x'],
      "did you mean 'smoke'",
    ),
  ],
)
def test_an_error_of_the_user_is_one_line_on_stderr(argv, message, capsys):
  assert main(argv) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.startswith(f'seqlab {argv[0]}: ')
  assert 'Traceback' not in error


def test_a_disagreement_with_sacrebleu_is_one_line_on_stderr(
  finished, monkeypatch, capsys
):
  def disagree(*_, **__):
    raise ArithmeticError('BLEU is one thing and another')

  monkeypatch.setattr('seqlab.use.translations.evaluate_translations', disagree)
  assert main(['evaluate', str(finished)]) == 1
  assert capsys.readouterr().err == 'seqlab evaluate: BLEU is one thing and another\n'


def test_verbs_that_translate_have_the_same_options():
  argv = ['run', '--beam=1', '--top-k=3', '--top-p=0.5', '--seed=4', '--average=2']
  options = {'beam': 1, 'top_k': 3, 'top_p': 0.5, 'seed': 4}
  for verb in ('evaluate', 'compare', 'translate'):
    parsed = shared.search(
      cli.command_parser().parse_args([verb, *argv, '--choose=best'])
    )
    together = {} if verb == 'compare' else {'ensemble': ()}
    assert parsed == {'average': 2, 'choose': 'best', 'options': options, **together}


def test_the_tokenizers_of_the_option_are_those_of_the_device():
  assert set(shared.TOKENIZERS) == set(TOKENIZERS)


@pytest.mark.parametrize('verb', cli._VERBS)
def test_every_verb_explains_itself(verb, capsys):
  with pytest.raises(SystemExit, match='0'):
    main([verb, '--help'])
  assert cli._VERBS[verb].run.__doc__.splitlines()[0] in capsys.readouterr().out


def test_generated_texts_have_a_length_and_no_source_to_limit_it(capsys):
  with pytest.raises(SystemExit, match='2'):
    cli.command_parser().parse_args(['generate', 'run', '--max-length', '1', '5'])
  assert '--max-length' in capsys.readouterr().err
  parsed = shared.search(
    cli.command_parser().parse_args(['generate', 'run', '--beam=2'])
  )
  assert parsed['options'] == {'beam': 2}


def test_an_unknown_option_is_refused(capsys):
  with pytest.raises(SystemExit):
    main(['evaluate', 'run', '--beeam=3'])
  assert '--beeam=3' in capsys.readouterr().err


def test_help_needs_no_jax():
  code = (
    'import sys; from seqlab.cli import main\n'
    'try: main(["--help"])\n'
    'except SystemExit: pass\n'
    'sys.exit("jax" in sys.modules)'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0
  assert 'translate' in done.stdout


def test_the_benchmark_prints_a_table_and_writes_json(tmp_path, capsys):
  output = tmp_path / 'bench.json'
  argv = ['bench', 'experiments/agreement/transformer.py:smoke', '--only=feed']
  assert main([*argv, f'--output={output}']) == 0
  report = json.loads(output.read_text('utf-8'))
  assert {row['unit'] for row in report['rows']} == {'batches/s', 'target tokens/s'}
  assert all(row['value'] > 0 for row in report['rows'])
  assert 'batches/s' in capsys.readouterr().out


@pytest.fixture
def few_words(tmp_path):
  path = tmp_path / 'text.txt'
  path.write_text('the cat saw the dog and the dog saw a cat\n' * 400, 'utf-8')
  return str(path)


def test_the_benchmark_of_counting_names_its_baselines(few_words, tmp_path, capsys):
  experiment = f'experiments/enwiki/ppmi_svd.py:path={few_words},width=3'
  argv = ['bench', experiment, '--only=svd', f'--output={tmp_path}/bench.json']
  assert cli.main(argv) == 0
  assert 'times svds' in capsys.readouterr().out
  rows = json.loads((tmp_path / 'bench.json').read_text('utf-8'))['rows']
  (error,) = (row['value'] for row in rows if row['unit'] == 'relative error')
  assert error < 1e-3


@pytest.mark.slow
def test_the_benchmark_of_word2vec_names_its_baseline(few_words, tmp_path, capsys):
  experiment = f'experiments/enwiki/sgns.py:path={few_words}'
  argv = ['bench', experiment, '--only=words', f'--output={tmp_path}/bench.json']
  assert cli.main(argv) == 0
  assert 'times gensim' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('name', 'parts'),
  [
    ('sgns', 'start, feed, train, words, quality'),
    ('softmax', 'start, feed, train, words'),
    ('glove', 'start, feed, train, counts'),
    ('ppmi', 'counts, svd'),  # which has no training step
  ],
)
def test_a_part_that_an_experiment_does_not_have_is_named(
  few_words, capsys, name, parts
):
  experiment = f'experiments/enwiki/{name}.py:path={few_words}'
  assert cli.main(['bench', experiment, '--only=decode']) == 1
  assert f"has no part 'decode' (it has: {parts})" in capsys.readouterr().err


def test_a_part_without_a_baseline_is_measured_alone(few_words, tmp_path, capsys):
  experiment = f'experiments/enwiki/softmax.py:path={few_words}'
  argv = ['bench', experiment, '--only=words', f'--output={tmp_path}/bench.json']
  assert cli.main(argv) == 0
  assert 'gensim' not in capsys.readouterr().out


@pytest.mark.slow
def test_counting_is_compared_with_scipy(few_words, tmp_path, capsys):
  experiment = f'experiments/enwiki/glove.py:path={few_words}'
  argv = ['bench', experiment, '--only=counts', f'--output={tmp_path}/bench.json']
  assert cli.main(argv) == 0
  assert 'times SciPy' in capsys.readouterr().out


@pytest.mark.parametrize(('verb', 'status'), [('experiments', 0), ('table /none', 1)])
def test_a_process_ends_with_the_status_of_its_verb(verb, status):
  """Although nothing is freed then, all output comes, and exit functions are called."""
  code = """
import atexit
from seqlab.cli import main
from seqlab.commands import shared
status = main()
atexit.register(print, 'exit function', status)
raise SystemExit(status)
"""
  command = [sys.executable, '-c', code, *verb.split()]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == status
  assert done.stdout.endswith(f'exit function {status}\n')
  assert bool(done.stderr) == bool(status)
