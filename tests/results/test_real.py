"""`seqlab reproduce` with a real training and real evaluations."""

from pathlib import Path

from seqlab.cli import main
from seqlab.results.commands import Commands
from seqlab.results.records import read_lines

FIELDS = "value=2.0, of='A', url='https://a.org', tolerance=50.0, seeds=1"


def test_a_run_is_trained_and_evaluated_by_a_search_and_by_its_evaluator(
  tiny, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  called = []

  def run(self, words, log=None):
    called.append(words[0])
    return main(words)

  monkeypatch.setattr(Commands, 'run', run)
  Path('mine.py').write_text(
    'from ml_collections import ConfigDict\n'
    'from seqlab.results import Row\n\n\n'
    f'def get_config(arg=None):\n  return ConfigDict({tiny!r})\n\n\n'
    f"PAPER = [Row(metric='test/bleu', evaluate='--beam 1', {FIELDS}), "
    f"Row(metric='valid/bleu', evaluate='--evals valid', {FIELDS})]\n"
  )
  assert main(['reproduce', 'mine.py']) == 0
  assert called == ['train', 'evaluate', 'evaluate']
  lines = read_lines(Path('docs/results/mine.jsonl'))
  assert [x['line'] for x in lines] == ['seed', 'seed', 'verdict', 'verdict']
  assert lines[0]['steps'] == lines[1]['steps'] == [tiny['steps']]
  assert lines[0]['value'] == lines[0]['evaluation']['scores'][0]['score']
  assert {*lines[0]['data']} == {'train', 'valid', 'test'}
  assert lines[0]['dtype'] == 'float32'
  assert lines[0]['training_seconds'] > 0
  out = capsys.readouterr().out
  assert 'paper: test/bleu 2 (A); `seqlab evaluate runs/reproduce/mine' in out
  assert 'paper: test/bleu 2 (A); this run: ' in out
  assert main(['reproduce', 'mine.py']) == 0
  assert len(called) == 3
  assert 'on record in docs/results' in capsys.readouterr().out
