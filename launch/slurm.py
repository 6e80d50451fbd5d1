r"""Trains one experiment in several processes on the nodes of a Slurm cluster.

  python -m launch.slurm experiments/wmt14/transformer_big.py --workdir /shared/runs/big \
    --nodes 2 --gpus-per-node 4 --partition gpu --time 24:00:00 --config.seed=1
  python -m launch.slurm ... --dry-run                 # prints the script

Submits templates/slurm.sh and returns. Its `srun` starts the processes, which JAX
identifies by Slurm's environment variables. On preemption, at the time limit and on
`scancel --signal=TERM` all of them write a checkpoint at the same step and exit with
75; the job is then requeued, and resumes. `scancel` alone ends it for good.
logs/process-N.log in the workdir keeps the output of process N, logs/slurm-JOB.log that
of Slurm. Options that are not known here are passed to `seqlab train`.

This launcher writes a script, while the trials of a sweep are functions for submitit
(launch/slurm_array.py): submitit lets process 0 requeue the job in a signal handler, in
the middle of a step, but here all processes have to agree first on the step after which
they stop. A script can also be read, kept and changed.
"""

import argparse
from collections.abc import Sequence
import math
from pathlib import Path
import re
import shlex
import sys

from launch.options import (
  fill,
  hand_over,
  launch,
  parser,
  positive,
  run_name,
  train_command,
)
from seqlab.text.remote import is_remote

WHERE = "where Slurm's commands are, such as a login node of the cluster"


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  options = parser(
    'slurm', 'Trains one experiment in several processes of a Slurm job.'
  )
  add = options.add_argument
  add('--nodes', type=positive, default=1, help='number of nodes (1)')
  text = 'processes per node: 1, or one per GPU (1)'
  add('--processes-per-node', type=positive, default=1, metavar='N', help=text)
  add_resources(options)
  return launch(options, script, _submit, argv)


def add_resources(options: argparse.ArgumentParser) -> None:
  """Adds the options for the resources of a job, a run or a trial of a sweep."""
  add = options.add_argument
  add('--partition', help="partition (Slurm's default)")
  add('--account', help='account that is charged')
  text = 'time limit, at which the job is requeued and resumes (24:00:00)'
  add('--time', default='24:00:00', help=text)
  add('--gpus-per-node', type=positive, help='GPUs per node (none)')
  add('--cpus-per-task', type=positive, help='cores per process')
  add('--mem', help='memory per node, such as 64G')
  text = 'seconds from the signal to stop until the time limit (120)'
  add('--grace', type=positive, default=120, help=text)
  text = 'further option, such as --sbatch=--constraint=a100; may be repeated'
  add('--sbatch', metavar='OPTION', action='append', default=[], help=text)


def resources(args: argparse.Namespace) -> dict[str, str | bool]:
  """Returns the options of sbatch that a run and a trial of a sweep share.

  Raises:
    ValueError: one is not an option of sbatch, or has more than one line.
  """
  names = ('partition', 'account', 'gpus-per-node', 'cpus-per-task', 'mem')
  given = {name: getattr(args, name.replace('-', '_')) for name in names}
  options = {name: str(value) for name, value in given.items() if value is not None}
  for option in args.sbatch:
    name, equals, value = option.removeprefix('--').partition('=')
    if not re.fullmatch('--[a-z][a-z0-9-]*(=.*)?', option):
      raise ValueError(f'--sbatch={option} should be written --sbatch=--name=value')
    options[name] = value if equals else True
  for name, value in options.items():
    if value is not True and (not value or re.search(r'[\r\n\0]', value)):
      raise ValueError(f'--{name} is {value!r}; it must be one line of text')
  if args.mem is not None and not re.fullmatch('[0-9]+([KMGT]B?)?', args.mem, re.I):
    raise ValueError(f'--mem is {args.mem!r}; it must be a size such as 64G')
  return options


