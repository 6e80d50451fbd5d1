"""Reports of the lecture's studies, from small real runs of their trials."""

from pathlib import Path
import statistics

import pytest

from seqlab.experiment import load_experiment, load_module
from seqlab.report.runs import read_run
from seqlab.train.loop import train

FOLDER = Path(__file__).parents[1] / 'experiments' / 'lecture'
# Study -> trials by the label of their row: arguments, overrides; then figures, and a
# column of the first table with the metric that it shows.
STUDIES = {
  'architectures': (
    {
      'GRU, one vector': 'model=gru',
      'GRU with attention': 'model=gru-attention',
      'Transformer': 'model=transformer',
    },
    ('bleu-by-updates',),
    ('BLEU, valid', 'valid/bleu'),
  ),
  'boundaries': (
    {
      'nothing': 'without=nothing',
      'BOS (an ordinary token)': 'without=start',
      "the target's EOS": 'without=target-end',
    },
    ('bleu',),
    ('length ratio', 'test/length_ratio'),
  ),
  'covariate_shift': (
    {
      'none': 'norm=none',
      'batch': 'norm=batch',
      'batch, then noise': 'norm=noisy',
      'batch without both': 'norm=neither',
    },
    ('drift', 'training-loss'),
    ('cross-entropy, test', 'test/nll'),
  ),
  'forgetting': (
    {
      'one vector': 'context=vector',
      'one vector, source reversed': 'context=reversed',
      'uniform attention': 'context=uniform',
      'attention': 'context=attention',
    },
    ('bleu-by-length', 'probe-by-position'),
    ('BLEU, test', 'test/bleu'),
  ),
  'mask': (
    {'with the mask': 'mask=yes', 'without it': 'mask=no'},
    ('loss', 'bleu'),
    ('BLEU', 'test/bleu'),
  ),
  'norm_placement': (
    {
      'before (pre-norm), no': 'norm=pre,warmup=no',
      'after (post-norm), yes': 'norm=post',
    },
    ('by-rate', 'training-loss'),
    ('cross-entropy, test', 'test/nll'),
  ),
  'normalization': (
    {
      'layer, 1': 'sentences=1',
      'batch in both, 1': 'kind=batch,sentences=1',
      'batch in the encoder, layer in the decoder, 2': 'kind=encoder,sentences=2',
    },
    ('cross-entropy', 'gap'),
    ('gap', 'statistics/gap'),
  ),
  'padding': (
    {
      'padded, yes': 'rows=padded',
      'padded, no': 'rows=padded,masked=no',
      'packed, no': 'rows=packed,masked=no',
    },
    ('bleu',),
    ('BLEU, several shapes', 'tight/bleu'),
  ),
  'heads': (
    {'1': 'heads=1', '8': 'heads=8', '8, before training': 'trained=no'},
    ('bleu', 'roles-cross', 'roles-decoder', 'looks-cross', 'lost-decoder', 'map'),
    ('BLEU, test', 'test/bleu'),
  ),
  'positions': (
    {'alibi, short': 'positions=alibi,trained=short', 'alibi, all': 'positions=alibi'},
    ('bleu-trained-on-short', 'bleu-trained-on-all'),
    ('BLEU, all words', 'test/bleu'),
  ),
  'projections': (
    {
      'full': 'variant=full',
      'no W_V': 'variant=no_value',
      'W_Q = W_K = W_V': 'variant=one_matrix',
      'concatenation without √D': 'variant=concatenation_unscaled',
    },
    ('bleu',),
    ('perplexity, test', 'loss/perplexity'),
  ),
  'self_attention': (
    {
      'text: GRU': 'model=text-gru',
      'text: 2 layers, window 2': 'model=w2-l2',
      'Transformer': 'model=transformer',
    },
    ('endings-text', 'endings-translation'),
    ('perplexity, valid', 'valid/perplexity'),
  ),
  'scores': (
    {'uniform': 'score=uniform', 'location': 'score=location', 'dot': 'score=dot'},
    ('bleu',),
    ('perplexity, test', 'loss/perplexity'),
  ),
  'sentences': (
    {'one vector': 'context=vector', 'attention': 'context=attention'},
    ('nearer', 'map-vector', 'map-attention'),
    ('BLEU, test', 'test/bleu'),
  ),
  'teacher_forcing': (
    {
      'recurrent, teacher forcing': 'sampling=none',
      'recurrent, inverse sigmoid rise': 'sampling=sigmoid',
      'transformer, linear rise': 'model=transformer,sampling=linear',
    },
    ('repairs', 'after-an-error'),
    ('perplexity, true prefix', 'loss/perplexity'),
  ),
}


def _first_table(text):
  """Returns the rows of the first table: label -> title of the column -> text."""
  lines = [line.strip('|').split('|') for line in text.split('\n\n')[0].splitlines()]
  titles, _, *rows = [[cell.strip(' *') for cell in line] for line in lines]
  cells = [dict(zip(titles, row, strict=True)) for row in rows]
  keys = titles[: titles.index('peak')]
  return {', '.join(row[key] for key in keys): row for row in cells}


@pytest.mark.slow
@pytest.mark.parametrize('name', STUDIES)
def test_a_report_has_a_row_per_variant_with_the_means_of_its_runs(name, tmp_path):
  variants, figures, (column, metric) = STUDIES[name]
  runs = {}
  for label, arg in variants.items():
    for seed in (0, 1):
      folder = tmp_path / f'{arg}-{seed}'
      # Eight pretended devices wait for each other, and starve on a busy machine.
      options = (f'seed={seed}', 'mesh.data=1', 'mesh.devices=1')
      overrides = [f'--config.{option}' for option in options]
      train(load_experiment(f'{FOLDER / name}.py:{arg},smoke', overrides), folder)
      runs.setdefault(label, []).append(read_run(folder))
  report = tmp_path / 'report'
  report.mkdir()
  module = load_module(FOLDER / f'{name}.py')
  module.report([run for members in runs.values() for run in members], report)

  rows = _first_table((report / 'table.md').read_text('utf-8'))
  assert [*rows] == [*variants]
  for label, members in runs.items():
    expected = statistics.fmean(run.final(metric) for run in members)
    shown = float(rows[label][column].split(' ± ')[0].strip('* '))
    assert shown == pytest.approx(expected, rel=2e-3, abs=6e-2)
    assert rows[label]['n'] == '2'
  for figure in figures:
    assert {(report / f'{figure}.{kind}').is_file() for kind in ('png', 'svg')} == {
      True
    }
