"""Measurements during training, one evaluator per file."""

# Short name -> path of the class. Paths, so that naming one imports none.
EVALUATORS = {
  name: f'seqlab.evaluators.{name}:Evaluator'
  for name in (
    *('agreement', 'attention', 'bits', 'distance', 'errors', 'exposure'),
    *('factorization', 'heldout', 'inputs', 'leak', 'likelihood', 'loss', 'meanings'),
    *('neighbours', 'outputs', 'perplexity', 'probe', 'similarity', 'spectrum'),
    *('statistics', 'translation'),
  )
}
