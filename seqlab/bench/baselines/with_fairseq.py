"""fairseq's Transformer and its label-smoothed cross-entropy."""

from argparse import Namespace
from types import SimpleNamespace

from fairseq.criterions.label_smoothed_cross_entropy import (
  LabelSmoothedCrossEntropyCriterion,
)
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel, base_architecture
import torch

from seqlab.bench.baselines.training import TorchTraining, shift_right
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK


class Training(TorchTraining):
  """Training of fairseq's model with its criterion."""

  package = 'fairseq-fixed'

  def make_model(self, job):
    """Returns the model; fairseq's own initial weights."""
    dictionary = Dictionary()
    for i in range(len(SPECIALS), job['sizes']['V']):
      dictionary.add_symbol(f'token{i}')
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    self._ids = torch.arange(len(dictionary))
    self._ids[[PAD, UNK, BOS, EOS]] = torch.tensor(
      [dictionary.pad(), dictionary.unk(), dictionary.bos(), dictionary.eos()]
    )
    self._criterion = LabelSmoothedCrossEntropyCriterion(
      task, sentence_avg=False, label_smoothing=job['label_smoothing']
    )
    return TransformerModel.build_model(_arguments(job['sizes'], job['dropout']), task)

  def loss(self, source, target):
    """Returns the mean loss of a batch."""
    inputs = {
      'src_tokens': self._ids[source],
      'src_lengths': (source != PAD).sum(dim=1),
      'prev_output_tokens': self._ids[shift_right(target)],
    }
    tokens = int((target != PAD).sum())
    sample = {'net_input': inputs, 'target': self._ids[target], 'ntokens': tokens}
    loss, size, _ = self._criterion(self.model, sample)
    return loss / size


def _arguments(sizes, dropout):
  """Returns the command line of a model, pre-norm and with tied tables."""
  arguments = Namespace(
    dropout=dropout,
    attention_dropout=0.0,
    activation_dropout=0.0,
    share_all_embeddings=True,
  )
  for side, layers in (('encoder', 'layers'), ('decoder', 'decoder_layers')):
    for name, value in (
      ('embed_dim', sizes['width']),
      ('ffn_embed_dim', sizes['mlp_width']),
      ('attention_heads', sizes['heads']),
      ('layers', sizes[layers]),
      ('normalize_before', True),
    ):
      setattr(arguments, f'{side}_{name}', value)
  base_architecture(arguments)
  return arguments
