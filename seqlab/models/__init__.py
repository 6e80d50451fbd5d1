"""Models: from token ids to logits, or to log-probabilities."""

# Values are paths, so that naming a model imports none.
MODELS = {
  'transformer': 'seqlab.models.transformer:Transformer',
  'recurrent': 'seqlab.models.recurrent:Recurrent',
  'hard_attention': 'seqlab.models.hard_attention:HardAttention',
  # Of text of one side:
  'decoder': 'seqlab.models.decoder:Decoder',
  'recurrent_lm': 'seqlab.models.recurrent_lm:RecurrentLM',
}
