"""Reports of runs: known answers of their parts, and the page as a whole."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from seqlab.cli import main
from seqlab.metrics.measures import Exact
from seqlab.pages import report
from seqlab.pages.breakdown import (
  frequency_groups,
  length_groups,
  scores_by_group,
  word_accuracy,
  word_counts,
)
from seqlab.pages.charts import Point, bar_chart, legend, line_chart
from seqlab.pages.curves import curves_section
from seqlab.pages.facts import facts_section
from seqlab.pages.report import report_page, write_report
from seqlab.pages.samples import Sample, read_samples, samples_table
from seqlab.pages.scores import Recorded, scores_section, shared_score
from seqlab.report.runs import read_run
from seqlab.tasks.interface import Attended, AttentionMap, Side
from seqlab.train.device import peak_memory
from seqlab.use.attention import Shown
from seqlab.use.outputs import Outputs
from seqlab.use.refused import RefusedLines


def test_lines_are_divided_by_length_into_groups_of_about_the_same_size():
  groups = length_groups([1, 2, 3, 4, 5, 6, 7, 8, 9, 30])
  assert list(groups) == ['1-2', '3-4', '5-6', '7-8', '9-30']
  assert all(inside.sum() == 2 for inside in groups.values())
  assert list(length_groups([3, 3, 3, 4])) == ['3', '4']


def test_groups_have_the_score_of_their_lines():
  statistics = np.array([[1, 1], [0, 1], [1, 1]])
  groups = {'a': np.array([True, True, False]), 'b': np.array([False, False, True])}
  scores = scores_by_group(groups, statistics, lambda x: x[0] / x[1])
  assert scores == {'a': 0.5, 'b': 1.0}


def test_words_are_grouped_by_their_count_in_the_training_text():
  lines = [['often'] * 7, ['rare', 'often'], ['mid'] * 3]
  group = frequency_groups(word_counts(lines))
  found = [group(word) for word in ('new', 'rare', 'mid', 'often')]
  assert found == ['0', '1', '3', '5-9']
  assert frequency_groups({'x': 10**6})('x') == '1000+'


def test_accuracy_of_words_counts_each_occurrence_once():
  group = {'the': 'b', 'cat': 'a', 'dog': 'a'}.get
  accuracy = word_accuracy(
    [['the', 'the', 'cat'], ['dog']],
    [['the', 'cat', 'cat'], ['cat']],
    lambda word: {'a': '1', 'b': '1000+'}[group(word)],
  )
  # 'the' is once right, of two and one; 'cat' and 'dog' once right, of two and three.
  assert accuracy == {'1': 2 / 5, '1000+': 2 / 3}
  assert list(accuracy) == ['1', '1000+']


def test_samples_of_an_evaluator_are_read():
  text = '< a\n= b\n= c\n> d\n\n< e\n= f\n> \n'
  assert read_samples(text) == [
    Sample(1, 'a', ['b', 'c'], ['d']),
    Sample(2, 'e', ['f'], ['']),
  ]


def test_outputs_without_a_reference_are_read_beside_what_they_belong_to():
  text = 'of: in 0.67, on: 0.60\n: a 0.1\nfree text\n< a\n= b\n> d\n'
  assert read_samples(text) == [
    Sample(1, 'of', [], ['in 0.67, on: 0.60']),
    Sample(2, '', [], ['a 0.1']),
    Sample(3, '', [], ['free text']),
    Sample(4, 'a', ['b'], ['d']),
  ]
  shown = samples_table(read_samples(text)[:1], ['run'])
  assert '<span dir="auto">in 0.67, on: 0.60</span>' in shown
  assert 'reference' not in shown
  assert '<ins>' not in shown


def test_characters_of_single_words_are_marked():
  text = samples_table([Sample(1, 'gehen', ['gegangen'], ['gegingt'])], ['run'])
  assert 'geg<del>a</del>ng<del>en</del>' in text
  assert 'geg<ins>i</ins>ng<ins>t</ins>' in text
  text = samples_table([Sample(1, 'x', ['K AE T'], ['K T'])], ['run'])
  assert 'K <del>AE</del> T' in text
  assert '<ins>' not in text


def test_what_was_measured_once_is_a_number_and_no_curve(make_run):
  runs = [read_run(make_run(f'{seed}', seed, np.ones(8, int))) for seed in (0, 1)]
  for value, run in enumerate(runs):
    run.rows[-1]['words/rare'] = 0.25 + 0.5 * value
  text = ''.join(curves_section({'a': runs, 'b': [runs[0]]}))
  assert '<title>words/rare' not in text
  assert 'words/rare</td><td dir="auto">0.5 ± 0.35</td><td dir="auto">0.25</td>' in text
  assert '<title>valid/exact' in text


def test_the_last_point_of_a_long_curve_is_a_mean_too(make_run):
  run = read_run(make_run('run', 0, np.ones(8, int)))
  run.rows[:] = [{'step': i, 'loss': float(i % 2)} for i in range(1, 1_201)]
  text = ''.join(curves_section({'run': [run]}))
  assert '<title>loss. run: 0.5 at step' in text  # of 10 steps, as each point


def test_each_evaluator_of_a_run_shows_its_newest_samples(make_run):
  runs = [read_run(make_run(name, 0, np.array([1, 0] * 4))) for name in ('a', 'b')]
  for run in runs:
    (run.path / 'evaluations.jsonl').unlink()
    samples = run.path / 'samples'
    samples.mkdir()
    (samples / 'valid-00000001.txt').write_text('< s\n= old\n> old\n')
    (samples / 'valid-00000002.txt').write_text('< s\n= new\n> newer\n')
    (samples / 'words-2-00000001.txt').write_text(f'of: neighbours of {run.path.name}')
  text = report_page(runs, {run.path: run.path.name for run in runs})
  assert text.count('class="samples"') == 2  # both runs are in each list
  assert '<h3>valid, step 2</h3>' in text
  assert '<h3>words-2, step 1</h3>' in text
  assert 'old' not in text
  assert 'neighbours of b' in text
  (runs[0].path / 'samples/valid-00000003.txt').write_text('< s\n= new\n> last\n')
  text = report_page(runs, {run.path: run.path.name for run in runs})
  assert '<h3>valid</h3>' in text
  assert '<dt>a, step 3</dt>' in text
  assert '<dt>b, step 2</dt>' in text


def test_differences_from_the_nearest_reference_are_marked_and_escaped():
  sample = Sample(7, 'x y', ['far', 'the old <b> cat'], ['the new <b> cat'], [12.34])
  text = samples_table([sample], ['run'])
  assert 'the <del>old</del> &lt;b&gt; cat' in text
  assert 'the <ins>new</ins> &lt;b&gt; cat' in text
  assert 'far' not in text
  assert 'value="7" data-number="7" data-length="2" data-score0="12.34"' in text


def test_charts_describe_themselves_in_words():
  lines = {'a': [Point(0, 1.0, 0.1), Point(10, 3.0, 0.2)], 'b': [Point(5, 2.0)]}
  text = line_chart('loss', lines)
  assert '<title>loss. a: 3 at step 10, b: 2 at step 5</title>' in text
  assert text.count('class="band') == 1
  assert '<circle' in text  # a line of one point
  assert 'nan' not in line_chart('x', {'a': [Point(1, 0.0)]})


def test_the_number_of_the_last_tick_ends_inside_the_drawing():
  text = line_chart('loss', {'a': [Point(0, 1.0), Point(2_000, 2.0)]})
  assert re.search(r'text-anchor="end"[^>]*>2,?000<', text)
  assert re.search(r'text-anchor="middle"[^>]*>1,?000<', text)
  text = bar_chart('F1', {'a': {'0': 0.25, '1+': math.nan}}, xlabel='count')
  assert text.count('<rect') == 1
  assert 'details' not in text
  assert legend(['one']) == ''


def test_thirty_six_lines_differ_by_colour_and_dashes():
  text = legend([str(i) for i in range(36)])
  styles = re.findall(r'class="line (c\d) (d\d)"', text)
  assert styles[0] == ('c0', 'd0')
  assert styles[6] == ('c0', 'd1')
  assert len(set(styles)) == 36


def test_narrow_bars_have_a_table_of_their_values():
  bars = {f'run {i}': {'0': i / 8, '1+': 0.25} for i in range(9)}
  text = bar_chart('F1', bars, xlabel='count')
  assert '<td dir="auto">run 7</td><td dir="auto">0.875</td>' in text


@pytest.fixture
def make_run(tmp_path):
  """make_run(name, seed, right): a run with metrics and an evaluation, by hand."""

  def make(name, seed, right, **config):
    folder = tmp_path / name
    (folder / 'evaluations').mkdir(parents=True)
    config = {'seed': seed, 'steps': 2, 'corpus': {'kind': '<k>'}} | config
    (folder / 'config.json').write_text(json.dumps(config))
    rows = [{'step': i, 'loss': 1.0 / i + seed, 'valid/exact': 0.5} for i in (1, 2)]
    (folder / 'metrics.jsonl').write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
    statistics = np.stack([right, np.ones(len(right), int)], axis=1)
    score = {'name': 'exact', 'score': float(np.mean(right)), 'signature': 's<i>g'}
    record = {'split': 'test', 'lines': 8, 'scores': [score], 'steps': [2], 'text': 't'}
    record['search'] = {'kind': 'mbr', 'mbr': 9, 'beam': 1}
    lines = f'{{"split": "te\n{json.dumps(record)}\n'  # the first is incomplete
    (folder / 'evaluations.jsonl').write_text(lines)
    np.savez(folder / 'evaluations' / 'test.npz', exact=statistics)
    return folder

  return make


def test_a_report_has_intervals_and_paired_tests(make_run, tmp_path):
  one = make_run('one', 0, np.array([1, 0] * 4))
  two = make_run('two', 1, np.array([1, 1] * 4))
  text = write_report([one, two], tmp_path / 'report').read_text('utf-8')
  assert Exact().score(np.array([4, 8])) == 0.5
  assert '<td dir="auto">0.5000</td><td dir="auto">0.' in text  # and its interval
  assert '+0.5</td>' in text
  assert 'baseline' in text
  assert 'mbr 9; checkpoints' in text
  assert 'decoded with different options' not in text
  assert 'class="legend"' not in text  # of a single group
  assert 'class="band c0 d0"' in text  # of two seeds
  assert '&lt;k&gt;' in text
  assert '<k>' not in text
  assert 'http:' not in text


def test_the_peak_of_memory_of_a_run_is_shown(make_run):
  run = make_run('run', 0, [1])
  rows = [{'step': i, 'loss': 1.0} | peak_memory() for i in (1, 2)]
  rows[0]['speed/peak_process_bytes'] = 1_000_000_000
  rows[1]['speed/peak_process_bytes'] = 2_345_000_000
  (run / 'metrics.jsonl').write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
  text = ''.join(facts_section([read_run(run)]))
  assert '<dt>peak of memory</dt><dd dir="auto">2.35 GB of the process</dd>' in text


def _recorded(right, *scores, **search):
  statistics = np.stack([right, np.ones(len(right), int)], axis=1)
  scores = [dict(name=name, score=x, signature='') for name, x in scores]
  record = dict(scores=scores, search=search, text='t')
  return Recorded(record, {'exact': statistics})


def test_scores_are_compared_only_by_their_own_integers():
  first = _recorded([1, 0], ('exact', 0.5))
  assert shared_score([first, _recorded([1, 1], ('exact', 1.0))]).name == 'exact'
  # The integers are of another evaluation, or of one that did not measure it.
  assert shared_score([first, _recorded([1, 1], ('exact', 0.5))]) is None
  assert shared_score([first, _recorded([1, 1], ('bleu (13a)', 1.0))]) is None


def test_runs_that_were_decoded_differently_are_named():
  first = _recorded([1, 0] * 4, ('exact', 0.5), kind='beam', beam=5, alpha=0.6)
  second = _recorded([1, 1] * 4, ('exact', 1.0), kind='beam', beam=1, alpha=0.6)
  text = ''.join(scores_section({'a': {'test': first}, 'b': {'test': second}}))
  assert 'different options: a with beam 5; b with beam 1.' in text


def test_attention_that_is_too_large_or_absent_leaves_a_sentence(make_run):
  run = read_run(make_run('run', 0, np.array([1, 0] * 4)))
  weights = np.broadcast_to(np.float32(0), (6, 8, 110, 110))
  side = Side(['x'] * 110, [*range(110)])
  attended = Attended({'x': side}, {'cross': AttentionMap(weights, 'x', 'x')})
  shown = Shown('runs/run', [2], {}, True, attended)
  text = report_page([run], {run.path: 'run'}, attention=shown)
  assert len(text) < 100_000
  assert '3.1 MB, and this page holds 3.0 MB: <code>seqlab attend runs/run' in text
  text = report_page([run], {run.path: 'run'}, attention='the model (M) has none')
  assert 'Attention is not shown: the model (M) has none.' in text


def test_a_report_of_different_experiments_names_what_differs(make_run):
  runs = []
  for n in (1, 2):
    folder = make_run(f'{n}/run', 0, np.array([1, 0] * 4), model={'layers': n})
    (folder / 'evaluations.jsonl').unlink()
    runs.append(read_run(folder))
  text = report_page(runs, {run.path: f'{run.path.parent.name}/run' for run in runs})
  assert 'layers=1' in text
  assert 'layers=2' in text
  assert 'No split has been decoded' in text


@pytest.mark.parametrize('training', [['the cat'] * 5, None])
def test_outputs_of_a_split_are_shown_with_breakdowns(make_run, training):
  run = read_run(make_run('run', 0, np.array([1, 0] * 4)))
  sources = [f'source {i}' for i in range(8)]
  references = [('the cat', 'a cat')] * 8
  hypotheses = {str(run.path): ['the cat', 'a dog'] * 4}
  outputs = Outputs(sources, references, hypotheses, training, '13a')
  text = report_page([run], {run.path: 'run'}, 'test', outputs, samples=3)
  assert '3 of 8 lines of test' in text
  # The folder has the integers of the measure 'exact'; all references have two words.
  assert 'exact by words of the reference. run: 2 0.5' in text
  assert text.count('<li ') == 3
  assert '<ins>dog</ins>' in text  # beside its nearest reference
  if training is None:
    assert 'The training text is not on this machine' in text
  else:
    # 8 of 8 and of 16 words 'the' and 'cat' are right; 'a' and 'dog' are new.
    assert 'run: 0 0, 5-9 0.6667' in text


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--output', 'FILE'], 'name a folder'),
    (['--output', 'new', '--max-length', '1', '2'], '--max-length has an effect only'),
    (['--output', 'new', '--average', '3'], '--average has an effect only where'),
    (['--output', 'new', '--choose', 'best'], '--choose has an effect only where'),
  ],
)
def test_wrong_options_of_a_report_are_errors(options, message, tmp_path, capsys):
  (tmp_path / 'file').touch()
  options = [str(tmp_path / 'file') if x == 'FILE' else x for x in options]
  assert main(['report', str(tmp_path), *options]) == 1
  assert message in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_an_error_before_a_split_is_translated(
  make_run, tmp_path
):
  run = make_run('run', 0, [1, 0])  # whose split cannot be translated at all
  (tmp_path / 'file').touch()
  with pytest.raises(NotADirectoryError):
    write_report([run], tmp_path / 'file' / 'new', split='test')


def test_lines_that_cannot_be_translated_are_an_error_once_the_page_is_written(
  make_run, tmp_path, monkeypatch
):
  run, refused = make_run('run', 0, [1, 0]), RefusedLines('line', "split 'test'")
  refused.add(0, 2, {1: 'is too long'})
  outputs = Outputs(
    ['a', 'b'], [('x',), ('y',)], {str(run): ['x', '']}, None, 'none', [refused]
  )
  monkeypatch.setattr(report, 'outputs_of', lambda *_, **__: outputs)
  monkeypatch.setattr(report, 'attend_run', lambda *_, **__: _raise(ValueError('none')))
  with pytest.raises(
    ValueError, match=r"line 2 of split 'test' is too long .*as empty"
  ):
    write_report([run], tmp_path / 'new', split='test')
  assert '2 lines of test' in (tmp_path / 'new' / 'index.html').read_text('utf-8')


def _raise(error):
  raise error


@pytest.mark.slow
def test_a_report_that_translates_works_in_a_browser(finished, chromium, tmp_path):
  runs = [shutil.copytree(finished, tmp_path / name) for name in ('one', 'two')]
  output = tmp_path / 'report'
  words = ['report', *map(str, runs), '--split', 'test', '--beam', '1']
  assert main([*words, '--output', str(output)]) == 0
  for run in runs:
    assert (run / 'evaluations.jsonl').is_file()
  page = chromium
  for options in ({}, {'dark': True}, {'width': 390}):
    page.open(output / 'index.html', **options)
    page.run("document.querySelectorAll('details').forEach(x => { x.open = true; })")
    assert page.faint_texts() == []
    assert page.run('document.documentElement.scrollWidth <= innerWidth')
  assert page.run("document.querySelectorAll('.samples > li').length") == 13
  assert page.run("document.querySelectorAll('.attention-tokens button').length") > 2
  scores = "[...document.querySelectorAll('.samples > li')].map(x => +x.dataset.score0)"
  page.run("document.querySelector('[data-sort=score0]').focus()")
  page.press('Enter')
  rising = page.run(scores)
  assert rising == sorted(rising)
  page.press('Enter')
  assert page.run(scores) == sorted(rising, reverse=True)
  assert page.errors == []
