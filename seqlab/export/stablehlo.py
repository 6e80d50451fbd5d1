"""A search as StableHLO, which a process with JAX and without seqlab can call.

`jax.export` traces the whole search once: the encoder, the loop over the steps of the
decoder, and the choice of hypotheses. Its result is a program for CPUs, GPUs and TPUs
alike. The weights are arguments of it, in a file of their own, so that the programs of
all shapes share them.

A program has one shape of batches. A search looks at sizes while it is traced: it
continues with fewer sentences once some are decided, and its cache grows. With symbolic
sizes it could do neither, and models of one's own would have to avoid every test of a
size. A program takes a second to trace, and has some 100 kB.
"""

from collections.abc import Mapping, Sequence
import importlib.metadata
import json
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.batching import reverse_sentences
from seqlab.decoding.config import DecodingConfig
from seqlab.export import search as loader
from seqlab.layers.device import PORTABLE, instead_of
from seqlab.models.ensemble import Ensemble
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.translator import check_attends, decode, in_dtype, search_dtype
from seqlab.text.vocabulary import Vocabularies
from seqlab.types import BOS, EOS, PAD, UNK, Array, PyTree

PLATFORMS = ('cpu', 'cuda', 'tpu')
BATCH_SIZES = (1, 16)
LENGTHS = (16, 32, 64, 128)


class System(NamedTuple):
  """What translates.

  Attributes:
    model: a model, or an ensemble of models.
    variables: its variables.
    vocabularies: vocabularies of both sides.
    reverse_source: whether the model reads sources from their end.
    decoding: how outputs are found.
  """

  model: Seq2Seq
  variables: PyTree
  vocabularies: Vocabularies
  reverse_source: bool
  decoding: DecodingConfig


def save_search(
  folder: Path,
  system: System,
  *,
  batch_sizes: Sequence[int] = BATCH_SIZES,
  lengths: Sequence[int] | None = None,
  about: Mapping[str, Any] = {},  # never changed
) -> None:
  """Writes a folder with programs, weights, tokens, and the module that calls them.

  Args:
    folder: a folder, which exists.
    system: what translates. Its products are float32, unless `decoding.dtype` is
      another.
    batch_sizes: sentences in a batch; each has a program for each length.
    lengths: tokens of the longest sentence of a batch, its EOS included; None for those
      of `LENGTHS` that the model can read.
    about: more to write into `search.json`, such as the run.

  Raises:
    ValueError: the model cannot read so many tokens, or an option of the search does
      not fit it.
  """
  # Here, since an error below is one of the length.
  in_dtype(portable(system.model), system.decoding.dtype)
  if system.decoding.attends:
    check_attends(system.model)
  weights = named_weights(system.variables)
  shapes = []
  for length in lengths or LENGTHS:
    try:
      programs = [export_search(system, size, length) for size in batch_sizes]
    except ValueError as error:
      if lengths or not shapes:
        raise ValueError(
          f'a source of {length} tokens cannot be exported: {error}. Choose other '
          '--lengths'
        ) from error
      break
    for size, program in zip(batch_sizes, programs, strict=True):
      file = f'search-{size}x{length}.stablehlo'
      (folder / file).write_bytes(program.serialize())
      output = program.out_avals[0].shape[2]
      shapes.append(dict(file=file, batch=size, source=length, output=output))
  np.savez(folder / 'weights.npz', **weights)
  system.vocabularies.save(folder / 'vocabulary')
  _write_json(folder / 'tokens.json', tokens_of(system.vocabularies))
  shutil.copy(loader.__file__, folder / 'search.py')
  description = _description(system, shapes, weights) | dict(about)
  (folder / 'README.md').write_text(_readme(system, description), 'utf-8')
  _write_json(folder / 'search.json', description)


def export_search(system: System, batch: int, length: int) -> jax.export.Exported:
  """Returns the search of a batch as a program for all of `PLATFORMS`.

  It takes the weights by their names, see `named_weights`, the ids of the sources [B, S]
  and their lengths [B], both int32. It returns ids [B, M, L] int32, scores [B, M]
  float32 and the lengths of the outputs [B, M] int32.

  Args:
    system: what translates.
    batch: number of sentences B.
    length: number of tokens of a source S.
  """
  model, names = portable(system.model), [*named_weights(system.variables)]
  structure = jax.tree.structure(system.variables)

  def search(
    weights: Mapping[str, Array], source: Array, length: Array
  ) -> tuple[Array, Array, Array]:
    inside = jnp.arange(source.shape[1]) < length[:, None]
    source = jnp.where(inside, source, PAD)
    if system.reverse_source:
      source = reverse_sentences(source)
    variables = structure.unflatten([weights[name] for name in names])
    tokens, scores = decode(model, variables, source, system.decoding)
    return tokens, scores, (tokens != PAD).sum(axis=2, dtype=jnp.int32)

  weights = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype)
    for name, x in named_weights(system.variables).items()
  }
  source = jax.ShapeDtypeStruct((batch, length), jnp.int32)
  lengths = jax.ShapeDtypeStruct((batch,), jnp.int32)
  with instead_of(PORTABLE):
    return jax.export.export(jax.jit(search), platforms=PLATFORMS)(
      weights, source, lengths
    )


