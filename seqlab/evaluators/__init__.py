"""What is measured during training, one evaluator a file."""