def check_path(folder: str | Path) -> str:
  """Returns the path of a folder that Slurm can write its logs to.

  Raises:
    ValueError: Slurm interprets a character of it.
  """
  if re.search(r'[\\\r\n]', str(folder)):
    raise ValueError(
      f'{str(folder)!r} has a backslash or a line break, which Slurm interprets in the '
      f'paths of its logs: use another folder'
    )
  return str(folder)


def minutes(limit: str) -> int:
  """Returns one of Slurm's time limits, such as 90, 12:00:00 or 2-12, in minutes.

  Seconds are rounded up.

  Raises:
    ValueError: it is not a time limit.
  """
  if not re.fullmatch(r'([0-9]+-)?[0-9]+(:[0-9]+){0,2}', limit):
    raise ValueError(
      f'--time {limit} is not a time limit: write hours:minutes:seconds, or '
      f'days-hours:minutes:seconds'
    )
  days, dash, clock = limit.rpartition('-')
  parts = [int(part) for part in clock.split(':')]
  units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
  seconds = sum(n * unit for n, unit in zip(parts, units, strict=False))
  if not (total := 24 * 60 * int(days or 0) + math.ceil(seconds / 60)):
    raise ValueError(f'--time {limit} is zero; it must be more than 0')
  return total


def script(args: argparse.Namespace, rest: Sequence[str]) -> str:
  """Returns the script for sbatch.

  Raises:
    ValueError: the options do not fit together.
  """
  processes, gpus = args.processes_per_node, args.gpus_per_node
  if gpus and processes not in (1, gpus):
    raise ValueError(
      f'{processes} processes cannot share {gpus} GPUs: let --processes-per-node be 1, '
      f'or {gpus} for one each'
    )
  minutes(args.time)
  settings = dict(args.env)
  if gpus and processes == 1:
    # Without this JAX assumes one GPU per process, with the process's index on its node.
    settings['JAX_LOCAL_DEVICE_IDS'] = ','.join(map(str, range(gpus)))
  if args.cpus_per_task:
    settings['SRUN_CPUS_PER_TASK'] = str(
      args.cpus_per_task
    )  # srun does not inherit it from sbatch
  logs = check_path(_logs(args)).replace('%', '%%')
  return fill(
    'slurm.sh',
    options='\n'.join(_directive(k, v) for k, v in _options(args, logs).items()),
    exports='\n'.join(f'export {k}={shlex.quote(v)}' for k, v in settings.items()),
    log=shlex.quote(f'{logs}/process-%t.log'),
    command=shlex.join(train_command(sys.executable, args, rest)),
  )


def _options(args: argparse.Namespace, logs: str) -> dict[str, str | bool]:
  return {
    'job-name': args.name,
    'nodes': str(args.nodes),
    'ntasks-per-node': str(args.processes_per_node),
    'time': args.time,
    'signal': f'TERM@{args.grace}',
    'requeue': True,
    'open-mode': 'append',
    'output': f'{logs}/slurm-%j.log',
    **resources(args),
  }


def _directive(name: str, value: str | bool) -> str:
  """Returns a line for sbatch, which reads quotes as a shell does, within a line."""
  if value is True:
    return f'#SBATCH --{name}'
  if '\n' in value:
    raise ValueError(f'--{name}: {value!r} has a line break, which sbatch cannot read')
  return f'#SBATCH --{name}={shlex.quote(value)}'


def _logs(args: argparse.Namespace) -> Path:
  """Returns the folder of the logs, on a disk even if the run is in a bucket."""
  return Path(
    f'{run_name(args)}-logs' if is_remote(args.workdir) else f'{args.workdir}/logs'
  )


def _submit(args: argparse.Namespace, text: str) -> None:
  _logs(args).mkdir(parents=True, exist_ok=True)
  print(hand_over(['sbatch'], text, WHERE))
  print(f'logs in {_logs(args)}, which must be visible on all nodes')


if __name__ == '__main__':
  sys.exit(main())
