"""A finished run is used from its folder alone."""

import gzip
import io
import json
from pathlib import Path
import shutil

import jax
import numpy as np
import pytest
import sacrebleu

from seqlab.cli import main
from seqlab.evaluators.translation import Evaluator
from seqlab.metrics.corpus import corpus_statistics
from seqlab.tasks.translation import Translation
from seqlab.train.loop import train
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.use.comparison import compare_runs
from seqlab.use.evaluation import evaluate_run
from seqlab.use.runs import load_run, open_run
from seqlab.use.scores import corpus_scores
from seqlab.use.streams import score_stream, translate_stream
from seqlab.use.translations import evaluate_translations

GREEDY = {'beam': 1}


@pytest.fixture
def run(finished, tmp_path):
  """A copy of the finished run in which tests may write."""
  return shutil.copytree(finished, tmp_path / 'run')


def _translate(run, text, **options):
  out = io.StringIO()
  translate_stream(run, io.BytesIO(text.encode()), out, **options)
  return out.getvalue()


def test_every_line_of_a_split_is_scored(finished, corpus_files, tmp_path, capsys):
  output = tmp_path / 'out.txt'
  folder = shutil.copytree(finished, tmp_path / 'run')
  result = evaluate_translations(
    folder, split='test', options=GREEDY, output=str(output)
  )
  hypotheses = output.read_text('utf-8').splitlines()
  with open(corpus_files['test'][1], encoding='utf-8') as file:
    reference = file.read().splitlines()
  assert result['lines'] == len(hypotheses) == len(reference) == 13
  expected = sacrebleu.corpus_bleu(hypotheses, [reference]).score
  assert result['scores'][0]['score'] == expected
  assert 'tok:13a' in capsys.readouterr().out
  kept = (folder / 'evaluations.jsonl').read_text('utf-8')
  assert json.loads(kept.splitlines()[-1])['scores'][0]['score'] == expected


@pytest.mark.slow  # compiles a search and a measure of text
def test_minimum_bayes_risk_is_recorded_with_its_options(run, capsys):
  options = {'mbr': 4, 'mbr_measure': 'bleu', 'epsilon': 0.05}
  result = evaluate_translations(run, split='test', options=options)
  assert {k: result['search'][k] for k in options} == options
  assert 'mbr 4' in capsys.readouterr().out
  evaluator = {
    'kind': 'translation',
    'split': 'test',
    'decoding': {'kind': 'mbr', **options},
  }
  config = json.loads((run / 'config.json').read_text('utf-8'))
  config['evals'] = {'mbr': evaluator}
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  scores = evaluate_run(run)['scores']
  assert scores['mbr/bleu'] > 0


def test_a_tokenised_corpus_is_scored_by_its_papers_convention_first():
  outcome = corpus_scores(['a b , c d'], [['a b , c e']], 'none')
  assert [s['name'] for s in outcome] == [
    'bleu (none)',
    'bleu (13a, of tokens)',
    'chrF',
  ]
  assert 'tok:none' in outcome[0]['signature']


def test_a_run_needs_nothing_but_its_folder(finished, tmp_path):
  """Its corpus is elsewhere."""
  folder = shutil.copytree(finished, tmp_path / 'run')
  config = json.loads((folder / 'config.json').read_text('utf-8'))
  config['corpus']['files'] = {'train': ['/nowhere/a', '/nowhere/b']}
  (folder / 'config.json').write_text(json.dumps(config), 'utf-8')
  assert _translate(folder, 'w1 w2\n', options=GREEDY).endswith('\n')


def test_an_empty_line_gives_an_empty_line(finished):
  lines = _translate(finished, 'w1 w2\n\nw3\n', options=GREEDY).split('\n')
  assert len(lines) == 4
  assert lines[1] == lines[3] == ''
  assert _translate(finished, 'w3\n', options=GREEDY) == f'{lines[2]}\n'


def test_a_line_of_unknown_words_is_translated(finished):
  assert _translate(finished, 'Ω ж ☃\n', options=GREEDY).count('\n') == 1


def test_a_line_that_is_not_utf8_is_named_and_all_others_are_translated(finished):
  out = io.StringIO()
  text = b'w1 w2\r\n\xff\xfe\n\xef\xbb\xbf\nw3'
  with pytest.raises(ValueError, match=r'line 2 of the input is not UTF-8.*1 of 4'):
    translate_stream(finished, io.BytesIO(text), out, options=GREEDY)
  expected = _translate(finished, 'w1 w2\nw3\n', options=GREEDY).split('\n')
  assert out.getvalue().split('\n') == [expected[0], '', '', expected[1], '']


