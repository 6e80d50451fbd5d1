r"""Trains one experiment in several pods of a Kubernetes cluster, as a JobSet.

  python -m launch.kubernetes experiments/wmt14/transformer_big.py --nodes 4 \
    --gpus-per-node 8 --image registry.example/seqlab:1 --workdir gs://mine/runs/big
  python -m launch.kubernetes ... --dry-run            # prints the YAML

Renders templates/jobset.yaml and passes it to `kubectl apply`. The cluster needs JobSet
(https://jobset.sigs.k8s.io), and the image has this repository as its working
directory. Each pod is one process with all GPUs of its node. A pod that is preempted or
evicted gets SIGTERM: all of them then write a checkpoint at the same step and exit with
75; the whole set restarts, and resumes. After other failures it restarts --restarts
times. `kubectl logs` shows the output of each process. Options that are not known here
are passed to `seqlab train`.
"""

import argparse
from collections.abc import Sequence
import json
from pathlib import PurePosixPath
import re
import sys
from typing import Any

from launch.options import (
  fill,
  hand_over,
  launch,
  parser,
  positive,
  run_name,
  train_command,
  whole,
)
from seqlab.text.remote import is_remote

_WHERE = 'on a machine with kubectl, or copy the output of --dry-run there'
_PORT = 55_527  # at which process 0 listens to the others


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  description = 'Trains one experiment in several pods of a Kubernetes cluster.'
  options = parser('kubernetes', description)
  add = options.add_argument
  add('--image', required=True, help='container image with this repository, installed')
  add('--nodes', type=positive, default=1, help='number of pods (1)')
  add('--gpus-per-node', type=positive, help='NVIDIA GPUs per pod (none)')
  text = 'a PersistentVolumeClaim and its path in the pods; may be repeated'
  add(
    '--volume',
    metavar='CLAIM:/PATH',
    type=_volume,
    action='append',
    default=[],
    help=text,
  )
  add('--namespace', default='default', help='namespace (default)')
  text = 'seconds from the signal to stop until a pod is killed (120)'
  add('--grace', type=positive, default=120, help=text)
  add(
    '--restarts',
    type=whole(0),
    default=10,
    help='number of restarts after failures (10)',
  )
  return launch(options, jobset, _apply, argv)


def jobset(args: argparse.Namespace, rest: Sequence[str]) -> str:
  """Returns the YAML of the JobSet.

  Raises:
    ValueError: the options do not fit together.
  """
  name, folder = _name(args), PurePosixPath(args.workdir)
  if not is_remote(args.workdir) and not any(
    folder.is_relative_to(path) for _, path in args.volume
  ):
    raise ValueError(
      f'--workdir {args.workdir} is deleted with its pod: use a bucket (gs://...), or a '
      f'folder below the path of a --volume CLAIM:/PATH that all pods can write to'
    )
  command = train_command('python3', args, rest)
  gpus = {'nvidia.com/gpu': args.gpus_per_node} if args.gpus_per_node else {}
  claims = dict(args.volume)
  return fill(
    'jobset.yaml',
    name=_yaml(name),
    namespace=_yaml(args.namespace),
    restarts=args.restarts,
    nodes=args.nodes,
    grace=args.grace,
    image=_yaml(args.image),
    command=_yaml([_literal(word) for word in command]),
    port=_PORT,
    # JobSet gives this name to the first pod of its first job.
    address=_yaml(f'{name}-train-0-0.{name}:{_PORT}'),
    env='\n'.join(_variable(*setting) for setting in args.env),
    resources=_yaml({'limits': gpus} if gpus else {}),
    mounts=_yaml([{'name': c, 'mountPath': path} for c, path in claims.items()]),
    volumes=_yaml(
      [{'name': c, 'persistentVolumeClaim': {'claimName': c}} for c in claims]
    ),
  )


def _name(args: argparse.Namespace) -> str:
  """Returns the name of the JobSet, which depends on the volume of the workdir too."""
  folder = PurePosixPath(args.workdir)
  claims = [c for c, path in args.volume if folder.is_relative_to(path)]
  return run_name(args, ':'.join([*claims, args.workdir]))


def _variable(name: str, value: str) -> str:
  indent = ' ' * 20
  return f'{indent}- name: {name}\n{indent}  value: {_yaml(_literal(value))}'


def _yaml(value: Any) -> str:
  """Returns JSON, which YAML can read; characters that YAML rejects are escaped."""
  text = json.dumps(value, ensure_ascii=False)
  return re.sub(r'[\x7f-\x9f\u2028\u2029\ufeff]', lambda c: f'\\u{ord(c[0]):04x}', text)


def _literal(text: str) -> str:
  """Escapes $, since Kubernetes replaces $(NAME) by the value of NAME."""
  return text.replace('$', '$$')


def _volume(text: str) -> tuple[str, str]:
  claim, _, path = text.partition(':')
  if not re.fullmatch('[a-z0-9]([a-z0-9-]*[a-z0-9])?', claim) or path[:1] != '/':
    raise argparse.ArgumentTypeError(f'{text!r} should be written CLAIM:/PATH')
  return claim, path


def _apply(args: argparse.Namespace, text: str) -> None:
  print(hand_over(['kubectl', 'apply', '-f', '-'], text, _WHERE))
  label = f'jobset.sigs.k8s.io/jobset-name={_name(args)}'
  print(f'kubectl logs -n {args.namespace} -l {label} --prefix -f shows the output')


if __name__ == '__main__':
  sys.exit(main())
