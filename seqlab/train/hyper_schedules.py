"""Hyperparameters whose values rise during training.

    c.hyper = dict(peak=5e-3, scheduled_sampling=0.25)
    c.hyper_schedules = dict(scheduled_sampling=dict(kind='linear', updates=2_000))

An entry names a hyperparameter and a piece of `RISES`, or a path to one: a function of
the number of the update, from 0, to a factor of the hyperparameter's value. The value
itself stays an argument of the compiled step, which a sweep may vary.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax.numpy as jnp

from seqlab.config import suggest
from seqlab.domains import Count
from seqlab.pieces import Piece, make
from seqlab.types import Array, Hyper

Rise = Callable[[Array], Array]  # update (from 0) -> factor

_OWN = {  # they change during training in another way
  'peak': 'schedule has the learning rate',
  'weight_decay': 'the optimiser multiplies it by the learning rate',
}


def linear(updates: Count) -> Rise:
  """Rises from 0 to 1 in so many updates.

  Bengio et al., "Scheduled Sampling", 2015, section 2.4,
  https://arxiv.org/abs/1506.03099, "linear decay" of the true tokens.
  """
  return lambda step: jnp.minimum(step / updates, 1.0)


def inverse_sigmoid(k: Count) -> Rise:
  """Returns 1 - k / (k + exp(update / k)), which passes 1/2 at update k ln k.

  Bengio et al. 2015, section 2.4, "inverse sigmoid decay" of the true tokens.
  """
  # As a sigmoid, whose exponential cannot overflow.
  return lambda step: 1.0 / (1.0 + jnp.exp(jnp.log(k) - step / k))


RISES = {'linear': linear, 'inverse_sigmoid': inverse_sigmoid}
RISE_PIECE = Piece(RISES)


@dataclasses.dataclass(frozen=True)
class HyperSchedules:
  """The rises of an experiment.

  Attributes:
    rises: name of a hyperparameter -> its factor as a function of the update.
  """

  rises: Mapping[str, Rise] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, config: Mapping[str, Any]) -> 'HyperSchedules':
    """Returns the rises of a resolved experiment.

    Raises:
      ValueError: an entry is no section, names a hyperparameter that the experiment
        does not set or that changes in another way, or has a wrong option.
    """
    section = config.get('hyper_schedules') or {}
    if not isinstance(section, Mapping):
      raise ValueError(f'hyper_schedules is {section!r}; it must be a section')
    hyper = config.get('hyper', {})
    rises = {}
    for name, specification in section.items():
      where = f'hyper_schedules.{name}'
      if name in _OWN:
        raise ValueError(f'{where}: {_OWN[name]}; leave it out')
      if hyper.get(name) is None:
        raise ValueError(f'{where}: hyper has no {name!r}{suggest(name, hyper)}')
      rises[name] = make(specification, RISES, where)
    return cls(rises)

  def at(self, step: Array, hyper: Hyper) -> Hyper:
    """Returns the hyperparameters of an update, counted from 0."""
    rises = {name: hyper[name] * rise(step) for name, rise in self.rises.items()}
    return {**hyper, **rises}