def test_a_byte_order_mark_changes_no_translation(finished):
  text = 'w1 w2\nw3\n'
  outcome = _translate(finished, f'\ufeff{text}', options=GREEDY)
  assert outcome == _translate(finished, text, options=GREEDY)


@pytest.mark.parametrize('text', ['', '\ufeff'])
def test_no_input_gives_no_output(finished, text):
  assert _translate(finished, text, options=GREEDY) == ''


def test_lines_without_visible_characters_are_blank(finished):
  text = '\u00a0\n\u3000\u200b\n\ufeff \x01\n'
  assert _translate(finished, text, options=GREEDY) == '\n\n\n'


def test_a_packed_input_is_named(finished):
  with pytest.raises(ValueError, match='the input is gzip'):
    translate_stream(finished, io.BytesIO(gzip.compress(b'w1')), io.StringIO())


def test_a_line_too_long_to_read_is_named_and_all_others_are_translated(finished):
  text = f'w1 w2\n{"w1 " * 70_000}\n{"x" * (1 << 21)}\nw3\n'
  out = io.StringIO()
  message = (
    r'line 2 of the input is 70,001 pieces long; .*line 3 of the input is 2,097,152 '
    r'characters long; .*2 of 4 lines'
  )
  with pytest.raises(ValueError, match=message):
    translate_stream(finished, io.BytesIO(text.encode()), out, options=GREEDY)
  expected = _translate(finished, 'w1 w2\n\n\nw3\n', options=GREEDY)
  assert out.getvalue() == expected


def test_lines_with_prefixes_are_continued(finished):
  options = dict(options={'beam': 2, 'min_length': 4}, prefix=True)
  out = _translate(finished, 'w1 w2\tw7 w8\nw3 w4\t\n\n', **options).split('\n')
  assert out[0].startswith('w7 w8 ')
  assert min(len(line.split()) for line in out[:2]) >= 4
  assert out[2:] == ['', '']
  with pytest.raises(
    ValueError, match=r'line 1 .* has 0 tabs: .* the first words of its'
  ):
    _translate(finished, 'w1 w2\n', **options)


def test_a_line_too_long_for_memory_is_named(finished, monkeypatch):
  monkeypatch.setattr('seqlab.tasks.translator.available_memory', lambda: 2e6)
  text = f'w1 w2\n{"w1 " * 400}\nw3\n'
  out = io.StringIO()
  message = 'line 2 of the input is 401 pieces long; its batch would take .*split the'
  with pytest.raises(ValueError, match=message):
    translate_stream(finished, io.BytesIO(text.encode()), out, options=GREEDY)
  assert out.getvalue() == _translate(finished, 'w1 w2\n\nw3\n', options=GREEDY)


@pytest.fixture
def _loads_nothing(monkeypatch):
  def fail(*_, **__):
    raise AssertionError('a checkpoint was loaded')

  for module in ('runs', 'translations'):
    monkeypatch.setattr(f'seqlab.use.{module}.restore', fail)


@pytest.mark.usefixtures('_loads_nothing')
@pytest.mark.parametrize(
  ('option', 'message'),
  [
    (['--beam', '0'], 'beam is 0; it must be at least 1'),
    (['--beam', '-2'], 'beam is -2; it must be at least 1'),
    (['--alpha', '-1'], 'alpha is -1.0; it must be at least 0'),
    (['--temperature', '0'], 'temperature is 0.0; it must be'),
    (['--temperature', '-1'], 'temperature is -1.0; it must be'),
    (['--temperature', 'nan'], 'temperature is nan; it must be a number'),
    (['--temperature', '1', '--beam', '2'], 'beam is 2; it must be 1, since sampling'),
    (['--top-k', '0'], 'top_k is 0; it must be at least 1'),
    (['--top-p', '0'], 'top_p is 0.0; it must be'),
    (['--top-p', '2'], 'top_p is 2.0; it must be'),
    (['--seed', '-1'], 'seed is -1; it must be'),
    (['--average', '0'], 'average is 0; it must be at least 1'),
    (['--average', '-1'], 'average is -1; it must be at least 1'),
  ],
)
@pytest.mark.parametrize('verb', ['translate', 'evaluate', 'compare'])
def test_options_outside_their_domains_are_named(
  verb, option, message, finished, capsys
):
  runs = [str(finished)] * (1 + (verb == 'compare'))
  assert main([verb, *runs, *option]) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.count('\n') == 1


