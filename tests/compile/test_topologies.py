"""Devices that are not in the machine; compilers that are not installed are named."""

import importlib.util
import math

import pytest

from seqlab.compile import topologies
from seqlab.compile.chips import CHIPS
from seqlab.compile.topologies import CompilerMissingError, make_topology, slice_shape


@pytest.fixture
def without_compilers(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)


@pytest.mark.parametrize(('chip', 'extra'), [('v5p', 'tpu'), ('h100', 'cuda')])
def test_a_missing_compiler_names_its_extra(without_compilers, chip, extra):
  with pytest.raises(
    CompilerMissingError, match=rf"{chip}.*pip install '\.\[{extra}\]'"
  ):
    make_topology(chip, 4)


def test_an_unknown_chip_is_refused_with_a_suggestion():
  with pytest.raises(ValueError, match=r"unknown chip 'v5q'; did you mean 'v5p'\?"):
    make_topology('v5q', 4)


@pytest.mark.parametrize(
  ('devices', 'flat', 'cube'),
  [
    (1, (1, 1), (1, 1, 1)),
    (4, (2, 2), (2, 2, 1)),
    (8, (2, 4), (2, 2, 2)),
    (16, (4, 4), (2, 2, 4)),
    (256, (16, 16), (4, 8, 8)),
  ],
)
def test_slices_grow_by_their_shortest_side(devices, flat, cube):
  assert slice_shape(devices, 2) == flat
  assert slice_shape(devices, 3) == cube
  assert math.prod(cube) == devices


def test_a_number_of_chips_that_no_slice_has_is_refused():
  with pytest.raises(ValueError, match='plan for 8 or 16 devices'):
    slice_shape(12, 3)


def test_every_gpu_with_a_data_sheet_has_a_description_that_agrees_with_it():
  for name, chip in CHIPS.items():
    if not chip.is_tpu:
      text = (topologies._TARGETS / f'{name}.txtpb').read_text('utf-8')
      assert f'memory_bandwidth: {chip.memory_speed:.0f}' in text
      assert f'device_memory_size: {chip.memory:.0f}' in text
      assert chip.kinds[0] in text
