"""yoyodyne's Transformer and its loss.

Its output weights are a matrix of their own with a bias. It has one table for the
tokens that are read, in which the target's come first, then the source's and then the
features: with `tie='all'` it thus has more parameters than the others, and with
`tie='none'` as many rows as there are tokens on both sides.
"""

import torch
from yoyodyne import special
from yoyodyne.data.batches import Batch, PaddedTensor
from yoyodyne.models import TransformerModel
from yoyodyne.models.modules import (
  FeatureInvariantTransformerEncoder,
  TransformerEncoder,
)

from seqlab.bench.baselines.training import TorchTraining
from seqlab.bench.baselines.with_torch import only_residual_dropout
from seqlab.types import PAD, SPECIALS

_MAX_LENGTH = 1_024
_SPECIALS = len(SPECIALS)  # which are yoyodyne's first ones, too
_TYPES = len(special.SPECIAL) - _SPECIALS  # ids of the types: a letter, or a feature


class Training(TorchTraining):
  """Training of yoyodyne's model with its loss.

  Features without an order are a sequence of their own, which the same encoder reads.
  """

  package = 'yoyodyne'

  def make_model(self, job):
    """Returns the model; yoyodyne's own initial weights."""
    sizes = job['sizes']
    unordered = sizes['unordered']
    self._types = _TYPES if unordered else 0
    self._first_feature = sizes['source_V'] - unordered
    # In yoyodyne the target's tokens come first, those of a shared table only once.
    self._first_source = sizes['V'] - _SPECIALS if sizes['tie'] == 'none' else 0
    kind = FeatureInvariantTransformerEncoder if unordered else TransformerEncoder
    encoder = kind(
      attention_heads=sizes['heads'],
      dropout=job['dropout'],
      embedding_size=sizes['width'],
      hidden_size=sizes['mlp_width'],
      layers=sizes['layers'],
    )
    model = TransformerModel(
      source_encoder=encoder,
      features_encoder=unordered > 0,
      decoder_attention_heads=sizes['heads'],
      decoder_dropout=job['dropout'],
      decoder_hidden_size=sizes['mlp_width'],
      decoder_layers=sizes['decoder_layers'],
      embedding_size=sizes['width'],
      label_smoothing=job['label_smoothing'],
      max_source_length=_MAX_LENGTH,
      max_features_length=_MAX_LENGTH,
      max_target_length=_MAX_LENGTH,
      vocab_size=self._first_source + sizes['source_V'] + self._types,
      target_vocab_size=sizes['V'] + self._types,
      compute_accuracy=False,
      compute_ser=False,
      teacher_forcing=True,
    )
    only_residual_dropout(model)
    return model

  def prepare(self, source, target):
    """Returns the batch, whose features are apart, and the target."""
    features = None
    if self._types:
      is_feature = source >= self._first_feature
      features = self._padded(_left(source, is_feature), self._first_source)
      source = _left(source, ~is_feature)
    source = self._padded(source, self._first_source)
    target = self._padded(target, 0)
    return Batch(source, features, target), target.tensor

  def loss(self, batch, target):
    """Returns the mean loss of a batch."""
    return self.model.loss_func(self.model(batch), target)

  def _padded(self, ids, first):
    """Returns ids of yoyodyne, in whose table `first` other tokens come before."""
    ids = torch.where(ids < _SPECIALS, ids, ids + self._types + first)
    return PaddedTensor.from_tensor(ids)


def _left(ids, chosen):
  """Returns the chosen tokens of each row, in their order, and padding after them."""
  chosen = chosen & (ids != PAD)
  order = torch.argsort((~chosen).to(torch.int8), dim=1, stable=True)
  kept = torch.gather(torch.where(chosen, ids, PAD), 1, order)
  return kept[:, : int(chosen.sum(dim=1).max())]