@pytest.mark.usefixtures('_loads_nothing')
@pytest.mark.parametrize(
  'arguments',
  [
    *(['translate', 'RUN', '--n-best', n] for n in ('0', '-3')),
    *(['compare', 'RUN', 'RUN', name, '0'] for name in ('--samples', '--trials')),
    ['compare', 'RUN', 'RUN', '--bootstrap-seed', '-1'],
    ['score', 'RUN', '--average', '0'],
  ],
)
def test_counts_are_at_least_one(arguments, finished, capsys):
  assert main([str(finished) if x == 'RUN' else x for x in arguments]) == 1
  error = capsys.readouterr().err
  assert '; it must be at least' in error
  assert error.count('\n') == 1


def _scored_run(run, **options):
  return evaluate_translations(run, split='valid', options=GREEDY, **options)


def test_a_run_that_is_read_only_is_scored(run, capsys, monkeypatch):
  (run / 'evaluations.jsonl').unlink(missing_ok=True)
  (run / 'evaluations.jsonl').mkdir()  # as good as one that cannot be written
  result = _scored_run(run)
  out, error = capsys.readouterr()
  assert result['scores'][0]['signature'] in out
  assert 'this evaluation is not recorded there' in error


def test_an_incomplete_record_does_not_affect_later_ones(run):
  (run / 'evaluations.jsonl').write_text('{"split": "va')
  _scored_run(run)
  rows = (run / 'evaluations.jsonl').read_text('utf-8').splitlines()
  assert len(rows) == 2
  assert json.loads(rows[1])['split'] == 'valid'


def test_an_evaluation_has_the_dtype_of_each_evaluator(run):
  config = json.loads((run / 'config.json').read_text('utf-8'))
  valid = {'split': 'valid', 'shapes': 1}
  search = {'kind': 'translation', 'beam': 1, 'dtype': 'bfloat16'} | valid
  config['evals'] = {'valid': search, 'loss': {'kind': 'loss'} | valid}
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  assert evaluate_run(run)['dtypes'] == {'valid': 'bfloat16', 'loss': 'float32'}


def test_an_evaluation_is_kept_with_the_fingerprint_of_its_text(run):
  corpus = load_run(run)[1].corpus
  assert _scored_run(run)['text'] == corpus.fingerprint('valid')


def test_the_folder_of_the_output_is_created(run, tmp_path):
  _scored_run(run, output=tmp_path / 'new' / 'out.txt')
  assert len((tmp_path / 'new' / 'out.txt').read_text('utf-8').split('\n')) == 22


@pytest.mark.usefixtures('_loads_nothing')
def test_an_output_that_would_replace_an_input_is_refused(run, tmp_path):
  corpus = open_run(run)[1].corpus
  link = tmp_path / 'link'
  link.symlink_to(corpus.inputs()[0])
  for output, message in (
    (corpus.inputs()[0], 'is a file of the corpus'),
    (link, 'is a file of the corpus'),
    (tmp_path, 'is a folder'),
    (run / 'config.json', "one of the run's own files"),
  ):
    with pytest.raises((ValueError, OSError), match=message):
      _scored_run(run, output=output)


@pytest.mark.usefixtures('_loads_nothing')
def test_an_unknown_convention_is_refused_before_anything_is_translated(run):
  config = json.loads((run / 'config.json').read_text('utf-8'))
  config['corpus']['convention'] = '14a'
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  with pytest.raises(ValueError, match=r"corpus\.convention is '14a'; .*13a"):
    _scored_run(run)


def test_a_run_resumes_only_with_its_own_text(tiny, tmp_path):
  files = {s: [f'{tmp_path}/{s}.{x}' for x in ('en', 'de')] for s in ('train', 'valid')}
  for split, paths in files.items():
    for path, original in zip(paths, tiny['corpus']['files'][split], strict=True):
      shutil.copy(original, path)
  config = tiny | {'corpus': tiny['corpus'] | {'files': files}, 'steps': 1}
  train(config, tmp_path / 'run')
  train(config, tmp_path / 'run')
  for split in files:
    with open(files[split][0], 'a+b') as file:
      file.seek(0)
      text = file.read()
      file.truncate(0)
      file.write(text.replace(b'w1', b'w2'))
    with pytest.raises(ValueError, match=rf"'{split}' .*changed: .*{split}\.en"):
      train(config, tmp_path / 'run')
    Path(files[split][0]).write_bytes(text)
  train(config, tmp_path / 'run')


