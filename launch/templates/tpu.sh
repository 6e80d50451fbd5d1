#!/bin/bash
set -euo pipefail
umask 077
code=$$(mktemp -d)
finish() {
  rm -r "$$code"
  echo $delete
}
trap finish EXIT

# Create the machines of the pod, unless they exist.
gcloud compute tpus tpu-vm describe $name $where > /dev/null 2>&1 ||
  gcloud compute tpus tpu-vm create $name $where \
    --accelerator-type=$accelerator --version=$version$spot

# Copy the committed state of this repository and the settings of --env; install it.
git archive --format=tar.gz --output="$$code"/seqlab.tar.gz HEAD
printf '%s\n' $environment > "$$code"/environment
gcloud compute tpus tpu-vm scp "$$code"/seqlab.tar.gz "$$code"/environment $name: \
  $where --worker=all
gcloud compute tpus tpu-vm ssh $name $where --worker=all --command=$install

# Run the same command on all of them; JAX finds the others.
gcloud compute tpus tpu-vm ssh $name $where --worker=all --command=$command
