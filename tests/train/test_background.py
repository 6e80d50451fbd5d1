"""Programs that are compiled while the run goes on."""

import threading

import jax
import pytest

from seqlab.train.background import BackgroundCompiler, is_compiling
from seqlab.train.compile_counter import CompileCounter, uncounted


class Jobs:
  """Jobs named by letters, each of which waits for `release` and notes its name."""

  def __init__(self, names, *, free=False):
    self.order, self._gates = [], {name: threading.Event() for name in names}
    for gate in self._gates.values():
      if free:
        gate.set()

  def release(self, *names):
    for name in names:
      self._gates[name].set()

  def compilers(self):
    def compile_(name):
      self._gates[name].wait(10)
      self.order.append(name)
      return name.upper()

    return {name: lambda name=name: compile_(name) for name in self._gates}


def test_the_program_that_is_waited_for_comes_next():
  jobs = Jobs('abcd')
  background = BackgroundCompiler(jobs.compilers())
  background.start('b')
  background.prefer(['d'])
  jobs.release(*'abcd')
  background.wait('d')
  background.wait('a')
  background.wait('c')
  assert jobs.order == ['b', 'd', 'a', 'c']
  assert background.results('ab') == ['A', 'B']
  assert not background.num_waiting


def test_a_fixed_order_is_kept():
  jobs = Jobs('abc', free=True)
  background = BackgroundCompiler(jobs.compilers(), reorder=False)
  background.start('b')
  background.wait('c')
  assert jobs.order == ['b', 'a', 'c']


def test_whoever_waits_gets_the_error():
  def fail():
    raise ValueError('no such shape')

  background = BackgroundCompiler({'a': fail, 'b': lambda: 1})
  background.start()
  with pytest.raises(ValueError, match='no such shape'):
    background.wait('b')
  with pytest.raises(ValueError, match='no such shape'):
    background.check()


def test_waiting_ends_when_the_run_should_stop():
  jobs = Jobs('ab')
  background = BackgroundCompiler(jobs.compilers())
  background.start()
  background.wait('b', lambda: True)
  assert 'b' not in background
  background.close()
  assert is_compiling()
  jobs.release('a')
  for thread in threading.enumerate():
    if thread is not threading.current_thread() and thread.name == 'seqlab-compile':
      thread.join(10)
  assert jobs.order == ['a']  # the program that waited is left out
  assert not is_compiling()


@pytest.mark.parametrize('precision', [None, 'float32'])
def test_waiting_for_a_program_that_will_not_be_compiled_is_an_error(precision):
  """In a context of JAX the waiting thread compiles."""
  programs = BackgroundCompiler({'a': lambda: 1, 'b': lambda: 2})
  with jax.default_matmul_precision(precision):
    programs.start()
    programs.wait('a')
    programs.close()
    with pytest.raises(RuntimeError, match="'c' will not be compiled"):
      programs.wait('c')


def test_declared_programs_are_not_counted():
  counter = CompileCounter()
  event = '/jax/core/compile/backend_compile_duration'
  with uncounted():
    CompileCounter._listen(event, 1.0)
  assert counter.count == 0
  CompileCounter._listen(event, 1.0)
  assert counter.count == 1


def test_programs_are_compiled_with_the_settings_of_the_caller():
  """Contexts of JAX hold in one thread only."""

  def read():
    return jax.config.jax_default_matmul_precision

  programs = BackgroundCompiler({'a': read, 'b': read})
  with jax.default_matmul_precision('float32'):
    programs.start()
    programs.wait('b')
    assert programs.results('b') == ['float32']