def test_a_run_refuses_a_vocabulary_that_was_edited(run):
  path = run / 'vocabulary' / 'shared.txt'
  words = path.read_text('utf-8').split('\n')
  path.write_text('\n'.join(words[::-1]), 'utf-8')
  with pytest.raises(ValueError, match=r'shared\.txt has changed since it was writ'):
    _translate(run, 'w1')
  (run / 'vocabulary' / 'digests.json').unlink()  # as in a run of an earlier version
  with pytest.raises(
    ValueError, match=r'vocabulary in .* is not the one that this run'
  ):
    _translate(run, 'w1\n', options=GREEDY)


def test_lines_end_at_newlines_alone(finished):
  text = 'w1\u2028w2\n'
  assert _translate(finished, text, options=GREEDY).count('\n') == 1


def test_n_best_lists_are_in_order_and_distinct(finished):
  text = _translate(finished, 'w1 w2 w3\n', n_best=3, options={'beam': 3})
  rows = [line.split(' ||| ') for line in text.splitlines()]
  assert [row[0] for row in rows] == ['0'] * 3
  values = [float(row[2]) for row in rows]
  assert values == sorted(values, reverse=True)
  assert len({row[1] for row in rows}) == 3


def test_more_outputs_than_the_beam_holds_are_refused(finished):
  for options, advice in (
    ({'beam': 2}, 'raise --beam'),
    ({'mbr': 2}, 'raise --mbr'),
    ({'temperature': 0.5}, 'search with --beam or --mbr'),
  ):
    with pytest.raises(ValueError, match=f'n_best is 3, and .*: {advice}$'):
      _translate(finished, 'w1\n', n_best=3, options=options)


def test_samples_depend_on_the_line_and_not_on_the_batch(finished):
  options = {'temperature': 1.0, 'seed': 3}
  text = ''.join(f'w{i} w{i + 1}\n' for i in range(6))
  together = _translate(finished, text, options=options).splitlines()
  first = _translate(finished, 'w0 w1\n', options=options).splitlines()
  assert together[0] == first[0]
  other = _translate(finished, text, options=options | {'seed': 4}).splitlines()
  assert together != other


def test_an_unknown_option_of_decoding_is_named(finished):
  with pytest.raises(ValueError, match=r"decoding\.beem; did you mean 'beam'"):
    _translate(finished, 'w1\n', options={'beem': 2})


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='is not a run'):
    load_run(tmp_path)


def test_on_device_evaluation_is_sacrebleu_of_the_text(finished):
  _, task, variables, _ = load_run(finished)
  sharding = batch_sharding(make_mesh(devices=1))
  evaluator = Evaluator(task=task, sharding=sharding, split='valid', beam=1, shapes=2)
  values = dict(evaluator.run(variables))
  hypotheses = io.StringIO()
  source, reference = task.corpus.read('valid')
  lines = io.BytesIO('\n'.join(source).encode())
  translate_stream(finished, lines, hypotheses, options=GREEDY)
  text = hypotheses.getvalue().splitlines()
  expected = sacrebleu.corpus_bleu(text, [reference], tokenize='13a').score
  assert values['bleu'] == pytest.approx(expected, rel=1e-5)
  assert 'tok:13a' in evaluator.about


def test_a_tokenizer_that_is_not_on_the_device_is_refused(finished):
  _, task, _, _ = load_run(finished)
  sharding = batch_sharding(make_mesh(devices=1))
  with pytest.raises(ValueError, match="tokenizer='ja-mecab' cannot be computed"):
    Evaluator(task=task, sharding=sharding, split='valid', tokenizer='ja-mecab')


def test_statistics_of_sentences_are_kept(run):
  result = evaluate_translations(run, split='valid', options=GREEDY)
  kept = np.load(Path(run) / 'evaluations' / 'valid.npz')
  assert kept['13a'].shape == (result['lines'], 10)
  evaluate_translations(run, split='valid', options=GREEDY, measures=['cer'])
  merged = np.load(Path(run) / 'evaluations' / 'valid.npz')
  np.testing.assert_array_equal(merged['13a'], kept['13a'])
  assert merged['cer'].shape == (result['lines'], 2)


