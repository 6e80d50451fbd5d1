"""Domains of options: the values that a signature allows."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Annotated, Literal

import pytest

from seqlab import domains
from seqlab.domains import Check, Count, Probability, Range, Rate


def _even(value):
  if value % 2:
    raise ValueError('an even number')


def _example(
  count: Count = 1,
  share: Probability = 0.0,
  drop: Rate = 0.0,
  clip: Annotated[float, domains.Positive] | None = None,
  kind: Literal['a', 'b'] = 'a',
  on: bool = False,
  name: str = '',
  sizes: Sequence[int] = (),
  pair: tuple[int, float] = (1, 2.0),
  even: Annotated[int, Check(_even)] = 2,
  anything: Callable | None = None,
):
  return count


@pytest.mark.parametrize(
  'option',
  [
    dict(count=1),
    dict(share=0),
    dict(share=1.0),
    dict(drop=0.999),
    dict(clip=None),
    dict(clip=1e-9),
    dict(kind='b'),
    dict(on=True),
    dict(sizes=[1, 2]),
    dict(pair=[1, 2]),
    dict(even=4),
    dict(anything=3),
    dict(no_parameter='x'),
  ],
)
def test_values_in_the_domain_are_allowed(option):
  domains.check(_example, option)


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    (dict(count=0), 'x.count is 0; it must be at least 1'),
    (dict(count=1.0), 'x.count is 1.0; it must be a whole number'),
    (dict(count=True), 'x.count is True; it must be a whole number'),
    (dict(count=None), 'x.count is None; it must be a whole number'),
    (dict(share=1.5), 'x.share is 1.5; it must be at least 0 and at most 1'),
    (dict(drop=1.0), 'x.drop is 1.0; it must be at least 0 and less than 1'),
    (dict(clip=0), 'x.clip is 0; it must be more than 0 or None'),
    (dict(clip='10m'), "x.clip is '10m'; it must be a number or None"),
    (dict(clip=float('nan')), 'x.clip is nan; it must be a number or None'),
    (dict(clip=1e40), 'x.clip is 1e\\+40; it must be a number or None'),
    (dict(clip=10**400), 'it must be a number or None'),
    (dict(kind='c'), "x.kind is 'c'; it must be 'a' or 'b'"),
    (dict(on=1), 'x.on is 1; it must be true or false'),
    (dict(name=3), 'x.name is 3; it must be a text'),
    (dict(sizes='12'), "x.sizes is '12'; it must be a list"),
    (dict(sizes=[1, 'b']), 'a list of which each is a whole number'),
    (dict(pair=(1,)), r'x.pair is \(1,\); it must be a list of 2'),
    (dict(even=3), 'x.even is 3; it must be an even number'),
  ],
)
def test_values_outside_the_domain_are_named(option, message):
  with pytest.raises(ValueError, match=message):
    domains.check(_example, option, 'x.')


def test_a_checked_function_does_not_run_with_a_wrong_argument():
  ran = []

  @domains.checked
  def run(n: Count) -> None:
    ran.append(n)

  run(2)
  with pytest.raises(ValueError, match='n is 0'):
    run(0)
  assert ran == [2]


def test_fields_of_a_dataclass_are_options():
  @dataclasses.dataclass
  class Model:
    width: Count = 8

  with pytest.raises(ValueError, match=r'model\.width is -1'):
    domains.check(Model, dict(width=-1), 'model.')


def test_arguments_of_a_constructor_are_options():
  class Clip:
    def __init__(self, norm: Annotated[float, Range(0)]):
      pass

  with pytest.raises(ValueError, match='norm is -1'):
    domains.check(Clip, dict(norm=-1))
