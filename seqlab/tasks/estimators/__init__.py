"""Methods without a gradient: word vectors by counting, and gensim's as a baseline.

Each class is an `Estimator` of `seqlab.tasks.interface`: `train.fit` runs it in place
of the training loop.
"""
