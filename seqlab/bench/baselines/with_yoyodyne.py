"""yoyodyne's Transformer and its loss.

Its output weights are a matrix of its own with a bias, where the others share the table
of embeddings, so it has more parameters.
"""

from yoyodyne.data.batches import Batch, PaddedTensor
from yoyodyne.models import TransformerModel
from yoyodyne.models.modules import TransformerEncoder

from seqlab.bench.baselines.training import TorchTraining
from seqlab.bench.baselines.with_torch import only_residual_dropout

_MAX_LENGTH = 1_024


class Training(TorchTraining):
  """Training of yoyodyne's model with its loss. It has the special ids of seqlab."""

  package = 'yoyodyne'

  def make_model(self, job):
    """Returns the model; yoyodyne's own initial weights."""
    sizes = job['sizes']
    encoder = TransformerEncoder(
      attention_heads=sizes['heads'],
      dropout=job['dropout'],
      embedding_size=sizes['width'],
      hidden_size=sizes['mlp_width'],
      layers=sizes['layers'],
    )
    model = TransformerModel(
      source_encoder=encoder,
      decoder_attention_heads=sizes['heads'],
      decoder_dropout=job['dropout'],
      decoder_hidden_size=sizes['mlp_width'],
      decoder_layers=sizes['decoder_layers'],
      embedding_size=sizes['width'],
      label_smoothing=job['label_smoothing'],
      max_source_length=_MAX_LENGTH,
      max_target_length=_MAX_LENGTH,
      vocab_size=sizes['V'],
      target_vocab_size=sizes['V'],
      compute_accuracy=False,
      compute_ser=False,
      teacher_forcing=True,
    )
    only_residual_dropout(model)
    return model

  def loss(self, source, target):
    """Returns the mean loss of a batch."""
    batch = Batch(
      PaddedTensor.from_tensor(source), None, PaddedTensor.from_tensor(target)
    )
    return self.model.loss_func(self.model(batch), target)
