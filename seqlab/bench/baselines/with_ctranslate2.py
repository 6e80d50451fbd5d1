"""CTranslate2's beam search, with the weights of seqlab's model."""

from pathlib import Path
import tempfile

import ctranslate2
import numpy as np

from seqlab.export.ctranslate2 import save_model


class Decoding:
  """Translation of sentences by CTranslate2."""

  def __init__(self, job):
    """Converts the model, and translates once.

    Args:
      job: `parameters`, `sizes`, `source_tokens`, `target_tokens`, `sentences` (ids
        without EOS), `beam`, `forced_length` or None, `max_length`, `compute_type`,
        `workers`, `threads`, and `batch`, the number of sentences in a batch.
    """
    self._tokens = job['target_tokens']
    self._sentences = [
      [job['source_tokens'][i] for i in sentence] for sentence in job['sentences']
    ]
    forced = job['forced_length']
    self._options = dict(
      beam_size=job['beam'],
      length_penalty=0,
      max_batch_size=job['batch'],
      min_decoding_length=forced or 1,
      max_decoding_length=forced or job['max_length'],
    )
    with np.load(job['parameters']) as file:
      arrays = dict(file)
    self._parameters = sum(x.size for name, x in arrays.items() if '/' in name)
    self._threads = job['workers'], job['threads']
    with tempfile.TemporaryDirectory() as name:
      folder = Path(name) / 'model'
      save_model(
        folder,
        arrays,
        heads=job['sizes']['heads'],
        positions=arrays.pop('positions'),
        source_tokens=job['source_tokens'],
        target_tokens=job['target_tokens'],
      )
      self._translator = ctranslate2.Translator(
        str(folder),
        compute_type=job['compute_type'],
        inter_threads=job['workers'],
        intra_threads=job['threads'],
      )
    self.step()

  def facts(self):
    """Returns what the record says about this contender."""
    workers, threads = self._threads
    return {
      'versions': {'ctranslate2': ctranslate2.__version__},
      'threads': workers * threads,
      'parameters': self._parameters,
    }

  def step(self):
    """Translates all sentences; returns their number."""
    self._translator.translate_batch(self._sentences, **self._options)
    return len(self._sentences)

  def outputs(self):
    """Returns the ids of the best output of each sentence."""
    ids = {token: i for i, token in enumerate(self._tokens)}
    results = self._translator.translate_batch(self._sentences, **self._options)
    return [[ids[token] for token in result.hypotheses[0]] for result in results]
