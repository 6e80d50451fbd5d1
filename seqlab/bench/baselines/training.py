"""What all contenders in PyTorch share: batches, the optimiser, a step."""

from importlib import metadata
import itertools
import time

import numpy as np
import torch

from seqlab.types import BOS, PAD

_LEARNING_RATE = 1e-4


def load_batches(path):
  """Returns the batches of a file as pairs of int64 tensors [B, S] and [B, T]."""
  with np.load(path) as file:
    count = len(file.files) // 2
    return [
      tuple(
        torch.from_numpy(file[f'{side}_{i}']).long() for side in ('source', 'target')
      )
      for i in range(count)
    ]


def shift_right(target):
  """Returns the inputs of the decoder: BOS and the target without its last token."""
  return torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], dim=1)


class TorchTraining:
  """Steps of training in PyTorch: a loss, backward, and fused Adam.

  A subclass sets `package` and has `make_model(job)` and `loss(source, target)`.

  Attributes:
    job: `batches`, `parameters`, `sizes`, `dropout`, `label_smoothing`, `clip`,
      `dtype` ('float32', or 'bfloat16' by autocast) and `compile`.
    model: a module.
  """

  package = 'torch'

  def __init__(self, job):
    """Builds the model and takes the first step, which compiles it."""
    torch.manual_seed(0)
    self.job = job
    self.model = self.make_model(job)
    self.model.train()
    self._adam = torch.optim.Adam(self.model.parameters(), _LEARNING_RATE, fused=True)
    self._loss = torch.compile(self.loss) if job['compile'] else self.loss
    batches = load_batches(job['batches'])
    self._batches = itertools.cycle([self.prepare(*batch) for batch in batches])
    started = time.perf_counter()
    self._first_loss = self._update(*next(self._batches))
    self._compile_seconds = time.perf_counter() - started

  def make_model(self, job):
    """Returns the module."""
    raise NotImplementedError

  def prepare(self, source, target):
    """Returns the arguments of `loss`, once per batch and not in its time."""
    return source, target

  def loss(self, source, target):
    """Returns the mean loss per target token of a batch."""
    raise NotImplementedError

  def facts(self):
    """Returns what the record says about this contender."""
    packages = dict.fromkeys(['torch', self.package])
    return {
      'versions': {name: metadata.version(name) for name in packages},
      'threads': torch.get_num_threads(),
      'parameters': sum(x.numel() for x in self.model.parameters()),
      'first_loss': self._first_loss,
      'first_step_seconds': self._compile_seconds,
    }

  def step(self):
    """Takes one step; returns the number of target tokens."""
    source, target = next(self._batches)
    self._update(source, target)
    return int((target != PAD).sum())

  def _update(self, source, target):
    self._adam.zero_grad(set_to_none=True)
    narrow = self.job['dtype'] == 'bfloat16'
    with torch.autocast('cpu', torch.bfloat16, enabled=narrow):
      loss = self._loss(source, target)
    loss.backward()
    if self.job['clip']:
      torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.job['clip'])
    self._adam.step()
    return loss.item()
