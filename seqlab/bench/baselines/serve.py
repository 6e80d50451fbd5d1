"""The child process of a contender: builds it, then works when it is asked to.

    python serve.py JOB.json

It runs in the environment of the library that it measures, which need not have JAX.
The job names the contender's class; the rest of it is the class's argument. Each line
of standard input is a request, and each is answered by one line of JSON:

    -> (start)      {"facts": {...}}
    {"steps": 3}    {"seconds": 1.25, "units": 9852}
    {"outputs": 1}  {"outputs": [[5, 17, 3], ...]}
"""

import importlib
import json
import os
from pathlib import Path
import sys
import time


def main():
  """Serves until standard input ends."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what a library prints must not mix with the answers

  def answer(**values):
    answers.write(json.dumps(values) + '\n')
    answers.flush()

  # The last place, so that the packages of this environment come before seqlab's.
  sys.path[:] = [*sys.path[1:], str(Path(__file__).resolve().parents[3])]
  job = json.loads(Path(sys.argv[1]).read_text('utf-8'))
  module, name = job['contender'].split(':')
  contender = getattr(importlib.import_module(module), name)(job)
  answer(facts=contender.facts())
  for line in sys.stdin:
    request = json.loads(line)
    if 'outputs' in request:
      answer(outputs=contender.outputs())
      continue
    started = time.perf_counter()
    units = sum(contender.step() for _ in range(request['steps']))
    answer(seconds=time.perf_counter() - started, units=units)


if __name__ == '__main__':
  main()
