"""Models: from token ids to logits."""

# Values are paths, so that naming a model imports none.
MODELS = {
  'transformer': 'seqlab.models.transformer:Transformer',
  'recurrent': 'seqlab.models.recurrent:Recurrent',
  # Of text of one side:
  'decoder': 'seqlab.models.decoder:Decoder',
  'recurrent_lm': 'seqlab.models.recurrent_lm:RecurrentLM',
}