def test_a_disagreement_with_sacrebleu_is_an_error(run, monkeypatch):
  def wrong(*args, **options):
    return corpus_statistics(*args, **options) + 1

  monkeypatch.setattr('seqlab.use.measures.corpus_statistics', wrong)
  with pytest.raises(ArithmeticError, match='by sacreBLEU of the text'):
    evaluate_translations(run, split='valid', options=GREEDY)


def test_runs_are_compared_on_their_split(run, capsys):
  outcome = compare_runs([run, run], split='valid', options=GREEDY)
  assert outcome[0].score == outcome[1].score
  assert outcome[1].p_value == 1
  assert 'baseline' in capsys.readouterr().out


def test_runs_are_compared_by_another_tokenizer(run, capsys):
  outcome = compare_runs([run, run], split='valid', options=GREEDY, tokenizer='char')
  kept = json.loads((run / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1])
  scores = {score['name']: score['score'] for score in kept['scores']}
  assert outcome[0].score == pytest.approx(scores['bleu (char)'], rel=1e-5)
  assert outcome[0].score != pytest.approx(scores['bleu (13a)'], rel=1e-3)
  assert 'tok:char' in ' '.join(capsys.readouterr().out.split())


def test_runs_are_compared_by_any_measure(run, capsys):
  options = dict(split='valid', options=GREEDY, samples=100, test='ar', trials=200)
  with pytest.raises(ValueError, match="measure is 'cerr'; it must be one of"):
    compare_runs([run, run], measure='cerr', **options)
  outcome = compare_runs([run, run], measure='cer', **options)
  assert outcome[1].p_value == 1
  assert 'cer (mean' in ' '.join(capsys.readouterr().out.split())
  kept = json.loads((run / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1])
  assert [x['name'] for x in kept['scores']] == ['cer']
  assert kept['scores'][0]['score'] == pytest.approx(outcome[0].score, rel=1e-6)


def test_the_measures_of_the_experiment_are_printed(run, capsys):
  """PER and the share of wrong lines, not BLEU, for words and pronunciations."""
  config = json.loads((run / 'config.json').read_text('utf-8'))
  valid = {'kind': 'outputs', 'split': 'valid', 'beam': 1}
  valid['measures'] = ['per', 'word_errors']
  config['evals'] = {'valid': valid}
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  scores = evaluate_translations(run, split='valid', options=GREEDY)['scores']
  own = evaluate_run(run)['scores']
  assert {f'valid/{x["name"]}': x['score'] for x in scores} == pytest.approx(own)
  assert own['valid/word_errors'] <= 1
  assert 'not exactly right' in ' '.join(capsys.readouterr().out.split())
  command = ['evaluate', str(run), '--split', 'valid', '--beam', '1']
  assert main([*command, '--measures', 'word_errors', 'bleu']) == 0
  kept = json.loads((run / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1])
  assert [x['name'] for x in kept['scores']] == ['word_errors', 'bleu (13a)', 'chrF']
  assert f'{own["valid/word_errors"]:.4f}' in capsys.readouterr().out


def test_bleu_is_that_of_the_evaluator(run):
  """Its tokeniser and its case; two evaluators that differ are refused."""
  config = json.loads((run / 'config.json').read_text('utf-8'))
  options = {'split': 'valid', 'beam': 1, 'tokenizer': 'char', 'lowercase': True}
  config['evals'] = {'valid': {'kind': 'translation', **options}}
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  result = evaluate_translations(run, split='valid', options=GREEDY)
  by_name = {score['name']: score for score in result['scores']}
  own = evaluate_run(run)['scores']['valid/bleu']
  assert by_name['bleu (char)']['score'] == pytest.approx(own, rel=1e-5)
  assert 'case:lc' in by_name['bleu (char)']['signature']
  config['evals']['other'] = {'kind': 'outputs', **options, 'measures': ['bleu']}
  config['evals']['other']['lowercase'] = False
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  message = r"evals\.valid and evals\.other measure 'bleu' with different options"
  with pytest.raises(ValueError, match=message):
    evaluate_translations(run, split='valid', options=GREEDY)


@pytest.fixture
def _translates_nothing(monkeypatch):
  def fail(*_):
    raise AssertionError('something was translated')

  monkeypatch.setattr('seqlab.tasks.translator.Translator.best_ids', fail)


