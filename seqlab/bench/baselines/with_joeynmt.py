"""JoeyNMT's Transformer, its loss and its search."""

from importlib import metadata
from types import SimpleNamespace

from joeynmt.batch import Batch
from joeynmt.model import build_model
from joeynmt.search import search
from joeynmt.transformer_layers import MultiHeadedAttention, PositionwiseFeedForward
from joeynmt.vocabulary import Vocabulary
import torch

from seqlab.bench.baselines.training import TorchTraining
from seqlab.types import BOS, EOS, PAD, SPECIALS

_UNK, _PAD = 0, 1  # in JoeyNMT; seqlab has them the other way round
_SENTENCES = 64  # in a batch of decoding


class Training(TorchTraining):
  """Training of JoeyNMT's model with its loss."""

  package = 'joeynmt'

  def make_model(self, job):
    """Returns the model, with the initial weights that its documentation advises."""
    model = make_model(job['sizes'], job['dropout'])
    for module in model.modules():  # dropout only as in the experiment
      if isinstance(module, MultiHeadedAttention):
        module.dropout.p = 0.0  # of the weights
      elif isinstance(module, PositionwiseFeedForward):
        module.pwff_layer[2].p = 0.0  # of the hidden units
    model.loss_function = ('crossentropy', job['label_smoothing'])
    return model

  def loss(self, source, target):
    """Returns the mean loss of a batch."""
    batch = make_batch(source, target)
    total, *_ = self.model(return_type='loss', **vars(batch))
    return batch.normalize(total, 'tokens')


def make_model(sizes, dropout):
  """Returns JoeyNMT's model of some sizes, pre-norm and with tied embeddings."""
  width = sizes['width']
  stack = {
    'type': 'transformer',
    'hidden_size': width,
    'ff_size': sizes['mlp_width'],
    'num_heads': sizes['heads'],
    'dropout': dropout,
    'layer_norm': 'pre',
    'embeddings': {'embedding_dim': width, 'scale': True, 'dropout': dropout},
  }
  vocabulary = _make_vocabulary(sizes['V'])
  config = {
    'encoder': {**stack, 'num_layers': sizes['layers']},
    'decoder': {**stack, 'num_layers': sizes['decoder_layers']},
    'tied_embeddings': True,
    'tied_softmax': True,
    'embed_initializer': 'normal',
    'embed_init_weight': width**-0.5,
  }
  return build_model(config, vocabulary, vocabulary)


def make_batch(source, target=None):
  """Returns a batch of JoeyNMT from seqlab's ids [B, S] and [B, T]."""
  if target is not None:
    target = convert_ids(torch.cat([torch.full_like(target[:, :1], BOS), target], 1))
  return Batch(
    src=convert_ids(source),
    src_length=(source != PAD).sum(dim=1),
    src_prompt_mask=None,
    trg=target,
    trg_prompt_mask=None,
    indices=torch.arange(len(source)),
    device=torch.device('cpu'),
    pad_index=_PAD,
    eos_index=EOS,
    is_train=target is not None,
  )


def convert_ids(ids):
  """Exchanges PAD and UNK."""
  return torch.where(ids <= _PAD, _PAD - ids, ids)


def _make_vocabulary(size):
  others = [f'token{i}' for i in range(len(SPECIALS), size)]
  special = SimpleNamespace(
    unk_token='<unk>',
    pad_token='<pad>',
    bos_token='<s>',
    eos_token='</s>',
    sep_token=None,
    unk_id=_UNK,
    pad_id=_PAD,
    bos_id=BOS,
    eos_id=EOS,
    lang_tags=[],
  )
  return Vocabulary(others, special)


class Decoding:
  """JoeyNMT's search, with a model of its own initial weights."""

  def __init__(self, job):
    """Builds the model.

    Args:
      job: `sizes`, `sentences` (ids without EOS), `beam` and `forced_length`.
    """
    torch.manual_seed(0)
    self._model = make_model(job['sizes'], dropout=0.0).eval()
    self._options = dict(
      max_output_length=job['forced_length'],
      min_output_length=job['forced_length'],
      beam_size=job['beam'],
      beam_alpha=-1,  # none
    )
    sentences = sorted(job['sentences'], key=len)
    self._batches = [
      make_batch(_padded(sentences[i : i + _SENTENCES]))
      for i in range(0, len(sentences), _SENTENCES)
    ]

  def facts(self):
    """Returns what the record says about this contender."""
    return {
      'versions': {name: metadata.version(name) for name in ('torch', 'joeynmt')},
      'threads': torch.get_num_threads(),
      'parameters': sum(x.numel() for x in self._model.parameters()),
    }

  def step(self):
    """Translates all sentences; returns their number."""
    for batch in self._batches:
      search(self._model, batch, **self._options)
    return sum(batch.nseqs for batch in self._batches)


def _padded(sentences):
  """Returns ids [B, S] of sentences, with EOS."""
  rows = [torch.tensor([*sentence, EOS]) for sentence in sentences]
  return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
