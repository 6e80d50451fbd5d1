r"""Trains one experiment on all machines of a TPU pod of Google Cloud.

  python -m launch.tpu experiments/wmt14/transformer_big.py --workdir gs://mine/runs/big \
    --accelerator v5litepod-16 --zone us-west4-a --config.seed=1
  python -m launch.tpu ... --dry-run                   # prints the script

Renders templates/tpu.sh, a few gcloud commands, and runs it. It creates the machines
unless they exist, installs the committed state of this repository, and starts the same
`seqlab train` on all of them, where NAME.log keeps the output. A machine that is
preempted gets SIGTERM: all then write a checkpoint at the same step. The same command
resumes; a preempted pod (--spot) has to be deleted first, by the command that is
printed at the end. Options that are not known here are passed to `seqlab train`.
"""

import argparse
from collections.abc import Sequence
import shlex
import subprocess
import sys
import tempfile

from launch.options import fill, launch, need, parser, run_name, train_command
from seqlab.text.remote import is_remote

_WHERE = 'on a machine with gcloud, or copy the output of --dry-run there'
# The software of each type of TPU, by the start of its name.
# https://cloud.google.com/tpu/docs/runtimes
_VERSIONS = {
  'v5litepod': 'v2-alpha-tpuv5-lite',
  'v5p': 'v2-alpha-tpuv5',
  'v6e': 'v2-alpha-tpuv6e',
}
_INSTALL = (
  'set -e; sudo apt-get update -q; sudo apt-get install -qy python3.11-venv; '
  'mkdir -p seqlab; tar -xzf seqlab.tar.gz -C seqlab; cd seqlab; '
  "python3.11 -m venv .venv; .venv/bin/pip install -q -c constraints.txt -e '.[tpu,gcs]'"
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  options = parser('tpu', 'Trains one experiment on all machines of a TPU pod.')
  add = options.add_argument
  add('--accelerator', required=True, help='type and size, such as v5litepod-16')
  add('--zone', required=True, help='such as us-west4-a')
  add('--project', help="project (gcloud's default)")
  add('--version', help='software version of the machines (the one for the type)')
  add('--spot', action='store_true', help='use preemptible machines, which are cheaper')
  return launch(options, recipe, _run, argv)


def recipe(args: argparse.Namespace, rest: Sequence[str]) -> str:
  """Returns the script of gcloud commands.

  Raises:
    ValueError: the workdir is not in a bucket.
  """
  if not is_remote(args.workdir):
    raise ValueError(
      f'--workdir {args.workdir}: the machines of a pod do not share a disk: use '
      'a bucket, '
      f'such as gs://mine/{args.name}'
    )
  name = run_name(args)
  where = f'--zone={shlex.quote(args.zone)}'
  if args.project:
    where += f' --project={shlex.quote(args.project)}'
  kinds = (v for k, v in _VERSIONS.items() if args.accelerator.startswith(k))
  delete = f'gcloud compute tpus tpu-vm delete {name} {where}'
  return fill(
    'tpu.sh',
    name=name,
    where=where,
    accelerator=shlex.quote(args.accelerator),
    version=shlex.quote(args.version or next(kinds, 'tpu-ubuntu2204-base')),
    spot=' --spot' if args.spot else '',
    install=shlex.quote(_INSTALL),
    environment=shlex.quote(_environment(args)),
    command=shlex.quote(_train(args, rest)),
    delete=shlex.quote(f'The machines cost money until: {delete}'),
  )


def _train(args: argparse.Namespace, rest: Sequence[str]) -> str:
  command = train_command('.venv/bin/python', args, rest)
  # `tee` ignores SIGTERM, since it has to log what the training prints after it.
  log = f'(trap "" TERM; tee -a ../{run_name(args)}.log)'
  train = shlex.join(command)
  return (
    f'set -o pipefail; chmod 600 environment; . ./environment; cd seqlab; '
    f'{train} 2>&1 | {log}'
  )


def _environment(args: argparse.Namespace) -> str:
  """Returns a shell file of settings: other users could read a command's words."""
  # Outside of Google's Kubernetes no variable says that this machine is part of a pod.
  settings = {'SEQLAB_CLUSTER': 'gcetpu', **dict(args.env)}
  return '\n'.join(f'export {k}={shlex.quote(v)}' for k, v in settings.items())


def _run(args: argparse.Namespace, text: str) -> None:
  del args
  need('gcloud', _WHERE)
  # A file of this user only: other users of the machine could read a command's words.
  with tempfile.NamedTemporaryFile('w', encoding='utf-8', suffix='.sh') as script:
    script.write(text)
    script.flush()
    status = subprocess.run(['bash', script.name]).returncode
  if status:
    raise RuntimeError(
      f'a gcloud command ended with status {status}: correct what it reports, and run '
      f'the same command again'
    )


if __name__ == '__main__':
  sys.exit(main())