@pytest.mark.usefixtures('_translates_nothing')
def test_different_references_are_found_before_anything_is_translated(run, tmp_path):
  other = shutil.copytree(run, tmp_path / 'other')
  config = json.loads((other / 'config.json').read_text('utf-8'))
  files = config['corpus']['files']
  files['valid'] = files['test']
  (other / 'config.json').write_text(json.dumps(config), 'utf-8')
  with pytest.raises(ValueError, match=r'other and .*run have different references'):
    compare_runs([run, run, other], split='valid')


@pytest.mark.usefixtures('_translates_nothing')
def test_a_tokenizer_without_a_device_is_refused_before_anything_is_translated(run):
  with pytest.raises(ValueError, match="tokenizer='zh' cannot be computed"):
    compare_runs([run, run], split='valid', tokenizer='zh')


def test_each_run_is_opened_and_read_once(run, monkeypatch):
  opened, read = [], []

  class Counting(Translation):
    def __init__(self, *args):
      opened.append(args)
      super().__init__(*args)
      examples_of = self.corpus._examples
      self.corpus._examples = lambda split: read.append(split) or examples_of(split)

  monkeypatch.setattr('seqlab.tasks.translation.Translation', Counting)
  compare_runs([run, run], split='valid', options=GREEDY)
  assert len(opened) == 2
  assert read == ['valid', 'valid']


def test_one_run_cannot_be_compared(finished):
  with pytest.raises(ValueError, match='needs two runs'):
    compare_runs([finished], split='valid')


@pytest.mark.slow
def test_on_device_evaluation_is_the_same_on_eight_devices(finished):
  _, task, variables, _ = load_run(finished)
  outcome = []
  for devices in (1, 8):
    mesh = make_mesh(devices=devices)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    placed = jax.device_put(variables, everywhere)
    evaluator = Evaluator(
      task=task, sharding=batch_sharding(mesh), split='valid', beam=2
    )
    outcome.append(dict(evaluator.run(placed)))
  np.testing.assert_allclose(*(list(f.values()) for f in outcome), rtol=1e-6)


def _scored(finished, text, **options):
  out = io.StringIO()
  score_stream(str(finished), io.BytesIO(text.encode()), out, **options)
  return [tuple(map(float, line.split('\t'))) for line in out.getvalue().splitlines()]


def test_scores_of_given_translations(finished):
  outcome = _scored(finished, 'w1 w2\tw2 w1\nw3\tw3\n')
  assert [pieces for _, pieces in outcome] == [3, 2]  # EOS included
  assert all(logp < 0 for logp, _ in outcome)


def test_an_ensemble_with_itself_scores_and_translates_as_it_does_alone(finished):
  text = 'w1 w2\tw2 w1\n'
  again = {'ensemble': [str(finished)]}
  np.testing.assert_allclose(
    _scored(finished, text, **again), _scored(finished, text), atol=1e-3
  )
  outputs = []
  for ensemble in ({}, again):
    out = io.StringIO()
    lines = io.BytesIO(b'w1 w2 w3\nw4 w5\n')
    translate_stream(str(finished), lines, out, options={'beam': 2}, **ensemble)
    outputs.append(out.getvalue())
  assert outputs[0] == outputs[1]


def test_lines_that_cannot_be_scored_are_named_and_all_others_are_scored(finished):
  out = io.StringIO()
  text = f'w1 w2\tw2 w1\nc\n{"w1 " * 70_000}\tw1\nw3\tw3\n'
  message = r'line 2 of the input has 0 tabs.*line 3 of the input has a source that is'
  with pytest.raises(ValueError, match=message):
    score_stream(str(finished), io.BytesIO(text.encode()), out)
  lines = out.getvalue().split('\n')
  assert lines[1:3] == ['', '']
  assert [lines[0][-2:], lines[3][-2:]] == ['\t3', '\t2']


def test_an_ensemble_needs_the_same_vocabularies(finished, tiny, tmp_path):
  other = tiny | {'vocabulary': {'kind': 'word', 'size': 9, 'shared': True}, 'steps': 1}
  train(other | {'evals': {}, 'keep_best': None}, tmp_path)
  with pytest.raises(ValueError, match='has other vocabularies'):
    _scored(finished, 'a\tb\n', ensemble=[str(tmp_path)])
