"""The functions that `import seqlab` offers."""

import gc
import importlib.util
from pathlib import Path
import subprocess
import sys
import weakref

import numpy as np
import pytest
import sacrebleu

import seqlab

HYPOTHESES = ['the cat sat on the mat today', 'a dog', '']
REFERENCES = ['the cat sat on a mat today .', 'a dog barks', 'nothing']


def test_the_import_needs_no_jax():
  code = 'import sys, seqlab; dir(seqlab); sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize('name', sorted({*seqlab.__all__} - {'__version__'}))
def test_no_function_hides_a_module(name):
  assert importlib.util.find_spec(f'seqlab.{name}') is None
  assert callable(getattr(seqlab, name))


def test_an_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match="'seqlab' has no attribute 'blue'"):
    seqlab.blue  # noqa: B018


@pytest.mark.parametrize('sets', [1, 2])
def test_bleu_is_that_of_sacrebleu(sets):
  references = [REFERENCES, HYPOTHESES[::-1]][:sets]
  result = seqlab.bleu(HYPOTHESES, references if sets > 1 else REFERENCES)
  metric = sacrebleu.BLEU()
  expected = metric.corpus_score(HYPOTHESES, references)
  assert result.score == pytest.approx(expected.score, abs=1e-9)
  assert result.counts == expected.counts
  assert result.signature == str(metric.get_signature())


@pytest.mark.parametrize(
  ('sides', 'message'),
  [
    ((['a'], ['a', 'b']), 'hypotheses has 1 lines and references 1 has 2'),
    (([], []), 'has no lines'),
    ((['a', 3], ['a', 'b']), r"hypotheses is \['a', 3\]"),
  ],
)
def test_bleu_refuses_what_cannot_be_compared(sides, message):
  with pytest.raises(ValueError, match=message):
    seqlab.bleu(*sides)


@pytest.fixture(scope='module')
def run(finished):
  return seqlab.load(finished)


def test_translations_are_those_of_the_command(run, finished, capsys, monkeypatch):
  from seqlab.use.streams import translate_stream

  lines = ['w1 w2 w3', '', 'w4']
  path = finished.parent / 'lines.txt'
  path.write_text('\n'.join(lines) + '\n')
  with path.open('rb') as file:
    translate_stream(finished, file, sys.stdout, options=dict(beam=2))
  assert run.translate(lines, beam=2) == capsys.readouterr().out.splitlines()


def test_scores_are_log_probabilities_of_all_pieces(run):
  (score,) = run.score(['w1 w2'], ['w2 w1'])
  translator = run._translator({'beam': 1})
  (best,) = translator.n_best(['w1 w2'])
  (raw,) = run.score(['w1 w2'], [best[0][0]])
  assert raw >= score
  with pytest.raises(ValueError, match='2 sources and 1 targets'):
    run.score(['a', 'b'], ['c'])


def test_attention_sums_to_one_over_the_source(run):
  attention = run.attention('w1 w2', 'w2')
  assert attention.sides['source'].tokens == ['w1', 'w2', '</s>']
  assert attention.sides['target'].tokens == ['w2', '</s>']
  cross = attention.maps['cross'].weights
  assert cross.shape == (1, 2, 2, 3)
  np.testing.assert_allclose(cross.sum(axis=-1), 1.0, rtol=1e-5)


def test_what_a_task_cannot_do_is_refused(run):
  with pytest.raises(ValueError, match='cannot give word vectors'):
    run.vectors()
  with pytest.raises(ValueError, match='beem'):
    run.translate(['w1'], beem=3)


@pytest.mark.parametrize(
  'call',
  [
    lambda run: run.translate('a sentence'),
    lambda run: run.score('a', 'b'),
    lambda run: run.attention(['a'], ['b']),
  ],
)
def test_one_sentence_is_not_taken_for_a_list_of_sentences(run, call):
  with pytest.raises(ValueError, match=r'must be a (list|text)'):
    call(run)


def test_a_run_resumes_with_other_options(tiny, tmp_path):
  config = tiny | {'steps': 2, 'evals': {}, 'keep_best': None}
  assert seqlab.run(config, tmp_path / 'run').steps == [2]
  run = seqlab.run(config | {'steps': 3}, tmp_path / 'run', force=True)
  assert run.steps == [3]


def test_overrides_are_options_by_name(tmp_path):
  path = 'experiments/agreement/transformer.py'
  config = seqlab.load_experiment(path, {'hyper.peak': 0.5, 'optimizer': 'muon'})
  assert (config['hyper']['peak'], config['optimizer']) == (0.5, 'muon')
  with pytest.raises(ValueError, match='overrides are for a file'):
    seqlab.run(config, tmp_path, overrides={'seed': 1})


def test_translators_are_kept_for_any_options_and_end_with_the_run(finished):
  run = seqlab.load(finished)
  options = dict(decoding={'kind': 'greedy'})  # a dict, which has no hash
  assert len(run.translate(['w1'], **options)) == 1
  assert run._translator(options) is run._translator(options)
  run, alive = None, weakref.ref(run)
  gc.collect()
  assert alive() is None


def test_overrides_may_be_scalars_of_numpy_and_paths():
  path = 'experiments/agreement/transformer.py'
  overrides = {
    'hyper.peak': np.float64(0.5),
    'steps': np.int32(4),
    'keep_best': Path('valid') / 'bleu',
  }
  config = seqlab.load_experiment(path, overrides)
  assert (config['hyper']['peak'], config['steps']) == (0.5, 4)
  assert config['keep_best'] == 'valid/bleu'
