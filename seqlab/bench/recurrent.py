"""Training of an LSTM encoder-decoder, compared with the same one in PyTorch."""

from collections.abc import Callable
import functools
import importlib.util
from typing import Any

from flax import linen as nn
import jax
import numpy as np
import optax

from seqlab.bench.measure import Row, Subject, best, best_in_turns, in_own_process
from seqlab.layers.cross_entropy import cross_entropy
from seqlab.models.recurrent import Recurrent
from seqlab.types import BOS, PAD, Batch

_UPDATES = 10  # per turn
_TURNS = 3


def measure_recurrent(subject: Subject, D: int = 256) -> list[Row]:
  """Returns the tokens per second of an LSTM's updates on a batch of the experiment."""
  V, batch = subject.task.vocabularies.target.size, subject.batches.batch(0, seed=0)
  batch = {side: batch[side] for side in ('source', 'target')}
  update = _make_update(V, D, batch)
  update()  # compiles
  measures = [lambda: best(update, _UPDATES)]
  if importlib.util.find_spec('torch') is not None:
    measures.append(lambda: in_own_process(_best_of_torch, V, D, batch))
  seconds, *torch_seconds = best_in_turns(*measures, tries=_TURNS)
  tokens = np.count_nonzero(batch['target'])
  B, S, T = *batch['source'].shape, batch['target'].shape[1]
  note = f'LSTM, D = {D}, V = {V:,}, batch {B} x ({S}, {T}), tied, Adam; best of 30'
  if not torch_seconds:
    note += '; PyTorch is missing'
    return [Row('recurrent', tokens / seconds, 'target tokens/s', note)]
  note += f'; PyTorch {tokens / torch_seconds[0]:,.0f} tokens/s'
  return [
    Row('recurrent', tokens / seconds, 'target tokens/s', note),
    Row('recurrent', torch_seconds[0] / seconds, 'times PyTorch', note),
  ]


def _make_update(V: int, D: int, batch: Batch) -> Callable[[], None]:
  """Returns a function that takes one step of Adam on a batch, and waits for it.

  Args:
    V: vocabulary size.
    D: width.
    batch: `source` [B, S] and `target` [B, T].
  """
  model = Recurrent(V, V, width=D, bidirectional=False, dtype='float32')
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
  init = jax.jit(model.init)
  variables = nn.unbox(init(jax.random.key(0), batch['source'], batch['target']))
  state = variables, tx.init(variables)

  def mean_loss(variables, batch):
    hidden, table = model.apply(
      variables, batch['source'], batch['target'], method='features'
    )
    weights = (batch['target'] != PAD).astype(np.float32)
    sums = cross_entropy(hidden, table, batch['target'], weights)
    return sums.loss / weights.sum()

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, batch):
    variables, moments = state
    value, gradient = jax.value_and_grad(mean_loss)(variables, batch)
    updates, moments = tx.update(gradient, moments, variables)
    return (optax.apply_updates(variables, updates), moments), value

  def update() -> None:
    nonlocal state
    state, value = step(state, batch)
    value.block_until_ready()

  return update


def _best_of_torch(V: int, D: int, batch: Batch) -> float:
  """Returns the seconds of the fastest update in PyTorch."""
  update = _make_torch_update(V, D, batch)
  update()  # allocates
  return best(update, _UPDATES)


def _make_torch_update(V: int, D: int, batch: dict[str, Any]) -> Callable[[], None]:
  """Returns an update of the same model by `torch.nn.LSTM`; see `_make_update`."""
  import torch

  F = torch.nn.functional
  table = torch.nn.Embedding(V, D)
  encoder, decoder = (torch.nn.LSTM(D, D, batch_first=True) for _ in range(2))
  modules = torch.nn.ModuleList([table, encoder, decoder])
  adam = torch.optim.Adam(modules.parameters(), lr=1e-3)
  source, target = (torch.from_numpy(batch[k]).long() for k in ('source', 'target'))
  lengths = (source != PAD).sum(dim=1).clamp(min=1)
  inputs = torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], dim=1)

  def update() -> None:
    adam.zero_grad()
    # Packed, since the decoder starts from the state at each sentence's last token,
    # not from the one after its padding.
    packed = torch.nn.utils.rnn.pack_padded_sequence(
      table(source), lengths, batch_first=True, enforce_sorted=False
    )
    _, state = encoder(packed)
    hidden, _ = decoder(table(inputs), state)
    logits = F.linear(hidden, table.weight)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
    adam.step()

  return update