def named_weights(variables: PyTree) -> dict[str, np.ndarray]:
  """Returns the leaves of a tree by their paths, such as 'params/encoder_norm/scale'."""
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(x)
    for path, x in leaves
  }


def portable(model: Seq2Seq) -> Seq2Seq:
  """Returns the model without kernels of one kind of device, with products in float32.

  Its weights are the same.
  """
  if isinstance(model, Ensemble):
    return Ensemble([portable(each) for each in model.models])
  options = {'implementation': 'xla', 'dtype': 'float32'}
  known = {name: x for name, x in options.items() if hasattr(model, name)}
  return model.clone(**known) if known and hasattr(model, 'clone') else model


def tokens_of(vocabularies: Vocabularies) -> dict[str, Any]:
  """Returns the tokens of both sides, and what those of the target write into a text.

  Bytes are written as characters with the same numbers, since JSON has no bytes.
  """
  target = vocabularies.target
  return {
    'source': vocabularies.source.pieces(),
    'target': target.pieces(),
    'target_bytes': [x.decode('latin-1') for x in target.surfaces()],
    'separator': getattr(target, 'separator', None),
  }


def _description(
  system: System, shapes: Sequence[Mapping[str, Any]], weights: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  inputs = {
    'weights': 'the arrays of weights.npz by their names',
    'source': 'int32 [batch, source]: ids of each sentence, then its EOS',
    'length': 'int32 [batch]: number of ids of each sentence, EOS included; 0 for none',
  }
  outputs = {
    'tokens': 'int32 [batch, hypotheses, output]: ids, EOS, then PAD; best first',
    'scores': 'float32 [batch, hypotheses]; -inf where there is no hypothesis',
    'lengths': 'int32 [batch, hypotheses]: number of ids, EOS included',
  }
  return {
    'format': 1,
    'programs': [*shapes],
    'platforms': PLATFORMS,
    'inputs': inputs,
    'outputs': outputs,
    'hypotheses': system.decoding.num_hypotheses,
    'decoding': system.decoding.record(),
    'dtype': search_dtype(portable(system.model), system.decoding.dtype),
    'special_ids': dict(pad=PAD, unknown=UNK, begin=BOS, end=EOS),
    'parameters': int(sum(x.size for x in weights.values())),
    'jax': jax.__version__,
    'seqlab': importlib.metadata.version('seqlab'),
  }


# How the words of a text become ids, by the kind of the source vocabulary.
_SENTENCEPIECE = """
The tokens are those of SentencePiece (`pip install sentencepiece`):

    import sentencepiece
    processor = sentencepiece.SentencePieceProcessor(model_file='vocabulary/{name}.model')
    ids = processor.encode('a sentence')
"""
_WORDS = """
A token is a word between white space. Its id is its number in `source` of `tokens.json`,
and {unknown} if it is not there.
"""
_OTHERS = """
`source` of `tokens.json` has the token of each id. With seqlab, these are the ids of a
sentence as in training:

    from seqlab.text.vocabulary import Vocabularies
    ids, _ = Vocabularies.load('vocabulary').source.encode(['a sentence'])
"""
_ENCODINGS = {
  **dict.fromkeys(('BPE', 'Unigram'), _SENTENCEPIECE),
  'Words': _WORDS,
}


def _readme(system: System, description: Mapping[str, Any]) -> str:
  vocabularies = system.vocabularies
  encoding = _ENCODINGS.get(type(vocabularies.source).__name__, _OTHERS).format(
    name='shared' if vocabularies.shared else 'source', unknown=UNK
  )
  first = description['programs'][0]
  return _README.format(
    encoding=encoding.strip(),
    options=json.dumps(description['decoding']),
    jax=description['jax'],
    end=EOS,
    **first,
  )


_README = """\
# A translator as a program of JAX

This folder needs Python, JAX, NumPy and flatbuffers (`pip install jax flatbuffers`). The
programs run on CPUs, on GPUs (CUDA) and on TPUs. `search.json` describes them.

    from search import Search

    search = Search()
    (hypotheses,) = search([ids])           # the ids of one sentence, without EOS
    ids, score = hypotheses[0]              # the best one
    print(search.text(ids))

`python search.py < ids.txt` prints the best translation of each line of ids. Without
`search.py` a program is called like this:

    import jax, jax.export, numpy
    weights = dict(numpy.load('weights.npz'))
    data = open('{file}', 'rb').read()
    program = jax.jit(jax.export.deserialize(bytearray(data)).call)
    tokens, scores, lengths = program(weights, source, length)

`source` is int32 [{batch}, {source}]: the ids of {batch} sentence(s), {end} (EOS) after
each, then any number. `length` is int32 [{batch}], with EOS. The results are
described in `search.json`; `tokens` has {output} positions.

## Ids of a text

{encoding}

The text of an output is the `target_bytes` of its ids in `tokens.json`, one after the
other, read as UTF-8; `Search.text` does that.

## The search

Its options are fixed: {options}

The programs were made with JAX {jax}. JAX reads them for six months after that version,
on all platforms; an older JAX need not.
"""


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(content, ensure_ascii=False, indent=1), 'utf-8')
