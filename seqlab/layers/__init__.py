"""Layers, and the short names of those that an experiment chooses.

Values are paths, so that a name imports nothing until it is used. A path to a class or
function may be used in an experiment in place of a short name.
"""

POSITIONS = {
  'sinusoidal': 'seqlab.layers.positions.sinusoidal:Sinusoidal',
  'learned': 'seqlab.layers.positions.learned:Learned',
  'rotary': 'seqlab.layers.positions.rotary:Rotary',
  'shaw': 'seqlab.layers.positions.shaw:Shaw',
  'transformer_xl': 'seqlab.layers.positions.transformer_xl:TransformerXL',
  't5': 'seqlab.layers.positions.t5:T5',
  'alibi': 'seqlab.layers.positions.alibi:ALiBi',
  'none': 'seqlab.layers.positions.interface:Positions',
}
NORMALIZATIONS = {
  'layer': 'seqlab.layers.normalization:LayerNorm',
  'rms': 'seqlab.layers.normalization:RMSNorm',
  'scale': 'seqlab.layers.normalization:ScaleNorm',
  'batch': 'seqlab.layers.batch_norm:BatchNorm',
  'noisy_batch': 'seqlab.layers.batch_norm:NoisyBatchNorm',
  'power': 'seqlab.layers.batch_norm:PowerNorm',
  'none': 'seqlab.layers.normalization:NoNorm',
}
ACTIVATIONS = {
  'relu': 'seqlab.layers.activations:relu',
  'gelu': 'seqlab.layers.activations:gelu',
  'swiglu': 'seqlab.layers.activations:swiglu',
}
SCORES = {
  'dot': 'seqlab.layers.alignment:Dot',
  'scaled_dot': 'seqlab.layers.alignment:ScaledDot',
  'cosine': 'seqlab.layers.alignment:Cosine',
  'general': 'seqlab.layers.alignment:General',
  'additive': 'seqlab.layers.alignment:Additive',
  'concat': 'seqlab.layers.alignment:Concat',
  'location': 'seqlab.layers.alignment:Location',
  'local_monotonic': 'seqlab.layers.alignment:LocalMonotonic',
  'local_predictive': 'seqlab.layers.alignment:LocalPredictive',
  'coverage': 'seqlab.layers.alignment:Coverage',
  'uniform': 'seqlab.layers.alignment:Uniform',
}
TRANSITIONS = {  # of hard attention
  'independent': 'seqlab.layers.hard_alignment:independent',
  'monotone': 'seqlab.layers.hard_alignment:monotone',
}
