#!/bin/bash
set -euo pipefail
umask 077
code=$$(mktemp -d)
finish() {
  rm -r "$$code"
  echo $delete
}
trap finish EXIT

# The machines of the pod, unless they are there.
gcloud compute tpus tpu-vm describe $name $where > /dev/null 2>&1 ||
  gcloud compute tpus tpu-vm create $name $where \
    --accelerator-type=$accelerator --version=$version$spot

# This repository as it is committed, what it needs, and the settings of --env.
git archive --format=tar.gz --output="$$code"/seqlab.tar.gz HEAD
printf '%s\n' $environment > "$$code"/environment
gcloud compute tpus tpu-vm scp "$$code"/seqlab.tar.gz "$$code"/environment $name: \
  $where --worker=all
gcloud compute tpus tpu-vm ssh $name $where --worker=all --command=$install

# The same command on all of them; each finds the others by itself.
gcloud compute tpus tpu-vm ssh $name $where --worker=all --command=$command
